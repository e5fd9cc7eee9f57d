"""URLs as a measure: key, host, domain, the cheap features of an address, and lists of unwanted ones.

Lists come from files of the user, one entry a line: domains (with everything below them), whole addresses,
words of the address, or parts of it. What stood on which list is a column, so that a list can be a tag today
and a rule tomorrow without reading anything again.

Source: Penedo et al. 2023 (RefinedWeb, arXiv:2306.01116, section 3.1 and appendix G.1): domain list, then
words of which one or two are enough. Li et al. 2024 (arXiv:2402.11495) for the features.
Differs: no list is shipped; words weigh one each.

Legend: D documents.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Final, Literal, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from prill.corpus.batch import Batch, text_buffers
from prill.corpus.columns import ColumnInfo
from prill.corpus.public_suffix import SUFFIX_VERSION, Suffixes, registered_domain, suffixes_state
from prill.features.text_hash import hash_documents
from prill.features.urls import URL_VERSION, normalise_urls, url_parts
from prill.prepare._url_lists import KnownList, ListKind, read_list
from prill.prepare.measure import Drops
from prill.prepare.spans import Edits

__all__ = ["UrlListSpec", "UrlSpec", "Urls"]

Action: TypeAlias = Literal["drop", "tag"]

_WORDS: Final[Mapping[ListKind, str]] = {
    "domain": "domain on",
    "url": "address on",
    "word": "words of",
    "part": "parts of",
}


class UrlListSpec(BaseModel):
    """One list of unwanted domains, addresses or words."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[a-z0-9_]{1,40}$", description="What reasons and columns call the list.")
    path: str = Field(
        description="Text file, one entry a line; empty lines and lines that begin with # do not count."
    )
    kind: ListKind = Field(
        "domain",
        description="domain: a host and all below it; url: whole addresses in normal form; word: runs of "
        "letters and digits of the address; part: strings anywhere in the address, punctuation taken out.",
    )
    min_hits: int = Field(
        1,
        ge=1,
        le=64,
        description="Different entries that must be found; 2 is usual for words that may be harmless.",
    )
    action: Action = Field("drop", description="drop: the document goes; tag: only the column is written.")


