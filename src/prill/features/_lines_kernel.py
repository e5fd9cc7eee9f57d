"""Counts of lines and paragraphs, document by document: how they begin and end, how long, how often repeated.

Public rules cut lines in four ways: where `str.splitlines` does (Gopher quality, C4), at every newline
(FineWeb, mC4), at runs of newlines (Gopher repetition), and paragraphs at runs of two and more. All are found
from one list of line breaks; equal lines are found by 64-bit hashes of their bytes.

Legend: D documents, C counts (`LINE_COUNTS`), L lines.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from prill.features._classes_kernel import inside
from prill.features._jit import inlined, kernel, load64, set_bits, trailing_zeros
from prill.features._statistics_kernel import hash_bytes
from prill.features._vector_kernel import STEP, break_flags, mark_mask, put_positions

__all__ = [
    "LINE_COUNTS",
    "MAX_REPETITION_LINES",
    "count_characters",
    "count_lines",
    "find_breaks",
    "split_lines",
    "strip",
]

Arrays: TypeAlias = tuple[Any, ...]
"""Arrays and positions that belong together, as kernels pass them on."""

LINE_COUNTS = (
    "n_hashes",
    "n_ellipses",
    "n_newlines",
    "n_lines",
    "n_bullet_lines",
    "n_ellipsis_lines",
    "n_runs",
    "n_repeated_runs",
    "repeated_run_characters",
    "n_shared_runs",
    "shared_run_characters",
    "n_dash_runs",
    "n_dotted_runs",
    "n_paragraphs",
    "n_repeated_paragraphs",
    "repeated_paragraph_characters",
    "n_content_lines",
    "n_terminal_lines",
    "n_short_lines",
    "repeated_line_characters",
    "third_longest_line",
)
"""Columns of the counts, in order; `features/statistics.py` says what each means. A "run" is a piece between
runs of newlines."""

MAX_REPETITION_LINES = 1 << 20
"""Repeated lines and paragraphs are looked for in so many first ones, so that memory is bounded."""

_CONTINUED_8 = np.uint64(0x0202020202020202)
_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)
_SPACE, _TERMINAL = np.uint8(0x40), np.uint8(0x08)
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_NEWLINE, _RETURN, _DOT, _HASH, _DASH, _STAR = 10, 13, 0x2E, 0x23, 0x2D, 0x2A


@inlined
def count_characters(classes: NDArray[np.uint8], start: int, stop: int) -> int:
    """Characters that begin in start..stop."""
    n, s = 0, start
    while s < stop:
        mask = _ALL >> np.uint64(64 - 8 * min(stop - s, 8))
        n += set_bits(load64(classes, s) & mask & _CONTINUED_8)
        s += 8
    return stop - start - n


@inlined
def find_breaks(classes: NDArray[np.uint8], start: int, stop: int, breaks: NDArray[np.uint32]) -> int:
    """First bytes of all line breaks, from `start`; their number. Room: one for each byte, and more."""
    n_breaks = 0
    for base in range(start, stop, STEP):
        flags = break_flags(classes, base) & inside(base, stop)
        if flags != 0:
            n_breaks += put_positions(flags, breaks, n_breaks, np.uint32(base - start))
    return n_breaks


@inlined
def _break_width(lead: np.uint8) -> int:
    return 1 if lead < 0x80 else (2 if lead < 0xE0 else 3)


@inlined
def split_lines(
    data: NDArray[np.uint8],
    start: int,
    stop: int,
    breaks: NDArray[np.uint32],
    n_breaks: int,
    bounds: NDArray[np.uint32],
) -> int:
    """Lines of `str.splitlines`: bounds[2 k] and bounds[2 k + 1] of line k, from `start`; their number."""
    n_lines = at = 0
    for k in range(n_breaks):
        b = np.int64(breaks[k])
        if b == at and b > 0 and data[start + b] == _NEWLINE and data[start + b - 1] == _RETURN:
            at = b + 1
            continue
        bounds[2 * n_lines], bounds[2 * n_lines + 1] = at, b
        n_lines += 1
        at = b + _break_width(data[start + b])
    if at < stop - start:
        bounds[2 * n_lines], bounds[2 * n_lines + 1] = at, stop - start
        n_lines += 1
    return n_lines


@inlined
def strip(classes: NDArray[np.uint8], start: int, stop: int) -> tuple[int, int]:
    """The part without white space at its ends; (stop, stop) if there is nothing else."""
    while start < stop and (classes[start] & _SPACE) != 0:
        start += 1
    while stop > start and (classes[stop - 1] & _SPACE) != 0:
        stop -= 1
    return start, stop


@inlined
def _is_at(data: NDArray[np.uint8], at: int, stop: int, first: int, second: int, third: int) -> bool:
    """Whether data[at:at + 3], before `stop`, are these bytes."""
    return bool(at + 3 <= stop and data[at] == first and data[at + 1] == second and data[at + 2] == third)


@inlined
def _ends_dotted(data: NDArray[np.uint8], start: int, stop: int) -> bool:
    """Whether the text ends with the character of three dots."""
    return stop - start >= 3 and _is_at(data, stop - 3, stop, 0xE2, 0x80, 0xA6)


@inlined
def _count_marks(data: NDArray[np.uint8], start: int, stop: int) -> tuple[int, int]:
    """Number of "#", and of "..." (not overlapping) and of the character of three dots."""
    n_hashes = n_ellipses = n_dots = 0
    next_dot = start
    for base in range(start, stop, STEP):
        marks = mark_mask(data, base) & inside(base, stop)
        while marks != 0:
            i = base + trailing_zeros(marks)
            marks &= marks - np.uint64(1)
            if data[i] == _DOT:
                n_dots = n_dots + 1 if i == next_dot else 1
                next_dot = i + 1
                if n_dots == 3:
                    n_ellipses += 1
                    n_dots = 0
            elif data[i] == _HASH:
                n_hashes += 1
            elif _is_at(data, i, stop, 0xE2, 0x80, 0xA6):
                n_ellipses += 1
    return n_hashes, n_ellipses


@inlined
def _count_split_lines(
    data: NDArray[np.uint8],
    classes: NDArray[np.uint8],
    start: int,
    bounds: NDArray[np.uint32],
    n_lines: int,
) -> tuple[int, int]:
    """Lines that begin with a bullet or a dash, and lines that end with an ellipsis, white space aside."""
    n_bullets = n_ellipses = 0
    for k in range(n_lines):
        a, b = strip(classes, start + np.int64(bounds[2 * k]), start + np.int64(bounds[2 * k + 1]))
        if a < b:
            n_bullets += int(data[a] == _DASH or _is_at(data, a, b, 0xE2, 0x80, 0xA2))
            three = b - a >= 3 and _is_at(data, b - 3, b, _DOT, _DOT, _DOT)
            n_ellipses += int(three or _ends_dotted(data, a, b))
    return n_bullets, n_ellipses


@inlined
def _meet(table: NDArray[np.uint64], mask: np.uint64, stamp: np.uint64, h: np.uint64) -> int:
    """How often `h` was met before under this stamp; it is counted."""
    slot = (h * _GOLDEN) & mask
    while True:
        held = table[np.uint64(2) * slot + np.uint64(1)]
        if held >> np.uint64(32) != stamp:
            table[np.uint64(2) * slot] = h
            table[np.uint64(2) * slot + np.uint64(1)] = (stamp << np.uint64(32)) | np.uint64(1)
            return 0
        if table[np.uint64(2) * slot] == h:
            table[np.uint64(2) * slot + np.uint64(1)] = held + np.uint64(1)
            return int(np.int64(held & np.uint64(0xFFFFFFFF)))
        slot = (slot + np.uint64(1)) & mask


@inlined
def _count_newline_lines(
    text: Arrays,
    breaks: Arrays,
    table: Arrays,
    short_characters: int,
    counts: NDArray[np.int64],
) -> None:
    """Everything about the pieces between newlines, and between runs of newlines."""
    data, classes, start, stop = text
    positions, n_breaks = breaks
    slots, mask, stamp = table
    longest = second = third = 0
    at = start
    for k in range(n_breaks + 1):
        b = stop
        if k < n_breaks:
            b = start + np.int64(positions[k])
            if data[b] != _NEWLINE:
                continue
            counts[2] += 1
        if b > at:
            n = count_characters(classes, at, b)
            if n > third:
                third = n
                if third > second:
                    second, third = third, second
                if second > longest:
                    longest, second = second, longest
            n_before = 0
            if counts[6] < MAX_REPETITION_LINES:
                n_before = _meet(slots, mask, stamp, hash_bytes(data, at, b))
            counts[6] += 1
            counts[11] += int(data[at] == _DASH or data[at] == _STAR)
            counts[12] += int(_ends_dotted(data, at, b))
            if n_before > 0:
                counts[7] += 1
                counts[8] += n
                members = 2 if n_before == 1 else 1
                counts[9] += members
                counts[10] += members * n
            a, z = strip(classes, at, b)
            if a < z:
                counts[16] += 1
                counts[17] += int((classes[b - 1] & _TERMINAL) != 0)
                counts[18] += int(n <= short_characters)
                if n_before > 0:
                    counts[19] += n
        at = b + 1
    counts[20] = third
    if stop > start and data[start] == _NEWLINE:  # what stands before the first run, and behind the last
        counts[6] += 1
    if stop > start and data[stop - 1] == _NEWLINE:
        counts[6] += 1
        if data[start] == _NEWLINE:
            counts[7] += 1
            counts[9] += 2


@inlined
def _count_paragraphs(text: Arrays, breaks: Arrays, table: Arrays, counts: NDArray[np.int64]) -> None:
    """Pieces between runs of two and more newlines, of the text without white space at its ends."""
    data, classes, start, stop = text
    positions, n_breaks = breaks
    slots, mask, stamp = table
    at, end = strip(classes, start, stop)
    counts[13] = 1 if stop > start else 0
    for k in range(n_breaks + 1):
        b = end if k == n_breaks else start + np.int64(positions[k])
        if k < n_breaks:
            if b < at or b >= end or data[b] != _NEWLINE or data[b + 1] != _NEWLINE:
                continue
            counts[13] += 1
        is_compared = b > at and counts[13] <= MAX_REPETITION_LINES
        if is_compared and _meet(slots, mask, stamp, hash_bytes(data, at, b)) > 0:
            counts[14] += 1
            counts[15] += count_characters(classes, at, b)
        if k < n_breaks:
            while data[b] == _NEWLINE:  # ends before `end`, where there is no white space
                b += 1
            at = b


@kernel
def count_lines(
    offsets_D1: NDArray[np.int64],
    data: NDArray[np.uint8],
    classes: NDArray[np.uint8],
    short_characters: int,
    counts_DC: NDArray[np.int64],
) -> None:
    """Count the lines and paragraphs of every document.

    Args:
        offsets_D1, data: the documents, ROOM bytes behind them; offsets_D1[0] == 0.
        classes: class bytes (`_classes_kernel`).
        short_characters: a line of at most so many characters is short.
        counts_DC: receives the counts, int64, shape (D, C), zero before.
    """
    longest = 0
    for d in range(offsets_D1.shape[0] - 1):
        longest = max(longest, offsets_D1[d + 1] - offsets_D1[d])
    breaks, bounds = np.empty(longest + STEP, np.uint32), np.empty(2 * longest + 2, np.uint32)
    slots = np.zeros(64, np.uint64)
    stamp = np.uint64(0)
    for d in range(offsets_D1.shape[0] - 1):
        start, stop = offsets_D1[d], offsets_D1[d + 1]
        counts = counts_DC[d]
        counts[0], counts[1] = _count_marks(data, start, stop)
        n_breaks = find_breaks(classes, start, stop, breaks)
        n_lines = split_lines(data, start, stop, breaks, n_breaks, bounds)
        counts[3] = n_lines
        counts[4], counts[5] = _count_split_lines(data, classes, start, bounds, n_lines)
        n_held = min(n_breaks, MAX_REPETITION_LINES) + 1
        if slots.shape[0] < 4 * n_held:
            size = slots.shape[0]
            while size < 4 * n_held:
                size *= 2
            slots = np.zeros(size, np.uint64)
        mask = np.uint64(slots.shape[0] // 2 - 1)
        text, found = (data, classes, start, stop), (breaks, n_breaks)
        stamp += np.uint64(2)
        _count_newline_lines(text, found, (slots, mask, stamp), short_characters, counts)
        _count_paragraphs(text, found, (slots, mask, stamp + np.uint64(1)), counts)
