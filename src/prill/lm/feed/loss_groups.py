"""Groups of similar losses: k-means on a line, solved exactly.

On a line the groups of the best k-means solution are stretches of the sorted values, so the optimum is found
by dynamic programming over their ends instead of by a random start. More than a million values are first
merged into bins of equal count, whose edges then bound the groups.

Source: Wang and Song 2011, "Ckmeans.1d.dp". Axes: N values, G groups, M bins.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from prill.errors import DataError

__all__ = ["loss_groups"]

Floats = NDArray[np.float64]
BINS = 1 << 20
"""Distinct values up to which the groups are the optimum itself; beyond it, the optimum over so many bins."""


def loss_groups(losses: Floats, n_groups: int) -> NDArray[np.int64]:
    """The group of each value, numbered from the lowest, int64, (N,).

    Fewer distinct values than groups give one group a value. Equal values are never parted.

    Args:
        losses: finite, float64, (N,), N at least 1.
        n_groups: G, at least 1.
    Raises:
        DataError: a value is not finite.
    """
    if not np.isfinite(losses).all():
        raise DataError("groups of losses need finite values, found others", where="loss groups")
    values, place, counts = np.unique(losses, return_inverse=True, return_counts=True)
    bins = _bins(counts)
    n_bins = int(bins[-1]) + 1
    weight = np.bincount(bins, counts, n_bins).astype(np.float64)
    mean = np.bincount(bins, counts * values, n_bins) / weight
    ends = _best_ends(mean - mean.mean(), weight, min(n_groups, n_bins))
    return np.asarray(np.searchsorted(ends, bins, side="right")[place])


def _bins(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """The bin of each distinct value: its own, or one of about `BINS` with equally many values."""
    if len(counts) <= BINS:
        return np.arange(len(counts))
    middle = np.cumsum(counts) - counts / 2
    return np.asarray(np.unique((middle * BINS / counts.sum()).astype(np.int64), return_inverse=True)[1])


def _best_ends(values: Floats, weights: Floats, n_groups: int) -> NDArray[np.int64]:
    """First bin behind each group but the last, that the squared distances to the means are least."""
    from prill.lm.feed._groups_kernel import best_opens

    total, first, second = (
        np.concatenate([[0.0], np.cumsum(part)]) for part in (weights, weights * values, weights * values**2)
    )
    opens = best_opens(total, first, second, n_groups)
    ends, stop = [], len(values)
    for group in range(n_groups - 1, 0, -1):
        stop = int(opens[group, stop])
        ends.append(stop)
    return np.array(ends[::-1], np.int64)
