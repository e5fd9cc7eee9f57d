"""Random bits of samples: a pure function of a seed, a use and a key, never of place or time.

A key is the hash of a document's text, or the number of a row. `keyed` mixes it with the seed and the use;
`nth` then gives as many independent draws of each key as are wanted. All are SplitMix64 in numpy.

Source: Steele, Lea, Flood 2014, "Fast splittable pseudorandom number generators", SplitMix64. Differs: none.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["KEYED_VERSION", "Bits", "below", "keyed", "nth", "uniform"]

Bits = NDArray[np.uint64]

KEYED_VERSION = 1
"""Changes whenever a draw changes."""

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_A = np.uint64(0xBF58476D1CE4E5B9)
_MIX_B = np.uint64(0x94D049BB133111EB)


def keyed(keys: NDArray[Any], *, seed: int, use: str) -> Bits:
    """64 random bits for each key, for one use of one seed; equal keys get equal bits."""
    digest = hashlib.sha256(f"prill-bits-{KEYED_VERSION}:{seed}:{use}".encode()).digest()
    salt = np.uint64(int.from_bytes(digest[:8], "little"))
    return _finalised(np.asarray(keys).astype(np.uint64) ^ salt)


def nth(bits: Bits, n: Any) -> Bits:
    """The n-th draw (from 0) of each key's own sequence; shapes broadcast."""
    return _finalised(bits + (np.atleast_1d(n).astype(np.uint64) + np.uint64(1)) * _GOLDEN)


def uniform(bits: Bits) -> NDArray[np.float64]:
    """Draws from [0, 1) in steps of 2^-53."""
    return np.asarray((bits >> np.uint64(11)).astype(np.float64) * 2.0**-53)


def below(bits: Bits, n: Any) -> NDArray[np.int64]:
    """Whole numbers from 0 to n - 1, n up to 2^32; uneven by less than n / 2^53."""
    return np.asarray(np.floor(uniform(bits) * n).astype(np.int64))


def _finalised(h: Bits) -> Bits:
    h = (h ^ (h >> np.uint64(30))) * _MIX_A
    h = (h ^ (h >> np.uint64(27))) * _MIX_B
    return np.asarray(h ^ (h >> np.uint64(31)))
