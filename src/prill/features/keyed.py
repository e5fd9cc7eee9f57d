"""Randomness that belongs to a document: a pure function of a seed and the hash of its text.

Two families. `keyed_uniform` and `keyed_gumbel` mix 64-bit keys in numpy, hundreds of millions a second;
`reference_gumbel` follows a rule on sha256 that other programs can repeat, to check against them. Neither
knows the position of a document, its shard or the time, so re-sharding changes no draw.

Legend: D documents.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["KEYED_VERSION", "derive_seed", "keyed_gumbel", "keyed_uniform", "reference_gumbel"]

KEYED_VERSION = 1
"""Version of the mixing below; it changes whenever a draw changes."""

_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15
_MIX_A = 0xBF58476D1CE4E5B9
_MIX_B = 0x94D049BB133111EB


def derive_seed(seed: int, use: str) -> int:
    """The seed of one use, such as `select.tie`, so that no two uses of a recipe's seed share their draws."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{use}".encode()).digest()[:8], "big")


def keyed_uniform(seed: int, keys: NDArray[np.uint64]) -> NDArray[np.float64]:
    """A uniform draw in the open interval (0, 1) for every key.

    The key is combined with the mixed seed and passed through the SplitMix64 finaliser; the upper 52 bits
    become (h + 1/2) / 2^52, which is exact in float64 and never 0 or 1.

    Args:
        seed: any integer, used modulo 2^64.
        keys: uint64, shape (D,), the low half of the text hash.
    Returns:
        float64, shape (D,). Equal keys get equal draws.
    Source: Steele, Lea, Flood 2014, "Fast splittable pseudorandom number generators", SplitMix64.
    """
    salt = np.uint64(_mix_python((seed + _GOLDEN * KEYED_VERSION) & _MASK))
    h = np.asarray(keys, dtype=np.uint64) ^ salt
    h = h + np.uint64(_GOLDEN)
    h = (h ^ (h >> np.uint64(30))) * np.uint64(_MIX_A)
    h = (h ^ (h >> np.uint64(27))) * np.uint64(_MIX_B)
    h = h ^ (h >> np.uint64(31))
    return ((h >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52


def keyed_gumbel(seed: int, keys: NDArray[np.uint64]) -> NDArray[np.float64]:
    """A standard Gumbel draw, -ln(-ln u), for every key; adding it and taking the k largest samples without
    replacement in proportion to exp(score).

    Args:
        seed: any integer, used modulo 2^64.
        keys: uint64, shape (D,).
    Returns:
        float64, shape (D,), finite, between -3.6 and 36.8.
    Source: Xie et al. 2023, arXiv:2302.03169, section 3 (Gumbel top-k).
    """
    return np.asarray(-np.log(-np.log(keyed_uniform(seed, keys))), dtype=np.float64)


def reference_gumbel(seed: int, ids: Sequence[str]) -> NDArray[np.float64]:
    """The Gumbel draw of the sha256 rule, -ln(-ln u) with u = (h + 1/2) / 2^52.

    h is the number in the first 13 hex digits of sha256("seed:id").

    Args:
        seed: the seed as it is printed before the colon.
        ids: document ids, D of them.
    Returns:
        float64, shape (D,).
    """
    return np.array([_reference_draw(f"{seed}:{name}") for name in ids], dtype=np.float64)


def _reference_draw(label: str) -> float:
    h = int(hashlib.sha256(label.encode("utf-8")).hexdigest()[:13], 16)
    return -math.log(-math.log((h + 0.5) / 2**52))


def _mix_python(h: int) -> int:
    h = ((h ^ (h >> 30)) * _MIX_A) & _MASK
    h = ((h ^ (h >> 27)) * _MIX_B) & _MASK
    return h ^ (h >> 31)
