"""The journal of a step that is under way: which part files are whole.

A part is one shard's file. After it was renamed into place, one line with its size, its SHA-256 and a few
facts is appended and flushed. A line carries its own digest. After a kill, a part is used again only when
its line is whole and the file has that size and that hash; a torn, cut, flipped or zeroed line or file
only means that the part is redone. When the step finishes, the record replaces the journal.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prill.run.atomic import machine_errors, sync_folder
from prill.run.fingerprint import canonical_json

__all__ = ["JOURNAL_NAME", "Journal", "PartEntry"]

JOURNAL_NAME = "parts.jsonl"

_DIGEST_DIGITS = 16


@dataclass(frozen=True, kw_only=True)
class PartEntry:
    """One finished part: its path in the run directory, its bytes, and facts that finishing needs."""

    name: str
    size: int
    sha256: str
    facts: Mapping[str, Any] = field(default_factory=dict)


class Journal:
    """Appends and reads `parts.jsonl` in a step's folder. The last whole line about a part counts."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / JOURNAL_NAME
        self.n_damaged = 0
        self._entries: dict[str, PartEntry] = {}
        self._load()

    def get(self, name: str) -> PartEntry | None:
        """What the journal says about a part, or None."""
        return self._entries.get(name)

    def add(self, entry: PartEntry) -> None:
        """Append one line and flush it to the disk.

        Raises:
            ResourceError: the machine refuses to store it.
        """
        self._append(_line(entry))
        self._entries[entry.name] = entry

    def forget(self, name: str) -> None:
        """Stop trusting a part; its file must be removed by the caller."""
        self._entries.pop(name, None)

    def remove(self) -> None:
        """Remove the journal, after the record is written."""
        self.path.unlink(missing_ok=True)
        self._entries.clear()

    def _load(self) -> None:
        with machine_errors(self.path):
            try:
                content = self.path.read_bytes()
            except FileNotFoundError:
                return
        for line in content.split(b"\n"):
            entry = _parse(line)
            if entry is not None:
                self._entries[entry.name] = entry
            elif line:
                self.n_damaged += 1

    def _append(self, line: bytes) -> None:
        with machine_errors(self.path):
            is_new = not self.path.exists()
            handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
            try:
                _write_all(handle, line if _ends_whole(handle) else b"\n" + line)
                os.fsync(handle)
            finally:
                os.close(handle)
            if is_new:
                sync_folder(self.path.parent)


def _line(entry: PartEntry) -> bytes:
    content = {"name": entry.name, "size": entry.size, "sha256": entry.sha256, "facts": entry.facts}
    body = canonical_json(content)
    return _digest(body) + b" " + body + b"\n"


def _parse(line: bytes) -> PartEntry | None:
    digest, _, body = line.partition(b" ")
    if not body or digest != _digest(body):
        return None
    content = json.loads(body)
    return PartEntry(
        name=content["name"], size=content["size"], sha256=content["sha256"], facts=content["facts"]
    )


def _digest(body: bytes) -> bytes:
    return hashlib.sha256(body).hexdigest()[:_DIGEST_DIGITS].encode()


def _ends_whole(handle: int) -> bool:
    """Is the file empty, or does it end with a line end? A torn last line must not swallow the next one."""
    size = os.fstat(handle).st_size
    return size == 0 or os.pread(handle, 1, size - 1) == b"\n"


def _write_all(handle: int, content: bytes) -> None:
    while content:
        content = content[os.write(handle, content) :]
