"""Reading documents from Parquet, a range of row groups at a time.

Pages are streamed, so a row group of any size costs the memory of a page; page checksums are verified
where the file has them; the type of every string column is made large_string (see `strings`). A dictionary
page can stand for far more text than it holds, so the number of rows that are decoded at once is bounded
by its size, and a file that grows beyond all reason is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from prill.corpus._row_group import DECODE_BYTES, group_shape, with_longest_value
from prill.corpus._url import is_url
from prill.corpus.batch import BadRow, Piece, text_bytes
from prill.corpus.expansion import ExpansionGuard
from prill.corpus.fields import column_paths
from prill.corpus.files import SourceFile
from prill.corpus.location import open_file
from prill.corpus.shards import RowGroup
from prill.corpus.spec import CorpusSpec
from prill.corpus.strings import as_strings, checked_text, is_text_type
from prill.errors import DataError, Problem, printable

__all__ = ["ParquetHeader", "read_header", "read_row_groups"]

_BUFFER_BYTES: Final = 1024 * 1024
_PREFETCH_BYTES: Final = 256 * 1024 * 1024
_COPY_AGAIN: Final = "the file is damaged: copy or download it again"


@dataclass(frozen=True, kw_only=True)
class ParquetHeader:
    """What the footer of a file says.

    Attributes:
        paths: the column path of every field that the file has.
        types: the Arrow type of each of these fields, as text.
        row_groups: rows and bytes of each row group.
    """

    paths: dict[str, tuple[str, ...]]
    types: dict[str, str]
    row_groups: tuple[RowGroup, ...]


def read_header(file: SourceFile, spec: CorpusSpec) -> ParquetHeader:
    """Read and check the footer.

    Raises:
        DataError: it cannot be read, or a mapped column is missing or of the wrong type; all problems.
    """
    with _opened(file) as (parquet, _):
        schema, metadata = parquet.schema_arrow, parquet.metadata
        paths, problems = column_paths(schema, spec, file.path)
        types = {field: _type_at(schema, path) for field, path in paths.items()}
        if "text" in types and not is_text_type(types["text"]):
            message = f"`text` must be a string column, found {types['text']} in {'.'.join(paths['text'])!r}"
            problems.append(
                Problem(message=message, where=file.path, hint="map `fields.text` to a string column")
            )
        if problems:
            raise DataError.of(problems)
        groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
    row_groups = tuple(RowGroup(n_rows=group.num_rows, n_bytes=group.total_byte_size) for group in groups)
    if sum(group.n_rows for group in row_groups) != metadata.num_rows:
        raise DataError("the footer's row counts disagree", where=file.path, hint=_COPY_AGAIN)
    return ParquetHeader(
        paths=paths, types={name: str(kind) for name, kind in types.items()}, row_groups=row_groups
    )


def read_row_groups(
    file: SourceFile, paths: dict[str, tuple[str, ...]], fields: Sequence[str], *, start: int, stop: int
) -> Iterator[Piece]:
    """The rows of the row groups `start` to `stop` in order, fields absent from the file as null.

    Raises:
        DataError: a page is damaged, or rows are missing; the message names file and row group.
    """
    names = ["text", *(field for field in fields if field != "text")]
    wanted = {name: paths[name] for name in names if name in paths}
    with _opened(file, prefetch=is_url(file.found.address)) as (parquet, handle):
        guard = ExpansionGuard(path=file.path)
        n_before = sum(parquet.metadata.row_group(i).num_rows for i in range(start))
        n_encoded = max(
            1, sum(parquet.metadata.row_group(i).total_byte_size for i in range(parquet.num_row_groups))
        )
        n_shard = 0
        for group in range(start, stop):
            shape = group_shape(parquet, group)
            guard.expect(file.found.n_bytes * shape.n_bytes // n_encoded, shape.n_bytes)
            if not shape.has_few_rows:
                next(_arrow_batches(parquet, file, group, wanted, 1), None)  # checks the columns' metadata
                shape = with_longest_value(
                    shape, parquet, group, {path[0] for path in wanted.values()}, handle
                )
            n_rows = 0
            for arrow in _joined(_arrow_batches(parquet, file, group, wanted, shape.rows_at_once)):
                piece = _piece(arrow, wanted, names, file, in_shard=n_shard, in_file=n_before)
                n_rows += piece.n_rows
                n_shard += piece.n_rows
                n_before += piece.n_rows
                guard.add(text_bytes(piece.columns["text"]))
                yield piece
            if n_rows != parquet.metadata.row_group(group).num_rows:
                found = f"expected {parquet.metadata.row_group(group).num_rows} rows, found {n_rows}"
                raise DataError(found, where=f"{file.path}, row group {group}", hint=_COPY_AGAIN)


@contextmanager
def _opened(file: SourceFile, *, prefetch: bool = False) -> Iterator[tuple[Any, Any]]:
    """The open file; with `prefetch`, row groups are fetched whole if the file's are not too large.

    Pages are streamed from a disk, but storage behind a network wants few large requests.
    """
    with open_file(file.found.address) as handle:
        if handle.size() != file.found.n_bytes:
            message = f"expected {file.found.n_bytes} bytes, found {handle.size()}: the file has changed"
            raise DataError(message, where=file.path, hint="start again with inputs that stay as they are")
        try:
            parquet = _parquet(handle, whole_groups=False)
            if prefetch and _largest_group(parquet.metadata) <= _PREFETCH_BYTES:
                parquet = _parquet(handle, whole_groups=True, metadata=parquet.metadata)
        except (pa.ArrowException, OSError, ValueError) as error:
            message = f"expected a Parquet file, found none that can be read: {_first_line(error)}"
            raise DataError(message, where=file.path, hint=_COPY_AGAIN) from error
        yield parquet, handle


def _parquet(handle: Any, *, whole_groups: bool, metadata: Any = None) -> Any:
    return pq.ParquetFile(
        handle,
        metadata=metadata,
        pre_buffer=whole_groups,
        buffer_size=0 if whole_groups else _BUFFER_BYTES,
        page_checksum_verification=True,
    )


def _largest_group(metadata: Any) -> int:
    """Encoded bytes of the largest row group, all columns."""
    return max((metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups)), default=0)


def _arrow_batches(
    parquet: Any, file: SourceFile, group: int, wanted: dict[str, tuple[str, ...]], n_rows: int
) -> Iterator[pa.RecordBatch]:
    columns = sorted({".".join(path) for path in wanted.values()})
    batches = parquet.iter_batches(batch_size=n_rows, row_groups=[group], columns=columns, use_threads=False)
    while True:
        try:
            batch = next(batches, None)
        except (pa.ArrowException, OSError, ValueError) as error:
            message = f"a page cannot be read: {_first_line(error)}"
            raise DataError(message, where=f"{file.path}, row group {group}", hint=_COPY_AGAIN) from error
        if batch is None:
            return
        yield batch


def _joined(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The same rows with about `DECODE_BYTES` a batch, so that checks and calls are few.

    Encodings that refer to a value many times are left as they are: decoding them later takes more.
    """
    waiting: list[pa.RecordBatch] = []
    n_bytes = 0
    for batch in batches:
        waiting.append(batch)
        n_bytes += batch.nbytes
        if n_bytes >= DECODE_BYTES or not all(_is_plain(field.type) for field in batch.schema):
            yield waiting[0] if len(waiting) == 1 else pa.concat_batches(waiting)
            waiting, n_bytes = [], 0
    if waiting:
        yield pa.concat_batches(waiting)


