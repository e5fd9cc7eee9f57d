"""The walk that deals rows to sources, compiled: see `prill.lm.feed.apportion` for what it does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np
from numpy.typing import NDArray

__all__ = ["walk"]

ROUNDING = 1e-6  # a target summed in floating point counts as reached this early; rows reach 1e9

Floats = NDArray[np.float64]
F = TypeVar("F", bound=Callable[..., Any])


def _compiled(function: F) -> F:
    """Compile on first use; the code is kept on the disk."""
    return cast(F, numba.njit(nogil=True, cache=True, error_model="numpy")(function))


@_compiled
def _reached(starts: Floats, shares: Floats, due: Floats, source: int, wanted: float) -> Any:
    """The row after which `wanted` rows are due to a source, infinite if never; wanted > 0."""
    low, high = 0, len(starts)
    while low < high:  # the first piece before which as many are due
        middle = (low + high) // 2
        if due[middle, source] < wanted - ROUNDING:
            low = middle + 1
        else:
            high = middle
    piece = low - 1
    if shares[piece, source] <= 0.0:
        return np.inf
    return starts[piece] + (wanted - ROUNDING - due[piece, source]) / shares[piece, source]


@_compiled
def walk(
    starts: Floats,
    shares: Floats,
    due: Floats,
    counts: NDArray[np.int64],
    first: int,
    dealt: NDArray[np.int64],
) -> None:
    """Deal rows `first` to `first + len(dealt)` to sources.

    Args:
        starts, shares, due: pieces and the rows due before them, (P,), (P, S), (P, S).
        counts: rows that each source has had before `first`, (S,); brought up to date.
        dealt: gets the source of each row.
    """
    n_sources = shares.shape[1]
    slack = 1.0 / (2 * n_sources - 2) if n_sources > 1 else 0.5
    deadlines = np.empty(n_sources)
    for source in range(n_sources):
        deadlines[source] = np.ceil(_reached(starts, shares, due, source, counts[source] + 1.0 - slack))
    piece = 0
    for place in range(len(dealt)):
        after = first + place + 1.0
        while piece + 1 < len(starts) and starts[piece + 1] < after:
            piece += 1
        chosen, earliest = -1, np.inf
        for source in range(n_sources):
            owed = due[piece, source] + (after - starts[piece]) * shares[piece, source] - counts[source]
            if owed >= slack - ROUNDING and (chosen < 0 or deadlines[source] < earliest):
                chosen, earliest = source, deadlines[source]
        dealt[place] = chosen
        counts[chosen] += 1
        deadlines[chosen] = np.ceil(_reached(starts, shares, due, chosen, counts[chosen] + 1.0 - slack))
