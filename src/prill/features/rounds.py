"""Random subsets of the pool, round after round: the planner of RS2.

Without replacement, a permutation of everything is served block by block, and a new one when it is used up.
With replacement, every round is the head of a permutation of its own. Permutations rank documents by a draw
keyed by the seed, the pass and the text, so a round is the same however the pool is sharded.

Source: Okanovic et al. 2024, arXiv:2305.18424, section 3, and its released sampler.
Differs: where the size does not divide the pool, the reference's block at the seam is short or reads heads of
the old permutation again; here the next permutation completes it (`refill`) or the tail is dropped (`drop`).
Axes: N documents.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from prill.errors import RecipeError
from prill.features.keyed import derive_seed, keyed_uniform

__all__ = ["Order", "Wrap", "independent_blocks", "keyed_order", "pass_seed", "served_blocks"]

Ints = NDArray[np.int64]
Order = Callable[[int], tuple[Ints, Ints]]
"""Number of a pass -> ids in its order, and how much of the size each takes (ones: documents), both (N,)."""

Wrap = Literal["refill", "drop", "reference"]


def served_blocks(order: Order, size: int, n_rounds: int, *, wrap: Wrap = "refill") -> list[Ints]:
    """Blocks of one permutation after another, none holding a document twice.

    Args:
        order: the permutations.
        size: of a block: documents, or tokens where the order says how many each has. A block of tokens is
            the shortest that holds as many.
        n_rounds: blocks wanted.
        wrap: what becomes of the tail that fills no block. `refill` opens the next permutation for the rest;
            its other documents follow, so that each pass still serves each document once. `drop` leaves the
            tail out, which needs a whole block in the pool. `reference` repeats the released sampler: tail,
            then one head of the same permutation less than is missing; for documents only.
    Raises:
        RecipeError: a block is larger than the pool.
    """
    found: list[Ints] = []
    ids, units = order(0)
    _check(size, units)
    passes = 1
    while len(found) < n_rounds:
        n_taken = _n_filling(units, size)
        if n_taken is not None:
            found.append(ids[:n_taken])
            ids, units = ids[n_taken:], units[n_taken:]
            continue
        tail, n_missing = ids, size - int(units.sum())
        (whole, _), (ids, units) = order(passes - 1), order(passes)
        passes += 1
        if wrap == "reference" and len(tail):
            found.append(np.concatenate([tail, whole[: n_missing - 1]]))
        elif wrap == "refill" and len(tail):
            is_new = ~np.isin(ids, tail)
            n_filling = _n_filling(units[is_new], n_missing)
            filling = ids[is_new][:n_filling]
            found.append(np.concatenate([tail, filling]))
            is_left = ~np.isin(ids, filling)
            ids, units = ids[is_left], units[is_left]
    return found


def independent_blocks(order: Order, size: int, n_rounds: int) -> list[Ints]:
    """The head of a permutation of its own for every round: with replacement between rounds.

    Raises:
        RecipeError: a block is larger than the pool.
    """
    found: list[Ints] = []
    for number in range(n_rounds):
        ids, units = order(number)
        _check(size, units)
        found.append(ids[: _n_filling(units, size)])
    return found


def keyed_order(seed: int, number: int, keys: NDArray[np.uint64]) -> Ints:
    """Documents 0 to N in the order of pass `number`: by falling draws, equal texts as they come."""
    return np.argsort(-keyed_uniform(pass_seed(seed, number), keys), kind="stable")


def pass_seed(seed: int, number: int) -> int:
    """The seed of the draws of pass `number`."""
    return derive_seed(seed, f"round {number}")


def _n_filling(units: Ints, size: int) -> int | None:
    """How many of the first it takes to hold `size`; None: all do not."""
    total = np.cumsum(units)
    n_filling = int(np.searchsorted(total, size, side="left")) + 1
    return n_filling if n_filling <= len(units) else None


def _check(size: int, units: Ints) -> None:
    if not 0 < size <= int(units.sum()):
        raise RecipeError(
            f"a round must hold something and fit the pool of {int(units.sum())}, found {size}",
            where="rounds",
            hint="choose a smaller budget, or fewer tokens a trial",
        )
