"""Columns of the corpus as sample transforms read them: words, numbers, and segments of the text.

A corpus may hold numbers and lists as text (`0.25`, `[{"start": 0, "stop": 12, "score": 0.1}]`), because its
reader makes every column text; they are read alike. `meta.scores` is what stands under the key `scores` of
the objects in the column `meta`.

Legend: D documents, S segments.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from prill.corpus.fields import MISSING, look_up
from prill.errors import DataError, near, printable
from prill.lm.samples.transform import Documents

__all__ = [
    "Segments",
    "base_column",
    "column_lists",
    "column_numbers",
    "column_of",
    "column_segments",
    "column_words",
]


@dataclass(frozen=True, kw_only=True, eq=False)
class Segments:
    """Segments of D texts, each with a number.

    Attributes:
        offsets: document d has the segments offsets[d]:offsets[d + 1]; int64, (D + 1,).
        starts, stops: bytes of the UTF-8 text, first and behind, int64, (S,).
        values: float64, (S,); NaN where the column says none.
    """

    offsets: NDArray[np.int64]
    starts: NDArray[np.int64]
    stops: NDArray[np.int64]
    values: NDArray[np.float64]

    @property
    def owners(self) -> NDArray[np.int64]:
        """The document of each segment, (S,)."""
        return np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))


def base_column(name: str) -> str:
    """The column of the corpus that `name` lies in."""
    return name.partition(".")[0]


def column_of(documents: Documents, name: str) -> pa.Array:
    """The column `name`, or what lies under a dotted key of it, (D,).

    Raises:
        DataError: the corpus has none.
    """
    if name not in documents.fields and base_column(name) in documents.fields:
        key = name.partition(".")[2]
        objects = _parsed(documents, base_column(name), "objects")
        found = [look_up(one, key) if isinstance(one, dict) else MISSING for one in objects]
        return _array(documents, name, [None if value is MISSING else value for value in found])
    if name not in documents.fields:
        raise DataError(
            f"expected the column {name!r}, found none",
            where=documents.stream.name,
            hint=near(name, tuple(documents.fields)) if documents.fields else "the corpus has no columns",
        )
    column = documents.fields[name]
    found = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if len(found) != documents.stream.n_documents:
        raise DataError(
            f"column {name!r} needs one value a document, found {len(found)} "
            f"for {documents.stream.n_documents} documents",
            where=documents.stream.name,
        )
    return found


def column_words(documents: Documents, name: str) -> pa.Array:
    """The column as large_string with nulls; text of nothing but white space is null."""
    column = column_of(documents, name)
    try:
        words = column.cast(pa.large_string())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise _unreadable(documents, name, "words", column) from error
    trimmed = pc.utf8_trim_whitespace(words)
    return pc.if_else(pc.equal(trimmed, ""), pa.scalar(None, pa.large_string()), trimmed)


def column_numbers(documents: Documents, name: str) -> NDArray[np.float64]:
    """The column as numbers; NaN where it is null.

    Raises:
        DataError: it holds something else, or NaN or infinite numbers.
    """
    column = column_of(documents, name)
    try:
        numbers = column.cast(pa.float64())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise _unreadable(documents, name, "numbers", column) from error
    values: NDArray[np.float64] = np.asarray(numbers.fill_null(0.0), np.float64)
    _check_finite(documents, name, values, np.arange(len(values)))
    return np.where(np.asarray(numbers.is_null()), np.nan, values)


def column_segments(documents: Documents, name: str, field: str) -> Segments:
    """The column as segments: a list a document of objects with `start`, `stop` and, if it is there, `field`.

    Raises:
        DataError: it holds something else; segments are empty, overlap or leave the text.
    """
    column = column_of(documents, name)
    if not pa.types.is_nested(column.type):
        column = _array(documents, name, _parsed(documents, name, "lists of {start, stop}"))
    kind = column.type
    if pa.types.is_null(kind) or pa.types.is_null(getattr(kind, "value_type", kind)):
        nothing = np.empty(0, np.int64)
        offsets = np.zeros(len(column) + 1, np.int64)
        return Segments(offsets=offsets, starts=nothing, stops=nothing, values=nothing.astype(np.float64))
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind)) or not {"start", "stop"} <= _names(kind):
        raise _unreadable(documents, name, "lists of {start, stop}", column)
    lengths = np.asarray(pc.list_value_length(column).fill_null(0), np.int64)
    values = column.flatten()
    numbers = pa.nulls(len(values)).cast(pa.float64())
    if field in _names(kind):
        numbers = values.field(field).cast(pa.float64())
    found = Segments(
        offsets=np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)]),
        starts=np.asarray(values.field("start").fill_null(-1), np.int64),
        stops=np.asarray(values.field("stop").fill_null(-1), np.int64),
        values=np.where(np.asarray(numbers.is_null()), np.nan, np.asarray(numbers.fill_null(0.0))),
    )
    _check_segments(documents, name, found, np.asarray(numbers.fill_null(0.0), np.float64))
    return found


def column_lists(documents: Documents, name: str) -> pa.Array:
    """The column as lists of numbers, list of float64 with nulls.

    Raises:
        DataError: it holds something else.
    """
    column = column_of(documents, name)
    if not pa.types.is_nested(column.type):
        column = _array(documents, name, _parsed(documents, name, "lists of numbers"))
    try:
        return column.cast(pa.large_list(pa.float64()))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise _unreadable(documents, name, "lists of numbers", column) from error


def _parsed(documents: Documents, name: str, wanted: str) -> list[Any]:
    """The JSON of each document, None where there is none."""
    column = column_of(documents, name)
    if pa.types.is_nested(column.type):
        return list(column.to_pylist())
    words = column_words(documents, name).to_pylist()
    try:
        return [None if word is None else orjson.loads(word) for word in words]
    except orjson.JSONDecodeError as error:
        raise _unreadable(documents, name, wanted, column) from error


def _array(documents: Documents, name: str, values: list[Any]) -> pa.Array:
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        message = f"expected values of one kind in {name!r}, found several"
        raise DataError(message, where=documents.stream.name) from error


def _names(kind: pa.DataType) -> set[str]:
    inner = kind.value_type
    return {inner.field(i).name for i in range(inner.num_fields)} if pa.types.is_struct(inner) else set()


def _check_segments(documents: Documents, name: str, found: Segments, numbers: NDArray[np.float64]) -> None:
    owners = found.owners
    _check_finite(documents, name, numbers, owners)
    behind = np.full(documents.stream.n_documents, np.iinfo(np.int64).max)
    if documents.texts is not None:
        behind = np.asarray(pc.binary_length(documents.texts), np.int64)
    bad = (found.starts < 0) | (found.stops <= found.starts) | (found.stops > behind[owners])
    same = owners[1:] == owners[:-1]
    bad[1:] |= same & (found.starts[1:] < found.starts[:-1])
    if bad.any():
        first = int(np.argmax(bad))
        raise DataError(
            f"segments in {name!r} must rise, be longer than 0 bytes and lie within the text, "
            f"found {int(found.starts[first])} to {int(found.stops[first])}",
            where=f"{documents.stream.name}, document {int(owners[first])}",
        )


def _check_finite(
    documents: Documents, name: str, values: NDArray[np.float64], owners: NDArray[np.int64]
) -> None:
    bad = ~np.isfinite(values)
    if bad.any():
        first = int(np.argmax(bad))
        raise DataError(
            f"numbers in {name!r} must be finite, found {values[first]}",
            where=f"{documents.stream.name}, document {int(owners[first])}",
        )


def _unreadable(documents: Documents, name: str, wanted: str, column: pa.Array) -> DataError:
    shown = printable(str(next((v for v in column if v.is_valid), None)), limit=80)
    return DataError(
        f"expected {wanted} in {name!r}, found {column.type}: {shown}", where=documents.stream.name
    )