def _is_plain(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_primitive(kind)
    )


def _piece(
    arrow: pa.RecordBatch,
    wanted: dict[str, tuple[str, ...]],
    names: Sequence[str],
    file: SourceFile,
    *,
    in_shard: int,
    in_file: int,
) -> Piece:
    text, bad_texts = checked_text(_column(arrow, wanted["text"]))
    columns = {"text": text}
    for name in names[1:]:
        columns[name] = _metadata(arrow, wanted.get(name), name, f"{file.path}, rows from {in_file}")
    bad = tuple(
        BadRow(
            row=in_shard + item.position,
            reason=item.reason,
            message=item.message,
            where=f"{file.path}, row {in_file + item.position}",
            raw=item.raw,
        )
        for item in bad_texts
    )
    return Piece(columns=_blank(columns, [item.position for item in bad_texts]), bad=bad)


def _blank(columns: dict[str, pa.Array], positions: list[int]) -> dict[str, pa.Array]:
    """Null metadata in the rows that hold no document."""
    if not positions or len(columns) == 1:
        return columns
    keep = [True] * len(columns["text"])
    for position in positions:
        keep[position] = False
    null = pa.scalar(None, pa.large_string())
    return {
        name: column if name == "text" else pc.if_else(pa.array(keep), column, null)
        for name, column in columns.items()
    }


def _metadata(arrow: pa.RecordBatch, path: tuple[str, ...] | None, name: str, where: str) -> pa.Array:
    if path is None:
        return pa.nulls(arrow.num_rows, pa.large_string())
    try:
        return as_strings(_column(arrow, path))
    except (pa.ArrowException, ValueError) as error:
        message = f"`{name}` cannot be read as a string: {_first_line(error)}"
        hint = f"repair the column, or leave it out with `fields: {{{name}: ''}}`"
        raise DataError(message, where=where, hint=hint) from error


def _column(arrow: pa.RecordBatch, path: tuple[str, ...]) -> pa.Array:
    column = arrow.column(path[0])
    return pc.struct_field(column, list(path[1:])) if len(path) > 1 else column


def _type_at(schema: pa.Schema, path: tuple[str, ...]) -> pa.DataType:
    kind = schema.field(path[0]).type
    for key in path[1:]:
        kind = kind.field(key).type
    return kind.storage_type if isinstance(kind, pa.ExtensionType) else kind


def _first_line(error: Exception) -> str:
    return printable(str(error).split("\n", maxsplit=1)[0])
