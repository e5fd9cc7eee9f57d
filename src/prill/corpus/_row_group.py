"""How many rows of a Parquet row group may be decoded at once.

Encoded size says little about decoded size: a dictionary page of 1 MB may hold one value that a million
rows refer to. The longest value is at most as long as the dictionary page, whose size stands in the page's
own header, so rows times that size bounds the memory of a decoded batch.

Source: Apache Parquet format, `PageHeader` in parquet.thrift, in Thrift's compact protocol.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

__all__ = ["GroupShape", "group_shape"]

_DECODE_BYTES: Final = 3 * 1024 * 1024  # below a batch, so that pieces are rarely joined, which copies
_DECODE_LIMIT_BYTES: Final = 256 * 1024 * 1024
_DECODE_ROWS: Final = 16_384
_HEADER_BYTES: Final = 32
_I32_FIELD: Final = 0x15  # field id one above the last, type i32
_DICTIONARY_PAGE: Final = 2


@dataclass(frozen=True, kw_only=True)
class GroupShape:
    """Rows of a row group, and for the columns to be read their compressed and encoded bytes and the
    longest value that an indirect encoding could repeat, bytes (0: none)."""

    n_rows: int
    n_compressed: int
    n_encoded: int
    longest_repeated: int

    @property
    def rows_at_once(self) -> int:
        """Rows of about `_DECODE_BYTES`, and below the limit even if all are the longest."""
        average = max(1, self.n_encoded // max(1, self.n_rows))
        n_rows = max(1, min(_DECODE_ROWS, _DECODE_BYTES // average))
        if self.longest_repeated:
            n_rows = max(1, min(n_rows, _DECODE_LIMIT_BYTES // self.longest_repeated))
        return n_rows


def group_shape(group: Any, roots: set[str], handle: Any) -> GroupShape:
    """The shape of the columns below `roots` in a row group (pyarrow `RowGroupMetaData`)."""
    n_compressed = n_encoded = longest = 0
    for i in range(group.num_columns):
        column = group.column(i)
        name = column.path_in_schema
        if name not in roots and name.split(".")[0] not in roots:
            continue
        n_compressed += column.total_compressed_size
        n_encoded += column.total_uncompressed_size
        longest = max(longest, _longest_repeated(column, handle))
    return GroupShape(
        n_rows=group.num_rows, n_compressed=n_compressed, n_encoded=n_encoded, longest_repeated=longest
    )


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
