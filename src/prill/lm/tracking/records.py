"""Files of JSON lines that a resumed training continues byte for byte.

A line is one write, so `kill -9` tears at most the last one. A checkpoint keeps the file's `Mark` (length
and hash so far); resuming checks the bytes up to there and cuts what came later, and since the loop repeats
exactly the steps that follow, the file ends up equal to that of an uninterrupted training. So nothing that
depends on a clock may go into it (`prill.run.events` keeps such a diary).
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prill.errors import DataError
from prill.run.atomic import machine_errors, make_folder

__all__ = ["Mark", "RecordFile", "plain"]

Mark = dict[str, Any]
"""`n_bytes` and `sha256` of a file's beginning. JSON-able."""

READ_BYTES = 1 << 20


class RecordFile:
    """One file of JSON lines.

    Args:
        path: the file; its folder is made.
        mark: where to go on; None starts an empty file.
    Raises:
        DataError: the file does not begin as the mark says.
        ResourceError: the machine refuses to store it.
    """

    def __init__(self, path: Path, mark: Mark | None = None) -> None:
        self.path = path
        self._n_bytes = 0 if mark is None else int(mark["n_bytes"])
        make_folder(path.parent)
        with machine_errors(path):
            self._handle: int | None = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
            self._seen = _hash(self._handle, self._n_bytes)
            if mark is not None and self._seen.hexdigest() != mark["sha256"]:
                os.close(self._handle)
                raise DataError(
                    f"expected the first {self._n_bytes} bytes that the checkpoint has seen, found others",
                    where=str(path),
                    hint="put the file back, or delete the checkpoint to start over",
                )
            os.ftruncate(self._handle, self._n_bytes)

    def append(self, record: Mapping[str, Any]) -> None:
        """Write one line. Non-finite numbers become the strings `nan`, `inf` and `-inf`."""
        if self._handle is None:
            return
        line = json.dumps(plain(record), ensure_ascii=True, allow_nan=False).encode() + b"\n"
        with machine_errors(self.path):
            n_written = os.write(self._handle, line)
            while n_written < len(line):  # a full disk takes a part, then says so
                n_written += os.write(self._handle, line[n_written:])
        self._seen.update(line)
        self._n_bytes += len(line)

    def mark(self) -> Mark:
        """Where the file stands, flushed to the disk: what a checkpoint keeps."""
        if self._handle is not None:
            with machine_errors(self.path):
                os.fsync(self._handle)
        return {"n_bytes": self._n_bytes, "sha256": self._seen.hexdigest()}

    def close(self) -> None:
        """Close the file; safe to call twice. A closed file ignores what it is given."""
        handle, self._handle = self._handle, None
        if handle is not None:
            os.close(handle)


def plain(value: Any) -> Any:
    """`value` with non-finite numbers as strings, so that it is JSON to every reader."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def _hash(handle: int, n_bytes: int) -> Any:
    """SHA-256 of the first bytes of a file, or of all there are."""
    seen, at = hashlib.sha256(), 0
    while at < n_bytes:
        part = os.pread(handle, min(READ_BYTES, n_bytes - at), at)
        if not part:
            break
        seen.update(part)
        at += len(part)
    return seen
