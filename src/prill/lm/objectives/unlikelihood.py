"""Unlikelihood: tokens of bad segments are made less likely instead of more.

A token whose score s is at most the threshold t is trained as always; another pays for its own probability:

    a = 1 if s <= t else 0;    loss = -a log p - alpha (1 - a) log(1 - p)

Source: Welleck et al. 2020, arXiv:1908.04319, section 5; Korbak et al. 2023, arXiv:2302.08582, section 2,
and its released code. Differs: a threshold of 0 is a threshold (the code takes it for none and mixes softly,
which `soft` asks for here); the slope of -log(1 - p) in log p stops at `STEEPEST`, reached at p = 0.999,
because the rounding of p that it multiplies would outgrow the gradient.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from prill.errors import RecipeError
from prill.lm.catalog import record
from prill.lm.objectives.objective import At, Terms
from prill.lm.objectives.rewards import scores_of

if TYPE_CHECKING:
    import torch

    from prill.lm.packed import Packed

__all__ = ["STEEPEST", "Unlikelihood"]

STEEPEST = 1000.0
LEAST_REST = 1e-20


@dataclass(frozen=True, kw_only=True)
class Unlikelihood:
    """Unlikelihood: tokens whose score is above a threshold are made less likely.

    Raises:
        RecipeError: a threshold is missing, or alpha is below 0.
    """

    threshold: float | None = field(
        default=None,
        metadata={"description": "Highest score of a token that is trained as always; 0 is a threshold."},
    )
    alpha: float = field(default=1.0, metadata={"description": "Weight of the unlikelihood, at least 0."})
    soft: bool = field(
        default=False,
        metadata={
            "description": "In place of a threshold mix both losses by the score, a = 1 - s, as the released "
            "code does where the threshold is 0."
        },
    )

    def __post_init__(self) -> None:
        if not 0 <= self.alpha < math.inf:
            message = f"alpha must be finite and at least 0, found {self.alpha}"
            raise RecipeError(message, where="unlikelihood")
        is_given = self.threshold is not None and not math.isnan(self.threshold)
        if is_given == self.soft:
            raise RecipeError(
                f"expected a threshold or `soft`, found threshold {self.threshold} and soft {self.soft}",
                where="unlikelihood",
                hint="for the released code's behaviour at threshold 0 set `soft: true` and no threshold",
            )

    def n_extra(self, width: int) -> int:
        return 0

    def terms(self, hidden: torch.Tensor, batch: Packed, extra: torch.Tensor, at: At) -> Terms:
        """The token loss.

        Raises:
            DataError: the rows have no scores.
        """
        scores = scores_of(batch, "unlikelihood")
        aligned = 1 - scores if self.threshold is None else (scores <= self.threshold).float()

        def token_loss(nll: torch.Tensor, k: slice, n: slice) -> tuple[torch.Tensor, torch.Tensor]:
            good = aligned[k, n]
            bad = self.alpha * (1 - good)
            rest = (-nll).expm1().neg().clamp(min=LEAST_REST)
            odds = ((1 - rest) / rest).clamp(max=STEEPEST)
            return good * nll - bad * rest.log(), good - bad * odds

        return Terms(token_loss=token_loss)

    def as_record(self) -> dict[str, Any]:
        return record(self, "unlikelihood", 1)
