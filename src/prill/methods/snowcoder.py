"""Arctic-SnowCoder's annotator: how much the windows of a document look like chosen examples.

A logistic head on frozen embeddings, with the target's documents as positives and random documents of the
pool as negatives. Documents are judged at their top, middle and bottom, and the mean counts, so that a long
file is not judged by its licence header.

Source: Wei et al. 2024, arXiv:2409.02326, sections 2.3 and 3.1 to 3.4. No code was published.
Legend: D documents.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import Field

from prill.methods._embedding import EmbeddingSettings
from prill.methods.registry import Meaning, Method, Scores, State, method

if TYPE_CHECKING:
    from prill.features.annotator import Annotator
    from prill.features.feature import Feature, Given
    from prill.features.vectors import Vectors

__all__ = ["SnowCoder", "SnowCoderSettings"]


class SnowCoderSettings(EmbeddingSettings):
    """Settings of SnowCoder's annotator."""

    window: int = Field(512, ge=16, description="Tokens of a window; hashed words take 4 bytes for each.")
    negatives: int = Field(
        3_000, ge=10, description="Random documents of the pool that are negatives; the paper: 300,000."
    )
    heads: int = Field(
        2,
        ge=1,
        le=16,
        description="Heads, each fitted without the negatives that it judges; 1 is the paper, whose pool is "
        "so large that it does not matter.",
    )
    l2: float = Field(
        0.0,
        ge=0,
        description="Penalty of the head, for vectors of unit variance; 0 chooses 0.01, 0.1 or 1 by ROC-AUC "
        "on held-out documents of the target, which is then the best of three.",
    )
    held_out: float = Field(
        0.2,
        ge=0,
        le=0.5,
        description="Share of the target by which the annotator is measured (ROC-AUC) before all is used.",
    )


@method(
    name="snowcoder",
    called="SnowCoder",
    title="a classification head on embeddings of three windows",
    paper="2409.02326",
    feature="vectors of three windows",
    cost="an embedding of up to three windows of 512 tokens a document, shared by all targets; a head takes "
    "seconds",
    assumes="the target shows what good documents look like; the pool is mostly something else. Targets near "
    "a benchmark reward documents near it: decontaminate both",
    formula="""score(x) = mean over windows u of x of P(target | v(u)), v = vector of the window
P = softmax(W v + b), fitted on windows of the target's documents (1) and of random ones of the pool (0)
windows of n tokens, width w: [0, w), [(n - w) // 2, + w), [n - w, n); only [0, n) where n <= w""",
    differs="""Positives are the target, where the paper has synthetic code and instructions. Two heads, so
that no document is judged by a head that had it as a negative (heads: 1). Exact minimum of a penalised
loss, because the paper does not tell its optimiser; the encoder is frozen. Fitted on all three windows;
both classes weigh the same. Hashed words by default, where the paper has Snowflake-arctic-embed-m
(embedding: encoder). The best of the whole pool: within each programming language, as in the paper, is
policy `strata: source` where a source is a language. Four epochs of the choice are the training's to set.""",
)
class SnowCoder(Method):
    """Mean probability of the target over three windows."""

    version: ClassVar[int] = 1
    default_policy: ClassVar[dict[str, Any]] = {"kind": "top_k", "on_non_finite": "exclude"}
    Settings: ClassVar[type[EmbeddingSettings]] = SnowCoderSettings

    def needs(self, targets: Sequence[str], base: Path) -> Mapping[str, Feature]:
        """Vectors of three windows, and an annotator for each target.

        Raises:
            PrillError: there is no model where the settings say.
        """
        from prill.features.annotator import Annotator
        from prill.features.vectors import TargetVectors

        vectors = self.settings.vectors(base, window="three", n_tokens=self.settings.window)
        annotators = {
            f"annotator:{name}": Annotator(
                vectors=vectors,
                target=TargetVectors(of_pool=vectors, targets=(name,)),
                n_negatives=self.settings.negatives,
                n_heads=self.settings.heads,
                l2=self.settings.l2,
                held_out=self.settings.held_out,
            )
            for name in targets
        }
        return {"vectors": vectors, **annotators}

    def fit(self, given: Given) -> State:
        """The annotators' ROC-AUC on documents of the targets that were held out, NaN where too few are."""
        counts = [given.counts[given.named[f"annotator:{name}"]] for name in given.targets]
        measured = [found["held_out_auc"] for found in counts]
        return {"held_out_auc": np.array([np.nan if auc is None else auc for auc in measured])}

    def score(self, state: State, given: Given, shard: int) -> Scores:
        """Mean probabilities, NaN without words, float64, shape (D,)."""
        vectors: Vectors = given.named["vectors"]  # type: ignore[assignment]
        heads = {}
        for name in given.targets:
            annotator: Annotator = given.named[f"annotator:{name}"]  # type: ignore[assignment]
            heads[name] = annotator.read(given)
        keys = given.pool.keys(shard)
        parts: dict[str, list[Any]] = {name: [] for name in heads}
        for rows in vectors.stored(given, shard):
            key_D = keys[rows.first_row : rows.first_row + len(rows.vectors)]
            for name, found in heads.items():
                parts[name].append(found.judge(rows.vectors, key_D))
        return {name: np.concatenate(found) for name, found in parts.items()}

    def meaning(self) -> Meaning:
        from prill.features.windows import window_span

        span = window_span("three", self.settings.window, in_bytes=self.settings.embedding == "hashed")
        summary = "SnowCoder: mean probability over the windows of belonging to the target"
        return Meaning(unit="1", span=span, summary=summary)
