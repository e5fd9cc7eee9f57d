"""Advantage-weighted regression: the loss of a token counts by how much better its reward is than foreseen.

A value head on the hidden state of each input foresees the reward of its target, R = -s:

    V = -sigmoid(w . h);    A = R - V  (V held fixed);    w starts at 0
    loss = alpha min(exp(A / beta), clip) (-log p) + (1 - alpha) (R - V)^2

The second term trains the head, and through h the model. Its parameters are the objective's own, one vector
as wide as the model.

Source: Peng et al. 2019, arXiv:1910.00177, section 3; Korbak et al. 2023, arXiv:2302.08582, section 2, and
its released code (clip, sigmoid, zero start). Differs: masked tokens count in neither term.
Axes: K models, N tokens, d width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from prill.errors import RecipeError
from prill.lm.catalog import record
from prill.lm.objectives.objective import At, Terms
from prill.lm.objectives.rewards import (
    CLIP,
    Normalise,
    base_weights,
    exponential_weights,
    scores_of,
    weighted_mean_one,
)

if TYPE_CHECKING:
    import torch

    from prill.lm.packed import Packed

__all__ = ["AdvantageWeighted", "values_of"]


@dataclass(frozen=True, kw_only=True)
class AdvantageWeighted:
    """Advantage-weighted regression: a token counts by how much its reward exceeds a value head's forecast.

    Raises:
        RecipeError: alpha is not between 0 and 1, or beta or clip is not above 0.
    """

    alpha: float = field(
        default=0.5, metadata={"description": "Share of the language model's loss; the rest is the head's."}
    )
    beta: float = field(default=1.0, metadata={"description": "Scale of advantages."})
    clip: float = field(default=CLIP, metadata={"description": "Largest weight."})
    normalise: Normalise = field(
        default="tokens",
        metadata={
            "description": "tokens: the mean over tokens, as published; weights: divide by the mean weight "
            "too."
        },
    )

    def __post_init__(self) -> None:
        if not 0 <= self.alpha <= 1 or not 0 < self.beta < math.inf or not self.clip > 0:
            raise RecipeError(
                "expected 0 <= alpha <= 1, beta > 0 and clip > 0, "
                f"found {self.alpha}, {self.beta} and {self.clip}",
                where="advantage_weighted",
            )

    def n_extra(self, width: int) -> int:
        """The value head: d."""
        return width

    def terms(self, hidden: torch.Tensor, batch: Packed, extra: torch.Tensor, at: At) -> Terms:
        """The token loss, and the value head's loss with its gradients.

        Raises:
            DataError: the rows have no scores.
        """
        base = base_weights(batch)
        rewards = -scores_of(batch, "advantage_weighted")
        values = values_of(hidden, extra)
        gap = rewards - values
        weights = exponential_weights(gap, self.beta, self.clip)
        if self.normalise == "weights":
            weights = weighted_mean_one(weights, base)
        weights = self.alpha * weights

        def token_loss(nll: torch.Tensor, k: slice, n: slice) -> tuple[torch.Tensor, torch.Tensor]:
            here = weights[k, n]
            return here * nll, here

        n_trained = (base != 0).sum(1, keepdim=True).clamp(min=1)
        share = (1 - self.alpha) * base / n_trained
        # d (R - V)^2 / dz = -2 (R - V) dV/dz, and V = -sigmoid(z) gives dV/dz = V (1 + V)
        slope = -2 * share * gap * values * (1 + values)
        return Terms(
            token_loss=token_loss,
            auxiliary=(share * gap.square()).sum(1),
            hidden_gradient=(slope[:, :, None] * extra[:, None, :]).to(hidden.dtype),
            extra_gradient=(slope[:, None, :] @ hidden.float())[:, 0],
        )

    def as_record(self) -> dict[str, Any]:
        return record(self, "advantage_weighted", 1)


def values_of(hidden: torch.Tensor, extra: torch.Tensor) -> torch.Tensor:
    """V = -sigmoid(w . h) of each token, fp32, (K, N), for hidden (K, N, d) and extra (K, d)."""
    return -(hidden.float() @ extra[:, :, None])[:, :, 0].sigmoid()
