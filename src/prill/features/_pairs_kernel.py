"""From equal keys to clusters: documents that share a key, their Jaccard similarity, and union-find.

Legend: N records of (key, place), P pairs, C candidates.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from prill.features._jit import inlined, kernel

__all__ = ["count_keys", "jaccard_of_pairs", "key_pairs", "link_pairs", "roots", "shared"]


@kernel
def count_keys(keys_N: NDArray[np.uint64], counts: NDArray[np.uint8]) -> None:
    """Count keys up to 2 in a table whose length is a power of two."""
    mask = np.uint64(counts.shape[0] - 1)
    for i in range(keys_N.shape[0]):
        slot = (keys_N[i] ^ (keys_N[i] >> np.uint64(32))) & mask
        if counts[slot] < 2:
            counts[slot] += np.uint8(1)


@kernel
def shared(keys_N: NDArray[np.uint64], counts: NDArray[np.uint8], places_N: NDArray[np.int64]) -> int:
    """Move to the front the records whose slot was met more than once; their number. Singles mostly go."""
    mask = np.uint64(counts.shape[0] - 1)
    n = 0
    for i in range(keys_N.shape[0]):
        key = keys_N[i]
        if counts[(key ^ (key >> np.uint64(32))) & mask] > 1:
            keys_N[n], places_N[n] = key, places_N[i]
            n += 1
    return n


@kernel
def key_pairs(
    keys_N: NDArray[np.uint64], places_N: NDArray[np.int64], n_leaders: int, pairs_P2: NDArray[np.int64]
) -> tuple[int, int, int]:
    """Pairs of records with equal keys: each with the first `n_leaders` of its key, and with the one before.

    Args:
        keys_N, places_N: sorted by key, then place.
        pairs_P2: result, lower place first; no rows: only count.
    Returns:
        Pairs, keys that had more members than are all compared, and pairs that were left out.
    """
    n, n_bounded, n_left = 0, 0, 0
    i = 0
    while i < keys_N.shape[0]:
        j = i + 1
        while j < keys_N.shape[0] and keys_N[j] == keys_N[i]:
            first = min(n_leaders, j - i)
            n_here = first + (1 if j - 1 - i >= first else 0)
            if pairs_P2.shape[0] > 0:
                for k in range(first):
                    pairs_P2[n + k, 0], pairs_P2[n + k, 1] = places_N[i + k], places_N[j]
                if n_here > first:
                    pairs_P2[n + first, 0], pairs_P2[n + first, 1] = places_N[j - 1], places_N[j]
            n += n_here
            n_left += (j - i) - n_here
            if (j - i) == n_leaders + 2:
                n_bounded += 1
            j += 1
        i = j
    return n, n_bounded, n_left


@inlined
def _jaccard(values: NDArray[np.uint32], a: int, n_a: int, b: int, n_b: int, limit: int) -> float:
    """Jaccard similarity of two ascending sets; of sets that the limit cut, its bottom-k estimate."""
    is_cut = n_a >= limit or n_b >= limit
    stop_a, stop_b = a + n_a, b + n_b
    n_both, n_all = 0, 0
    while a < stop_a and b < stop_b:
        x, y = values[a], values[b]
        n_both += 1 if x == y else 0
        a += 1 if x <= y else 0
        b += 1 if y <= x else 0
        n_all += 1
        if is_cut and n_all == limit:
            return n_both / n_all
    rest = (stop_a - a) + (stop_b - b)
    n_all += min(rest, limit - n_all) if is_cut else rest
    return n_both / n_all if n_all > 0 else 0.0


@inlined
def _root(parents_C: NDArray[np.int64], i: int) -> int:
    while parents_C[i] != i:
        parents_C[i] = parents_C[parents_C[i]]
        i = parents_C[i]
    return i


@kernel
def link_pairs(
    pairs_P2: NDArray[np.int64],
    starts_C: NDArray[np.int64],
    lengths_C: NDArray[np.int64],
    values: NDArray[np.uint32],
    threshold: float,
    limit: int,
    parents_C: NDArray[np.int64],
) -> tuple[int, int]:
    """Join the ends of every pair that is similar enough; the root is always the lowest candidate.

    A pair whose ends are joined already is not compared: the clusters are the same.

    Args:
        starts_C, lengths_C: where each candidate's set stands in `values`; no rows: join without comparing.
    Returns:
        Pairs compared, and pairs that were similar enough.
    """
    n_compared, n_similar = 0, 0
    for p in range(pairs_P2.shape[0]):
        i, j = pairs_P2[p, 0], pairs_P2[p, 1]
        a, b = _root(parents_C, i), _root(parents_C, j)
        if a == b:
            continue
        if starts_C.shape[0] > 0:
            n_i, n_j = lengths_C[i], lengths_C[j]
            n_compared += 1
            if min(n_i, n_j) < threshold * max(n_i, n_j):
                continue
            if _jaccard(values, starts_C[i], n_i, starts_C[j], n_j, limit) < threshold:
                continue
        n_similar += 1
        parents_C[max(a, b)] = min(a, b)
    return n_compared, n_similar


@kernel
def jaccard_of_pairs(
    pairs_P2: NDArray[np.int64],
    starts_C: NDArray[np.int64],
    lengths_C: NDArray[np.int64],
    values: NDArray[np.uint32],
    limit: int,
    out_P: NDArray[np.float64],
) -> None:
    """Jaccard similarity of every pair."""
    for p in range(pairs_P2.shape[0]):
        i, j = pairs_P2[p, 0], pairs_P2[p, 1]
        out_P[p] = _jaccard(values, starts_C[i], lengths_C[i], starts_C[j], lengths_C[j], limit)


@kernel
def roots(parents_C: NDArray[np.int64]) -> None:
    """Make every candidate point to the lowest of its cluster."""
    for i in range(parents_C.shape[0]):
        parents_C[i] = parents_C[parents_C[i]] if parents_C[i] < i else i
