"""Sidecar columns: everything learnt about documents, one Parquet file per shard, row for row with it.

Any Parquet reader can open them. Pages carry checksums, which reading here verifies; the meaning of every
column (unit, direction, span, fitted state, algorithm version) stands in its field's metadata, and once more
as JSON under the key `prill.columns` of the file for readers without Arrow. A missing column, a missing
file or another number of rows is an error, never a default.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from prill.errors import DataError, InternalError, near, printable
from prill.run.atomic import atomic_path, machine_errors

__all__ = [
    "ColumnInfo",
    "Columns",
    "StoredColumns",
    "columns_schema",
    "read_columns",
    "read_infos",
    "write_columns",
]

_FILE_KEY: Final = b"prill.columns"
_PREFIX: Final = "prill."
_ROW_GROUP_ROWS: Final = 131_072
_COMPRESSION_LEVEL: Final = 1
_ASCENDING: Final = "DELTA_BINARY_PACKED"  # of numbers within lists: places of spans, one behind the other
_SMALL_COLUMN_BYTES: Final = 16 * 1024  # below it, making a zstd context takes longer than compressing


@dataclass(frozen=True, kw_only=True)
class ColumnInfo:
    """What a column means.

    Attributes:
        name: of the column.
        unit: of its values: `tokens`, `bytes`, `nats`, `1`.
        direction: +1 high is preferred, -1 low is preferred, 0 neither.
        span: the part of the document that was seen.
        state: hash of the fitted state that made it, empty if nothing was fitted.
        version: of the algorithm.
        summary: one sentence.
    """

    name: str
    unit: str = "1"
    direction: Literal[-1, 0, 1] = 0
    span: str = "whole document"
    state: str = ""
    version: int = 1
    summary: str = ""


def write_columns(
    path: Path,
    columns: Mapping[str, pa.Array | pa.ChunkedArray | np.ndarray[Any, Any]],
    infos: Sequence[ColumnInfo],
) -> None:
    """Write one shard's columns, whole or not at all. The same columns give the same bytes.

    The disk need not have them yet: the step that notes the part waits for that.

    Args:
        path: of the Parquet file.
        columns: one-dimensional arrays of equal length, in the order to write.
        infos: one for every column.
    Raises:
        ResourceError: the machine refuses to store the file.
        InternalError: lengths differ, or a column has no info.
    """
    by_name = {info.name: info for info in infos}
    if set(by_name) != set(columns) or len(by_name) != len(infos):
        raise InternalError(f"expected infos of {sorted(columns)}, found {sorted(by_name)}", where=str(path))
    arrays = {name: _as_arrow(column) for name, column in columns.items()}
    if len({len(array) for array in arrays.values()}) > 1:
        found = {name: len(array) for name, array in arrays.items()}
        raise InternalError(f"expected columns of one length, found {found}", where=str(path))
    schema = columns_schema({name: array.type for name, array in arrays.items()}, infos)
    table = pa.Table.from_arrays(list(arrays.values()), schema=schema)
    leaves = [leaf for field in schema for leaf in _leaves(field.name, field.type)]
    is_small = table.nbytes < _SMALL_COLUMN_BYTES * max(1, table.num_columns)
    with atomic_path(path, flush=False) as temporary:
        pq.write_table(
            table,
            temporary,
            compression="lz4" if is_small else "zstd",
            compression_level=None if is_small else _COMPRESSION_LEVEL,
            row_group_size=_ROW_GROUP_ROWS,
            use_dictionary=[name for name, kind in leaves if _is_string(kind)],
            column_encoding={name: _ASCENDING for name, kind in leaves if "." in name and kind == pa.int64()},
            write_statistics=False,
            write_page_checksum=True,
        )


def columns_schema(types: Mapping[str, pa.DataType], infos: Sequence[ColumnInfo]) -> pa.Schema:
    """The schema of a file of columns, with what they mean, for those who write it piece by piece."""
    by_name = {info.name: info for info in infos}
    fields = [pa.field(name, kind, metadata=_to_metadata(by_name[name])) for name, kind in types.items()]
    summary = orjson.dumps([vars(by_name[name]) for name in types], option=orjson.OPT_SORT_KEYS)
    return pa.schema(fields, metadata={_FILE_KEY: summary})


def read_columns(path: Path, names: Sequence[str] | None = None) -> pa.Table:
    """Columns of one shard, in the order of `names` (default: all in the file), with checksums verified.

    Raises:
        DataError: the file is missing or damaged, or lacks a column.
        ResourceError: it may not be read.
    """
    with _opened(path) as handle:
        parquet = _parquet(handle, path)
        known = parquet.schema_arrow.names
        return _table(parquet, path, known, list(names) if names is not None else known)


def _table(parquet: Any, path: Path, known: list[str], wanted: list[str]) -> pa.Table:
    for name in wanted:
        if name not in known:
            message = f"expected a column {printable(name)!r}, found none"
            raise DataError(message, where=str(path), hint=near(name, known))
    try:
        table = parquet.read(columns=wanted, use_threads=False)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _damaged(path, error) from error
    return table.select(wanted)


class StoredColumns:
    """The columns of one file as a table whose columns are read when they are asked for, once each.

    The file is opened when anything is asked for, and stays open as long as this lives.

    Raises:
        DataError: the file is missing or damaged, or lacks a column that is asked for.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read: dict[str, pa.ChunkedArray] = {}

    @cached_property
    def num_rows(self) -> int:
        """As of a table."""
        return int(self._parquet.metadata.num_rows)

    @cached_property
    def column_names(self) -> list[str]:
        """As of a table."""
        return list(self._parquet.schema_arrow.names)

    @cached_property
    def _parquet(self) -> Any:
        return _parquet(_opened(self._path), self._path)

    def __getitem__(self, name: str) -> pa.ChunkedArray:
        if name not in self._read:
            self._read[name] = _table(self._parquet, self._path, self.column_names, [name])[name]
        return self._read[name]


