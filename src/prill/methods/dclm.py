"""DCLM's quality classifier: the documents that a bag-of-n-grams classifier takes for the target's.

A linear model learns to tell documents of the target (instructions and explained answers, as published) from
random documents of the pool, and the highest log odds are chosen. Or a published fastText model gives the
odds, the same for every target.

Source: Li et al. 2024, arXiv:2406.11794, section 4.4; mlfoundations/dclm 361714b.
Legend: D documents.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from prill.errors import RecipeError
from prill.features.feature import Feature
from prill.methods.registry import Meaning, Method, Scores, State, method

if TYPE_CHECKING:
    from prill.features.feature import Given

__all__ = ["DCLM", "DCLMSettings"]


class DCLMSettings(BaseModel):
    """Settings of the DCLM classifier."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    positives: list[str] = Field(
        [],
        description="Files of positive documents, for all targets; empty: the fit texts of each target.",
    )
    model: str | None = Field(
        None, description="A published fastText .bin model to apply instead of training; for all targets."
    )
    label: str = Field("hq", description="Label of that model whose odds count, without __label__.")
    n_negatives: int = Field(
        10_000, ge=2, description="Documents drawn from the pool as negatives; published: 200,000."
    )
    n_folds: int = Field(
        2,
        ge=1,
        le=10,
        description="Models, each trained without the negatives of its part of the pool, which it scores; "
        "1: one model scores its own negatives too, as published.",
    )
    min_positives: int = Field(10, ge=1, description="Documents with words below which nothing is fitted.")
    dim: int = Field(16, ge=16, le=1024, multiple_of=16, description="Length of the vectors; published: 100.")
    epochs: int = Field(5, ge=1, le=1000, description="Passes over the examples.")
    lr: float = Field(0.1, gt=0, le=10, description="Learning rate at the start; falls linearly to 0.")
    word_ngrams: int = Field(2, ge=1, le=8, description="Longest n-gram, words.")
    n_buckets: int = Field(2_000_000, ge=1, le=1 << 26, description="Buckets that n-grams are hashed into.")
    min_count: int = Field(1, ge=1, description="Words that occur less often are not learnt.")


@method(
    name="dclm",
    called="DCLM",
    title="classifier of the target against the pool (DCLM's fastText)",
    paper="2406.11794",
    feature="classifier",
    cost="one pass over the text a target; training reads the sample `epochs` times for each fold",
    assumes="the target is told from the pool by single words and pairs; the pool is mostly not the target",
    formula="""score(x) = ln P(target | x) - ln P(pool | x) = (1 / |x|) sum over features f of x of v[f]
|x| = number of features: words, `</s>`, and hashed word 2..n-grams
v = (o_target - o_pool) . u[f]; vectors u and o by SGD on -ln softmax(o . mean u), lr falling to 0
published threshold: P >= 0.018112, a score of -3.99, for the published model only""",
    differs="""Log odds instead of P: the same order, but not rounded to 1. The negatives are the pool's own
documents, so two models are trained and each scores the half whose negatives it has not seen
(n_folds: 1 restores one model). Positives are repeated until both classes come equally often, for
targets are smaller than 200,000 documents; copies are told apart in the order. Vectors of 16 instead
of 100 (dim: 96 or 112), which loses nothing for two labels. Features that training never met weigh
0; fastText leaves random vectors there. Any document is one line: all line breaks are spaces.
Documents without a word get no score. `model` reports the softmax itself, 1e-5 below what fastText
prints.""",
)
class DCLM(Method):
    """A linear classifier's log odds."""

    version: ClassVar[int] = 1
    default_policy: ClassVar[dict[str, Any]] = {"kind": "top_k", "on_non_finite": "exclude"}
    operations_per_byte: ClassVar[float] = 0.0  # its features tell
    Settings: ClassVar[type[BaseModel]] = DCLMSettings

    def needs(self, targets: Sequence[str], base: Path) -> Mapping[str, Feature]:
        """The log odds for each target; equal ones are computed once.

        Raises:
            RecipeError: both `model` and `positives` are given, or a file is not there.
            DataError: the model is not there.
        """
        from prill.features.target_classifier import FastTextFile, LogOdds

        if self.settings.model is not None:
            if self.settings.positives:
                raise RecipeError("expected `model` or `positives`, found both", where="settings")
            odds = LogOdds(model=FastTextFile.of(base / self.settings.model), of_label=self.settings.label)
            return dict.fromkeys(targets, odds)
        return {name: LogOdds.of(self._classifier(name, base)) for name in targets}

    def _classifier(self, target: str, base: Path) -> Any:
        from prill.features.sampled_texts import SampledTexts
        from prill.features.target_classifier import TargetClassifier, content_hash

        files = tuple(base / path for path in self.settings.positives)
        missing = [str(path) for path in files if not path.is_file()]
        if missing:
            raise RecipeError(f"expected files of positives, found none at {missing[0]!r}", where="positives")
        kept = self.settings.model_dump(exclude={"positives", "model", "label", "n_negatives"})
        kept["sample"] = SampledTexts(n_documents=self.settings.n_negatives, use="classifier.negatives")
        if files:
            return TargetClassifier(positives=files, digest_of_positives=content_hash(files), **kept)
        return TargetClassifier(targets=(target,), **kept)

    def score(self, state: State, given: Given, shard: int) -> Scores:
        """Log odds in nats, float64, shape (D,) for each target; NaN for documents without a word."""
        return {
            name: np.asarray(given.columns(name, shard, ["log_odds"])["log_odds"].to_numpy())
            for name in given.targets
        }

    def meaning(self) -> Meaning:
        summary = "log odds of the classifier; NaN for documents without a word"
        return Meaning(unit="nats", summary=summary)
