"""PreSelect: keep documents like those on which models' losses rank exactly as the models' benchmark does.

Several models of rising strength score a seed sample of the pool; where every stronger one has the lower
loss, the document predicts the benchmark. A linear classifier of words learns which documents do and which
do not, and scores the pool.

Source: Shum et al. 2025, arXiv:2503.00808, sections 2 and 3, appendix A; `prill.features.strength`.
Legend: D documents.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from prill.errors import RecipeError
from prill.methods._reading import model_or_folder
from prill.methods.registry import Meaning, Method, Scores, State, method

if TYPE_CHECKING:
    from prill.features.feature import Feature, Given
    from prill.features.losses import LanguageModel

__all__ = ["PreSelect", "PreSelectSettings"]

FEWEST_MODELS = 4


class PreSelectSettings(BaseModel):
    """Settings of PreSelect."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sizes: tuple[str, ...] = Field(
        ("pico", "pico", "pico", "nano"), description="Sizes of the models that are trained on the pool."
    )
    tokens: tuple[int, ...] = Field(
        (200_000, 280_000, 400_000, 400_000),
        description="Tokens that each of them is trained on: so close that documents disagree.",
    )
    models: tuple[str, ...] = Field(
        (), description="Folders of at least 4 models to use instead; one family orders best."
    )
    seed_documents: int = Field(
        2000, ge=10, description="Documents of the pool that the models score; the paper takes 900,000."
    )
    max_tokens: int | None = Field(
        256, ge=1, description="First tokens of a document that the models score; null scores all of them."
    )
    min_tokens: int = Field(
        16, ge=1, description="Scored tokens below which a document of the seed is left out."
    )
    epochs: int = Field(5, ge=1, description="Passes of the classifier; the released script makes 3.")
    lr: float = Field(0.1, gt=0, description="Learning rate of the classifier.")
    word_ngrams: int = Field(2, ge=1, le=5, description="Longest n-gram of the classifier, words.")
    n_buckets: int = Field(1 << 18, ge=1, description="Buckets that n-grams are hashed into.")
    drop_end: bool = Field(
        True,
        description="Set the weight of `</s>`, which every document ends with, to 0, as the paper does "
        "against a bias by length; the released script does not.",
    )
    precision: str = Field("auto", pattern="^(auto|fp32|bf16)$", description="Of matrix products.")


@method(
    name="preselect",
    called="PreSelect",
    title="predictive strength: documents whose losses rank models as a benchmark does",
    paper="2503.00808",
    feature="losses of several models on a sample, and a linear classifier",
    cost="four small trainings and four passes over 2,000 documents, then one over the words of the pool",
    assumes="the benchmark orders the models as their losses on useful text do; here it is their loss on the "
    "target's fit part, which orders them alike for most targets",
    formula="""S(x) = share of pairs i < j of models, weak to strong, with C_i(x) > C_j(x), C in bits a byte
score(x) = P(label 1 | words of x); label 1: S = 1, label 0: as many of the lowest S""",
    differs="""four proxies of the pool stand for six public models of 7 B to 65 B; their benchmark is
  their loss on the target's fit part, not an average over tasks
a sample of 2,000 documents of the pool is the seed (300 of each of 3,000 domains, apart from the pool)
each document is read alone from its start; the released script reads a stream in which one document is
  conditioned on the end of another and boundaries are off by one
losses are a byte, not in total; within one document that is the same order
with few levels S ties a lot: ties go by a keyed hash; where fewer documents deny the order than predict it,
  as many of the latter are used
the classifier is ours, fastText's loss in 16 dimensions; the budget counts tokens, the paper's characters
  (`prill.features.strength.character_threshold`)""",
)
class PreSelect(Method):
    """One classifier a target."""

    version: ClassVar[int] = 1
    default_policy: ClassVar[dict[str, Any]] = {"kind": "top_k", "on_non_finite": "exclude"}
    Settings: ClassVar[type[BaseModel]] = PreSelectSettings

    def needs(self, targets: Sequence[str], base: Path) -> Mapping[str, Feature]:
        """The probabilities under each target's classifier.

        Raises:
            RecipeError: fewer than 4 models, or as many sizes as tokens are not given.
            PrillError: there is no usable model in a folder.
        """
        from prill.features.classifier import ClassifierScores
        from prill.features.losses import SampleLoss, TargetLoss
        from prill.features.strength import StrengthClassifier

        settings = self.settings
        models = self._models(base)
        shared: dict[str, Any] = {"max_tokens": settings.max_tokens, "precision": settings.precision}
        samples = tuple(
            SampleLoss(model=model, n_documents=settings.seed_documents, **shared) for model in models
        )
        found: dict[str, Feature] = {}
        for name in targets:
            classifier = StrengthClassifier(
                samples=samples,
                benchmarks=tuple(TargetLoss(model=model, targets=(name,), **shared) for model in models),
                min_tokens=settings.min_tokens,
                epochs=settings.epochs,
                lr=settings.lr,
                word_ngrams=settings.word_ngrams,
                n_buckets=settings.n_buckets,
                is_end_dropped=settings.drop_end,
            )
            found[f"scores-{name}"] = ClassifierScores(model=classifier)
        return found

    def score(self, state: State, given: Given, shard: int) -> Scores:
        """P(label 1), float64, shape (D,) a target; NaN without a word that the classifier knows."""
        tables = {name: given.columns(f"scores-{name}", shard, ["p_1"]) for name in given.targets}
        return {name: np.asarray(table["p_1"].to_numpy(), np.float64) for name, table in tables.items()}

    def meaning(self) -> Meaning:
        summary = "probability that the document predicts how models rank on the target"
        return Meaning(unit="1", summary=summary)

    def _models(self, base: Path) -> list[LanguageModel]:
        settings = self.settings
        if len(settings.sizes) != len(settings.tokens):
            raise RecipeError(
                f"`sizes` and `tokens` must be as many, found {len(settings.sizes)} and "
                f"{len(settings.tokens)}",
                where="preselect",
            )
        pairs = list(zip(settings.sizes, settings.tokens, strict=True))
        wanted: Sequence[Any] = settings.models or pairs
        if len(set(wanted)) < FEWEST_MODELS:
            raise RecipeError(
                f"predictive strength needs at least {FEWEST_MODELS} different models, "
                f"found {len(set(wanted))}",
                where="preselect",
            )
        if settings.models:
            return [model_or_folder(folder, base, size="", n_tokens=0) for folder in settings.models]
        return [model_or_folder(None, base, size=size, n_tokens=n_tokens) for size, n_tokens in pairs]
