"""A batch of documents: Arrow columns, row for row with the file, and the bad records among them.

A bad record keeps its row, with an empty text and null fields, so that every column computed later stays
aligned with the file; `bad` says which rows those are and why. Batches hold about `BATCH_BYTES` of text,
so that memory is bounded by the batch whatever the size of files, row groups and documents.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

__all__ = ["BATCH_BYTES", "BadReason", "BadRow", "Batch", "Piece", "regroup", "text_buffers", "text_bytes"]

BATCH_BYTES: Final = 4 * 1024 * 1024
_BATCH_ROWS: Final = 65_536

BadReason = Literal[
    "malformed_json",
    "not_an_object",
    "missing_text",
    "null_text",
    "wrong_type",
    "invalid_utf8",
    "lone_surrogate",
    "nul_character",
    "too_long",
]


@dataclass(frozen=True, kw_only=True)
class BadRow:
    """One record that is not a document.

    Attributes:
        row: its row in the shard.
        reason: a stable code to count by.
        message: what was expected and what was found.
        where: file and line (from 1) or row (from 0).
        raw: its bytes as they are in the file (the start of them for `too_long`; empty for null).
    """

    row: int
    reason: BadReason
    message: str
    where: str
    raw: bytes


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Consecutive documents of one shard.

    Attributes:
        shard: index of the shard.
        first_row: row of the first document in the shard.
        columns: the fields that were asked for; `text` is large_string without nulls, the others are
            large_string with nulls.
        bad: the bad records among the rows, in order.
    """

    shard: int
    first_row: int
    columns: dict[str, pa.Array]
    bad: tuple[BadRow, ...] = ()

    @property
    def n_rows(self) -> int:
        return len(next(iter(self.columns.values())))

    @property
    def text(self) -> pa.Array:
        """The text, large_string without nulls."""
        return self.columns["text"]

    def text_buffers(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint8]]:
        """Offsets, shape (n_rows + 1,), and UTF-8 bytes of the text, without a copy.

        Document i is `data[offsets[i]:offsets[i + 1]]`. `offsets[0]` can be above zero.
        """
        return text_buffers(self.text)

    def good_rows(self) -> npt.NDArray[np.bool_]:
        """Which rows are documents, shape (n_rows,)."""
        good = np.ones(self.n_rows, dtype=np.bool_)
        good[[bad.row - self.first_row for bad in self.bad]] = False
        return good


def text_buffers(text: pa.Array) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint8]]:
    """Offsets, shape (D + 1,), and bytes of a large_string or large_binary array, without a copy."""
    if len(text) == 0:
        return np.zeros(1, dtype=np.int64), np.zeros(0, dtype=np.uint8)
    _, offsets, data = text.buffers()
    view = np.frombuffer(offsets, dtype=np.int64)[text.offset : text.offset + len(text) + 1]
    whole = np.frombuffer(data, dtype=np.uint8) if data is not None and data.size else np.zeros(0, np.uint8)
    return view, whole


def text_bytes(text: pa.Array) -> int:
    """UTF-8 bytes of all documents of a large_string array."""
    offsets, _ = text_buffers(text)
    return int(offsets[-1] - offsets[0])


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Some consecutive rows on their way into a batch; rows of `bad` count from the start of the shard."""

    columns: dict[str, pa.Array]
    bad: tuple[BadRow, ...] = ()

    @property
    def n_rows(self) -> int:
        return len(next(iter(self.columns.values())))


def regroup(pieces: Iterable[Piece], shard: int) -> Iterator[Batch]:
    """Join small pieces and cut large ones, so that batches hold about `BATCH_BYTES` of text."""
    first_row = 0
    waiting: list[Piece] = []
    n_bytes = n_rows = 0
    for piece in pieces:
        for part in _cut(piece, first_row + n_rows):
            size = _size(part)
            if waiting and (n_bytes + size > BATCH_BYTES or n_rows + part.n_rows > _BATCH_ROWS):
                yield _join(waiting, shard, first_row)
                first_row += n_rows
                waiting, n_bytes, n_rows = [], 0, 0
            waiting.append(part)
            n_bytes += size
            n_rows += part.n_rows
    if waiting:
        yield _join(waiting, shard, first_row)


def _size(piece: Piece) -> int:
    return sum(text_bytes(column) for column in piece.columns.values())


def _cut(piece: Piece, first_row: int) -> Iterator[Piece]:
    """Parts of a piece with at most `BATCH_BYTES` each, at least one row each."""
    if piece.n_rows == 0:
        return
    if _size(piece) <= BATCH_BYTES and piece.n_rows <= _BATCH_ROWS:
        yield piece
        return
    ends = sum(text_buffers(column)[0][1:] - text_buffers(column)[0][0] for column in piece.columns.values())
    start = 0
    while start < piece.n_rows:
        used = int(ends[start - 1]) if start else 0
        stop = int(np.searchsorted(ends, used + BATCH_BYTES, side="right"))
        stop = min(max(stop, start + 1), start + _BATCH_ROWS, piece.n_rows)
        yield _slice(piece, first_row, start, stop)
        start = stop


def _slice(piece: Piece, first_row: int, start: int, stop: int) -> Piece:
    columns = {name: column.slice(start, stop - start) for name, column in piece.columns.items()}
    bad = tuple(row for row in piece.bad if first_row + start <= row.row < first_row + stop)
    return replace(piece, columns=columns, bad=bad)


def _join(pieces: list[Piece], shard: int, first_row: int) -> Batch:
    columns: dict[str, Any] = pieces[0].columns
    if len(pieces) > 1:
        columns = {name: pa.concat_arrays([piece.columns[name] for piece in pieces]) for name in columns}
    return Batch(
        shard=shard,
        first_row=first_row,
        columns=columns,
        bad=tuple(row for piece in pieces for row in piece.bad),
    )
