"""Reading documents from JSONL: one object a line, UTF-8.

Blank lines are no records, a byte order mark and CRLF are fine. Every other line is a record with a row:
either a document or a bad record with its file, line and bytes. Lines are parsed strictly: what JSON or
UTF-8 forbids is bad, lone surrogates included, whether or not the field they are in is asked for.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson
import pyarrow as pa

from prill.corpus.batch import BATCH_BYTES, BadReason, BadRow, Piece
from prill.corpus.fields import MISSING, look_up, missing_text, place_of
from prill.corpus.files import SourceFile
from prill.corpus.lines import (
    MAX_LINE_BYTES,
    LongLine,
    count_lines_before,
    first_owned,
    read_chunks,
    split_lines,
)
from prill.corpus.location import open_file
from prill.corpus.spec import CorpusSpec
from prill.corpus.strings import canonical_json, text_array
from prill.errors import Problem, printable

__all__ = ["check_head", "read_lines"]

_PIECE_ROWS: Final = 16_384
_HEAD_RECORDS: Final = 100
_SURROGATE: Final = re.compile(rb"\\u[dD][89a-fA-F]")


def read_lines(
    file: SourceFile, spec: CorpusSpec, fields: Sequence[str], *, start: int, stop: int
) -> Iterator[Piece]:
    """The records of the lines that start in the byte range, in order.

    Raises:
        DataError: a compressed stream is damaged or was cut, or the file has changed.
    """
    names = ["text", *(name for name in fields if name != "text")]
    reader = _Reader(file=file, spec=spec, names=names, start=start, stop=stop)
    for lines in split_lines(read_chunks(file, start, stop)):
        if not any(lines):
            reader.skip_blank(len(lines))
            continue
        for line in lines:
            reader.add(line)
            if reader.n_bytes >= BATCH_BYTES or reader.n_pending >= _PIECE_ROWS:
                yield reader.take()
    if reader.n_pending:
        yield reader.take()


def check_head(file: SourceFile, spec: CorpusSpec) -> list[Problem]:
    """What is wrong with the first records: no object at all, or none with the text key.

    A single bad record is no problem of the header; reading will name it.
    """
    place = place_of(spec, "text") or "text"
    keys: dict[str, None] = {}
    n_records = n_objects = 0
    for line in _head_lines(file):
        n_records += 1
        try:
            record = orjson.loads(line)
        except orjson.JSONDecodeError:
            continue
        if isinstance(record, dict):
            n_objects += 1
            if look_up(record, place) is not MISSING:
                return []
            keys.update(dict.fromkeys(record))
    if n_objects:
        return [missing_text(place, list(keys), file.path, kind="key")]
    if n_records and spec.on_bad == "stop":
        message = f"expected one JSON object a line, found none in the first {n_records} lines"
        return [Problem(message=message, where=file.path, hint="convert the file to JSON lines")]
    return []


def _head_lines(file: SourceFile) -> Iterator[bytes]:
    n_seen = 0
    for lines in split_lines(read_chunks(file, 0, file.found.n_bytes)):
        if not any(lines):
            continue
        for line in lines:
            if isinstance(line, LongLine):
                return
            if line.strip():
                yield line
                n_seen += 1
            if n_seen >= _HEAD_RECORDS:
                return


@dataclass(kw_only=True)
class _Reader:
    """Gathers records into columns."""

    file: SourceFile
    spec: CorpusSpec
    names: list[str]
    start: int
    stop: int
    n_bytes: int = 0
    n_pending: int = 0
    _n_lines: int = 0
    _row: int = 0
    _first_line: int | None = None
    _places: list[str | None] = field(init=False)
    _texts: list[bytes] = field(default_factory=list)
    _others: list[list[str | None]] = field(init=False)
    _bad: list[BadRow] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._places = [place_of(self.spec, name) for name in self.names]
        self._others = [[] for _ in self.names[1:]]

    def skip_blank(self, n_lines: int) -> None:
        """Count lines that are all empty; a file can hold gigabytes of them."""
        self._n_lines += n_lines

    def add(self, line: bytes | LongLine) -> None:
        """Take one line: a document, a bad record, or nothing if it is blank."""
        self._n_lines += 1
        if isinstance(line, LongLine):
            message = f"expected a line of at most {MAX_LINE_BYTES} bytes, found {line.n_bytes}"
            self._add_bad(line.head, "too_long", message)
            return
        try:
            record = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            if line.strip():
                self._add_bad(line, *_why_malformed(line, error))
            return
        if type(record) is not dict:
            message = f"expected an object, found {_kind(record)}"
            self._add_bad(line, "not_an_object", message)
            return
        self._add_record(record, line)

    def take(self) -> Piece:
        """The columns gathered so far."""
        columns = {"text": text_array(self._texts)}
        for name, values in zip(self.names[1:], self._others, strict=True):
            columns[name] = pa.array(values, pa.large_string())
        piece = Piece(columns=columns, bad=tuple(self._bad))
        self._texts, self._others, self._bad = [], [[] for _ in self.names[1:]], []
        self.n_bytes = self.n_pending = 0
        return piece

    def _add_record(self, record: dict[str, Any], line: bytes) -> None:
        place = self._places[0] or "text"
        text = record.get(place, MISSING) if place in record else look_up(record, place)
        if type(text) is not str or "\0" in text:
            self._add_bad(line, *_why_no_text(text, place))
            return
        self._texts.append(text.encode())  # while it is in the cache
        for values, other in zip(self._others, self._places[1:], strict=True):
            values.append(None if other is None else _as_string(look_up(record, other)))
        self._count(len(line))

    def _add_bad(self, raw: bytes, reason: BadReason, message: str) -> None:
        where = f"{self.file.path}:{self._line_number()}"
        self._bad.append(BadRow(row=self._row, reason=reason, message=message, where=where, raw=raw))
        self._texts.append(b"")
        for values in self._others:
            values.append(None)
        self._count(len(raw))

    def _count(self, n_bytes: int) -> None:
        self.n_bytes += n_bytes
        self.n_pending += 1
        self._row += 1

    def _line_number(self) -> int:
        if self._first_line is None:
            self._first_line = _lines_before(self.file, self.start, self.stop)
        return self._first_line + self._n_lines


def _lines_before(file: SourceFile, start: int, stop: int) -> int:
    if start == 0:
        return 0
    with open_file(file.found.address) as handle:
        first = first_owned(handle, start, stop)
    return count_lines_before(file, first or 0)


def _why_malformed(line: bytes, error: json.JSONDecodeError) -> tuple[BadReason, str]:
    try:
        line.decode("utf-8")
    except UnicodeDecodeError as found:
        return "invalid_utf8", f"expected UTF-8, found byte 0x{line[found.start]:02x} at offset {found.start}"
    if _SURROGATE.search(line) and _is_json_but_for_surrogates(line):
        return "lone_surrogate", "expected Unicode text, found half of a surrogate pair in a \\u escape"
    return (
        "malformed_json",
        f"expected a JSON object, found malformed JSON at character {error.pos}: {error.msg}",
    )


def _is_json_but_for_surrogates(line: bytes) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _why_no_text(text: object, place: str) -> tuple[BadReason, str]:
    key = printable(place)
    if text is MISSING:
        return "missing_text", f"expected a key {key!r} with the text, found none"
    if text is None:
        return "null_text", f"{key!r} must be a string, found null"
    if isinstance(text, str):
        return "nul_character", f"{key!r} must not contain NUL characters, found at least one"
    return "wrong_type", f"{key!r} must be a string, found {_kind(text)}"


_KINDS: Final[dict[type, str]] = {dict: "an object", list: "an array", str: "a string", bool: "a boolean"}


def _kind(value: object) -> str:
    if value is None:
        return "null"
    name = _KINDS.get(type(value))
    return name or f"the number {value}"


def _as_string(value: Any) -> str | None:
    if value is None or value is MISSING:
        return None
    return value if type(value) is str else canonical_json(value)
