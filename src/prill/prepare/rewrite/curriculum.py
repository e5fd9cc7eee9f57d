"""A curriculum that grows: train on the easiest part, add the next whenever the evaluation loss stalls.

Source: Yang et al. 2025 (TinyHelen), arXiv:2501.00522, section 5. Differs: none; `random` order is Prill's
keyed draw, so that an order that includes everything from the start is the order of a plain run.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from prill.errors import RecipeError
from prill.features.keyed import keyed_uniform

__all__ = ["curriculum_order", "inclusion_shares", "step_of_everything"]


def inclusion_shares(
    losses: Sequence[float],
    *,
    first: float = 0.05,
    part: float = 0.05,
    patience: int = 1,
    threshold: float = 0.0,
) -> list[float]:
    """Share of the ordered data in use after each evaluation, 0 to 1, never falling.

    After `patience` evaluations in a row whose loss is not below the best so far by more than `threshold`,
    the next part is added, and the best loss starts anew.

    Args:
        losses: evaluation losses in order, nats.
        first: share at the start, before any evaluation; it is the share of the first entry too.
        part: share added at a time.
    Returns:
        One share before the first evaluation and one after each: len(losses) + 1.
    """
    if not 0 < first <= 1 or part <= 0 or patience < 1:
        raise RecipeError(
            f"expected 0 < first <= 1, part > 0, patience >= 1, found {first}, {part}, {patience}"
        )
    shares, best, n_stalled, n_parts = [first], float("inf"), 0, 0
    for loss in losses:
        if loss < best - threshold:
            best, n_stalled = loss, 0
        else:
            n_stalled += 1
        if n_stalled >= patience:
            n_parts, best, n_stalled = n_parts + 1, float("inf"), 0
        shares.append(min(1.0, first + n_parts * part))
    return shares


def step_of_everything(shares: Sequence[float], *, every: int = 20) -> int | None:
    """The training step from which all data are in use, evaluating each `every` steps; None for never."""
    return next((k * every for k, share in enumerate(shares) if share >= 1.0), None)


def curriculum_order(
    difficulty: NDArray[np.float64] | None,
    keys: NDArray[np.uint64],
    *,
    seed: int,
    strategy: Literal["random", "easy"],
) -> NDArray[np.int64]:
    """Documents from easy to hard, ties by keyed draw; or by the draw alone.

    Args:
        difficulty: mean sentence tokens, or a loss, shape (D,); not needed for `random`.
        keys: lower halves of the text hashes, shape (D,).
    """
    draw = keyed_uniform(seed, keys)
    if strategy == "random" or difficulty is None:
        return np.lexsort((keys, draw)).astype(np.int64)
    if not np.isfinite(difficulty).all():
        raise RecipeError(f"expected finite difficulties, found {difficulty[~np.isfinite(difficulty)][0]}")
    return np.lexsort((keys, draw, difficulty)).astype(np.int64)
