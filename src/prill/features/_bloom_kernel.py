"""Setting and testing the bits of a Bloom filter, key by key, in the order in which keys come."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from prill.features._jit import fold, inlined, kernel, prefetch

__all__ = ["add", "contains"]

_MIX_A = np.uint64(0xBF58476D1CE4E5B9)
_MIX_B = np.uint64(0x94D049BB133111EB)
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_AHEAD = 8  # keys whose first word is asked for early


@inlined
def _steps(high: np.uint64, low: np.uint64, seed: np.uint64) -> tuple[np.uint64, np.uint64]:
    """First place and step of a key; the step is odd, so all places of a key differ."""
    first = fold(low ^ seed, _MIX_A) + high
    step = fold(high ^ seed ^ _GOLDEN, _MIX_B) + low
    return np.uint64(fold(first, _GOLDEN)), np.uint64(fold(step ^ seed, _MIX_A) | np.uint64(1))


@kernel
def add(
    words: NDArray[np.uint64],
    n_hashes: int,
    seed: np.uint64,
    high: NDArray[np.uint64],
    low: NDArray[np.uint64],
    was_there: NDArray[np.bool_],
) -> None:
    """Set the bits of all keys, in order; `was_there` says which had all theirs set before."""
    mask = np.uint64(64 * words.shape[0] - 1)
    for i in range(low.shape[0]):
        ahead = min(i + _AHEAD, low.shape[0] - 1)
        place, step = _steps(high[ahead], low[ahead], seed)
        prefetch(words, (place & mask) >> np.uint64(6))
        place, step = _steps(high[i], low[i], seed)
        missing = np.uint64(0)
        for _ in range(n_hashes):
            at = place & mask
            bit = np.uint64(1) << (at & np.uint64(63))
            word = words[at >> np.uint64(6)]
            missing |= ~word & bit
            words[at >> np.uint64(6)] = word | bit
            place += step
        was_there[i] = missing == 0


@kernel
def contains(
    words: NDArray[np.uint64],
    n_hashes: int,
    seed: np.uint64,
    high: NDArray[np.uint64],
    low: NDArray[np.uint64],
    is_there: NDArray[np.bool_],
) -> None:
    """Which keys have all their bits set."""
    mask = np.uint64(64 * words.shape[0] - 1)
    for i in range(low.shape[0]):
        ahead = min(i + _AHEAD, low.shape[0] - 1)
        place, step = _steps(high[ahead], low[ahead], seed)
        prefetch(words, (place & mask) >> np.uint64(6))
        place, step = _steps(high[i], low[i], seed)
        found = True
        for _ in range(n_hashes):
            at = place & mask
            if (words[at >> np.uint64(6)] >> (at & np.uint64(63))) & np.uint64(1) == 0:
                found = False
                break
            place += step
        is_there[i] = found
