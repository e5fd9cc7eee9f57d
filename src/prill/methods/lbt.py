"""Learning by teaching: text is worth what students learn from it.

Students (small models of the run) get a short lesson on each cluster of the pool and sit an exam on the
target; a cluster's documents score what the lesson gained over a lesson of random text.

Source: Ning et al. 2024, arXiv:2406.14629; its rules for choosing among answers are `choose_answer`. The
version for pretraining text is ours. Legend: D documents, G groups, R targets.
"""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from prill.errors import DataError
from prill.features.checkpoints import Warmed
from prill.features.clusters import Centroids, Clusters
from prill.features.proxies import Proxy
from prill.features.teaching import Taught, gains_of
from prill.features.vectors import Vectors
from prill.methods.registry import Meaning, Method, Scores, State, method

if TYPE_CHECKING:
    from prill.features.feature import Feature, Given

__all__ = ["LBT", "LBTSettings", "Rule", "answer_scores", "choose_answer"]

Answer = TypeVar("Answer", bound=Hashable)
Rule = Literal["maj", "max", "sum", "avg"]


class LBTSettings(BaseModel):
    """Settings of learning by teaching."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sizes: tuple[str, ...] = Field(("pico",), description="Sizes of the students, of the ladder of proxies.")
    stages: tuple[int, ...] = Field(
        (400_000,), description="Tokens that students have learnt from; two stages show whether gains last."
    )
    seeds: int = Field(2, ge=1, description="Students of each size and stage.")
    warm_steps: int = Field(
        64, ge=1, description="Training steps that fill the optimiser's moments before anything is taught."
    )
    clusters: tuple[int, ...] = Field(
        (64,), description="Children of a node at each level of the clusters that are taught."
    )
    n_steps: int = Field(8, ge=1, description="Training steps of a lesson.")
    n_rows: int = Field(2, ge=1, description="Rows of a step, of the student's length each.")
    n_random: int = Field(8, ge=2, description="Lessons of random text that gains are measured against.")
    n_exam_tokens: int = Field(2048, ge=64, description="Tokens of each target in its exam.")
    rate_share: float = Field(1.0, gt=0, description="Learning rate of a lesson; 1 is the student's own.")


@method(
    name="lbt",
    called="LbT",
    title="what students gain from lessons on each cluster",
    paper="2406.14629",
    feature="clusters, lessons of proxies",
    cost="clusters x students x n_steps training steps, and an exam behind each lesson",
    assumes="documents of a cluster teach alike, and what helps a small student in a few steps helps",
    formula="""gain(g) = mean over students of (exam before - exam after a lesson on g)
          - the same, mean over lessons of random text of equal tokens
score(x) = gain(cluster of x), nats a token; exam: the target's fit items""",
    differs="""The paper teaches worked examples in context and counts exam answers; for pretraining text a
lesson is a few training steps, from one checkpoint with its optimiser's moments, with the same number of rows
and tokens for all (common random numbers), and the exam is loss, which has no floor. A cluster with too
little text is read again from its start. Groups are clusters of hashed words; students differ in seed, and
where the settings say so in size and stage. The state holds the standard error over students and the scatter
of random lessons: gains below the latter are noise.""",
)
class LBT(Method):
    """Gains of lessons."""

    version: ClassVar[int] = 1
    default_policy: ClassVar[dict[str, Any]] = {"kind": "top_k", "on_non_finite": "exclude"}
    operations_per_byte: ClassVar[float] = 1.0
    Settings: ClassVar[type[BaseModel]] = LBTSettings

    def needs(self, targets: Sequence[str], base: Path) -> Mapping[str, Feature]:
        """The clusters, and every student's lessons."""
        settings = self.settings
        clusters = Clusters(centroids=Centroids(vectors=Vectors.of("hashed"), k=settings.clusters))
        found: dict[str, Feature] = {"clusters": clusters}
        for number, student in enumerate(self._students()):
            found[f"student {number}"] = Taught(
                student=Warmed.of(student, n_steps=settings.warm_steps),
                clusters=clusters,
                targets=tuple(targets),
                n_steps=settings.n_steps,
                n_rows=settings.n_rows,
                n_random=settings.n_random,
                n_exam_tokens=settings.n_exam_tokens,
                rate_share=settings.rate_share,
            )
        return found

    def fit(self, given: Given) -> State:
        """Gains of all clusters, their error and noise.

        Raises:
            DataError: the students were taught different groups.
        """
        from safetensors.numpy import load_file

        names = [name for name in sorted(given.named) if name.startswith("student ")]
        stored = [load_file(given.file(name)) for name in names]
        group = stored[0]["group"]
        if any(not np.array_equal(one["group"], group) for one in stored):
            raise DataError("expected students that were taught the same clusters, found others", where="lbt")
        found = gains_of(*(np.stack([one[part] for one in stored]) for part in ("before", "after", "random")))
        return {"group": group, "gain": found.gain, "error": found.error, "noise": found.noise}

    def score(self, state: State, given: Given, shard: int) -> Scores:
        """The gain of each document's cluster; NaN for documents without one."""
        clusters = given.named["clusters"]
        assert isinstance(clusters, Clusters)
        cluster = clusters.read(given, shard)[0].astype(np.int64)
        place = np.minimum(np.searchsorted(state["group"], cluster), len(state["group"]) - 1)
        is_known = state["group"][place] == cluster
        return {
            name: np.where(is_known, state["gain"][place, number], np.nan)
            for number, name in enumerate(given.targets)
        }

    def meaning(self) -> Meaning:
        return Meaning(
            unit="nats a token",
            span="clusters: whole document; lessons: sampled documents, first 512 tokens",
            summary="fall of the target's loss after a lesson on the cluster, less that of random text",
        )

    def _students(self) -> list[Proxy]:
        settings = self.settings
        return [
            Proxy.of_pool(size=size, n_tokens=n_tokens, use="reference" if seed == 0 else f"student {seed}")
            for size, n_tokens, seed in itertools.product(
                settings.sizes, settings.stages, range(settings.seeds)
            )
        ]


def answer_scores(
    answers: Sequence[Answer], scores: Sequence[float]
) -> dict[Answer, tuple[int, float, float, float]]:
    """(count, max, sum, mean) of the exam scores of each distinct answer, in the order of first appearance.

    Source: Ning et al. 2024, arXiv:2406.14629, section 3 (M1).
    """
    by_answer: dict[Answer, list[float]] = {}
    for answer, score in zip(answers, scores, strict=True):
        by_answer.setdefault(answer, []).append(score)
    return {answer: (len(own), max(own), sum(own), sum(own) / len(own)) for answer, own in by_answer.items()}


def choose_answer(answers: Sequence[Answer], scores: Sequence[float], rule: Rule) -> Answer:
    """The answer that students do best with.

    Args:
        answers: of all rationales that were taught.
        scores: exam score of the students behind each.
        rule: maj: the commonest; max: the highest score; sum: the highest sum (a weighted vote); avg: the
            highest mean. Ties go to the commoner answer, then to the first.
    Raises:
        DataError: there is no answer.
    """
    if not answers:
        raise DataError("expected at least one answer to choose from, found none")
    place = ("maj", "max", "sum", "avg").index(rule)
    found = answer_scores(answers, scores)
    return max(found, key=lambda answer: (found[answer][place], found[answer][0]))
