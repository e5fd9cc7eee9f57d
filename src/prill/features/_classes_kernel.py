"""Text to class bytes, and class bytes to words: runs of word characters and runs of symbols, or what white
space parts.

The class bytes of a batch stand beside its text, byte for byte, so that every later pass reads classes with
vectors and never decodes again.

Legend: D documents, T tokens.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from prill.features._jit import inlined, kernel, trailing_zeros
from prill.features._vector_kernel import STEP, class_block, put_positions, space_flags, word_flags

__all__ = ["ROOM", "classify", "decode", "inside", "split_spaces", "split_words"]

ROOM = 72
"""Bytes that must be there behind text and class bytes, and places behind the tokens, for whole vectors."""

_CONTINUED, _BREAK = np.uint8(0x02), np.uint8(0x04)
_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)


@inlined
def decode(data: NDArray[np.uint8], at: int, stop: int) -> tuple[int, int]:
    """Code point at `at` and its number of bytes; never reads at or beyond `stop`, whatever the bytes are."""
    lead = np.int64(data[at])
    if lead < 0x80:
        return int(lead), 1
    if lead < 0xE0:
        n, code = 2, int(lead & 0x1F)
    elif lead < 0xF0:
        n, code = 3, int(lead & 0x0F)
    else:
        n, code = 4, int(lead & 0x07)
    n = min(n, stop - at)
    for i in range(at + 1, at + n):
        code = (code << 6) | int(data[i] & 0x3F)
    return min(code, 0x10FFFF), n


@kernel
def classify(
    offsets_D1: NDArray[np.int64],
    data: NDArray[np.uint8],
    table: NDArray[np.uint8],
    classes: NDArray[np.uint8],
    characters_D: NDArray[np.int64],
) -> None:
    """Fill the class byte of every byte, classes[i - offsets_D1[0]] for data[i], and count characters.

    Args:
        data: with ROOM bytes behind the last document.
        table: class byte of every code point (`_character_classes`).
        classes: the bytes of a character all get its class; those behind its first byte get CONTINUED and
            no BREAK. ROOM more bytes become 0.
        characters_D: receives the number of code points of each document.
    """
    first = offsets_D1[0]
    for d in range(offsets_D1.shape[0] - 1):
        i, stop = offsets_D1[d], offsets_D1[d + 1]
        n_continued = 0
        while i < stop:
            if data[i] < 0x80:
                others = class_block(data, i, classes, i - first)
                i += min(trailing_zeros(others), stop - i)
                continue
            code, n = decode(data, i, stop)
            flags = table[code]
            classes[i - first] = flags
            for j in range(1, n):
                classes[i - first + j] = (flags & ~_BREAK) | _CONTINUED
            n_continued += n - 1
            i += n
        characters_D[d] = stop - offsets_D1[d] - n_continued
    n_bytes = offsets_D1[-1] - first
    classes[n_bytes : n_bytes + ROOM] = 0


@inlined
def inside(base: int, n: int) -> np.uint64:
    """Mask of the bytes base..base+63 that lie before `n`, which is not before `base`."""
    return _ALL if n - base >= STEP else (np.uint64(1) << np.uint64(n - base)) - np.uint64(1)


@kernel
def split_words(
    offsets_D1: NDArray[np.int64],
    classes: NDArray[np.uint8],
    tokens_D1: NDArray[np.int64],
    starts_T: NDArray[np.uint32],
    ends_T: NDArray[np.uint32],
) -> None:
    """Boundaries of `\\w+|[^\\w\\s]+` in every document, in the form that `_statistics_kernel` describes."""
    n_held = 0
    for d in range(offsets_D1.shape[0] - 1):
        tokens_D1[d] = n_held
        first, n = offsets_D1[d] - offsets_D1[0], offsets_D1[d + 1] - offsets_D1[d]
        n_starts = n_ends = n_held
        last_word, last_space = np.uint64(0), np.uint64(1)
        for base in range(0, n + 1, STEP):
            valid = inside(base, n)
            words = word_flags(classes, first + base) & valid
            spaces = space_flags(classes, first + base) | ~valid
            before_words = (words << np.uint64(1)) | last_word
            before_spaces = (spaces << np.uint64(1)) | last_space
            last_word, last_space = words >> np.uint64(63), spaces >> np.uint64(63)
            changes = (words ^ before_words) | (spaces ^ before_spaces)
            n_starts += put_positions(changes & ~spaces, starts_T, n_starts, np.uint32(base))
            n_ends += put_positions(changes & ~before_spaces, ends_T, n_ends, np.uint32(base))
        n_held = n_ends
    tokens_D1[offsets_D1.shape[0] - 1] = n_held


@kernel
def split_spaces(
    offsets_D1: NDArray[np.int64],
    classes: NDArray[np.uint8],
    tokens_D1: NDArray[np.int64],
    starts_T: NDArray[np.uint32],
    ends_T: NDArray[np.uint32],
) -> None:
    """Boundaries of what white space parts (`str.split`) in every document."""
    n_held = 0
    for d in range(offsets_D1.shape[0] - 1):
        tokens_D1[d] = n_held
        first, n = offsets_D1[d] - offsets_D1[0], offsets_D1[d + 1] - offsets_D1[d]
        n_starts = n_ends = n_held
        last_space = np.uint64(1)
        for base in range(0, n + 1, STEP):
            spaces = space_flags(classes, first + base) | ~inside(base, n)
            before = (spaces << np.uint64(1)) | last_space
            last_space = spaces >> np.uint64(63)
            n_starts += put_positions(~spaces & before, starts_T, n_starts, np.uint32(base))
            n_ends += put_positions(spaces & ~before, ends_T, n_ends, np.uint32(base))
        n_held = n_ends
    tokens_D1[offsets_D1.shape[0] - 1] = n_held