def read_infos(path: Path) -> dict[str, ColumnInfo]:
    """What the columns of a file mean, by name. Columns that other tools added are left out.

    Raises:
        DataError: the file is missing or damaged.
    """
    with _opened(path) as handle:
        schema = _parquet(handle, path).schema_arrow
        infos = {}
        for field in schema:
            if field.metadata and f"{_PREFIX}version".encode() in field.metadata:
                try:
                    infos[field.name] = _from_metadata(field.name, field.metadata)
                except (KeyError, ValueError) as error:
                    raise _damaged(path, error) from error
    return infos


@dataclass(frozen=True)
class Columns:
    """The sidecars that one step wrote for all shards of a corpus, in one folder.

    Attributes:
        folder: holds `part-00000.parquet`, `part-00001.parquet`, ...
        n_shards: of the corpus.
    Raises:
        DataError: files of shards are missing.
    """

    folder: Path
    n_shards: int

    def __post_init__(self) -> None:
        missing = [path.name for path in self.paths if not path.is_file()]
        if missing:
            shown = ", ".join(missing[:5]) + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
            message = f"expected columns of {self.n_shards} shards, found none of {shown}"
            raise DataError(message, where=str(self.folder), hint="run the step again")

    @property
    def paths(self) -> tuple[Path, ...]:
        """One file per shard, in the order of the shards."""
        return tuple(self.folder / f"part-{index:05d}.parquet" for index in range(self.n_shards))

    def part(self, shard: int, names: Sequence[str] | None = None, *, n_rows: int | None = None) -> pa.Table:
        """The columns of one shard; with `n_rows`, their number of rows is checked.

        Raises:
            DataError: damaged, a column is missing, or the rows do not match the shard's.
        """
        table = read_columns(self.paths[shard], names)
        if n_rows is not None and table.num_rows != n_rows:
            message = f"expected {n_rows} rows, as in the shard, found {table.num_rows}"
            raise DataError(
                message, where=str(self.paths[shard]), hint="remove the file and run the step again"
            )
        return table


def _opened(path: Path) -> Any:
    with machine_errors(path):
        try:
            return pa.OSFile(str(path), "rb")
        except FileNotFoundError as error:
            raise DataError("expected a file of columns, found none", where=str(path)) from error
        except IsADirectoryError as error:
            raise DataError("expected a file of columns, found a folder", where=str(path)) from error


def _parquet(handle: Any, path: Path) -> Any:
    try:
        return pq.ParquetFile(handle, page_checksum_verification=True)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> DataError:
    said = printable(str(error).split("\n", maxsplit=1)[0])
    return DataError(
        f"expected a whole file of columns, found damage: {said}",
        where=str(path),
        hint="remove the file and run again: the step is redone",
    )


def _as_arrow(column: pa.Array | pa.ChunkedArray | np.ndarray[Any, Any]) -> pa.Array:
    if isinstance(column, pa.ChunkedArray):
        return column.combine_chunks()
    return column if isinstance(column, pa.Array) else pa.array(column)


def _leaves(path: str, kind: pa.DataType) -> Iterator[tuple[str, pa.DataType]]:
    """The stored columns of a column: their paths in the file, and their types."""
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        yield from _leaves(f"{path}.list.element", kind.value_type)
    elif pa.types.is_struct(kind):
        for field in kind:
            yield from _leaves(f"{path}.{field.name}", field.type)
    elif not pa.types.is_nested(kind):
        yield path, kind


def _is_string(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _to_metadata(info: ColumnInfo) -> dict[str, str]:
    return {f"{_PREFIX}{key}": str(value) for key, value in vars(info).items() if key != "name"}


def _from_metadata(name: str, metadata: Mapping[bytes, bytes]) -> ColumnInfo:
    said = {key.decode(): value.decode() for key, value in metadata.items()}
    direction = int(said[f"{_PREFIX}direction"])
    return ColumnInfo(
        name=name,
        unit=said[f"{_PREFIX}unit"],
        direction=1 if direction > 0 else -1 if direction < 0 else 0,
        span=said[f"{_PREFIX}span"],
        state=said[f"{_PREFIX}state"],
        version=int(said[f"{_PREFIX}version"]),
        summary=said[f"{_PREFIX}summary"],
    )
