"""URLs as text: telling them from local paths, and keeping their secrets out of sight. Pure functions."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import parse_qsl, urlsplit

__all__ = ["has_credentials", "is_url", "scheme_of", "scrub", "shown"]

_URL: Final = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]+)(::|://)")
_URL_ANYWHERE: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://[^\s'\"<>]+")
_SECRET_WORDS: Final = (
    "access", "auth", "credential", "expires", "key", "passw", "pwd", "secret", "sig", "token",
)  # fmt: skip


def is_url(path: str) -> bool:
    """Whether `path` is a URL (`scheme://...` or a chain `scheme::...`), not a local path."""
    return _URL.match(path) is not None


def scheme_of(url: str) -> str:
    """The scheme in lower case, `file` for a local path."""
    found = _URL.match(url)
    return found.group(1).lower() if found else "file"


def has_credentials(path: str) -> bool:
    """Whether the URL holds a user, a password, or a query parameter that looks like a secret."""
    if not is_url(path):
        return False
    return any(_part_has_credentials(part) for part in path.split("::"))


def shown(path: str) -> str:
    """`path` as it may be shown and recorded: a URL without user, password, query and fragment.

    >>> shown("s3://key:secret@bucket/data/*.parquet?versionId=3")
    's3://bucket/data/*.parquet'
    >>> shown("pool/part-?.jsonl")
    'pool/part-?.jsonl'
    """
    if not is_url(path):
        return path
    return "::".join(_shown_part(part) for part in path.split("::"))


def scrub(message: str) -> str:
    """A message of another library with every URL in it shown without its secrets."""
    return _URL_ANYWHERE.sub(lambda found: shown(found.group()), message)


def _shown_part(part: str) -> str:
    scheme, separator, rest = part.partition("://")
    if not separator:
        return part
    authority, slash, path = rest.partition("/")
    authority = authority.rpartition("@")[2] if scheme.lower() != "hf" else authority
    return f"{scheme}://{_without_query(scheme, authority + slash + path)}"


def _without_query(scheme: str, rest: str) -> str:
    """Cut `?query` and `#fragment`; a `?` that is followed by no `=` is a glob, as in `part-?.jsonl`."""
    rest = re.sub(r"\?[^/?]*=.*$", "", rest)
    return rest.partition("#")[0] if scheme.lower() in {"http", "https"} else rest


def _part_has_credentials(part: str) -> bool:
    scheme, separator, rest = part.partition("://")
    if not separator:
        return False
    authority = rest.partition("/")[0]
    if "@" in authority and scheme.lower() != "hf":  # hf://datasets/owner/name@revision/...
        return True
    if ":" in authority.partition("@")[0] and "@" in authority:
        return True
    query = urlsplit(f"x://{rest}").query
    return any(word in name.lower() for name, _ in parse_qsl(query) for word in _SECRET_WORDS)
