"""The line rules of C4: which lines go and why, what is cut inside those that stay, what text is left.

Each line is judged in the order of the public code: a word too long, citations taken out, no end of a sentence,
too few words, a phrase. Two readings differ in small things, which `nested` tells apart: the published filters
count words before citations go, and leave white space and brackets that only then stand free; the other
reading counts and strips afterwards, so that a second run finds nothing left to do.

Legend: D documents, C counts (`C4_COUNTS`), S spans.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from prill.features._c4_phrases_kernel import CURLY, JAVASCRIPT, LOREM, POLICY, find_phrases
from prill.features._classes_kernel import ROOM, decode
from prill.features._jit import inlined, kernel
from prill.features._lines_kernel import find_breaks, split_lines, strip
from prill.features._vector_kernel import STEP

__all__ = ["C4_COUNTS", "C4_KINDS", "judge_lines"]

C4_KINDS = (
    "blank line",
    "word too long",
    "no end of a sentence",
    "too few words",
    "javascript",
    "policy notice",
    "citation",
    "space",
    "line break",
)
"""What a span is; the first six are whole lines, and the last is replaced by a newline."""

C4_COUNTS = (
    "n_sentences",
    "has_lorem_ipsum",
    "has_curly_bracket",
    "n_kept_lines",
    *("n_lines_" + kind.replace(" ", "_") for kind in C4_KINDS[1:6]),
)
"""Columns of the counts, in order."""

_SPACE, _TERMINAL, _CONTINUED, _WORD = np.uint8(0x40), np.uint8(0x08), np.uint8(0x02), np.uint8(0x80)
_KEPT, _BLANK, _LONG, _OPEN, _FEW, _SCRIPT, _NOTICE = -1, 0, 1, 2, 3, 4, 5
_CITATION, _TRIM, _LINE_BREAK = 6, 7, 8
_EDIT = np.frombuffer(b"[edit", np.uint8)
_NEEDED = np.frombuffer(b"[citation needed", np.uint8)
_LEFT, _RIGHT, _NEWLINE, _DOT = 0x5B, 0x5D, 10, 0x2E


@inlined
def _is_decimal(code: int, decimals: NDArray[np.int64]) -> bool:
    place = np.searchsorted(decimals, code, side="right") - 1
    return bool(place >= 0 and code < decimals[place] + 10)


@inlined
def _ends_with(data: NDArray[np.uint8], stop: int, pattern: NDArray[np.uint8]) -> bool:
    n = pattern.shape[0]
    if stop < n:
        return False
    for j in range(n):
        if data[stop - n + j] != pattern[j]:
            return False
    return True


@inlined
def _opening(
    data: NDArray[np.uint8], classes: NDArray[np.uint8], at: int, decimals: NDArray[np.int64]
) -> int:
    """Where the citation begins that the bracket at `at` closes; -1 if it closes none."""
    if _ends_with(data, at, _EDIT):
        return at - _EDIT.shape[0]
    if _ends_with(data, at, _NEEDED):
        return at - _NEEDED.shape[0]
    i = at - 1
    while i >= 0:
        if data[i] == _LEFT:
            return i
        while i > 0 and (classes[i] & _CONTINUED) != 0:
            i -= 1
        if (classes[i] & _WORD) == 0 or not _is_decimal(decode(data, i, at)[0], decimals):
            return -1
        i -= 1
    return -1


@inlined
def _without_citations(
    text: tuple, start: int, stop: int, nested: bool, decimals: NDArray[np.int64], line: tuple
) -> tuple[int, int]:
    """Copy a line without its citations into `line`; its length there, and the number of cuts."""
    data, classes = text
    line_data, line_classes, places, cuts = line
    n = n_cuts = 0
    for i in range(start, stop):
        line_data[n], line_classes[n], places[n] = data[i], classes[i], i
        n += 1
        if data[i] == _RIGHT:
            at = _opening(line_data, line_classes, n - 1, decimals)
            if at >= 0 and (nested or places[n - 1] - places[at] == n - 1 - at):
                while n_cuts > 0 and cuts[2 * n_cuts - 2] >= places[at]:
                    n_cuts -= 1
                cuts[2 * n_cuts], cuts[2 * n_cuts + 1] = places[at], i + 1
                n_cuts += 1
                n = at
    return n, n_cuts


@inlined
def _count_words(classes: NDArray[np.uint8], start: int, stop: int, enough: int) -> int:
    """Words that white space parts, at most `enough` of them."""
    n, in_word = 0, False
    for i in range(start, stop):
        is_space = (classes[i] & _SPACE) != 0
        n += int(not is_space and not in_word)
        in_word = not is_space
        if n >= enough:
            break
    return n


@inlined
def _has_long_word(classes: NDArray[np.uint8], start: int, stop: int, longest: int) -> bool:
    """Whether a word has more than `longest` characters."""
    if stop - start <= longest:
        return False
    n = 0
    for i in range(start, stop):
        if (classes[i] & _SPACE) != 0:
            n = 0
        elif (classes[i] & _CONTINUED) == 0:
            n += 1
            if n > longest:
                return True
    return False


@inlined
def _ends_sentence(data: NDArray[np.uint8], start: int, stop: int) -> bool:
    """Whether the line ends with . ? ! or a straight quote, and not with three dots."""
    if stop <= start:
        return False
    last = data[stop - 1]
    dotted = stop - start >= 3 and last == _DOT and data[stop - 2] == _DOT and data[stop - 3] == _DOT
    ends = last == _DOT or last == 0x3F or last == 0x21 or last == 0x22 or last == 0x27
    return bool(ends and not dotted)


@inlined
def _count_sentences(classes: NDArray[np.uint8], start: int, stop: int) -> int:
    """One, and one more for each end mark behind which, after other marks, white space and then text stand."""
    n, ended = 1, False
    for i in range(start, stop):
        flags = classes[i]
        if (flags & _TERMINAL) != 0:
            ended = True
        elif ended:
            if (flags & _SPACE) != 0:
                n += 1
                ended = False
            elif (flags & np.uint8(0x01)) == 0:  # neither quote nor bracket
                ended = False
    return n


@inlined
def _judge(
    text: tuple, start: int, stop: int, words: tuple, rules: NDArray[np.int64], counts: NDArray[np.int64]
) -> int:
    """Why a line goes, or _KEPT; `words` is the text and part in which words are counted."""
    data, classes = text
    word_classes, word_start, word_stop = words
    if word_start >= word_stop:
        return _BLANK
    if rules[0] >= 0 and _has_long_word(word_classes, word_start, word_stop, rules[0]):
        return _LONG
    if rules[2] != 0 and not _ends_sentence(data, start, stop):
        return _OPEN
    if _count_words(word_classes, word_start, word_stop, rules[3]) < rules[3]:
        return _FEW
    phrases = find_phrases(data, start, stop) & rules[4]
    if phrases & LOREM:
        counts[1] = 1
    elif phrases & JAVASCRIPT:
        return _SCRIPT
    elif phrases & CURLY:
        counts[2] = 1
    elif phrases & POLICY:
        return _NOTICE
    return _KEPT


@inlined
def _put(spans: NDArray[np.int64], n: int, first: int, start: int, stop: int, kind: int) -> int:
    """Append a span; a line that goes for the same reason as the one before it, of spans from `first`, joins it."""
    if stop <= start:
        return n
    if n > first and kind <= _NOTICE and spans[n - 1, 1] == start and spans[n - 1, 2] == kind:
        spans[n - 1, 1] = stop
        return n
    spans[n, 0], spans[n, 1], spans[n, 2] = start, stop, kind
    return n + 1


@inlined
def _grown(array: NDArray[np.int64], n_held: int, n_more: int) -> NDArray[np.int64]:
    if array.shape[0] >= n_held + n_more:
        return array
    grown = np.empty((2 * (n_held + n_more), 3), np.int64)
    grown[:n_held] = array[:n_held]
    return grown


@inlined
def _count_byte(data: NDArray[np.uint8], start: int, stop: int, byte: int) -> int:
    n = 0
    for i in range(start, stop):
        n += int(data[i] == byte)
    return n


@kernel
def judge_lines(
    offsets_D1: NDArray[np.int64],
    data: NDArray[np.uint8],
    classes: NDArray[np.uint8],
    rules: NDArray[np.int64],
    decimals: NDArray[np.int64],
    counts_DC: NDArray[np.int64],
    spans_D1: NDArray[np.int64],
    left: NDArray[np.uint8],
    left_D1: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Judge the lines of every document.

    Args:
        offsets_D1, data: the documents, ROOM bytes behind them; offsets_D1[0] == 0.
        classes: class bytes (`_classes_kernel`).
        rules: longest word in characters or -1; whether citations are removed; whether a line must end a
            sentence; fewest words; sum of the phrases looked for; whether nested citations go too, and words
            are counted after citations went.
        decimals: the zeros of all decimal digits, sorted code points.
        counts_DC: receives the counts, int64, (D, C), zero before.
        spans_D1: receives where the spans of each document begin.
        left, left_D1: receive the text that is left and where each document begins; no text if `left` is empty.
    Returns:
        Start, stop (bytes from the start of the document) and kind of each span, int64, shape (>= S, 3).
    """
    longest = 0
    for d in range(offsets_D1.shape[0] - 1):
        longest = max(longest, offsets_D1[d + 1] - offsets_D1[d])
    breaks, bounds = np.empty(longest + STEP, np.uint32), np.empty(2 * longest + 2, np.uint32)
    line = (
        np.empty(longest + ROOM, np.uint8),
        np.empty(longest + ROOM, np.uint8),
        np.empty(longest + ROOM, np.int64),
        np.empty(longest + ROOM, np.int64),
    )
    spans = np.empty((1024, 3), np.int64)
    n_spans = n_left = 0
    nested = rules[5] != 0
    for d in range(offsets_D1.shape[0] - 1):
        base, stop = offsets_D1[d], offsets_D1[d + 1]
        counts = counts_DC[d]
        spans_D1[d], left_D1[d] = n_spans, n_left
        n_breaks = find_breaks(classes, base, stop, breaks)
        n_lines = split_lines(data, base, stop, breaks, n_breaks, bounds)
        n_brackets = _count_byte(data, base, stop, _RIGHT) if rules[1] != 0 else 0
        spans = _grown(spans, n_spans, 3 * n_lines + n_brackets + 1)
        first_span, end = n_spans, base
        for k in range(n_lines):
            a0, b0 = base + np.int64(bounds[2 * k]), base + np.int64(bounds[2 * k + 1])
            a, b = strip(classes, a0, b0)
            n_cuts, is_cited = 0, False
            if n_brackets > 0 and _count_byte(data, a, b, _RIGHT) > 0:
                n, n_cuts = _without_citations((data, classes), a, b, nested, decimals, line)
                is_cited = n_cuts > 0
            if is_cited:
                s, e = (strip(line[1], 0, n)) if nested else (0, n)
                words = (line[1], s, e) if nested else (classes, a, b)
                kind = _judge((line[0], line[1]), s, e, words, rules, counts)
            else:
                s, e = a, b
                kind = _judge((data, classes), a, b, (classes, a, b), rules, counts)
            has_kept = counts[3] > 0
            if kind != _KEPT:
                counts[3 + kind] += int(kind > 0)
                after = stop if k + 1 == n_lines else base + np.int64(bounds[2 * k + 2])
                from_, to = (end, after if k + 1 == n_lines else b0) if has_kept else (a0, after)
                n_spans = _put(spans, n_spans, first_span, from_ - base, to - base, kind)
                end = b0
                continue
            counts[3] += 1
            if has_kept and not (a0 - end == 1 and data[end] == _NEWLINE):
                n_spans = _put(spans, n_spans, first_span, end - base, a0 - base, _LINE_BREAK)
            if is_cited:
                a = line[2][s] if s < e else b
                b = line[2][e - 1] + 1 if s < e else b
            n_spans = _put(spans, n_spans, first_span, a0 - base, a - base, _TRIM)
            for j in range(n_cuts):
                if line[3][2 * j] >= a and line[3][2 * j] < b:
                    n_spans = _put(
                        spans,
                        n_spans,
                        first_span,
                        line[3][2 * j] - base,
                        line[3][2 * j + 1] - base,
                        _CITATION,
                    )
            n_spans = _put(spans, n_spans, first_span, b - base, b0 - base, _TRIM)
            if is_cited:
                counts[0] += _count_sentences(line[1], s, e)
            else:
                counts[0] += _count_sentences(classes, s, e)
            if left.shape[0] > 0:
                if n_left > left_D1[d]:
                    left[n_left] = _NEWLINE
                    n_left += 1
                source = line[0] if is_cited else data
                left[n_left : n_left + e - s] = source[s:e]
                n_left += e - s
            end = b0
            if k + 1 == n_lines:
                n_spans = _put(spans, n_spans, first_span, b0 - base, stop - base, _TRIM)
    spans_D1[offsets_D1.shape[0] - 1], left_D1[offsets_D1.shape[0] - 1] = n_spans, n_left
    return spans[:n_spans]
