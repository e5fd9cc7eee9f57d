"""Names that are computed from content.

A fingerprint is the SHA-256 of a canonical JSON text: keys sorted, no spaces, ASCII only, no NaN. The same
settings give the same fingerprint on every machine; anything that is not plain JSON is refused, so that
nothing is fingerprinted by its memory address or its local representation.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import unicodedata
from collections.abc import Mapping
from pathlib import Path

from prill.errors import InternalError
from prill.run.atomic import machine_errors

__all__ = ["canonical_json", "file_digest", "fingerprint", "safe_name"]

_MAX_SLUG = 48
_NAME_HASH = 8  # hex digits that tell apart two names with the same slug


def fingerprint(value: object) -> str:
    """SHA-256 of the canonical JSON of `value`, 64 hex digits.

    Raises:
        InternalError: `value` is not plain JSON (a path, a set, a NaN, a key that is not a string).
    """
    return hashlib.sha256(canonical_json(value)).hexdigest()


def canonical_json(value: object) -> bytes:
    """The one JSON text of `value`: sorted keys, no spaces, ASCII. Tuples are lists; 1 and 1.0 differ.

    Raises:
        InternalError: `value` is not plain JSON.
    """
    plain = _plain(value, "$")
    return json.dumps(
        plain, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
    ).encode()


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, 64 hex digits.

    Raises:
        ResourceError: the machine refuses to read it.
        FileNotFoundError: there is no such file.
    """
    with machine_errors(path), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def safe_name(text: str) -> str:
    """A file name for any text from data: a slug, and a short hash whenever the slug is not the text itself.

    >>> safe_name("code")
    'code'
    >>> safe_name("../Été 2024")
    'ete-2024-49679fcc'
    """
    ascii_text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    slug = re.sub(r"[^a-z0-9_]+", "-", ascii_text.lower()).strip("-")[:_MAX_SLUG].strip("-")
    if slug == text and slug:
        return slug
    short = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:_NAME_HASH]
    return f"{slug or 'name'}-{short}"


def _plain(value: object, where: str) -> object:
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        if math.isfinite(value):
            return value
        raise InternalError(f"expected a finite number in a fingerprint, found {value}", where=where)
    if isinstance(value, Mapping):
        return {_key(key, where): _plain(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, f"{where}[{i}]") for i, item in enumerate(value)]
    raise InternalError(f"expected plain JSON in a fingerprint, found {type(value).__name__}", where=where)


def _key(key: object, where: str) -> str:
    if isinstance(key, str):
        return key
    raise InternalError(f"expected text as a key in a fingerprint, found {key!r}", where=where)
