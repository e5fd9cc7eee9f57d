"""A rater distilled: what it said of some documents, learnt from and predicted for all.

Two students. `head`: a ridge regression a scale (and a softmax over the labels) on the vectors of documents,
which are computed once and shared by every rubric. `linear`: the classifier of words and n-grams over the
grades of one scale, whose prediction is the expected grade. A part of the rated documents is kept back:
accuracy, F1, rank correlation and slope are measured there, and its pairs of grade and prediction are kept
for later corrections.

Legend: D documents, N rated ones, S scales, L labels, W windows, K dimensions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from prill.corpus.columns import ColumnInfo, write_columns
from prill.errors import DataError
from prill.features.agreement import agreement, stratified
from prill.features.chosen_documents import texts_at
from prill.features.classifier import train_linear
from prill.features.feature import Given, ShardFeature, WholeFeature
from prill.features.grade_heads import GradeHeads
from prill.features.keyed import derive_seed
from prill.features.labelled import LabelledFile
from prill.features.linear_model import LinearModel
from prill.features.rated_rounds import RatedRounds
from prill.features.ratings import RatedSample
from prill.features.vectors import VectorRows, Vectors

__all__ = ["Distilled", "DistilledGrades", "Predicted"]

_LEAST_RATED: Final = 20
"""Rated documents below which nothing is fitted."""


@dataclass(frozen=True, kw_only=True)
class Distilled(WholeFeature):
    """What was learnt of a rater.

    Files: the student, and calibration.parquet with the pairs that were kept back.

    Attributes:
        ratings: what the rater said.
        vectors: what the heads see; None: the student is the linear classifier.
        scales: which grades are learnt.
        main: the one of them that must differ between documents, and by which they are kept back.
        with_label: learn the label too (heads only).
        threshold: grade from which a document counts as good, for F1.
        held_out: share of the rated documents kept back, of those that were drawn at random.
        n_buckets, epochs, lr: of the linear classifier.
    """

    kind: ClassVar[str] = "distilled"
    is_apart: ClassVar[bool] = True
    ratings: RatedSample | RatedRounds | LabelledFile
    vectors: Vectors | None
    scales: tuple[str, ...]
    main: str
    with_label: bool = False
    threshold: float = 3.0
    held_out: float = 0.2
    n_buckets: int = 1 << 18
    epochs: int = 25
    lr: float = 0.5

    @property
    def label(self) -> str:
        student = "n-grams" if self.vectors is None else self.vectors.label
        return f"{self.ratings.asked.name}: grades learnt from {student}"

    @property
    def files(self) -> tuple[str, ...]:
        return ("student.safetensors", "calibration.parquet")

    def build(self, given: Given, paths: Sequence[Path]) -> Mapping[str, Any]:
        """Fit, measure on what was kept back, and write.

        Raises:
            DataError: too few rated documents, or all have one grade.
        """
        table = self.ratings.read(given)
        grades = {name: table[name].to_numpy().astype(np.float64) for name in self.scales}
        keys = table["key"].to_numpy().astype(np.uint64)
        self._require(grades, len(keys))
        held = np.zeros(len(keys), np.bool_)
        may = _drawn_at_random(table)
        held[may] = stratified(grades[self.main][may], keys[may], self.held_out, given.seed)
        if self.vectors is None:
            predicted, flops = self._fit_linear(given, table, grades, held, paths[0])
        else:
            predicted, flops = self._fit_heads(given, table, grades, held, paths[0])
        counts = self._calibrate(paths[1], grades, predicted, keys, held)
        return {"n_rated": len(keys), "n_held_out": int(held.sum()), "agreement": counts, "flops": flops}

    def predict(self, heads: GradeHeads, rows: VectorRows) -> Predicted:
        """Grades of documents from their vectors."""
        grades = heads.grades(rows.vectors, rows.n_windows)
        label = None
        if self.with_label:
            letters = np.array([label.letter for label in self.ratings.asked.labels])
            best = heads.classes(rows.vectors, rows.n_windows)
            label = np.where(best >= 0, letters[best], "")
        return Predicted(grades=dict(zip(self.scales, grades, strict=True)), label=label)

    def _require(self, grades: Mapping[str, NDArray[np.float64]], n: int) -> None:
        if n < _LEAST_RATED:
            raise DataError(
                f"expected at least {_LEAST_RATED} rated documents to learn from, found {n}",
                where=self.ratings.label,
                hint="rate more documents; several hundred give a useful student",
            )
        values = grades[self.main]
        if values.min() == values.max():
            raise DataError(
                f"expected different grades to learn from, found {values[0]:g} for all {n} documents",
                where=f"{self.ratings.label}, {self.main}",
                hint="rate more documents, or use a rater that spreads its grades",
            )

    def _fit_heads(
        self,
        given: Given,
        table: pa.Table,
        grades: Mapping[str, NDArray[np.float64]],
        held: NDArray[np.bool_],
        path: Path,
    ) -> tuple[Mapping[str, NDArray[np.float64]], float]:
        assert self.vectors is not None
        rows = self._vectors(given, table, self.vectors)
        first_NK, fit = rows.vectors[:, 0], ~held
        inner = stratified(grades[self.main][fit], table["key"].to_numpy()[fit], 0.2, given.seed + 1)
        wanted = [values[fit] for values in grades.values()]
        heads = GradeHeads.fit(first_NK[fit], wanted, is_validation=inner)
        if self.with_label:
            letters = [label.letter for label in self.ratings.asked.labels]
            classes = np.array([letters.index(letter) for letter in table["label"].to_pylist()])
            heads = heads.with_classes(first_NK[fit], classes[fit], len(letters))
        heads.save(path)
        return self.predict(heads, rows).grades, heads.flops_of(int(fit.sum()))

    def _fit_linear(
        self,
        given: Given,
        table: pa.Table,
        grades: Mapping[str, NDArray[np.float64]],
        held: NDArray[np.bool_],
        path: Path,
    ) -> tuple[Mapping[str, NDArray[np.float64]], float]:
        (name,) = self.scales
        text = _texts(given, table)
        levels, labels = np.unique(np.rint(grades[name]), return_inverse=True)
        text_fit, labels_fit = text.filter(pa.array(~held)), labels[~held]
        present = np.unique(labels_fit)  # a grade may be so rare that all its documents were kept back
        model, taken = train_linear(
            text_fit,
            np.searchsorted(present, labels_fit),
            n_labels=len(present),
            label_names=[f"{levels[i]:g}" for i in present],
            n_buckets=self.n_buckets,
            epochs=self.epochs,
            lr=self.lr,
            seed=derive_seed(given.seed, "distilled"),
        )
        model.save(path)
        return {name: _expected(model, text)}, taken.flops

    def _vectors(self, given: Given, table: pa.Table, vectors: Vectors) -> VectorRows:
        """Of the rated documents: from the pool's, or of the file's own texts."""
        if "text" in table.column_names:
            embedded, n_windows = vectors.embed(table["text"].combine_chunks())
            return VectorRows(first_row=0, vectors=embedded, n_windows=n_windows)
        shards, rows = table["shard"].to_numpy(), table["row"].to_numpy()
        found = np.zeros((len(rows), vectors.n_windows, vectors.n_dimensions), np.float32)
        n_windows = np.zeros(len(rows), np.int8)
        for shard in np.unique(shards).tolist():
            for part in vectors.stored(given, shard):
                stop = part.first_row + len(part.n_windows)
                here = np.flatnonzero((shards == shard) & (rows >= part.first_row) & (rows < stop))
                found[here] = part.vectors[rows[here] - part.first_row]
                n_windows[here] = part.n_windows[rows[here] - part.first_row]
        return VectorRows(first_row=0, vectors=found, n_windows=n_windows)

    def _calibrate(
        self,
        path: Path,
        grades: Mapping[str, NDArray[np.float64]],
        predicted: Mapping[str, NDArray[np.float64]],
        keys: NDArray[np.uint64],
        held: NDArray[np.bool_],
    ) -> dict[str, Any]:
        scales = {scale.name: scale for scale in self.ratings.asked.scales}
        columns: dict[str, Any] = {"key": keys[held]}
        counts = {}
        for name in self.scales:
            columns |= {name: grades[name][held], f"{name}_predicted": predicted[name][held]}
            counts[name] = agreement(grades[name][held], predicted[name][held], scales[name], self.threshold)
        write_columns(path, columns, [ColumnInfo(name=name) for name in columns])
        return counts


@dataclass(frozen=True, kw_only=True)
class Predicted:
    """Grades of D documents by scale, float64, (D,), and letters of their labels, if these were learnt."""

    grades: Mapping[str, NDArray[np.float64]]
    label: NDArray[np.str_] | None


@dataclass(frozen=True, kw_only=True)
class DistilledGrades(ShardFeature):
    """Predicted grades of every document, a column a scale, not rounded; and `label`, if it was learnt."""

    kind: ClassVar[str] = "distilled-grades"
    model: Distilled
    vectors: Vectors | None

    @classmethod
    def of(cls, model: Distilled) -> DistilledGrades:
        """Of a student."""
        return cls(model=model, vectors=model.vectors)

    @property
    def label(self) -> str:
        return f"{self.model.ratings.asked.name}: predicted grades"

    @property
    def columns(self) -> list[ColumnInfo]:
        """What they mean."""
        span = "whole document" if self.vectors is None else self.vectors.span
        infos = [
            ColumnInfo(name=name, direction=1, span=span, summary=f"{name}, predicted; not rounded")
            for name in self.model.scales
        ]
        label = ColumnInfo(name="label", span=span, summary="letter of the predicted label")
        return [*infos, label] if self.model.with_label else infos

    def write(self, given: Given, shard: int, path: Path) -> None:
        student = given.files(self.model)[0]
        if self.vectors is None:
            model = LinearModel.load(student)
            parts = [
                Predicted(grades={self.model.scales[0]: _expected(model, batch.text)}, label=None)
                for batch in given.pool.batches(shard)
            ]
        else:
            heads = GradeHeads.load(student)
            parts = [self.model.predict(heads, rows) for rows in self.vectors.stored(given, shard)]
        columns: dict[str, Any] = {
            name: np.concatenate([part.grades[name] for part in parts]) for name in self.model.scales
        }
        if self.model.with_label:
            columns["label"] = pa.array(
                np.concatenate([part.label for part in parts if part.label is not None])
            )
        write_columns(path, columns, self.columns)


def _drawn_at_random(table: pa.Table) -> NDArray[np.bool_]:
    """Which ratings speak for the pool: all, but for rounds that chose some."""
    if "is_random" not in table.column_names:
        return np.ones(table.num_rows, np.bool_)
    return np.asarray(table["is_random"].to_numpy())


def _texts(given: Given, table: pa.Table) -> pa.Array:
    if "text" in table.column_names:
        return table["text"].combine_chunks()
    place = np.stack([table["shard"].to_numpy(), table["row"].to_numpy()], axis=1)
    order = np.lexsort((place[:, 1], place[:, 0]))
    texts = np.empty(len(place), dtype=object)
    texts[order] = [text for some in texts_at(given.pool, place[order]) for text in some]
    return pa.array(texts.tolist(), pa.large_string())


def _expected(model: LinearModel, text: pa.Array) -> NDArray[np.float64]:
    """Expected grade, float64, (D,); NaN for a document without text."""
    grades = np.array([float(name) for name in model.labels])
    found = np.asarray(model.predict(text).astype(np.float64) @ grades)
    n_bytes = pa.compute.binary_length(text).to_numpy()
    return np.where(n_bytes > 0, found, np.nan)
