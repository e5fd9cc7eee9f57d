"""Loss masking and weighting by token, from a column of the corpus.

A document may have a weight; spans of its text may have weights, 0 masking them (boilerplate, quoted personal
data); or a model elsewhere may have given every token one. Weights multiply those of earlier transforms.

A token that two spans share, or a span and what is outside, takes the least of the weights of its bytes, so
that no masked byte is ever trained on. End-of-text takes the weight of what is outside spans.

Source: Lin et al. 2024, arXiv:2404.07965, section 2.2, for a mask by token (there from a reference model's
losses). Differs: the weights come from the corpus, and need not be 0 or 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from prill.errors import DataError, RecipeError
from prill.lm.catalog import record
from prill.lm.data import TokenStream
from prill.lm.samples.columns import Segments, base_column, column_lists, column_numbers, column_segments
from prill.lm.samples.transform import Documents

__all__ = ["TokenWeights", "WeightGrain"]

WeightGrain: TypeAlias = Literal["document", "spans", "tokens"]
CHUNK_BYTES = 4 << 20


@dataclass(frozen=True, kw_only=True)
class TokenWeights:
    """Loss weights of documents, spans of text or tokens, taken from a column; 0 masks.

    Raises:
        RecipeError: a setting is out of bounds.
    """

    column: str = field(metadata={"description": "Column of the weights or spans."})
    of: WeightGrain = field(
        default="document",
        metadata={
            "description": "document: one number; spans: a list of {start, stop, weight} in bytes, weights "
            "being optional; tokens: a list of one number a token, end-of-text left out."
        },
    )
    span_weight: float = field(default=0.0, metadata={"description": "Weight of a span that says none."})
    outside: float = field(default=1.0, metadata={"description": "Weight of the text outside spans."})
    missing: float = field(
        default=1.0, metadata={"description": "Weight of documents or tokens where the column is empty."}
    )
    lowest: float = field(default=0.0, metadata={"description": "Weights below it are raised to it."})
    highest: float = field(default=math.inf, metadata={"description": "Weights above it are cut to it."})
    scale: float = field(
        default=1.0,
        metadata={"description": "Multiplies all weights; 1 over their mean keeps the size of a step."},
    )

    def __post_init__(self) -> None:
        given = (self.span_weight, self.outside, self.missing, self.lowest, self.scale)
        is_bounded = all(0 <= value < math.inf for value in given) and self.scale > 0
        if not is_bounded or not self.lowest <= self.highest:
            raise RecipeError(
                "weights must be finite and at least 0, lowest <= highest and scale > 0, found "
                f"span_weight {self.span_weight}, outside {self.outside}, missing {self.missing}, "
                f"lowest {self.lowest}, highest {self.highest}, scale {self.scale}",
                where="token_weights",
            )

    @property
    def n_added(self) -> int:
        return 0

    @property
    def needs(self) -> tuple[str, ...]:
        column = base_column(self.column)
        return (column, "text") if self.of == "spans" else (column,)

    def __call__(self, documents: Documents, *, seed: int) -> TokenStream:
        """The stream with `weights`; weights that are all 1 change nothing."""
        stream = documents.stream
        made = {"document": self._by_document, "spans": self._by_span, "tokens": self._by_token}
        weights = self.scale * np.clip(made[self.of](documents), self.lowest, self.highest)
        if stream.weights is None and (weights == 1).all():
            return stream
        weights = weights if stream.weights is None else weights * stream.weights
        return replace(stream, weights=weights.astype(np.float32))

    def as_record(self) -> dict[str, Any]:
        return record(self, "token_weights", 1)

    def _by_document(self, documents: Documents) -> NDArray[np.float64]:
        values = column_numbers(documents, self.column)
        values = np.where(np.isnan(values), self.missing, values)
        self._check(documents, values, np.arange(len(values)))
        return np.repeat(values, np.diff(documents.stream.doc_starts))

    def _by_token(self, documents: Documents) -> NDArray[np.float64]:
        column = column_lists(documents, self.column)
        starts = documents.stream.doc_starts
        n_D = np.asarray(pc.list_value_length(column).fill_null(-1), np.int64)
        wrong = (n_D >= 0) & (n_D != np.diff(starts) - 1)
        if wrong.any():
            first = int(np.argmax(wrong))
            raise DataError(
                f"{self.column!r} needs one weight a token, found {n_D[first]} "
                f"for {starts[first + 1] - starts[first] - 1} tokens",
                where=f"{documents.stream.name}, document {first}",
                hint="weights must have been made with the same tokenizer",
            )
        values = np.asarray(column.flatten().fill_null(self.missing), np.float64)
        has_some = np.repeat(n_D >= 0, np.diff(starts))
        has_some[starts[1:] - 1] = False
        found = np.full(documents.stream.n_tokens, self.missing)
        self._check(documents, values, np.repeat(np.arange(len(n_D)), np.maximum(n_D, 0)))
        found[has_some] = values
        found[starts[1:] - 1] = 1.0
        return found

    def _by_span(self, documents: Documents) -> NDArray[np.float64]:
        spans = column_segments(documents, self.column, "weight")
        values = np.where(np.isnan(spans.values), self.span_weight, spans.values)
        self._check(documents, values, spans.owners)
        if documents.ends is None or documents.texts is None:
            raise DataError(
                "spans need the texts and the token ends, found none",
                where=documents.stream.name,
                hint="put this transform before those that change the tokens",
            )
        n_bytes_D = np.asarray(pc.binary_length(documents.texts), np.int64)
        return _least_of_bytes(documents, replace(spans, values=values), n_bytes_D, self.outside)

    def _check(self, documents: Documents, values: NDArray[np.float64], owners: NDArray[np.int64]) -> None:
        bad = ~(np.isfinite(values) & (values >= 0))
        if bad.any():
            first = int(np.argmax(bad))
            raise DataError(
                f"weights in {self.column!r} must be finite and at least 0, found {values[first]}",
                where=f"{documents.stream.name}, document {int(owners[first])}",
            )


def _least_of_bytes(
    documents: Documents, spans: Segments, n_bytes_D: NDArray[np.int64], outside: float
) -> NDArray[np.float64]:
    """The least weight of each token's bytes, (N,), some documents at a time."""
    starts, ends = documents.stream.doc_starts, documents.ends
    assert ends is not None
    edges = np.concatenate([np.zeros(1, np.int64), np.cumsum(n_bytes_D)])
    found = np.full(documents.stream.n_tokens, outside)
    first = 0
    while first < len(n_bytes_D):
        behind = max(first + 1, int(np.searchsorted(edges, edges[first] + CHUNK_BYTES, side="right")) - 1)
        behind = min(behind, len(n_bytes_D))
        s = slice(int(spans.offsets[first]), int(spans.offsets[behind]))
        t = slice(int(starts[first]), int(starts[behind]))
        if s.stop > s.start:
            base = edges[first : behind + 1] - edges[first]
            weights = _byte_weights(spans, s, base[spans.owners[s] - first], int(base[-1]), outside)
            begin = np.repeat(base[:-1], np.diff(starts[first : behind + 1]))
            found[t] = _of_tokens(weights, begin, begin + ends[t])
        first = behind
    found[starts[1:] - 1] = outside
    return found


