"""Scores of a batch as rewards, and weights made of them.

Axes: K models, N tokens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

from prill.errors import DataError

if TYPE_CHECKING:
    import torch

    from prill.lm.packed import Packed

__all__ = ["CLIP", "Normalise", "base_weights", "exponential_weights", "scores_of", "weighted_mean_one"]

Normalise: TypeAlias = Literal["tokens", "weights"]

CLIP = 1000.0
"""Largest weight, as in the released code."""


def scores_of(batch: Packed, name: str) -> torch.Tensor:
    """The score of each target, fp32, (K, N).

    Raises:
        DataError: the rows have none.
    """
    if batch.scores is None:
        raise DataError(
            f"the objective {name!r} needs scores of the tokens, found none",
            where="objective",
            hint="add `preference_scores` to the sample transforms",
        )
    return batch.scores


def base_weights(batch: Packed) -> torch.Tensor:
    """The rows' weights, all 1 where they have none, fp32, (K, N)."""
    if batch.weights is not None:
        return batch.weights
    return batch.targets.new_ones(batch.targets.shape).float()


def exponential_weights(advantage: torch.Tensor, beta: float, clip: float) -> torch.Tensor:
    """exp(advantage / beta), at most `clip`."""
    return (advantage / beta).exp().clamp(max=clip)


def weighted_mean_one(weights: torch.Tensor, base: torch.Tensor) -> torch.Tensor:
    """Weights scaled so that, weighed by `base`, their mean over each model's tokens is 1."""
    total = (weights * base).sum(1, keepdim=True)
    return weights * (base.sum(1, keepdim=True) / total.clamp(min=1e-30))
