"""How a choice is made once every document has a score: take the best, pass a threshold, or sample.

A higher score always means "prefer". `top_k` takes the best until the budget is full; `threshold` takes what
passes, the best first when a budget is given too; `gumbel` samples without replacement in proportion to
exp(score / temperature). Each can be done within strata, so that every source keeps its share.

Source: Xie et al. 2023, arXiv:2302.03169, section 3 (Gumbel top-k).
"""

from __future__ import annotations

import math
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = ["POLICY_VERSION", "Policy"]

POLICY_VERSION = 1
"""Version of the total order and of the cut; it changes whenever a choice changes."""


class Policy(BaseModel):
    """How documents are chosen from their scores."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["top_k", "threshold", "gumbel"] = Field(
        default="top_k",
        description="top_k: the best scores; threshold: scores that pass; gumbel: sampled without "
        "replacement in proportion to exp(score / temperature).",
    )
    threshold: float | None = Field(
        default=None,
        allow_inf_nan=False,
        description="Lowest score that passes, in the unit of the score; for kind threshold only.",
    )
    temperature: float = Field(
        default=1.0,
        gt=0,
        allow_inf_nan=False,
        description="Divides the scores before the noise of kind gumbel: near 0 is top_k, large is random.",
    )
    strata: Literal["source"] | None = Field(
        default=None,
        description="Fill the budget within each value of this column; null fills it over the whole pool.",
    )
    quotas: dict[str, float] = Field(
        default_factory=dict,
        description="Share of the budget for each stratum, adding up to 1; empty keeps the pool's shares.",
    )
    on_short: Literal["stop", "take_all"] = Field(
        default="stop",
        description="When the budget asks for more than the eligible pool (or a stratum) holds: stop with an "
        "error, or take everything and report the shortfall.",
    )
    on_non_finite: Literal["stop", "exclude"] = Field(
        default="stop",
        description="When an eligible document has a NaN, infinite or missing score: stop with an error that "
        "names it, or leave it out and count it.",
    )
    seed: int | None = Field(
        default=None,
        description="Seed of ties and sampling noise; null derives it from the recipe's seed.",
    )

    @model_validator(mode="after")
    def _check(self) -> Policy:
        if (self.kind == "threshold") != (self.threshold is not None):
            raise ValueError(
                "kind threshold needs `threshold`, the other kinds refuse it; "
                f"found kind {self.kind}, threshold {self.threshold}"
            )
        if self.quotas and self.strata is None:
            raise ValueError("`quotas` need `strata: source`, found strata null")
        if any(not 0 <= share <= 1 for share in self.quotas.values()):
            raise ValueError(f"every quota is a share between 0 and 1, found {self.quotas}")
        total = math.fsum(self.quotas.values())
        if self.quotas and abs(total - 1) > 1e-6:
            raise ValueError(f"quotas must add up to 1, found {total:.10g}")
        return self
