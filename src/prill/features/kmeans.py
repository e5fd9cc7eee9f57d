"""k-means on a sample that fits in memory: keyed start, mini-batches, whole rounds; always the same bits.

Rows come in the order of their keys, so the first of them are a random part of the sample, whatever shards
they were in. Sums are added in that order in float64.

Source: Arthur and Vassilvitskii 2007, k-means++ (the start); Sculley 2010, "Web-scale k-means clustering"
(mini-batches with a rate of 1 / count for each centroid); Lloyd 1982 (whole rounds).
Differs: the start looks at 32 rows a centroid, not at all; whole rounds follow the mini-batches, which alone
stop short of the minimum.

Legend: N rows, C centroids, K dimensions.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["KMEANS_VERSION", "half_squares", "kmeans", "nearest_of"]

KMEANS_VERSION = 1
"""Version of the centroids; it changes whenever one changes."""

_START_ROWS = 32
_BATCH_ROWS = 8
_LEAST_BATCH = 512
_EPOCHS = 2
_ROUNDS = 4


def kmeans(x_NK: NDArray[np.float32], n_centroids: int, *, seed: int) -> NDArray[np.float32]:
    """Centroids of the rows.

    Args:
        x_NK: float32, C-contiguous, N >= 1, in the order of keys.
        n_centroids: how many are wanted.
        seed: of the start.
    Returns:
        float32, shape (C, K), C at most `n_centroids`: fewer where fewer rows differ. Each is the nearest
        of at least one row.
    """
    centroids_CK = _start(x_NK, n_centroids, seed=seed)
    n_batch = max(_LEAST_BATCH, _BATCH_ROWS * len(centroids_CK))
    if len(x_NK) > 2 * n_batch:
        centroids_CK = _mini_batches(x_NK, centroids_CK, n_batch)
    for _ in range(_ROUNDS):
        centroids_CK = _round(x_NK, centroids_CK)
    return centroids_CK[np.unique(nearest_of(x_NK, centroids_CK))]


def nearest_of(x_NK: NDArray[np.float32], centroids_CK: NDArray[np.float32]) -> NDArray[np.int64]:
    """The nearest centroid of every row, the first of equals."""
    from prill.features._products_kernel import nearest_column, pack

    packed = pack(centroids_CK)
    half_square = np.full((1, packed.shape[0] * packed.shape[2]), np.inf, np.float32)
    half_square[0, : len(centroids_CK)] = half_squares(centroids_CK)
    chosen_N, product_N = np.empty(len(x_NK), np.int64), np.empty(len(x_NK), np.float32)
    order_N, parent_N = np.arange(len(x_NK)), np.zeros(len(x_NK), np.int64)
    nearest_column(x_NK, order_N, parent_N, packed[None], half_square, chosen_N, product_N)
    return chosen_N


def half_squares(centroids_CK: NDArray[np.float32]) -> NDArray[np.float32]:
    """|c|^2 / 2 of every centroid."""
    wide_CK = centroids_CK.astype(np.float64)
    return np.asarray((wide_CK * wide_CK).sum(axis=1) / 2, np.float32)


def _start(x_NK: NDArray[np.float32], n_centroids: int, *, seed: int) -> NDArray[np.float32]:
    """k-means++: every next centroid is a row drawn in proportion to its squared distance to the others."""
    rows_NK = x_NK[: _START_ROWS * n_centroids]
    draws = np.random.Generator(np.random.PCG64(seed)).random(n_centroids)
    chosen = [int(draws[0] * len(rows_NK))]
    distance_N = _squared_distances(rows_NK, rows_NK[chosen[0]])
    for draw in draws[1:]:
        total_N = np.cumsum(distance_N)
        if total_N[-1] <= 0:
            break
        pick = int(np.searchsorted(total_N, draw * total_N[-1], side="right"))
        pick = min(pick, len(rows_NK) - 1)
        chosen.append(pick)
        distance_N = np.minimum(distance_N, _squared_distances(rows_NK, rows_NK[pick]))
    return np.ascontiguousarray(rows_NK[chosen])


def _squared_distances(rows_NK: NDArray[np.float32], row_K: NDArray[np.float32]) -> NDArray[np.float64]:
    difference_NK = rows_NK - row_K
    difference_NK *= difference_NK
    return np.asarray(difference_NK.sum(axis=1, dtype=np.float64))


def _mini_batches(
    x_NK: NDArray[np.float32], centroids_CK: NDArray[np.float32], n_batch: int
) -> NDArray[np.float32]:
    from prill.features._products_kernel import add_rows

    seen_C = np.zeros(len(centroids_CK), np.int64)
    for _ in range(_EPOCHS):
        for first in range(0, len(x_NK), n_batch):
            batch_NK = x_NK[first : first + n_batch]
            sums_CK, counts_C = np.zeros(centroids_CK.shape, np.float64), np.zeros_like(seen_C)
            add_rows(batch_NK, nearest_of(batch_NK, centroids_CK), sums_CK, counts_C)
            seen_C += counts_C
            step_CK = (sums_CK - counts_C[:, None] * centroids_CK) / np.maximum(seen_C, 1)[:, None]
            centroids_CK = (centroids_CK + step_CK).astype(np.float32)
    return centroids_CK


def _round(x_NK: NDArray[np.float32], centroids_CK: NDArray[np.float32]) -> NDArray[np.float32]:
    """Every centroid moves to the mean of its rows; one without rows stays."""
    from prill.features._products_kernel import add_rows

    sums_CK = np.zeros(centroids_CK.shape, np.float64)
    counts_C = np.zeros(len(centroids_CK), np.int64)
    add_rows(x_NK, nearest_of(x_NK, centroids_CK), sums_CK, counts_C)
    means_CK = sums_CK / np.maximum(counts_C, 1)[:, None]
    return np.where(counts_C[:, None] > 0, means_CK, centroids_CK).astype(np.float32)
