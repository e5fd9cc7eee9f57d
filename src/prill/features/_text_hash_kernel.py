"""MurmurHash3 x64 128 over an Arrow text column."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from prill.features._jit import inlined, kernel, load64

__all__ = ["murmur128"]

_C1 = np.uint64(0x87C37B91114253D5)
_C2 = np.uint64(0x4CF5AD432745937F)
_ADD1 = np.uint64(0x52DCE729)
_ADD2 = np.uint64(0x38495AB5)
_FIVE = np.uint64(5)
_FINAL1 = np.uint64(0xFF51AFD7ED558CCD)
_FINAL2 = np.uint64(0xC4CEB9FE1A85EC53)


@inlined
def _rotate(word: np.uint64, n_bits: int) -> np.uint64:
    return (word << np.uint64(n_bits)) | (word >> np.uint64(64 - n_bits))


@inlined
def _finalise(h: np.uint64) -> np.uint64:
    h = (h ^ (h >> np.uint64(33))) * _FINAL1
    h = (h ^ (h >> np.uint64(33))) * _FINAL2
    return h ^ (h >> np.uint64(33))


@inlined
def _tail(data: NDArray[np.uint8], start: int, stop: int) -> np.uint64:
    """Up to eight bytes as a little-endian word, without reading behind `stop`."""
    word = np.uint64(0)
    for i in range(start, stop):
        word |= np.uint64(data[i]) << np.uint64(8 * (i - start))
    return word


@kernel
def murmur128(
    offsets: NDArray[np.int64], data: NDArray[np.uint8], hi_D: NDArray[np.uint64], lo_D: NDArray[np.uint64]
) -> None:
    """Fill hi_D and lo_D with the hash of data[offsets[d]:offsets[d + 1]], seed 0."""
    for d in range(offsets.shape[0] - 1):
        i, stop = offsets[d], offsets[d + 1]
        n_bytes = np.uint64(stop - i)
        h1, h2 = np.uint64(0), np.uint64(0)
        while i + 16 <= stop:
            h1 ^= _rotate(load64(data, i) * _C1, 31) * _C2
            h1 = (_rotate(h1, 27) + h2) * _FIVE + _ADD1
            h2 ^= _rotate(load64(data, i + 8) * _C2, 33) * _C1
            h2 = (_rotate(h2, 31) + h1) * _FIVE + _ADD2
            i += 16
        h2 ^= _rotate(_tail(data, min(i + 8, stop), stop) * _C2, 33) * _C1
        h1 ^= _rotate(_tail(data, i, min(i + 8, stop)) * _C1, 31) * _C2
        h1 ^= n_bytes
        h2 ^= n_bytes
        h1 += h2
        h2 += h1
        h1, h2 = _finalise(h1), _finalise(h2)
        h1 += h2
        h2 += h1
        lo_D[d], hi_D[d] = h1, h2
