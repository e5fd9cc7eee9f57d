"""How a choice is made once every document has a score: take the best, pass a threshold, or sample.

A higher score always means "prefer". `top_k` takes the best until the budget is full; `threshold` takes what
passes and `quantile` the best share of the pool, the best first when a budget is given too; `band` takes what
lies between two quantiles of the score; `gumbel` samples without replacement in proportion to
exp(score / temperature). Each can be done within strata, so that every source keeps its share.

A quantile is a share of what the budget counts, of tokens without a budget: half of the pool is half of its
tokens, not of its documents. A document lies at the share of the pool that is at least as good as it, itself
included, so that the best 40% and the band from 0 to 0.6 are disjoint and together everything.

Source: Xie et al. 2023, arXiv:2302.03169, section 3 (Gumbel top-k); Ankner et al. 2024, arXiv:2405.20541,
section 2 (low, medium and high perplexity as bands).
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

    kind: Literal["top_k", "threshold", "quantile", "band", "gumbel"] = Field(
        default="top_k",
        description="top_k: the best scores; threshold: scores that pass; quantile: the best share of the "
        "pool; band: between two quantiles of the score; gumbel: sampled without replacement in proportion "
        "to exp(score / temperature).",
    )
    threshold: float | None = Field(
        default=None,
        allow_inf_nan=False,
        description="Lowest score that passes, in the unit of the score; for kind threshold only.",
    )
    share: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="Share of the tokens (or of what the budget counts) that is kept, the best first; for "
        "kind quantile only. A smaller budget goes first.",
    )
    band: tuple[float, float] = Field(
        default=(0.0, 1.0),
        description="Lowest and highest quantile of the score that is kept, 0 the worst and 1 the best; for "
        "kind band only. A smaller budget is taken from the middle of the band.",
    )
    temperature: float = Field(
        default=1.0,
        gt=0,
        allow_inf_nan=False,
        description="Divides the scores before the noise of kind gumbel: near 0 is top_k, large is random.",
    )
    strata: Literal["source", "method", "source x method"] | None = Field(
        default=None,
        description="Fill the budget within each value: of the source, of what the method tells beside its "
        "scores (a domain, a cluster, a language), or of both; null fills it over the whole pool.",
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
        "names it, or leave it out and count it. In a recipe the method's own default holds until this is "
        "said.",
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
        if (self.kind == "quantile") != (self.share is not None):
            raise ValueError(
                "kind quantile needs `share`, the other kinds refuse it; "
                f"found kind {self.kind}, share {self.share}"
            )
        low, high = self.band
        if not 0 <= low < high <= 1:
            raise ValueError(f"`band` is two quantiles, 0 <= low < high <= 1, found {list(self.band)}")
        if self.kind != "band" and self.band != (0.0, 1.0):
            raise ValueError(f"only kind band has a `band`, found kind {self.kind}, band {list(self.band)}")
        if self.quotas and self.strata is None:
            raise ValueError("`quotas` need `strata`, found strata null")
        if any(not 0 <= share <= 1 for share in self.quotas.values()):
            raise ValueError(f"every quota is a share between 0 and 1, found {self.quotas}")
        total = math.fsum(self.quotas.values())
        if self.quotas and abs(total - 1) > 1e-6:
            raise ValueError(f"quotas must add up to 1, found {total:.10g}")
        return self
