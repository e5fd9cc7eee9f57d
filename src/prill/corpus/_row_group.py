"""How many rows of a Parquet row group may be decoded at once.

Encoded size says little about decoded size: a dictionary page of 1 MB may hold one value that a million
rows refer to. No value is longer than the row group, so rows times its size bounds the memory of a decoded
batch. In row groups of many rows that bound would make batches tiny; there the size of the dictionary
page, from the page's own header, gives a closer one.

Source: Apache Parquet format, `PageHeader` in parquet.thrift, in Thrift's compact protocol.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

__all__ = ["DECODE_BYTES", "GroupShape", "dictionary_page_bytes", "group_shape", "with_longest_value"]

DECODE_BYTES: Final = 3 * 1024 * 1024  # below a batch, so that pieces are rarely joined, which copies
_DECODE_LIMIT_BYTES: Final = 256 * 1024 * 1024
_DECODE_ROWS: Final = 16_384
_FEW_ROWS: Final = 2_000  # 256 MiB over 2,000 rows still makes batches of 128 KiB
_HEADER_BYTES: Final = 32
_I32_FIELD: Final = 0x15  # field id one above the last, type i32
_DICTIONARY_PAGE: Final = 2


@dataclass(frozen=True, kw_only=True)
class GroupShape:
    """Rows and encoded bytes of a row group, and a bound of its longest value in bytes."""

    n_rows: int
    n_bytes: int
    longest: int

    @property
    def rows_at_once(self) -> int:
        """Rows of about `DECODE_BYTES`, and below the limit even if all are the longest."""
        average = max(1, self.n_bytes // max(1, self.n_rows))
        return max(1, min(_DECODE_ROWS, DECODE_BYTES // average, _DECODE_LIMIT_BYTES // max(1, self.longest)))

    @property
    def has_few_rows(self) -> bool:
        """Whether the size of the row group is bound enough."""
        return self.n_rows <= _FEW_ROWS


def group_shape(parquet: Any, group: int) -> GroupShape:
    """The shape of a row group of an open `pyarrow.parquet.ParquetFile`, from the footer."""
    metadata = parquet.metadata.row_group(group)
    return GroupShape(
        n_rows=metadata.num_rows, n_bytes=metadata.total_byte_size, longest=metadata.total_byte_size
    )


def with_longest_value(
    shape: GroupShape, parquet: Any, group: int, roots: set[str], handle: Any
) -> GroupShape:
    """The shape with a closer bound of the longest value that an encoding could repeat below `roots`.

    Only after these columns of the row group were read: asking pyarrow for the metadata of a column chunk
    whose footer is damaged ends the process, for the C++ exception is not caught there. Reading checks it.
    """
    metadata = parquet.metadata.row_group(group)
    longest = 0
    for i in range(len(parquet.schema)):
        name = parquet.schema.column(i).path
        if name in roots or name.split(".")[0] in roots:
            longest = max(longest, _longest_repeated(metadata.column(i), handle))
    return replace(shape, longest=longest)


def _longest_repeated(column: Any, handle: Any) -> int:
    if "DELTA_BYTE_ARRAY" in column.encodings:
        return int(column.total_uncompressed_size)
    if not any("DICTIONARY" in encoding for encoding in column.encodings):
        return 0
    starts = [start for start in (column.dictionary_page_offset, column.data_page_offset) if start]
    try:
        header = bytes(handle.read_at(_HEADER_BYTES, min(starts)))
    except (OSError, ValueError):
        return int(column.total_uncompressed_size)
    size = dictionary_page_bytes(header)
    return int(column.total_uncompressed_size) if size is None else size


def dictionary_page_bytes(header: bytes) -> int | None:
    """Uncompressed size of a dictionary page from its header, 0 for another page, None if unreadable.

    The header starts with two i32 fields: the type of the page and its uncompressed size.
    """
    values = []
    position = 0
    for _ in range(2):
        if header[position : position + 1] != bytes([_I32_FIELD]):
            return None
        number, position = _zigzag(header, position + 1)
        values.append(number)
    kind, size = values
    return max(size, 0) if kind == _DICTIONARY_PAGE else 0


def _zigzag(header: bytes, position: int) -> tuple[int, int]:
    number = shift = 0
    while position < len(header):
        byte = header[position]
        number |= (byte & 0x7F) << shift
        position += 1
        if byte < 0x80:
            break
        shift += 7
    return (number >> 1) ^ -(number & 1), position
