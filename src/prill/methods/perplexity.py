"""Perplexity: keep the documents that a small reference model of the pool finds easiest, middling or hardest.

A small model is trained on one part of the pool, which is never scored; the others are ranked by their mean
loss a token. Which end to keep depends on the corpus: published results favour high perplexity on one pool
and the middle on another, and low perplexity, the oldest rule, often loses to no choice at all.

Source: Ankner et al. 2024, arXiv:2405.20541, section 3; the rule of low perplexity, its buckets and its
normaliser: Wenzek et al. 2019, arXiv:1911.00359 (`prill.methods._ccnet`).
Legend: D documents, Q stored losses of the pool.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from prill.errors import DataError
from prill.methods._ccnet import relative_buckets
from prill.methods._reading import ReferenceSettings, samples_of, span_of, without_own
from prill.methods.registry import STRATUM, Meaning, Method, Scores, State, method

if TYPE_CHECKING:
    from prill.features.feature import Feature, Given

__all__ = ["Perplexity", "PerplexitySettings", "band_scores"]

MOST_QUANTILES = 65_537
"""Losses of the pool that are kept for `medium`: all of a small pool, evenly spaced ranks of a large one."""


class PerplexitySettings(ReferenceSettings):
    """Settings of perplexity filtering."""

    keep: Literal["low", "medium", "high"] = Field(
        "low",
        description="Which documents are preferred: the lowest perplexity, the percentiles around the "
        "median, or the highest. Try them on proxies: the best one depends on the corpus.",
    )
    per: Literal["token", "byte"] = Field(
        "token", description="Loss a token, as published, or bits a byte, which compare across tokenizers."
    )
    buckets: bool = Field(
        False,
        description="Add CCNet's buckets head, middle and tail as strata, cut at the pool's own percentiles "
        "30 and 60 of perplexity, for a policy with `strata: method`.",
    )


@method(
    name="perplexity",
    called="perplexity",
    title="the loss under a small reference model: its low end, middle or high end",
    paper="2405.20541",
    feature="loss under a reference",
    cost="one training (pico, 0.4 M tokens) and one forward pass over the span",
    assumes="nothing of a target; low prefers boilerplate and repetition, high prefers noise: filter both "
    "before, and expect no more than random does",
    formula="""nll(x) = mean over tokens of -ln p(token | those before)
low: -nll(x)    high: nll(x)    medium: -|q(x) - 1/2|, q the share of the pool with a smaller nll""",
    differs="""a proxy trained on 0.4 M tokens of the pool stands for 125 M parameters and 26 B tokens
the first 256 tokens are read, not all; documents below min_tokens and those of the reference's own part have
  no score; an empty document has none either
medium ranks by the distance from the median, so that a budget of share r keeps the percentiles
  1/2 - r/2 to 1/2 + r/2 of documents""",
)
class Perplexity(Method):
    """The same scores for every target."""

    version: ClassVar[int] = 1
    default_policy: ClassVar[dict[str, Any]] = {"kind": "top_k", "on_non_finite": "exclude"}
    Settings: ClassVar[type[BaseModel]] = PerplexitySettings

    def needs(self, targets: Sequence[str], base: Path) -> Mapping[str, Feature]:
        """The losses, and the sample that the reference was trained on."""
        reference = self.settings.reference(base)
        return {"loss": self.settings.loss(reference), **samples_of([reference])}

    def fit(self, given: Given) -> State:
        """The pool's losses in order, float64, shape (Q,), where the score needs them.

        Raises:
            DataError: no document of the pool has a loss.
        """
        if self.settings.keep != "medium" and not self.settings.buckets:
            return {}
        found = [self._losses(given, shard) for shard in range(given.pool.n_shards)]
        losses = np.sort(np.concatenate(found))
        losses = losses[np.isfinite(losses)]
        if not len(losses):
            raise DataError(
                f"expected documents of at least {self.settings.min_tokens} tokens to rank, found none",
                hint="lower `min_tokens`",
            )
        places = np.linspace(0, len(losses) - 1, min(len(losses), MOST_QUANTILES)).round().astype(np.int64)
        return {"loss": losses[places]}

    def score(self, state: State, given: Given, shard: int) -> Scores:
        """Higher is preferred, float64, shape (D,), the same for every target."""
        losses = self._losses(given, shard)
        keep = self.settings.keep
        scores = band_scores(losses, state["loss"]) if keep == "medium" else losses
        found: dict[str, Any] = dict.fromkeys(given.targets, -scores if keep == "low" else scores)
        if self.settings.buckets:
            found[STRATUM] = relative_buckets(losses, state["loss"])
        return found

    def meaning(self) -> Meaning:
        unit = "1" if self.settings.keep == "medium" else "nats" if self.settings.per == "token" else "bits"
        said = {
            "low": "minus the loss",
            "medium": "minus the distance of the loss's percentile from the median",
            "high": "the loss",
        }[self.settings.keep]
        summary = f"{said} a {self.settings.per} under the reference"
        return Meaning(unit=unit, span=span_of(self.settings), summary=summary)

    def strata(self) -> Meaning | None:
        if not self.settings.buckets:
            return None
        summary = "head, middle or tail by the pool's percentiles 30 and 60; all without a loss"
        return Meaning(unit="name", span=span_of(self.settings), summary=summary)

    def _losses(self, given: Given, shard: int) -> NDArray[np.float64]:
        from prill.features.losses import mean_losses

        table = given.columns("loss", shard)
        losses = mean_losses(table, fewest=self.settings.min_tokens, per=self.settings.per)
        return without_own(losses, given, shard)


def band_scores(losses_D: NDArray[np.float64], pool_Q: NDArray[np.float64]) -> NDArray[np.float64]:
    """-|q - 1/2|, (D,): the best share r of them are the percentiles 1/2 - r/2 to 1/2 + r/2.

    q is the middle of the places that a loss takes among those of the pool, so it depends on their order
    alone. NaN stays NaN.

    Args:
        losses_D: any increasing function of perplexity.
        pool_Q: the same of the pool, rising.
    """
    below, up_to = (np.searchsorted(pool_Q, losses_D, side=side) for side in ("left", "right"))
    share = (below + up_to) / (2 * len(pool_Q))
    return np.where(np.isfinite(losses_D), -np.abs(share - 0.5), np.nan)
