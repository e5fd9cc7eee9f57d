"""The best division of sorted values into stretches, compiled: see `prill.lm.feed.loss_groups`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np
from numpy.typing import NDArray

__all__ = ["best_opens"]

Floats = NDArray[np.float64]
F = TypeVar("F", bound=Callable[..., Any])


def _compiled(function: F) -> F:
    """Compile on first use; the code is kept on the disk."""
    return cast(F, numba.njit(nogil=True, cache=True, error_model="numpy")(function))


@_compiled
def best_opens(total: Floats, first: Floats, second: Floats, n_groups: int) -> NDArray[np.int32]:
    """Where the last of so many groups opens, for every number of groups and of leading values.

    The best opening never moves back as values are added, so the middle stop is solved first and bounds the
    openings of both halves: G N log N steps.

    Args:
        total, first, second: weight, weight x value and weight x value^2 before each value, (N + 1,).
        n_groups: G, at most N.
    Returns:
        int32, (G, N + 1).
    """
    n = len(total) - 1
    opens = np.zeros((n_groups, n + 1), np.int32)
    before = np.full(n + 1, np.inf)
    before[0] = 0.0
    todo = np.empty((2 * 64, 4), np.int64)  # halves that wait: at most one a level
    for group in range(n_groups):
        least = np.full(n + 1, np.inf)
        todo[0, 0], todo[0, 1], todo[0, 2], todo[0, 3] = group + 1, n, group, n - 1
        n_todo = 1
        while n_todo > 0:
            n_todo -= 1
            low, high, from_open, to_open = todo[n_todo]
            stop = (low + high) // 2
            best, best_open = np.inf, from_open
            for start in range(from_open, min(to_open, stop - 1) + 1):
                mass, linear = total[stop] - total[start], first[stop] - first[start]
                spread = second[stop] - second[start] - linear * linear / mass
                found = before[start] + max(spread, 0.0)
                if found < best:
                    best, best_open = found, start
            least[stop], opens[group, stop] = best, best_open
            if low < stop:
                todo[n_todo] = low, stop - 1, from_open, best_open
                n_todo += 1
            if stop < high:
                todo[n_todo] = stop + 1, high, best_open, to_open
                n_todo += 1
        before = least
    return opens
