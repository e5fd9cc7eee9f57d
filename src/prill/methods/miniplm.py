"""MiniPLM: keep what a large model finds much easier than a small one does.

    difference = loss of the small reference - loss of the large teacher, nats a token, higher is better

Text that both find easy, and noise that neither learns, have a difference near 0; what needs capacity stands
out. The losses are two columns of one pass each over the pool, reusable for every student. Neither model may
have trained on what is scored, and both read the same tokens; means of short sequences are noisy, so there is
a floor on their length.

Source: Gu et al. 2024, arXiv:2410.17215, section 2.2, and the authors' code.
Legend: D documents.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from prill.errors import DataError, RecipeError
from prill.methods._reading import ReferenceSettings, model_or_folder, samples_of, span_of, without_own
from prill.methods.registry import Meaning, Method, Scores, State, method

if TYPE_CHECKING:
    from prill.features.feature import Feature, Given

__all__ = [
    "MiniPLM",
    "MiniPLMSettings",
    "difference_sample",
    "difference_scores",
    "kept_in_order",
    "ratio_scores",
]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class MiniPLMSettings(ReferenceSettings):
    """Settings of MiniPLM."""

    teacher_size: str = Field("nano", description="Size of the large model that is trained on the pool.")
    teacher_tokens: int = Field(
        1_200_000,
        ge=1,
        description="Tokens that the large model is trained on, in at most 4 passes over the text of the "
        "small one: with as few tokens as the small one a larger proxy is no better.",
    )
    teacher: str | None = Field(
        None, description="Folder of the large model, in place of one trained here; the paper's has 1.8 B."
    )
    mode: Literal["difference", "ratio"] = Field(
        "difference",
        description="difference of the mean losses, as the authors' code; ratio of large to small, negated, "
        "as their page prints it. The two rank differently.",
    )


@method(
    name="miniplm",
    called="MiniPLM",
    title="difference sampling: what a large model finds easier than a small one",
    paper="2410.17215",
    feature="loss under a small and a large model",
    cost="two trainings (pico on 0.4 M tokens, nano on 1.2 M) and two forward passes over the span",
    assumes="hard but learnable text is worth more than easy text and than noise; no target is read",
    formula="score(x) = L_small(x) - L_large(x), L the mean loss in nats a token\n"
    "mode ratio: -L_large(x) / L_small(x)",
    differs="""documents and their first 256 tokens, not chunks of at most 1,025 tokens cut at a sentence end
both models are small proxies trained on the pool (the paper: 104 M and 1.8 B parameters); set `model` and
  `teacher` for others, which must share a tokenizer for the difference to be of the same tokens
documents that either was trained on, and those below min_tokens, are left out; the reference holds out shards
ties go by a keyed hash of the text, where the code leaves them to chance
the share alpha = 0.5 of chunks is here the recipe's budget; the order of the corpus is kept as there""",
)
class MiniPLM(Method):
    """Difference sampling; the same scores for every target."""

    version: ClassVar[int] = 1
    default_policy: ClassVar[dict[str, Any]] = {"kind": "top_k", "on_non_finite": "exclude"}
    Settings: ClassVar[type[BaseModel]] = MiniPLMSettings

    def needs(self, targets: Sequence[str], base: Path) -> Mapping[str, Feature]:
        """Both losses, and the samples that the models were trained on."""
        settings = self.settings
        small = settings.reference(base)
        large = model_or_folder(
            settings.teacher,
            base,
            size=settings.teacher_size,
            n_tokens=settings.teacher_tokens,
            text_tokens=min(settings.tokens, settings.teacher_tokens),
        )
        losses = {"small": settings.loss(small), "large": settings.loss(large)}
        return {**losses, **samples_of([small, large])}

    def score(self, state: State, given: Given, shard: int) -> Scores:
        """The difference, float64, shape (D,), the same for every target."""
        from prill.features.losses import mean_losses

        small, large = (
            mean_losses(given.columns(name, shard), fewest=self.settings.min_tokens)
            for name in ("small", "large")
        )
        rule = difference_scores if self.settings.mode == "difference" else ratio_scores
        told = np.isfinite(small) & np.isfinite(large)
        scores = np.full(len(small), np.nan)
        scores[told] = rule(small[told], large[told])
        return dict.fromkeys(given.targets, without_own(scores, given, shard))

    def meaning(self) -> Meaning:
        is_difference = self.settings.mode == "difference"
        return Meaning(
            unit="nats" if is_difference else "1",
            span=span_of(self.settings),
            summary="loss a token under the small model minus that under the large one"
            if is_difference
            else "minus the ratio of the large model's loss to the small one's",
        )


def difference_scores(reference_nats_D: Any, teacher_nats_D: Any) -> Floats:
    """reference - teacher, (D,).

    Args:
        reference_nats_D: mean loss of each sequence under the small model, nats a token.
        teacher_nats_D: the same under the large one.
    Raises:
        DataError: the columns differ in length, or a loss is not finite.
    """
    reference, teacher = _checked(reference_nats_D, teacher_nats_D)
    return reference - teacher


def ratio_scores(reference_nats_D: Any, teacher_nats_D: Any) -> Floats:
    """-teacher / reference, (D,): the authors' page, where a smaller quotient of log-likelihoods is better.

    Args and errors: as `difference_scores`; a reference loss of 0 gives minus infinity, which is no score.
    """
    reference, teacher = _checked(reference_nats_D, teacher_nats_D)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(reference > 0, -teacher / reference, -np.inf)


def difference_sample(reference_nats_D: Any, teacher_nats_D: Any, *, ratio: float = 0.5) -> Ints:
    """Rows of the floor(ratio D) highest differences, in corpus order, as the authors' code chooses.

    Raises:
        RecipeError: the ratio is not above 0 and at most 1.
        DataError: as `difference_scores`.
    """
    if not 0 < ratio <= 1:
        raise RecipeError(f"`ratio` must be above 0 and at most 1, found {ratio}", where="difference")
    scores = difference_scores(reference_nats_D, teacher_nats_D)
    return kept_in_order(scores, math.floor(ratio * len(scores)))


def kept_in_order(scores_D: Floats, n: int) -> Ints:
    """Rows of the n highest scores, rising; equal scores go to the lower row."""
    return np.sort(np.argsort(-scores_D, kind="stable")[:n]).astype(np.int64)


def _checked(reference_nats_D: Any, teacher_nats_D: Any) -> tuple[Floats, Floats]:
    reference, teacher = np.asarray(reference_nats_D, np.float64), np.asarray(teacher_nats_D, np.float64)
    if reference.shape != teacher.shape:
        raise DataError(
            f"expected one loss of each model a sequence, found {len(reference)} and {len(teacher)}",
            where="difference",
        )
    bad = np.flatnonzero(~(np.isfinite(reference) & np.isfinite(teacher)))
    if len(bad):
        raise DataError(
            f"losses must be finite, found {reference[bad[0]]} and {teacher[bad[0]]} ({len(bad)} such rows)",
            where=f"difference, row {bad[0]}",
            hint="leave empty sequences out",
        )
    return reference, teacher
