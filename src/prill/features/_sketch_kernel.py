"""Words and pairs of words of each document, added up with signs in a short vector."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from prill.features._code_point_kernel import FLAGS, decode_word, lowered_bytes
from prill.features._jit import fold, kernel, load64

__all__ = ["sketch"]

_SEED = np.uint64(0x9E3779B97F4A7C15)
_MIX_A = np.uint64(0xBF58476D1CE4E5B9)
_MIX_B = np.uint64(0x94D049BB133111EB)
_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)


@kernel
def sketch(
    offsets: NDArray[np.int64],
    data: NDArray[np.uint8],
    characters: NDArray[np.uint64],
    tail: NDArray[np.uint8],
    sums_DK: NDArray[np.float32],
) -> None:
    """Add +1 or -1 at one place of K for every word and every pair of neighbouring words.

    Args:
        characters: lower case and class of every code point.
        tail: the last bytes of `data`, at most 8, and 16 zeros.
        sums_DK: zero on entry, K a power of two.
    """
    mask = np.uint64(sums_DK.shape[1] - 1)
    readable = data.shape[0] - 8
    tail_first = data.shape[0] - (tail.shape[0] - 16)
    for d in range(offsets.shape[0] - 1):
        i, end = offsets[d], offsets[d + 1]
        word, before, in_word = _SEED, np.uint64(0), False
        while i < end:
            eight = load64(data, i) if i <= readable else load64(tail, i - tail_first)
            code, n_bytes = decode_word(eight)
            entry = characters[code]
            i += n_bytes
            is_word = (entry >> FLAGS) & np.uint64(0x80) != 0
            if is_word:
                letter = entry & (_ALL >> np.uint64(64 - 8 * lowered_bytes(entry)))
                word = (word ^ letter) * _MIX_A
                word ^= word >> np.uint64(29)
                in_word = True
            if in_word and (not is_word or i >= end):
                h = fold(word, _MIX_B)
                sums_DK[d, h & mask] += np.float32(1.0) - np.float32(2.0) * np.float32(h >> np.uint64(63))
                if before != 0:
                    h2 = fold(before ^ _SEED, h ^ _MIX_A)
                    sign = np.float32(1.0) - np.float32(2.0) * np.float32(h2 >> np.uint64(63))
                    sums_DK[d, h2 & mask] += sign
                word, before, in_word = _SEED, h, False
