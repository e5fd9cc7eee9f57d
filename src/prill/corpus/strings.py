"""Arrow columns of any type turned into the one type of Prill: large_string, with bad texts found.

Parquet files store text in many ways (string, large, view, dictionary, binary) and no reader of Arrow
checks that the bytes are UTF-8, so that is done here, once, on the buffers: whole arrays first, single
rows only where an array fails.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from prill.corpus.batch import BadReason, text_buffers

__all__ = [
    "BadText",
    "as_strings",
    "canonical_json",
    "checked_text",
    "is_stringlike",
    "is_text_type",
    "text_array",
]

_RAW_LIMIT: Final = 64 * 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class BadText:
    """A value of a text column that is no text: its position, why, and its bytes."""

    position: int
    reason: BadReason
    message: str
    raw: bytes


def is_stringlike(kind: pa.DataType) -> bool:
    """Whether values of the type are character strings in any of Arrow's encodings."""
    if pa.types.is_dictionary(kind):
        return is_stringlike(kind.value_type)
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def is_text_type(kind: pa.DataType) -> bool:
    """Whether a text column may have the type: strings, or bytes that must be UTF-8."""
    if pa.types.is_dictionary(kind):
        return is_text_type(kind.value_type)
    return is_stringlike(kind) or bool(
        pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_binary_view(kind)
        or pa.types.is_fixed_size_binary(kind)
    )


def text_array(encoded: list[bytes]) -> pa.Array:
    """UTF-8 texts as large_string. Several times faster than `pa.array` of strings, which keep copies."""
    offsets = np.zeros(len(encoded) + 1, dtype=np.int64)
    np.cumsum(np.fromiter(map(len, encoded), np.int64, len(encoded)), out=offsets[1:])
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(b"".join(encoded))]
    return pa.Array.from_buffers(pa.large_string(), len(encoded), buffers, null_count=0)


def checked_text(column: pa.Array) -> tuple[pa.Array, list[BadText]]:
    """The column as large_string without nulls, empty where a value is no text; and those values.

    Bad are: null, bytes that are not UTF-8, and text with a NUL character.
    """
    raw = _large_binary(column)
    bad = [BadText(position=i, reason="null_text", message=_NULL, raw=b"") for i in _null_positions(raw)]
    if raw.null_count:
        raw = pc.fill_null(raw, b"")
    text = _viewed_as_string(raw)
    if not _is_utf8(text):
        bad.extend(_invalid_rows(raw))
    bad.extend(_nul_rows(raw, {item.position for item in bad}))
    if not bad:
        return text, bad
    bad.sort(key=lambda item: item.position)
    is_bad = np.zeros(len(raw), dtype=np.bool_)
    is_bad[[item.position for item in bad]] = True
    return _viewed_as_string(pc.if_else(pa.array(is_bad), pa.scalar(b"", pa.large_binary()), raw)), bad


_NULL: Final = "`text` must be a string, found null"


def as_strings(column: pa.Array) -> pa.Array:
    """A metadata column as large_string with nulls: numbers and times in words, nested values as JSON.

    Raises:
        ValueError: bytes that are not UTF-8; the message names the position.
    """
    if isinstance(column, pa.ExtensionArray):
        column = column.storage
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    kind = column.type
    if pa.types.is_null(kind):
        return pa.nulls(len(column), pa.large_string())
    if is_text_type(kind):
        text = _viewed_as_string(_large_binary(column))
        if not _is_utf8(text):
            first = next(iter(_invalid_rows(_large_binary(column))), None)
            raise ValueError(
                f"expected UTF-8, found other bytes at position {first.position if first else 0}"
            )
        return text
    if pa.types.is_nested(kind):
        values = [None if value is None else canonical_json(value) for value in column.to_pylist()]
        return pa.array(values, pa.large_string())
    return column.cast(pa.large_string())


def canonical_json(value: object) -> str:
    """JSON with sorted keys and no spaces."""
    options = orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS
    return orjson.dumps(value, option=options, default=_plain).decode()


def _plain(value: Any) -> str:
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)


def _large_binary(column: pa.Array) -> pa.Array:
    if isinstance(column, pa.ExtensionArray):
        column = column.storage
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    return column.cast(pa.large_binary())


def _viewed_as_string(raw: pa.Array) -> pa.Array:
    """The same buffers under the type large_string, without a check."""
    return pa.Array.from_buffers(
        pa.large_string(), len(raw), raw.buffers(), null_count=raw.null_count, offset=raw.offset
    )


def _is_utf8(text: pa.Array) -> bool:
    try:
        text.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def _null_positions(raw: pa.Array) -> npt.NDArray[np.intp]:
    if not raw.null_count:
        return np.zeros(0, dtype=np.intp)
    return np.flatnonzero(raw.is_null().to_numpy(zero_copy_only=False))


def _invalid_rows(raw: pa.Array) -> list[BadText]:
    bad = []
    for position, value in enumerate(raw):
        content = value.as_py()
        if content is None:
            continue
        try:
            content.decode("utf-8")
        except UnicodeDecodeError as error:
            message = f"`text` must be UTF-8, found byte 0x{content[error.start]:02x} at offset {error.start}"
            bad.append(
                BadText(position=position, reason="invalid_utf8", message=message, raw=content[:_RAW_LIMIT])
            )
    return bad


def _nul_rows(raw: pa.Array, known: set[int]) -> list[BadText]:
    offsets, data = text_buffers(raw)
    used = data[offsets[0] : offsets[-1]]
    if not used.size or used.min() != 0:
        return []
    places = np.flatnonzero(used == 0) + offsets[0]
    rows = np.unique(np.searchsorted(offsets, places, side="right") - 1)
    return [
        BadText(
            position=int(row),
            reason="nul_character",
            message="`text` must not contain NUL characters, found at least one",
            raw=raw[int(row)].as_py()[:_RAW_LIMIT],
        )
        for row in rows
        if int(row) not in known
    ]
