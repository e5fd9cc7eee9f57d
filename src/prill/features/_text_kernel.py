"""Text to tokens: lower-case, classify, cut, in passes over a chunk that stays in the first-level cache.

A chunk of UTF-8 is lowered into `low`, with one class byte beside each byte (word, space or neither). ASCII
goes 32 bytes a step; other characters go through a table of code points. The class bytes become 64-bit
masks, whose changes are the token boundaries of `\\w+|[^\\w\\s]+`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from prill.features._jit import inlined, trailing_zeros
from prill.features._vector_kernel import STEP, put_block, space_mask, word_mask

__all__ = ["PADDING", "SPACE", "find_tokens", "normalise"]

PADDING = 72
"""Bytes that must be free behind the text in `low` and `cls`: one mask block of 64 and some."""

SPACE = np.uint8(0x40)
"""Class byte of a space."""


@inlined
def _put_code_point(
    code: int, flag: np.uint8, low: NDArray[np.uint8], at: int, cls: NDArray[np.uint8], place: int
) -> int:
    """Write one code point as UTF-8 into `low` and its class beside it into `cls`; its number of bytes."""
    if code < 0x80:
        low[at] = np.uint8(code)
        n = 1
    elif code < 0x800:
        low[at] = np.uint8(0xC0 | (code >> 6))
        low[at + 1] = np.uint8(0x80 | (code & 0x3F))
        n = 2
    elif code < 0x10000:
        low[at] = np.uint8(0xE0 | (code >> 12))
        low[at + 1] = np.uint8(0x80 | ((code >> 6) & 0x3F))
        low[at + 2] = np.uint8(0x80 | (code & 0x3F))
        n = 3
    else:
        low[at] = np.uint8(0xF0 | (code >> 18))
        low[at + 1] = np.uint8(0x80 | ((code >> 12) & 0x3F))
        low[at + 2] = np.uint8(0x80 | ((code >> 6) & 0x3F))
        low[at + 3] = np.uint8(0x80 | (code & 0x3F))
        n = 4
    for i in range(place, place + n):
        cls[i] = flag
    return n


@inlined
def _decode(data: NDArray[np.uint8], at: int, stop: int) -> tuple[int, int]:
    """Code point at `at` and the next position; never reads at or beyond `stop`, whatever the bytes are."""
    lead = np.int64(data[at])
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
    characters: NDArray[np.int32],
    low: NDArray[np.uint8],
    cls: NDArray[np.uint8],
    n_held: int,
) -> int:
    """Lower data[start:stop] into `low` from n_held on, with classes into `cls` from 0; the new bytes.

    Both must have room for 2 x (stop - start) + PADDING bytes. `characters` holds for every code point its
    lower case (bits 0-20) and the class byte of that (bits 24-31).
    """
    i, n_new = start, 0
    readable = data.shape[0] - STEP
    while i < stop:
        if data[i] < 0x80 and i <= readable:
            n = min(put_block(data, i, low, n_held + n_new, cls, n_new), stop - i)
            i += n
            n_new += n
        else:
            code, i = _decode(data, i, stop)
            entry = int(characters[code])
            flag = np.uint8((entry >> 24) & 0xFF)
            n_new += _put_code_point(entry & 0x1FFFFF, flag, low, n_held + n_new, cls, n_new)
    for j in range(n_new, n_new + PADDING):
        cls[j] = SPACE
    return n_new


@inlined
def find_tokens(
    cls: NDArray[np.uint8],
    n_new: int,
    last: np.uint8,
    n_held: int,
    starts: NDArray[np.int64],
    ends: NDArray[np.int64],
    n_context: int,
    n_unfinished: int,
) -> int:
    """Boundaries of the tokens in cls[:n_new], which must be followed by PADDING space classes.

    Args:
        last: class of the byte before; SPACE at the start of a document.
        n_held: added to all positions.
        starts, ends: first byte and byte behind of each token; hold n_context tokens, and the start of
            n_unfinished (0 or 1) more, already; room for n_new + 1 more.
    Returns:
        The number of tokens.
    """
    n_starts, n_ends = n_context + n_unfinished, n_context
    last_word, last_space = np.uint64(last >> 7), np.uint64((last >> 6) & 1)
    for base in range(0, n_new + 1, 64):
        words, spaces = word_mask(cls, base), space_mask(cls, base)
        before_words = (words << np.uint64(1)) | last_word
        before_spaces = (spaces << np.uint64(1)) | last_space
        last_word, last_space = words >> np.uint64(63), spaces >> np.uint64(63)
        changes = (words ^ before_words) | (spaces ^ before_spaces)
        mask = changes & ~spaces
        while mask != 0:
            starts[n_starts] = n_held + base + trailing_zeros(mask)
            n_starts += 1
            mask &= mask - np.uint64(1)
        mask = changes & ~before_spaces
        while mask != 0:
            ends[n_ends] = n_held + base + trailing_zeros(mask)
            n_ends += 1
            mask &= mask - np.uint64(1)
    return n_ends
