"""Where programs come from: a JSONL file with a line a document, found by id or by the hash of the text.

A line: `{"id": "..."}` or `{"hash": "<32 hexadecimal digits>"}`, with `doc_program`, `chunk_program` or both,
strings or null. The hash is the 128-bit one of the read step, so programs survive re-sharding. The file is
held in memory.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson

from prill.errors import DataError

__all__ = ["Written", "read_programs"]

_HASH: Final = re.compile(r"[0-9a-f]{32}")
_HINT: Final = "repair the line, or take it out: a document without a program stays as it is"
_KEYS: Final = frozenset({"id", "hash", "doc_program", "chunk_program"})


@dataclass(frozen=True, kw_only=True)
class Written:
    """The programs written for one document; None where there is none."""

    document: str | None = None
    chunk: str | None = None


def read_programs(path: Path) -> dict[str, Written]:
    """Programs by `id:...` or `hash:...`.

    Raises:
        DataError: no such file, or a line that is no program; the line is named.
    """
    found: dict[str, Written] = {}
    try:
        with path.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    key, written = _parsed(line, f"{path}:{number}")
                    found[key] = written
    except FileNotFoundError as error:
        raise DataError("expected a file of programs, found none", where=str(path)) from error
    return found


def _parsed(line: bytes, where: str) -> tuple[str, Written]:
    try:
        record: Any = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise DataError("expected one JSON object a line, found no JSON", where=where, hint=_HINT) from error
    if not isinstance(record, dict) or not set(record) <= _KEYS:
        raise DataError(
            f"expected an object with some of {', '.join(sorted(_KEYS))}", where=where, hint=_HINT
        )
    name, key = ("hash", record["hash"]) if "hash" in record else ("id", record.get("id"))
    if not isinstance(key, str) or (name == "hash" and not _HASH.fullmatch(key)):
        raise DataError("expected an `id`, or a `hash` of 32 hexadecimal digits", where=where, hint=_HINT)
    texts = (record.get("doc_program"), record.get("chunk_program"))
    if not all(text is None or isinstance(text, str) for text in texts):
        raise DataError("expected programs that are strings or null", where=where, hint=_HINT)
    return f"{name}:{key}", Written(document=texts[0], chunk=texts[1])
