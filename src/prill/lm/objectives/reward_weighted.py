"""Reward-weighted regression: the loss of a token counts by the exponential of its reward.

    R = -s;    loss = min(exp(R / beta), clip) (-log p)

The weights differ only as far as rewards differ on the scale of beta. With scores between 0 and 1 and a beta
of 10 they lie between 0.905 and 1, and the objective is almost maximum likelihood; `weight_range` tells.

Source: Peters, Schaal 2007, doi:10.1145/1273496.1273590; Korbak et al. 2023, arXiv:2302.08582, section 2,
and its released code. Differs: the code makes it of the advantage-weighted objective with alpha = 1, whose
value head is never trained and stays at -1/2, so there all weights carry the factor exp(0.5 / beta).
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

__all__ = ["RewardWeighted"]

SPREAD = 0.2
"""Weights that differ by a smaller share change next to nothing."""


@dataclass(frozen=True, kw_only=True)
class RewardWeighted:
    """Reward-weighted regression: the loss of a token counts by the exponential of its reward.

    Raises:
        RecipeError: beta or clip is not above 0.
    """

    beta: float = field(
        default=1.0, metadata={"description": "Scale of rewards; set it near their standard deviation."}
    )
    clip: float = field(default=CLIP, metadata={"description": "Largest weight."})
    standardise: bool = field(
        default=False,
        metadata={
            "description": "Subtract from the rewards of a step their mean and divide by their standard "
            "deviation, each model its own."
        },
    )
    normalise: Normalise = field(
        default="tokens",
        metadata={
            "description": "tokens: the mean over tokens, as published; weights: divide by the mean weight "
            "too, so that the weights do not change the size of a step."
        },
    )

    def __post_init__(self) -> None:
        if not 0 < self.beta < math.inf or not self.clip > 0:
            raise RecipeError(
                f"beta and clip must be above 0, found {self.beta} and {self.clip}", where="reward_weighted"
            )

    def n_extra(self, width: int) -> int:
        return 0

    def terms(self, hidden: torch.Tensor, batch: Packed, extra: torch.Tensor, at: At) -> Terms:
        """The token loss.

        Raises:
            DataError: the rows have no scores.
        """
        base = base_weights(batch)
        rewards = -scores_of(batch, "reward_weighted")
        if self.standardise:
            rewards = _standardised(rewards, (base > 0).float())
        weights = exponential_weights(rewards, self.beta, self.clip)
        if self.normalise == "weights":
            weights = weighted_mean_one(weights, base)

        def token_loss(nll: torch.Tensor, k: slice, n: slice) -> tuple[torch.Tensor, torch.Tensor]:
            here = weights[k, n]
            return here * nll, here

        return Terms(token_loss=token_loss)

    def weight_range(self, lowest: float, highest: float) -> tuple[float, float]:
        """Weights of the worst and the best token, for scores from `lowest` to `highest` as they are."""
        return (
            min(self.clip, math.exp(-highest / self.beta)),
            min(self.clip, math.exp(-lowest / self.beta)),
        )

    def remark(self, lowest: float, highest: float) -> str | None:
        """What a user should know before training on scores from `lowest` to `highest`; None: nothing."""
        if self.standardise:
            return None
        low, high = self.weight_range(lowest, highest)
        if high - low > SPREAD * high:
            return None
        return (
            f"reward_weighted: with beta {self.beta} all weights lie between {low:.3f} and {high:.3f}, so "
            "this is almost maximum likelihood; set beta near the spread of the scores, or `standardise`"
        )

    def as_record(self) -> dict[str, Any]:
        return record(self, "reward_weighted", 1)


def _standardised(rewards: torch.Tensor, trained: torch.Tensor) -> torch.Tensor:
    """Rewards with mean 0 and standard deviation 1 over each model's trained tokens; all equal: 0."""
    n = trained.sum(1, keepdim=True).clamp(min=1)
    centred = rewards - (rewards * trained).sum(1, keepdim=True) / n
    variance = (centred.square() * trained).sum(1, keepdim=True) / n
    return centred / variance.sqrt().clamp(min=1e-6)
