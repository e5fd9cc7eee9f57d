"""What says that the inputs of a run are the same as before: size and content hash of every file.

Clocks decide nothing. Local files are hashed; remote files are known by the hash or tag that their storage
gives, and hashed where it gives none. Thousands of small text files are folded into one entry.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, Literal

from prill.corpus.files import SourceFile
from prill.corpus.location import open_file, reading
from prill.corpus.strings import canonical_json
from prill.errors import DataError

__all__ = ["identify"]

_CHUNK_BYTES: Final = 4 * 1024 * 1024
_FOLD_ABOVE: Final = 1_000


def identify(files: Sequence[SourceFile], kind: Literal["content", "size"]) -> list[dict[str, Any]]:
    """One entry a file in order: `path`, `size`, and for `content` a `sha256` or the storage's `tag`.

    Raises:
        DataError: a file has another size than when the corpus was opened.
        ResourceError: a file cannot be read.
    """
    if kind == "size":
        entries = [_entry(file) for file in files]
    else:
        with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
            entries = list(pool.map(_content_entry, files))
    texts = [entry for entry, file in zip(entries, files, strict=True) if file.format == "text"]
    if len(texts) <= _FOLD_ABOVE:
        return entries
    others = [entry for entry, file in zip(entries, files, strict=True) if file.format != "text"]
    return [*others, _folded(texts)]


def _entry(file: SourceFile) -> dict[str, Any]:
    return {"path": file.name, "size": file.found.n_bytes}


def _content_entry(file: SourceFile) -> dict[str, Any]:
    entry = _entry(file)
    if file.found.tag is not None:
        return {**entry, "tag": file.found.tag}
    digest = hashlib.sha256()
    n_bytes = 0
    with open_file(file.found.address) as handle, reading(file.path):
        while chunk := handle.read(_CHUNK_BYTES):
            digest.update(chunk)
            n_bytes += len(chunk)
    if n_bytes != file.found.n_bytes:
        message = f"expected {file.found.n_bytes} bytes, found {n_bytes}: the file has changed"
        raise DataError(message, where=file.path, hint="start again with inputs that stay as they are")
    return {**entry, "sha256": digest.hexdigest()}


def _folded(entries: list[dict[str, Any]]) -> dict[str, Any]:
    whole = canonical_json(entries).encode()
    return {
        "path": "text files",
        "n_files": len(entries),
        "size": sum(entry["size"] for entry in entries),
        "sha256": hashlib.sha256(whole).hexdigest(),
    }