class UrlSpec(BaseModel):
    """Key and features of the URL, and lists that documents may be dropped by."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    lists: tuple[UrlListSpec, ...] = Field((), description="Lists of unwanted URLs, judged in this order.")
    suffixes: Suffixes = Field(
        "built_in",
        description="Rule of the registered domain: built_in knows the common endings, tldextract (extra "
        "`clean`) the public suffix list.",
    )


@dataclass(frozen=True, kw_only=True)
class Urls:
    """The measure `urls`; made by `Urls.of`."""

    spec: UrlSpec
    files: tuple[KnownList, ...]
    suffixes: str

    name: ClassVar[str] = "urls"
    version: ClassVar[int] = 1
    fields: ClassVar[tuple[str, ...]] = ("text", "url")

    @classmethod
    def of(cls, spec: UrlSpec, base: Path | None = None) -> Urls:
        """The measure of a recipe; paths of lists start from `base`.

        Raises:
            RecipeError: two lists have one name.
            DataError: a list cannot be read, is empty, or has an entry that can never be found.
            ResourceError: the package for `suffixes` is missing.
        """
        files = tuple(KnownList.of(item.name, (base or Path()) / item.path, item.kind) for item in spec.lists)
        KnownList.check_names(files)
        return cls(spec=spec, files=files, suffixes=suffixes_state(spec.suffixes))

    @property
    def settings(self) -> Mapping[str, Any]:
        lists = [{"name": file.name, "kind": file.kind, "sha256": file.sha256} for file in self.files]
        return {"lists": lists, "suffixes": self.suffixes, "normal_form": URL_VERSION}

    @property
    def policy(self) -> Mapping[str, Any]:
        return {item.name: {"min_hits": item.min_hits, "action": item.action} for item in self.spec.lists}

    @property
    def columns(self) -> Sequence[ColumnInfo]:
        infos = [
            ColumnInfo(name=name, unit=unit, span="url", version=URL_VERSION, summary=summary)
            for name, unit, summary in _COLUMNS
        ]
        state = {"state": self.suffixes, "version": SUFFIX_VERSION}
        infos[2] = ColumnInfo(**{**asdict(infos[2]), **state})
        return infos + [
            ColumnInfo(
                name=f"url_list_{file.name}",
                unit="entries",
                direction=-1,
                span="url",
                state=file.sha256[:16],
                version=self.version,
                summary=f"different entries of the list {file.name} that the URL holds",
            )
            for file in self.files
        ]

    def __call__(self, batch: Batch) -> dict[str, pa.Array | NDArray[Any]]:
        """The columns of one batch; null where a document has no URL."""
        import pyarrow.compute as pc

        given = batch.columns.get("url")
        urls = normalise_urls(given if given is not None else pa.nulls(batch.n_rows, pa.large_string()))
        parts = url_parts(urls)
        none_D = np.asarray(urls.is_null())
        offsets, _ = text_buffers(urls)
        _, low_D = hash_documents(urls)
        host = parts.host.dictionary_encode()
        values = host.dictionary.to_pylist()
        domains = [_domain(value, self.spec.suffixes) for value in values]
        tlds = [
            value.rpartition(".")[2] if domain else None
            for value, domain in zip(values, domains, strict=True)
        ]
        counted = {
            "url_bytes": np.diff(offsets).astype(np.int32),
            "url_host_depth": parts.host_depth,
            "url_path_depth": parts.path_depth,
            "url_escapes": parts.n_escapes,
            "url_keys": parts.n_keys,
            "url_digit_share": parts.digit_share,
            "url_entropy": parts.entropy,
        }
        found = {
            f"url_list_{file.name}": read_list(file).hits(urls, host, values, batch.n_rows)
            for file in self.files
        }
        return {
            "url_key": pa.array(low_D, mask=none_D),
            "url_host": parts.host,
            "url_domain": pc.take(pa.array(domains, pa.large_string()), host.indices),
            "url_tld": pc.take(pa.array(tlds, pa.large_string()), host.indices),
            "url_scheme": parts.scheme,
            "url_port": parts.port,
            "url_extension": parts.extension,
            **{name: pa.array(values_D, mask=none_D) for name, values_D in counted.items()},
            **found,
        }

    def drops(self, table: pa.Table) -> Drops:
        return {
            f"url: {_WORDS[item.kind]} the list {item.name}": np.asarray(table[f"url_list_{item.name}"])
            >= item.min_hits
            for item in self.spec.lists
            if item.action == "drop"
        }

    def edits(self, table: pa.Table) -> Edits | None:
        return None


_COLUMNS: Final = (
    ("url_key", "1", "64-bit hash of the URL's normal form"),
    ("url_host", "1", "host"),
    ("url_domain", "1", "registered domain"),
    ("url_tld", "1", "top-level domain"),
    ("url_scheme", "1", "scheme"),
    ("url_port", "1", "port, where the URL names one that is not the default"),
    ("url_extension", "1", "file extension, lower case"),
    ("url_bytes", "bytes", "length of the normal form"),
    ("url_host_depth", "labels", "labels of the host"),
    ("url_path_depth", "segments", "segments of the path"),
    ("url_escapes", "escapes", "percent signs"),
    ("url_keys", "parameters", "parameters of the query"),
    ("url_digit_share", "1", "share of digits among the bytes"),
    ("url_entropy", "bits", "entropy of the bytes, bits a byte"),
)


@functools.lru_cache(maxsize=1 << 16)
def _domain(host: str, suffixes: Suffixes) -> str | None:
    return registered_domain(host, suffixes)
