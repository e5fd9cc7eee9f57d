"""Text to tokens: lower-case, classify, cut, in passes over a chunk that stays in the first-level cache.

A chunk of UTF-8 is lowered into `low`, ASCII 64 bytes a step; other characters go through a table of code
points, which also says what they are (word, space or neither). The classes of 64 bytes are two 64-bit masks,
whose changes are the token boundaries of `\\w+|[^\\w\\s]+`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from prill.features._jit import inlined
from prill.features._vector_kernel import STEP, put_block, put_positions, space_mask, word_mask

__all__ = ["PADDING", "SPACE", "class_of", "find_tokens", "normalise"]

PADDING = 72
"""Bytes that must be free behind the text in `low`, and places behind the tokens: a block of 64 and some."""

SPACE = np.uint8(0x40)
"""Class byte of a space."""


@inlined
def _put_code_point(code: int, low: NDArray[np.uint8], at: int) -> int:
    """Write one code point as UTF-8 into `low`; its number of bytes."""
    if code < 0x80:
        low[at] = np.uint8(code)
        return 1
    if code < 0x800:
        low[at] = np.uint8(0xC0 | (code >> 6))
        low[at + 1] = np.uint8(0x80 | (code & 0x3F))
        return 2
    if code < 0x10000:
        low[at] = np.uint8(0xE0 | (code >> 12))
        low[at + 1] = np.uint8(0x80 | ((code >> 6) & 0x3F))
        low[at + 2] = np.uint8(0x80 | (code & 0x3F))
        return 3
    low[at] = np.uint8(0xF0 | (code >> 18))
    low[at + 1] = np.uint8(0x80 | ((code >> 12) & 0x3F))
    low[at + 2] = np.uint8(0x80 | ((code >> 6) & 0x3F))
    low[at + 3] = np.uint8(0x80 | (code & 0x3F))
    return 4


@inlined
def _flag(masks: NDArray[np.uint64], place: int, n: int, flag: np.uint64) -> None:
    """Set bits place..place+n-1, n <= 4, of a row of 64-bit masks if `flag` is 1."""
    bits = (flag << np.uint64(n)) - flag
    word, shift = place >> 6, np.uint64(place & 63)
    masks[word] |= bits << shift
    masks[word + 1] |= (bits >> np.uint64(1)) >> (np.uint64(63) - shift)


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
    n_held: int,
    others: NDArray[np.uint64],
) -> int:
    """Lower data[start:stop] into `low` from n_held on, with spaces behind; the number of new bytes.

    Args:
        characters: for every code point its lower case (bits 0-20) and the class byte of that (bits 24-31).
        low: room for 2 x (stop - start) + PADDING bytes from n_held on.
        others: two rows of masks, a bit a new byte: words and spaces among the characters beyond ASCII.
    """
    others[:, : (2 * (stop - start) >> 6) + 2] = np.uint64(0)
    i, n_new = start, 0
    readable = data.shape[0] - STEP
    while i < stop:
        if data[i] < 0x80 and i <= readable:
            n = min(put_block(data, i, low, n_held + n_new), stop - i)
            i += n
            n_new += n
        else:
            code, i = _decode(data, i, stop)
            entry = int(characters[code])
            n = _put_code_point(entry & 0x1FFFFF, low, n_held + n_new)
            if code >= 0x80:
                _flag(others[0], n_new, n, np.uint64((entry >> 31) & 1))
                _flag(others[1], n_new, n, np.uint64((entry >> 30) & 1))
            n_new += n
    for j in range(n_held + n_new, n_held + n_new + PADDING):
        low[j] = 32
    return n_new


@inlined
def find_tokens(
    low: NDArray[np.uint8],
    n_new: int,
    last: np.uint8,
    n_held: int,
    others: NDArray[np.uint64],
    starts: NDArray[np.uint32],
    ends: NDArray[np.uint32],
    n_context: int,
    n_unfinished: int,
) -> int:
    """Boundaries of the tokens in low[n_held:n_held + n_new], behind which PADDING spaces must lie.

    Args:
        last: class of the byte before; SPACE at the start of a document.
        others: words and spaces beyond ASCII (`normalise`).
        starts, ends: first byte and byte behind of each token; hold n_context tokens, and the start of
            n_unfinished (0 or 1) more, already; room for n_new + PADDING more.
    Returns:
        The number of tokens.
    """
    n_starts, n_ends = n_context + n_unfinished, n_context
    last_word, last_space = np.uint64(last >> 7), np.uint64((last >> 6) & 1)
    for base in range(0, n_new + 1, STEP):
        words = word_mask(low, n_held + base) | others[0, base >> 6]
        spaces = space_mask(low, n_held + base) | others[1, base >> 6]
        before_words = (words << np.uint64(1)) | last_word
        before_spaces = (spaces << np.uint64(1)) | last_space
        last_word, last_space = words >> np.uint64(63), spaces >> np.uint64(63)
        changes = (words ^ before_words) | (spaces ^ before_spaces)
        at = np.uint32(n_held + base)
        n_starts += put_positions(changes & ~spaces, starts, n_starts, at)
        n_ends += put_positions(changes & ~before_spaces, ends, n_ends, at)
    return n_ends


@inlined
def class_of(low: NDArray[np.uint8], n_held: int, others: NDArray[np.uint64], place: int) -> np.uint8:
    """Class byte of the new byte `place`, as `find_tokens` saw it."""
    base, bit = place // STEP * STEP, np.uint64(place % STEP)
    words = word_mask(low, n_held + base) | others[0, base >> 6]
    spaces = space_mask(low, n_held + base) | others[1, base >> 6]
    return np.uint8((((words >> bit) & np.uint64(1)) << np.uint64(7)) | (((spaces >> bit) & np.uint64(1)) << np.uint64(6)))
