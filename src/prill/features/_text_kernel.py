"""Text to tokens: lower-case, classify, cut, in passes over a chunk that stays in the first-level cache.

A chunk of UTF-8 is lowered into `low`, ASCII 64 bytes a step; other characters go through a table of code
points, which also says what they are (word, space or neither). The classes of 64 bytes are two 64-bit masks,
whose changes are the token boundaries of `\\w+|[^\\w\\s]+`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from prill.features._jit import inlined, load64, store64, trailing_zeros
from prill.features._vector_kernel import (
    STEP,
    put_block,
    put_positions,
    space_flags,
    space_mask,
    word_flags,
    word_mask,
)

__all__ = ["PADDING", "SPACE", "class_at", "find_tokens", "normalise"]

PADDING = 72
"""Bytes that must be free behind the text in `low`, and places behind the tokens: a block of 64 and some."""

SPACE = np.uint8(0x40)
"""Class byte of a space."""


@inlined
def _decode(data: NDArray[np.uint8], at: int, stop: int) -> tuple[int, int]:
    """Code point at `at` and the next position; never reads at or beyond `stop`, whatever the bytes are."""
    lead = np.int64(data[at])
    if lead >= 0x80 and at + 4 <= stop and at + 8 <= data.shape[0]:
        word = np.int64(load64(data, at) & np.uint64(0xFFFFFFFF))
        second, third = (word >> 8) & 0x3F, (word >> 16) & 0x3F
        if lead < 0xE0:
            return int(((lead & 0x1F) << 6) | second), at + 2
        if lead < 0xF0:
            return int(((lead & 0x0F) << 12) | (second << 6) | third), at + 3
        code = int(((lead & 0x07) << 18) | (second << 12) | (third << 6) | ((word >> 24) & 0x3F))
        return min(code, 0x10FFFF), at + 4
    if lead < 0x80:
        n, code = 1, int(lead)
    elif lead < 0xE0:
        n, code = 2, int(lead & 0x1F)
    elif lead < 0xF0:
        n, code = 3, int(lead & 0x0F)
    else:
        n, code = 4, int(lead & 0x07)
    end = min(at + n, stop)
    for i in range(at + 1, end):
        code = (code << 6) | int(data[i] & 0x3F)
    return min(code, 0x10FFFF), end


@inlined
def normalise(
    data: NDArray[np.uint8],
    start: int,
    stop: int,
    characters: NDArray[np.uint64],
    low: NDArray[np.uint8],
    n_held: int,
    classes: NDArray[np.uint8],
) -> int:
    """Lower data[start:stop] into `low` from n_held on, with spaces behind; the number of new bytes.

    Args:
        characters: lower case and class of every code point (`_characters`).
        low: room for 2 x (stop - start) + PADDING bytes from n_held on.
        classes: the class byte of each new byte of a character beyond ASCII, 0 for all others; room as `low`.
    """
    classes[: 2 * (stop - start) + PADDING] = 0
    i, n_new = start, 0
    readable = data.shape[0] - STEP
    while i < stop:
        if data[i] < 0x80 and i <= readable:
            others = put_block(data, i, low, n_held + n_new)
            n = STEP  # from a branch that is foreseen, so that the next block need not wait for this one
            if others != 0 or i + STEP > stop:
                n = min(trailing_zeros(others), stop - i)
            i += n
            n_new += n
        else:
            code, after = _decode(data, i, stop)
            entry = characters[code]
            n = int(np.int64((entry >> np.uint64(32)) & np.uint64(7)))
            store64(low, n_held + n_new, entry)
            if data[i] >= 0x80:
                flags = ((entry >> np.uint64(40)) & np.uint64(0xFF)) * np.uint64(0x01010101)
                store64(classes, n_new, flags & ~(~np.uint64(0) << np.uint64(8 * n)))
            i = after
            n_new += n
    for j in range(n_held + n_new, n_held + n_new + PADDING):
        low[j] = 32
    return n_new


@inlined
def _masks(
    low: NDArray[np.uint8], at: int, classes: NDArray[np.uint8], base: int
) -> tuple[np.uint64, np.uint64]:
    """Which of 64 bytes from low[at], new bytes from `base` on, belong to words and to spaces."""
    return word_mask(low, at) | word_flags(classes, base), space_mask(low, at) | space_flags(classes, base)


@inlined
def find_tokens(
    low: NDArray[np.uint8],
    n_new: int,
    last: np.uint8,
    n_held: int,
    classes: NDArray[np.uint8],
    starts: NDArray[np.uint32],
    ends: NDArray[np.uint32],
    n_context: int,
    n_unfinished: int,
) -> int:
    """Boundaries of the tokens in low[n_held:n_held + n_new], behind which PADDING spaces must lie.

    Args:
        last: class of the byte before; SPACE at the start of a document.
        classes: of the bytes beyond ASCII (`normalise`).
        starts, ends: first byte and byte behind of each token; hold n_context tokens, and the start of
            n_unfinished (0 or 1) more, already; room for n_new + PADDING more.
    Returns:
        The number of tokens.
    """
    n_starts, n_ends = n_context + n_unfinished, n_context
    last_word, last_space = np.uint64(last >> 7), np.uint64((last >> 6) & 1)
    for base in range(0, n_new + 1, STEP):
        words, spaces = _masks(low, n_held + base, classes, base)
        before_words = (words << np.uint64(1)) | last_word
        before_spaces = (spaces << np.uint64(1)) | last_space
        last_word, last_space = words >> np.uint64(63), spaces >> np.uint64(63)
        changes = (words ^ before_words) | (spaces ^ before_spaces)
        at = np.uint32(n_held + base)
        n_starts += put_positions(changes & ~spaces, starts, n_starts, at)
        n_ends += put_positions(changes & ~before_spaces, ends, n_ends, at)
    return n_ends


@inlined
def class_at(low: NDArray[np.uint8], n_held: int, classes: NDArray[np.uint8], place: int) -> np.uint8:
    """Class byte of the new byte `place`, as `find_tokens` saw it."""
    words, spaces = _masks(low, n_held + place, classes, place)
    return np.uint8(((words & np.uint64(1)) << np.uint64(7)) | ((spaces & np.uint64(1)) << np.uint64(6)))
