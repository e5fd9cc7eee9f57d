"""Lists of unwanted URLs: read from a file once a process, then asked for whole batches.

Legend: D documents, H distinct hosts of a batch.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Protocol, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from prill.corpus.batch import text_buffers
from prill.errors import DataError, RecipeError, printable
from prill.features.text_hash import hash_documents
from prill.features.urls import normalise_urls, url_parts, word_hashes

__all__ = ["KnownList", "ListKind", "UrlList", "read_list"]

ListKind: TypeAlias = Literal["domain", "url", "word", "part"]

_WORD: Final = re.compile(r"[a-z0-9]+\Z")
_PARTS_A_PATTERN: Final = 200


@dataclass(frozen=True, kw_only=True)
class KnownList:
    """A list's name, kind and file, with the digest of what the file held when the recipe was read."""

    name: str
    path: Path
    kind: ListKind
    sha256: str

    @classmethod
    def of(cls, name: str, path: Path, kind: ListKind) -> KnownList:
        """Look at the file now, so that a wrong one ends the run before it starts."""
        known = cls(name=name, path=path, kind=kind, sha256=hashlib.sha256(_content(path, name)).hexdigest())
        read_list(known)
        return known

    @staticmethod
    def check_names(lists: Sequence[KnownList]) -> None:
        names = [item.name for item in lists]
        double = sorted({name for name in names if names.count(name) > 1})
        if double:
            raise RecipeError(f"expected one list a name, found {double[0]!r} twice", where="urls.lists")


@functools.lru_cache(maxsize=64)
def read_list(known: KnownList) -> UrlList:
    """The list, checked against its digest.

    Raises:
        DataError: the file is missing, has changed, is empty or has an entry that can never be found.
    """
    content = _content(known.path, known.name)
    if hashlib.sha256(content).hexdigest() != known.sha256:
        raise DataError(
            "expected the list as it was when the run began, found another", where=str(known.path)
        )
    try:
        entries = sorted(set(_entries(content.decode("utf-8"))))
    except UnicodeDecodeError as error:
        raise DataError(
            f"expected UTF-8, found other bytes at {error.start}",
            where=str(known.path),
            hint="save the list as UTF-8",
        ) from error
    if not entries:
        raise DataError("expected at least one entry, found none", where=str(known.path))
    return _KINDS[known.kind](entries, known.path)


class UrlList(Protocol):
    """Something that counts entries in URLs."""

    def hits(
        self, urls: pa.Array, host: pa.DictionaryArray, hosts: Sequence[str], n: int
    ) -> NDArray[np.int16]:
        """How many different entries each URL holds, int16, shape (D,); 0 where there is no URL.

        Args:
            urls: normal forms, large_string with nulls, D URLs.
            host: their hosts; `hosts` is its dictionary.
        """


class _Domains:
    """Domains as sorted hashes of 64 bits, so that lists of millions take 8 bytes an entry."""

    def __init__(self, entries: Sequence[str], path: Path) -> None:
        self.keys = np.unique(_hashes(_hosts(entries, path)))

    def hits(
        self, urls: pa.Array, host: pa.DictionaryArray, hosts: Sequence[str], n: int
    ) -> NDArray[np.int16]:
        labels = [value.split(".") for value in hosts]
        parents = [".".join(parts[k:]) for parts in labels for k in range(len(parts))]
        is_listed = _is_in(self.keys, _hashes(pa.array(parents, pa.large_string())))
        owner = np.repeat(np.arange(len(hosts)), [len(parts) for parts in labels])
        found_H = np.zeros(len(hosts) + 1, np.int16)
        found_H[owner[is_listed]] = 1
        which_D: NDArray[np.int32] = np.asarray(host.indices.fill_null(len(hosts)))
        return found_H[which_D]


class _Addresses:
    def __init__(self, entries: Sequence[str], path: Path) -> None:
        self.keys = np.unique(_hashes(normalise_urls(pa.array(entries, pa.large_string()))))

    def hits(
        self, urls: pa.Array, host: pa.DictionaryArray, hosts: Sequence[str], n: int
    ) -> NDArray[np.int16]:
        none_D: NDArray[np.bool_] = np.asarray(urls.is_null())
        return (_is_in(self.keys, _hashes(urls)) & ~none_D).astype(np.int16)


class _Words:
    def __init__(self, entries: Sequence[str], path: Path) -> None:
        self.words = word_hashes(tuple(_word(entry, path) for entry in entries))

    def hits(
        self, urls: pa.Array, host: pa.DictionaryArray, hosts: Sequence[str], n: int
    ) -> NDArray[np.int16]:
        from prill.features._url_kernel import count_words

        offsets, data = text_buffers(urls)
        found_D = np.zeros(n, np.int16)
        count_words(offsets, data, self.words, found_D)
        return found_D


class _Parts:
    """Literal strings by a linear-time automaton; entries hold nothing to be escaped."""

    def __init__(self, entries: Sequence[str], path: Path) -> None:
        self.words = [_word(entry, path) for entry in entries]

    def hits(
        self, urls: pa.Array, host: pa.DictionaryArray, hosts: Sequence[str], n: int
    ) -> NDArray[np.int16]:
        bare = pc.ascii_lower(pc.replace_substring_regex(urls, "[^a-zA-Z0-9]+", ""))
        found_D = np.zeros(n, np.int16)
        for first in range(0, len(self.words), _PARTS_A_PATTERN):
            words = self.words[first : first + _PARTS_A_PATTERN]
            some_D = np.asarray(pc.match_substring_regex(bare, "|".join(words)).fill_null(False))
            for d in np.flatnonzero(some_D):
                url = bare[d].as_py()
                found_D[d] += sum(word in url for word in words)
        return found_D


_KINDS: Final[Mapping[ListKind, Callable[[Sequence[str], Path], UrlList]]] = {
    "domain": _Domains,
    "url": _Addresses,
    "word": _Words,
    "part": _Parts,
}


def _content(path: Path, name: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        said = error.strerror or "unreadable"
        raise DataError(f"expected the list {name}, found: {said}", where=str(path)) from error


def _entries(text: str) -> Iterator[str]:
    for line in text.splitlines():
        entry = line.strip().lstrip("\ufeff")
        if entry and not entry.startswith("#"):
            yield entry


def _hosts(entries: Sequence[str], path: Path) -> pa.Array:
    """The hosts of entries such as `example.org`, `.example.org` and `https://example.org/x`."""
    urls = [entry if "://" in entry else f"http://{entry.lstrip('.')}/" for entry in entries]
    hosts = url_parts(normalise_urls(pa.array(urls, pa.large_string()))).host
    bad = pc.or_kleene(hosts.is_null(), pc.match_substring_regex(hosts, r"\s"))
    for entry in pa.array(entries).filter(bad.fill_null(True)).to_pylist():
        raise DataError(f"expected a domain, found {printable(entry)!r}", where=str(path))
    return hosts


def _hashes(texts: pa.Array) -> NDArray[np.uint64]:
    _, low = hash_documents(texts)
    return low


def _is_in(keys: NDArray[np.uint64], wanted: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Which of `wanted` are among the sorted `keys`, at least one."""
    places = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    found: NDArray[np.bool_] = keys[places] == wanted
    return found


def _word(entry: str, path: Path) -> str:
    if not _WORD.match(entry.lower()):
        hint = "addresses are searched for runs of ASCII letters and digits"
        raise DataError(f"expected a word, found {printable(entry)!r}", where=str(path), hint=hint)
    return entry.lower()
