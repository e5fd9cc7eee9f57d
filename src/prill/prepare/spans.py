"""Spans of text: which bytes of which documents, and why; and edits: what stands there afterwards.

Positions are bytes of the UTF-8 text, first byte and byte behind, always between characters. A column of
spans is `list<struct<start: int64, stop: int64, kind: string>>`, sorted by start.

Legend: D documents, S spans.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

__all__ = ["SPANS", "Edits", "Spans"]

SPANS = pa.list_(pa.struct([("start", pa.int64()), ("stop", pa.int64()), ("kind", pa.string())]))
"""Arrow type of a column of spans."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Spans:
    """Spans of D documents.

    Attributes:
        offsets: document d has the spans offsets[d]:offsets[d + 1]; int64, shape (D + 1,).
        starts, stops: int64, shape (S,), bytes from the start of the document.
        kinds: index into `names`, int32, shape (S,).
        names: what a span is, as users read it: `email`, `fewer than 3 words`.
    """

    offsets: NDArray[np.int64]
    starts: NDArray[np.int64]
    stops: NDArray[np.int64]
    kinds: NDArray[np.int32]
    names: Sequence[str]

    @classmethod
    def none(cls, n_documents: int) -> Spans:
        """No spans in any of D documents."""
        nothing = np.empty(0, np.int64)
        offsets = np.zeros(n_documents + 1, np.int64)
        return cls(offsets=offsets, starts=nothing, stops=nothing, kinds=nothing.astype(np.int32), names=())

    @classmethod
    def of_column(cls, column: pa.Array | pa.ChunkedArray) -> Spans:
        """The spans of a stored column; null rows have none."""
        array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
        lengths = np.asarray(array.value_lengths().fill_null(0))
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])
        values = array.flatten()
        kinds = values.field("kind").dictionary_encode()
        return cls(
            offsets=offsets,
            starts=np.asarray(values.field("start"), np.int64),
            stops=np.asarray(values.field("stop"), np.int64),
            kinds=np.asarray(kinds.indices, np.int32),
            names=kinds.dictionary.to_pylist(),
        )

    def of_rows(self, rows: NDArray[np.int64]) -> Spans:
        """The spans of some documents, in the order of `rows`."""
        lengths = np.diff(self.offsets)[rows]
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])
        places = np.arange(offsets[-1]) + np.repeat(self.offsets[rows] - offsets[:-1], lengths)
        return replace(
            self,
            offsets=offsets,
            starts=self.starts[places],
            stops=self.stops[places],
            kinds=self.kinds[places],
        )

    def to_column(self) -> pa.Array:
        """As a column that can be stored."""
        names = pa.DictionaryArray.from_arrays(
            pa.array(self.kinds, pa.int32()), pa.array(self.names, pa.string())
        )
        values = pa.StructArray.from_arrays(
            [pa.array(self.starts), pa.array(self.stops), names.cast(pa.string())], ["start", "stop", "kind"]
        )
        return pa.ListArray.from_arrays(pa.array(self.offsets, pa.int32()), values).cast(SPANS)


@dataclass(frozen=True, kw_only=True, eq=False)
class Edits:
    """Spans and what replaces them.

    Attributes:
        spans: what is taken out. Spans may overlap; their union is taken out.
        replacements: text by name of the span; a name that is not there is cut without replacement.
    """

    spans: Spans
    replacements: Mapping[str, str]