def _of_tokens(
    weights: NDArray[np.float64], begin: NDArray[np.int64], stop: NDArray[np.int64]
) -> NDArray[np.float64]:
    """The least weight of each token's bytes; a token without bytes takes that of the byte before.

    Args:
        weights: of bytes.
        begin: first byte of each token's document.
        stop: byte behind each token.
    """
    start = np.concatenate([np.zeros(1, np.int64), stop[:-1]])
    found = weights[np.clip(stop - 1, begin, len(weights) - 1)]
    has_bytes = stop > start
    found[has_bytes] = np.minimum.reduceat(weights, start[has_bytes])
    return found


def _byte_weights(
    spans: Segments, chosen: slice, base: NDArray[np.int64], n_bytes: int, outside: float
) -> NDArray[np.float64]:
    """The least weight of the spans over each byte, `outside` where there is none; (n_bytes,)."""
    starts, sizes = spans.starts[chosen] + base, (spans.stops - spans.starts)[chosen]
    falling = np.argsort(-spans.values[chosen], kind="stable")  # the least is written last
    starts, sizes = starts[falling], sizes[falling]
    total = np.cumsum(sizes)
    places = np.arange(int(total[-1])) + np.repeat(starts - (total - sizes), sizes)
    weights = np.full(n_bytes, outside)
    weights[places] = np.repeat(spans.values[chosen][falling], sizes)
    return weights
