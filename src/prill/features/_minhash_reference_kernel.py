"""The published MinHash: xxHash64 of word n-grams, and K permutations of it, all as datatrove computes them.

The text arrives normalised, its words parted by single spaces, so that an n-gram is a slice of the text.
Each permutation is (a x + b) mod 2^64, then mod 2^61 - 1; the wrap at 64 bits is part of the published hash.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from prill.features._jit import inlined, kernel, load64

__all__ = ["hash_ngrams", "sign_reference"]

_P1 = np.uint64(11400714785074694791)
_P2 = np.uint64(14029467366897019727)
_P3 = np.uint64(1609587929392839161)
_P4 = np.uint64(9650029242287828579)
_P5 = np.uint64(2870177450012600261)
_PRIME = np.uint64((1 << 61) - 1)
_FOUR_BYTES = np.uint64(0xFFFFFFFF)
_SPACE = np.uint8(32)


@inlined
def _rotate(x: np.uint64, r: int) -> np.uint64:
    return (x << np.uint64(r)) | (x >> np.uint64(64 - r))


@inlined
def _round(lane: np.uint64, word: np.uint64) -> np.uint64:
    return _rotate(lane + word * _P2, 31) * _P1


@inlined
def _xxh64(data: NDArray[np.uint8], start: int, stop: int) -> np.uint64:
    """xxHash64 of data[start:stop], seed 0; eight bytes behind `stop` must be readable."""
    n, i = stop - start, start
    if n >= 32:
        v1, v2, v3, v4 = _P1 + _P2, _P2, np.uint64(0), np.uint64(0) - _P1
        while i + 32 <= stop:
            v1 = _round(v1, load64(data, i))
            v2 = _round(v2, load64(data, i + 8))
            v3 = _round(v3, load64(data, i + 16))
            v4 = _round(v4, load64(data, i + 24))
            i += 32
        h = _rotate(v1, 1) + _rotate(v2, 7) + _rotate(v3, 12) + _rotate(v4, 18)
        for v in (v1, v2, v3, v4):
            h = (h ^ _round(np.uint64(0), v)) * _P1 + _P4
    else:
        h = _P5
    h += np.uint64(n)
    while i + 8 <= stop:
        h = _rotate(h ^ _round(np.uint64(0), load64(data, i)), 27) * _P1 + _P4
        i += 8
    if i + 4 <= stop:
        h = _rotate(h ^ (load64(data, i) & _FOUR_BYTES) * _P1, 23) * _P2 + _P3
        i += 4
    while i < stop:
        h = _rotate(h ^ np.uint64(data[i]) * _P5, 11) * _P1
        i += 1
    h = (h ^ (h >> np.uint64(33))) * _P2
    h = (h ^ (h >> np.uint64(29))) * _P3
    return h ^ (h >> np.uint64(32))


@inlined
def _put_ngrams(
    data: NDArray[np.uint8], start: int, stop: int, n: int, starts: NDArray[np.int64], out: NDArray[np.uint64]
) -> int:
    """Hashes of all n-grams of the words in data[start:stop]; their number. `starts` is a ring of n + 1."""
    if stop <= start:
        return 0
    n_starts, n_out = 1, 0
    starts[0] = start
    for i in range(start, stop + 1):
        if i == stop or data[i] == _SPACE:
            if n_starts >= n:
                out[n_out] = _xxh64(data, starts[(n_starts - n) % (n + 1)], i)
                n_out += 1
            starts[n_starts % (n + 1)] = i + 1
            n_starts += 1
    return n_out


@kernel
def hash_ngrams(offsets: NDArray[np.int64], data: NDArray[np.uint8], n: int) -> NDArray[np.uint64]:
    """Hashes of the n-grams of one text after another, for comparison."""
    n_documents = offsets.shape[0] - 1
    out = np.empty(offsets[n_documents] + 1, np.uint64)
    starts, at = np.empty(n + 1, np.int64), 0
    for d in range(n_documents):
        at += _put_ngrams(data, offsets[d], offsets[d + 1], n, starts, out[at:])
    return out[:at].copy()


@kernel
def sign_reference(
    offsets: NDArray[np.int64],
    data: NDArray[np.uint8],
    n: int,
    a_K: NDArray[np.uint64],
    b_K: NDArray[np.uint64],
    signatures_DK: NDArray[np.uint64],
    n_shingles_D: NDArray[np.int64],
) -> None:
    """Signatures of normalised texts; all ones and 0 shingles for a text of fewer than n words.

    Args:
        data: eight readable bytes behind the last text.
        a_K, b_K: the numbers of each permutation.
    """
    starts = np.empty(n + 1, np.int64)
    for d in range(offsets.shape[0] - 1):
        shingles = np.empty((offsets[d + 1] - offsets[d]) // 2 + 2, np.uint64)
        n_shingles = _put_ngrams(data, offsets[d], offsets[d + 1], n, starts, shingles)
        n_shingles_D[d] = n_shingles
        signature_K = signatures_DK[d]
        signature_K[:] = np.uint64(0xFFFFFFFFFFFFFFFF)
        for j in range(n_shingles):
            for k in range(a_K.shape[0]):
                h = shingles[j] * a_K[k] + b_K[k]
                h = (h & _PRIME) + (h >> np.uint64(61))
                signature_K[k] = min(signature_K[k], h - _PRIME if h >= _PRIME else h)
