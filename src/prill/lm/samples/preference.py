"""Pretraining with preferences, the data's half: filter by score, tag by score, or hand scores on.

Each segment (a sentence, a line of code, a document) has a score of how bad it is. `PreferenceFilter` leaves
bad documents out; `PreferenceTags` says before every segment which kind it is, so that a model can be asked
for the good kind; `PreferenceScores` gives each token its segment's score, for the objectives that read it
(unlikelihood, reward-weighted, advantage-weighted).

Source: Korbak et al. 2023, arXiv:2302.08582, section 2, and its released code. Differs: documents are encoded
whole and tokens given to segments by their last byte, so that without tags the stream is that of maximum
likelihood; the code encodes each segment by itself. Draws are keyed by text and segment, not by the order of
reading.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from prill.errors import DataError, RecipeError
from prill.lm.catalog import record
from prill.lm.data import TokenStream
from prill.lm.samples.columns import Segments, base_column, column_numbers, column_segments
from prill.lm.samples.insertion import insert_tokens
from prill.lm.samples.keyed_bits import keyed, nth, uniform
from prill.lm.samples.segments import mean_values, segments_of_tokens
from prill.lm.samples.subset import NothingKeptError, take_stream
from prill.lm.samples.transform import Documents

__all__ = ["Grain", "PreferenceFilter", "PreferenceScores", "PreferenceTags", "aligned_share", "score_spread"]

Grain: TypeAlias = Literal["segments", "document"]


@dataclass(frozen=True, kw_only=True)
class _Scored:
    """What the three have in common: where the scores are."""

    column: str = field(
        default="segments",
        metadata={"description": "Column of the scores: how bad each segment or document is, 0 being good."},
    )
    of: Grain = field(
        default="segments",
        metadata={
            "description": "segments: a list of {start, stop, score} a document, in bytes; "
            "document: one number."
        },
    )
    missing: float | None = field(
        default=None,
        metadata={"description": "Score of what has none; nothing: a missing score is an error."},
    )

    @property
    def needs(self) -> tuple[str, ...]:
        column = base_column(self.column)
        return (column, "text") if self.of == "segments" else (column,)

    def _segments(self, documents: Documents) -> Segments:
        """The scored segments; one a document where documents are scored."""
        if self.of == "segments":
            found = column_segments(documents, self.column, "score")
        else:
            count = np.arange(documents.stream.n_documents + 1)
            values = column_numbers(documents, self.column)
            found = Segments(offsets=count, starts=0 * count[1:], stops=count[1:], values=values)
        return replace(found, values=self._filled(documents, found.values, found.owners))

    def _filled(
        self, documents: Documents, values: NDArray[np.float64], owners: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        is_missing = np.isnan(values)
        if is_missing.any() and self.missing is None:
            raise DataError(
                f"expected a score in {self.column!r}, found none",
                where=f"{documents.stream.name}, document {int(owners[int(np.argmax(is_missing))])}",
                hint="score every document, or say in `missing` what counts for the others",
            )
        return np.where(is_missing, 0.0 if self.missing is None else self.missing, values)

    def _token_segments(self, documents: Documents, segments: Segments) -> NDArray[np.int64]:
        """The segment of each token, (N,); -1: none."""
        if self.of == "segments":
            return segments_of_tokens(documents, segments)
        starts = documents.stream.doc_starts
        return np.repeat(np.arange(len(starts) - 1), np.diff(starts))

    def _token_scores(self, documents: Documents, segments: Segments) -> NDArray[np.float64]:
        """The score of each token, (N,)."""
        owner = self._token_segments(documents, segments)
        values = np.append(segments.values, np.nan)[owner]
        lengths = np.diff(documents.stream.doc_starts)
        documents_N = np.repeat(np.arange(len(lengths)), lengths)
        empty = lengths == 1
        values = np.where(np.isnan(values) & empty[documents_N], 0.0, values)
        return self._filled(documents, values, documents_N)


@dataclass(frozen=True, kw_only=True)
class PreferenceFilter(_Scored):
    """Filtering: only documents whose mean score is at most a threshold.

    Raises:
        RecipeError: the threshold is not a number.
    """

    threshold: float = field(metadata={"description": "Highest mean score of a document that is kept."})

    def __post_init__(self) -> None:
        _check_threshold(self.threshold, "preference_filter")

    @property
    def n_added(self) -> int:
        return 0

    def __call__(self, documents: Documents, *, seed: int) -> TokenStream:
        """The documents that are kept, named by `origins`.

        Raises:
            DataError: a document has no score.
            NothingKeptError: no document is kept.
        """
        means = mean_values(self._segments(documents), documents.stream.n_documents)
        means = np.where(np.diff(documents.stream.doc_starts) == 1, np.nan_to_num(means), means)
        means = self._filled(documents, means, np.arange(len(means)))
        kept = means <= self.threshold
        if kept.all():
            return documents.stream
        if not kept.any():
            raise NothingKeptError(
                f"expected documents with a mean score of at most {self.threshold}, found none; "
                f"the least is {means.min()}",
                where=documents.stream.name,
                hint="raise the threshold",
            )
        return take_stream(documents.stream, np.flatnonzero(kept))

    def as_record(self) -> dict[str, Any]:
        return record(self, "preference_filter", 1)


@dataclass(frozen=True, kw_only=True)
class PreferenceTags(_Scored):
    """Conditional training: a tag before each segment says whether its score is at most a threshold.

    Raises:
        RecipeError: a setting is out of bounds.
    """

    threshold: float = field(metadata={"description": "Highest score of a good segment; 0 is a threshold."})
    drop: float = field(
        default=0.01, metadata={"description": "Probability that a segment goes without its tag."}
    )
    weight: float = field(
        default=1.0, metadata={"description": "Weight of predicting the tags themselves; 0 masks them."}
    )

    def __post_init__(self) -> None:
        _check_threshold(self.threshold, "preference_tags")
        if not 0 <= self.drop <= 1 or not 0 <= self.weight < math.inf:
            raise RecipeError(
                f"expected 0 <= drop <= 1 and a finite weight >= 0, found {self.drop} and {self.weight}",
                where="preference_tags",
            )

    @property
    def n_added(self) -> int:
        """Two: good is `vocab_size`, bad the one behind."""
        return 2

    def __call__(self, documents: Documents, *, seed: int) -> TokenStream:
        """The documents with a tag before the first token of each segment."""
        segments = self._segments(documents)
        owner = self._token_segments(documents, segments)
        opens = np.empty(len(owner), np.bool_)
        opens[1:] = owner[1:] != owner[:-1]
        opens[documents.stream.doc_starts[:-1]] = True
        places = np.flatnonzero(opens & (owner >= 0))
        found = owner[places]
        number = found - segments.offsets[segments.owners[found]]
        bits = keyed(documents.hashes, seed=seed, use="preference_tags")[segments.owners[found]]
        kept = uniform(nth(bits, number)) >= self.drop
        is_bad = segments.values[found] > self.threshold
        return insert_tokens(
            documents.stream,
            places[kept],
            documents.vocab_size + is_bad[kept].astype(np.int64),
            weight=self.weight,
        )

    def as_record(self) -> dict[str, Any]:
        return record(self, "preference_tags", 1)


@dataclass(frozen=True, kw_only=True)
class PreferenceScores(_Scored):
    """Scores for the objective: each token gets its segment's."""

    mean: float = field(
        default=0.0, metadata={"description": "Subtracted from the scores, to standardise them."}
    )
    deviation: float = field(
        default=1.0, metadata={"description": "What is left is divided by it; see `score_spread`."}
    )

    def __post_init__(self) -> None:
        if not math.isfinite(self.mean) or not 0 < self.deviation < math.inf:
            raise RecipeError(
                f"expected a finite mean and a deviation above 0, found {self.mean} and {self.deviation}",
                where="preference_scores",
            )

    @property
    def n_added(self) -> int:
        return 0

    def __call__(self, documents: Documents, *, seed: int) -> TokenStream:
        """The stream with `scores`."""
        scores = (self._token_scores(documents, self._segments(documents)) - self.mean) / self.deviation
        return replace(documents.stream, scores=scores.astype(np.float32))

    def as_record(self) -> dict[str, Any]:
        return record(self, "preference_scores", 1)


def aligned_share(stream: TokenStream, threshold: float) -> float:
    """Share of the tokens whose score is at most the threshold.

    Raises:
        DataError: the stream has no scores.
    """
    if stream.scores is None:
        raise DataError("expected scores of tokens, found none", where=stream.name)
    return float((stream.scores <= threshold).mean())


def score_spread(stream: TokenStream) -> tuple[float, float]:
    """Mean and standard deviation of the scores over the tokens: to standardise by, or to set a beta near.

    Raises:
        DataError: the stream has no scores.
    """
    if stream.scores is None:
        raise DataError("expected scores of tokens, found none", where=stream.name)
    scores = np.asarray(stream.scores, np.float64)
    return float(scores.mean()), float(scores.std())


def _check_threshold(threshold: float, where: str) -> None:
    if math.isnan(threshold):
        raise RecipeError(f"expected a number as threshold, found {threshold}", where=where)
