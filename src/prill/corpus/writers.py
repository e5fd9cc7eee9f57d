"""Writing tables and documents: Parquet with page checksums, or JSONL compressed with zstd.

The bytes depend on the rows alone: not on how they came in batches, not on threads, not on the clock (they
may change with the version of the Parquet library). Row groups are cut where the text of their rows
reaches `ROW_GROUP_BYTES`, so readers can split the file and no row group is large. Text that repeats so
much that readers would take the Parquet file for a decompression bomb is compressed less. Files appear whole
or not at all.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from prill.corpus.expansion import FREE_BYTES, MAX_EXPANSION
from prill.corpus.strings import is_stringlike
from prill.errors import DataError, InternalError
from prill.run.atomic import atomic_path

__all__ = ["ROW_GROUP_BYTES", "write_documents", "write_parquet"]

ROW_GROUP_BYTES: Final = 8 * 1024 * 1024
_ROW_GROUP_ROWS: Final = 131_072
_COMPRESSION_LEVEL: Final = 3
_MILD: Final = "lz4"  # cannot shrink anything more than 255 times
_BLOCK_BYTES: Final = 1024 * 1024
_FIXED_ROW_BYTES: Final = 8


def write_parquet(path: Path, table: pa.Table) -> None:
    """Write one table of any columns as Parquet (zstd, page checksums), whole or not at all.

    Raises:
        DataError: a string column holds bytes that are not UTF-8.
        ResourceError: the machine refuses to store the file.
    """
    with atomic_path(path) as temporary:
        _write_parquet(temporary, path, [table])


def write_documents(path: Path, tables: Iterable[pa.Table | pa.RecordBatch]) -> int:
    """Write documents in order, in the format of the name: `.parquet`, `.jsonl.zst` or `.jsonl`.

    Args:
        path: of the file.
        tables: pieces with one schema; at least one, which may be empty. Nulls are kept as null.
    Returns:
        Documents written.
    Raises:
        DataError: a string holds bytes that are not UTF-8.
        InternalError: the name ends in no known format, or the pieces differ in schema, or there is none.
        ResourceError: the machine refuses to store the file.
    """
    write = _writer_of(path)
    with atomic_path(path) as temporary:
        return write(temporary, path, (_as_table(piece) for piece in tables))


def _writer_of(path: Path) -> Callable[[Path, Path, Iterable[pa.Table]], int]:
    if path.name.endswith(".parquet"):
        return _write_parquet
    if path.name.endswith((".jsonl.zst", ".jsonl")):
        return _write_jsonl
    raise InternalError("expected a name that ends in .parquet, .jsonl.zst or .jsonl", where=str(path))


def _as_table(piece: pa.Table | pa.RecordBatch) -> pa.Table:
    return pa.Table.from_batches([piece]) if isinstance(piece, pa.RecordBatch) else piece


def _write_parquet(temporary: Path, path: Path, tables: Iterable[pa.Table]) -> int:
    writer: Any = None
    n_rows = 0
    try:
        for group in _row_groups(tables, path):
            if writer is None:
                writer = _parquet_writer(temporary, group.schema, "zstd")
            _check_utf8(group, path, n_rows)
            if group.num_rows:
                writer.write_table(group, row_group_size=group.num_rows)
            n_rows += group.num_rows
    finally:
        if writer is not None:
            writer.close()
    if _reads_as_bomb(temporary):
        _compress_mildly(temporary)
    return n_rows


def _reads_as_bomb(path: Path) -> bool:
    metadata = pq.read_metadata(path)
    n_encoded = sum(metadata.row_group(group).total_byte_size for group in range(metadata.num_row_groups))
    return bool(n_encoded > max(FREE_BYTES, MAX_EXPANSION // 2 * path.stat().st_size))


def _compress_mildly(path: Path) -> None:
    """Write the Parquet file again, row group by row group."""
    again = path.with_name(f"{path.name}-again")
    try:
        with (
            pq.ParquetFile(path) as file,
            contextlib.closing(_parquet_writer(again, file.schema_arrow, _MILD)) as writer,
        ):
            for number in range(file.num_row_groups):
                group = file.read_row_group(number)
                writer.write_table(group, row_group_size=group.num_rows)
        again.replace(path)
    finally:
        again.unlink(missing_ok=True)


def _parquet_writer(temporary: Path, schema: pa.Schema, compression: str) -> Any:
    """Dictionaries for short repeated strings, not for texts, which they only make larger in memory."""
    return pq.ParquetWriter(
        temporary,
        schema,
        compression=compression,
        compression_level=_COMPRESSION_LEVEL if compression == "zstd" else None,
        use_dictionary=[field.name for field in schema if is_stringlike(field.type) and field.name != "text"],
        write_page_checksum=True,
    )


def _row_groups(tables: Iterable[pa.Table], path: Path) -> Iterator[pa.Table]:
    """Tables of one chunk a column, cut only by the sizes of rows; at least one, perhaps empty."""
    waiting: pa.Table | None = None
    for table in tables:
        if waiting is not None and not waiting.schema.equals(table.schema):
            message = f"expected pieces of one schema ({waiting.schema.names}), found {table.schema.names}"
            raise InternalError(message, where=str(path))
        waiting = table if waiting is None else pa.concat_tables([waiting, table])
        stops = _stops(waiting)
        for start, stop in pairwise([0, *stops]):
            yield waiting.slice(start, stop - start).combine_chunks()
        if stops:
            waiting = waiting.slice(stops[-1])
    if waiting is None:
        raise InternalError("expected at least one table to write, found none", where=str(path))
    yield waiting.combine_chunks()


def _stops(table: pa.Table) -> list[int]:
    """Rows after which a full row group ends."""
    ends = np.cumsum(_row_bytes(table))
    stops: list[int] = []
    start, used = 0, 0
    while start < table.num_rows:
        stop = int(np.searchsorted(ends, used + ROW_GROUP_BYTES, side="left")) + 1
        stop = min(stop, start + _ROW_GROUP_ROWS)
        if stop > table.num_rows:
            break
        stops.append(stop)
        start, used = stop, int(ends[stop - 1])
    return stops


def _row_bytes(table: pa.Table) -> npt.NDArray[np.int64]:
    import pyarrow.compute as pc

    sizes = np.full(table.num_rows, _FIXED_ROW_BYTES * max(1, table.num_columns), dtype=np.int64)
    for column in table.columns:
        if is_stringlike(column.type):
            lengths = pc.fill_null(pc.binary_length(column.cast(pa.large_string())), 0)
            sizes += lengths.to_numpy().astype(np.int64)
        elif pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
            sizes += (
                pc.fill_null(pc.list_value_length(column), 0).to_numpy().astype(np.int64) * _FIXED_ROW_BYTES
            )
    return sizes


def _check_utf8(table: pa.Table, path: Path, first_row: int) -> None:
    for name, column in zip(table.column_names, table.columns, strict=True):
        if not is_stringlike(column.type):
            continue
        try:
            column.validate(full=True)
        except pa.ArrowInvalid as error:
            where = f"{path}, rows from {first_row}"
            raise DataError(
                f"`{name}` must be UTF-8 to be written, found other bytes", where=where
            ) from error


def _write_jsonl(temporary: Path, path: Path, tables: Iterable[pa.Table]) -> int:
    n_rows = 0
    waiting = bytearray()
    with pa.OSFile(str(temporary), "wb") as file, _stream(file, path) as stream:
        for table in tables:
            _check_utf8(table, path, n_rows)
            for batch in table.to_batches(max_chunksize=1_024):
                for row in batch.to_pylist():
                    waiting += orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE)
                    while len(waiting) >= _BLOCK_BYTES:
                        stream.write(bytes(waiting[:_BLOCK_BYTES]))
                        del waiting[:_BLOCK_BYTES]
            n_rows += table.num_rows
        stream.write(bytes(waiting))
    return n_rows


def _stream(file: Any, path: Path) -> Any:
    return pa.CompressedOutputStream(file, "zstd") if path.name.endswith(".zst") else file
