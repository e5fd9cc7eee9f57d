"""A rater's budget spent in rounds: what was learnt so far proposes what to label next.

The first round is drawn at random. After it, a student is fitted, the documents whose grade it is least sure
of are proposed, and `labelling.pick` takes from them for the grade with the fewest labels, with a fifth
of each round purely at random. Only the random part is kept back to measure students on.

Legend: N candidates, G grades.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from prill.corpus.columns import ColumnInfo, write_columns
from prill.errors import DataError
from prill.features.distilled import Distilled, DistilledGrades
from prill.features.feature import Given, WholeFeature
from prill.features.keyed import derive_seed, keyed_uniform
from prill.features.labelling import LABELLING_VERSION, pick
from prill.features.rated_rounds import RatedRounds
from prill.features.rater.rubric import Rubric, Scale
from prill.features.rater.spec import RaterSpec
from prill.features.ratings import RatedSample
from prill.features.vectors import Vectors

__all__ = ["NextToLabel", "grade_probabilities", "rated_in_rounds"]

_MOST_CANDIDATES: Final = 1_000_000
_LEAST_SPREAD: Final = 0.25  # of a grade: a student that is always right so far is still not sure


@dataclass(frozen=True, kw_only=True)
class NextToLabel(WholeFeature):
    """The documents of the next round.

    Attributes:
        rated: what is labelled so far.
        student: what was learnt from it.
        grades: its predictions for the pool.
        n_documents: how many to label next; fewer where the pool has no more.
        gamma: share of the candidates, the least sure ones, that the balanced picks are made from.
        random_share: share of the round that is purely random.
    """

    kind: ClassVar[str] = "next-to-label"
    version: ClassVar[int] = LABELLING_VERSION
    rated: RatedRounds
    student: Distilled
    grades: DistilledGrades
    n_documents: int
    gamma: float = 0.1
    random_share: float = 0.2

    @property
    def label(self) -> str:
        return f"{self.rated.asked.name}: {self.n_documents:,} documents to grade next"

    @property
    def files(self) -> tuple[str, ...]:
        return ("chosen.parquet",)

    def build(self, given: Given, paths: Sequence[Any]) -> Mapping[str, Any]:
        """Pick them.

        Raises:
            DataError: no document is left.
        """
        scale = next(s for s in self.rated.asked.scales if s.name == self.student.main)
        table = self.rated.read(given)
        place, keys, predicted = self._candidates(given, scale, table["key"].to_numpy())
        if not len(keys):
            raise DataError("expected documents that are not rated yet, found none", where=self.label)
        labels = np.rint(table[scale.name].to_numpy()).astype(np.int64) - scale.low
        counts_G = np.bincount(labels, minlength=scale.high - scale.low + 1)
        told = given.counts[self.student]["agreement"][scale.name]
        spread = max(_LEAST_SPREAD, float(told.get("residual_variance", 1.0)) ** 0.5)
        picked = pick(
            grade_probabilities(predicted, scale, spread),
            counts_G,
            min(self.n_documents, len(keys)),
            keys,
            derive_seed(given.seed, f"rounds.{len(self.rated.rounds)}"),
            gamma=self.gamma,
            random_share=self.random_share,
        )
        columns = {
            "shard": place[picked.rows, 0],
            "row": place[picked.rows, 1],
            "key": keys[picked.rows],
            "inclusion": picked.inclusion,
            "is_random": picked.is_random,
        }
        write_columns(paths[0], columns, [ColumnInfo(name=name) for name in columns])
        return {"n_chosen": len(picked.rows), "n_candidates": len(keys), "labels": counts_G.tolist()}

    def _candidates(
        self, given: Given, scale: Scale, rated: NDArray[np.uint64]
    ) -> tuple[NDArray[np.int64], NDArray[np.uint64], NDArray[np.float64]]:
        """Place, key and predicted grade of documents that may be labelled, each text once."""
        places, keys, grades = [], [], []
        for shard in range(given.pool.n_shards):
            found = given.columns(self.grades, shard, [scale.name])[scale.name].to_numpy()
            key = given.pool.keys(shard)
            may = given.pool.is_eligible(shard) & np.isfinite(found) & ~np.isin(key, rated)
            rows = np.flatnonzero(may)
            places.append(np.stack([np.full(len(rows), shard), rows], axis=1))
            keys.append(key[rows])
            grades.append(found[rows])
        key, first = np.unique(np.concatenate(keys), return_index=True)
        if len(key) > _MOST_CANDIDATES:
            draws = keyed_uniform(derive_seed(given.seed, "rounds.candidates"), key)
            first = first[np.argsort(draws, kind="stable")[:_MOST_CANDIDATES]]
        first = np.sort(first)
        return np.concatenate(places)[first], np.concatenate(keys)[first], np.concatenate(grades)[first]


def grade_probabilities(predicted_N: NDArray[np.float64], scale: Scale, spread: float) -> NDArray[np.float64]:
    """P(grade) around predictions that err by `spread`, float64, shape (N, G): a rounded normal law.

    >>> p = grade_probabilities(np.array([1.0, 1.5]), Scale(name="g", low=0, high=2), 0.5)
    >>> p.round(3).tolist()
    [[0.107, 0.787, 0.107], [0.009, 0.496, 0.496]]
    """
    grades_G = np.arange(scale.low, scale.high + 1)
    distance_NG = (np.clip(predicted_N, scale.low, scale.high)[:, None] - grades_G) / spread
    p_NG = np.exp(-(distance_NG**2) / 2)
    return np.asarray(p_NG / p_NG.sum(axis=1, keepdims=True), np.float64)


def rated_in_rounds(
    rubric: Rubric,
    spec: RaterSpec,
    first: RatedSample,
    *,
    n_documents: int,
    n_rounds: int,
    scale: str,
    vectors: Vectors | None,
    threshold: float,
    held_out: float,
) -> RatedRounds:
    """Ratings of several rounds, each chosen with what the rounds before taught.

    Args:
        first: the first round, drawn at random.
        n_documents: of all rounds together.
        n_rounds: at least 2.
        scale: whose grades are to be balanced.
    """
    rated = RatedRounds(rounds=(first,), chosen=())
    left = n_documents - first.n_documents
    for number in range(1, n_rounds):
        student = Distilled(
            ratings=rated,
            vectors=vectors,
            scales=(scale,),
            main=scale,
            threshold=threshold,
            held_out=held_out,
        )
        size = left // (n_rounds - 1) + (number <= left % (n_rounds - 1))
        chosen = NextToLabel(
            rated=rated, student=student, grades=DistilledGrades.of(student), n_documents=size
        )
        more = RatedSample.of(
            rubric, spec, first.base, n_documents=size, use=f"round {number}", chosen=chosen
        )
        rated = RatedRounds(rounds=(*rated.rounds, more), chosen=(*rated.chosen, chosen))
    return rated
