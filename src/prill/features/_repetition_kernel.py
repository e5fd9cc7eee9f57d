"""Repeated n-grams of one document, 2 to 10 words long, each length from the one before.

An n-gram can occur twice only where the (n-1)-grams at both its ends do. So one table finds the pairs that
occur twice; from then on only those places are looked at, and a longer n-gram is told by the numbers of the
two shorter ones in it, without hashing text again. In ordinary prose a fifth of the pairs is left after the
first table and a thirtieth of the places after the third.

Legend: T tokens, G groups of equal n-grams, numbered by first occurrence, P places with an n-gram that occurs
at least twice.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from prill.features._jit import fold, inlined

__all__ = ["repetition"]

Arrays: TypeAlias = tuple[Any, ...]
"""Arrays and positions that belong together, as kernels pass them on."""

_PAIR = np.uint64(0xD6E8FEB86659FD93)
_MIX = np.uint64(0x94D049BB133111EB)
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_LOW = np.uint64(0xFFFFFFFF)
_LONGEST_TOP, _LONGEST = 4, 10


@inlined
def _number(
    key: np.uint64, place: int, n_groups: int, shift: np.uint64, scratch: Arrays, stamp: np.uint64
) -> int:
    """The group of `key`; a new one, n_groups, if it was not met under this stamp."""
    table, firsts, sizes = scratch
    mask = (np.uint64(1) << (np.uint64(64) - shift)) - np.uint64(1)
    slot = (key * _GOLDEN) >> shift
    while True:
        held = table[np.uint64(2) * slot + np.uint64(1)]
        if held >> np.uint64(32) != stamp:
            table[np.uint64(2) * slot] = key
            table[np.uint64(2) * slot + np.uint64(1)] = (stamp << np.uint64(32)) | np.uint64(n_groups)
            firsts[n_groups], sizes[n_groups] = place, 1
            return n_groups
        if table[np.uint64(2) * slot] == key:
            group = int(np.int64(held & _LOW))
            sizes[group] += np.uint32(1)
            return group
        slot = (slot + np.uint64(1)) & mask


@inlined
def _shift_for(n_keys: int) -> np.uint64:
    """How far a hash is shifted to become a slot of a table of at least twice as many slots as keys."""
    bits = 4
    while (1 << bits) < 2 * n_keys:
        bits += 1
    return np.uint64(64 - bits)


@inlined
def _pairs(tokens: Arrays, scratch: Arrays, stamp: np.uint64) -> tuple[int, int]:
    """Number all 2-grams; how many places, and how many groups."""
    hashes, _, n_tokens = tokens
    table, positions, groups, firsts, sizes, _ = scratch
    n_groups, n_pairs = 0, max(n_tokens - 1, 0)
    shift = _shift_for(n_pairs)
    for i in range(n_pairs):
        key = np.uint64(fold(hashes[i] ^ _PAIR, hashes[i + 1] ^ _MIX))
        group = _number(key, i, n_groups, shift, (table, firsts, sizes), stamp)
        n_groups += int(group == n_groups)
        positions[i], groups[i] = i, group
    return n_pairs, n_groups


@inlined
def _deepen(n_places: int, scratch: Arrays, stamp: np.uint64) -> tuple[int, int]:
    """From the places of repeated (n-1)-grams to those of n-grams that may repeat, numbered in place."""
    table, positions, groups, firsts, sizes, _ = scratch
    n_new = n_groups = 0
    shift = _shift_for(n_places)
    for k in range(n_places - 1):
        place = positions[k]
        if positions[k + 1] == place + np.uint32(1):
            key = (np.uint64(groups[k]) << np.uint64(32)) | np.uint64(groups[k + 1])
            group = _number(key, place, n_groups, shift, (table, firsts, sizes), stamp)
            n_groups += int(group == n_groups)
            positions[n_new], groups[n_new] = place, group
            n_new += 1
    return n_new, n_groups


@inlined
def _keep_repeated(n_places: int, scratch: Arrays) -> int:
    """Leave only the places whose n-gram occurs at least twice; their number."""
    _, positions, groups, _, sizes, _ = scratch
    n_kept = 0
    for k in range(n_places):
        group = groups[k]
        positions[n_kept], groups[n_kept] = positions[k], group
        n_kept += int(sizes[group] > 1)
    return n_kept


@inlined
def _top(n: int, n_groups: int, tokens: Arrays, scratch: Arrays) -> tuple[int, int]:
    """Count and characters of the most frequent n-gram, the earliest of several."""
    _, ends_C, n_tokens = tokens
    _, _, _, firsts, sizes, _ = scratch
    if n_tokens < n:
        return 0, 0
    count, place = 1, 0
    for group in range(n_groups):
        if sizes[group] > count:
            count, place = np.int64(sizes[group]), np.int64(firsts[group])
    return count, ends_C[place + n] - ends_C[place]


@inlined
def _repeated(n: int, n_places: int, tokens: Arrays, scratch: Arrays, stamp: np.uint64) -> tuple[int, int]:
    """Characters of n-grams met before, left to right, each skipping its n words; and of all that repeat."""
    _, ends_C, _ = tokens
    _, positions, groups, _, _, seen = scratch
    repeated = shared = free = 0
    for k in range(n_places):
        place = np.int64(positions[k])
        characters = ends_C[place + n] - ends_C[place]
        shared += characters
        if place >= free:
            group = groups[k]
            if seen[group] == stamp:
                repeated += characters
                free = place + n
            seen[group] = stamp
    return repeated, shared


@inlined
def _all_characters(n: int, tokens: Arrays) -> int:
    """Characters of all n-grams together, each counted as often as it stands in one."""
    _, ends_C, n_tokens = tokens
    total = 0
    if n_tokens >= n:
        for i in range(n):
            total += ends_C[n_tokens - i] - ends_C[i]
    return total


@inlined
def repetition(tokens: Arrays, scratch: Arrays, stamp: np.uint64, counts: NDArray[np.int64]) -> np.uint64:
    """Count the repeated n-grams of one document.

    Args:
        tokens: hash of each token, uint64, (>= T,); characters up to the end of each, int64, (>= T + 1,),
            beginning with 0; T.
        scratch: table of pairs of words, uint64; positions, groups, firsts, sizes, uint32; seen, uint64.
            Nothing needs to be cleared between documents.
        stamp: the last stamp used with this scratch.
        counts: receives, for n = 2..4, count and characters of the most frequent n-gram; for n = 5..10,
            characters of n-grams met before, of all that repeat, of all n-grams.
    Returns:
        The last stamp used.
    """
    stamp += np.uint64(1)
    n_places, n_groups = _pairs(tokens, scratch, stamp)
    counts[0], counts[1] = _top(2, n_groups, tokens, scratch)
    n_places = _keep_repeated(n_places, scratch)
    for n in range(3, _LONGEST + 1):
        stamp += np.uint64(1)
        n_groups = 0
        if n_places > 0:
            n_places, n_groups = _deepen(n_places, scratch, stamp)
            n_places = _keep_repeated(n_places, scratch)
        if n <= _LONGEST_TOP:
            at = 2 * (n - 2)
            counts[at], counts[at + 1] = _top(n, n_groups, tokens, scratch)
        else:
            at = 6 + 3 * (n - 5)
            counts[at], counts[at + 1] = _repeated(n, n_places, tokens, scratch, stamp)
            counts[at + 2] = _all_characters(n, tokens)
    return stamp
