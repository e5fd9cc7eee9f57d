"""Metadata conditioning: each document after a line that says where it comes from.

    URL: en.wikipedia.org

    The text of the document ... <end-of-text>

The line is read, not trained on; the first token of the text is predicted from it. A model so trained needs
a last stretch of plain documents (`prill.lm.samples.cooldown`), or it comes to depend on the line.

Source: Gao et al. 2025, arXiv:2501.01956; its released code for the alternatives. Differs: hosts
are in lower case and lose user and port. What becomes of a document that crosses the end of a row is the
feed's matter: the plain one lets it go on in the next row without its line, `prill.lm.feed.whole` throws the
rest away (`row_end`, as the reference), `pieces` here gives each piece its line.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from prill.corpus.public_suffix import registered_domain
from prill.errors import DataError, RecipeError
from prill.lm.catalog import record
from prill.lm.data import TokenStream
from prill.lm.samples.columns import base_column, column_words
from prill.lm.samples.insertion import prefix_documents
from prill.lm.samples.subset import cut_documents
from prill.lm.samples.transform import Documents, SampleTransform
from prill.lm.samples.whole_rows import in_whole_rows

__all__ = ["Form", "Metadata", "Missing", "frequent_values", "host_of", "insert_lines"]

Form: TypeAlias = Literal["host", "domain", "suffix", "value"]
Missing: TypeAlias = Literal["unknown", "none", "error"]

UNKNOWN = "unknown"
LONGEST = 256
SHORTEST_PIECE = 16


@dataclass(frozen=True, kw_only=True)
class Metadata:
    """Metadata conditioning: an unlearnt line before each document says where it comes from.

    Raises:
        RecipeError: a setting is out of bounds.
    """

    column: str = field(default="url", metadata={"description": "Column of the corpus to tell of."})
    form: Form = field(
        default="host",
        metadata={
            "description": "What of it: the host of a URL, its registered domain, its public suffix, or the "
            "column's value as it is."
        },
    )
    line: str = field(
        default="URL: {value}\n\n",
        metadata={"description": "The line; {value} stands for the value. Empty: documents stay plain."},
    )
    fixed: str | None = field(
        default=None, metadata={"description": "One value for all documents, in place of the column's."}
    )
    known: tuple[str, ...] = field(
        default=(),
        metadata={"description": "Values that are told; others are told as `unknown`. Empty: all are told."},
    )
    random_ids: bool = field(
        default=False,
        metadata={"description": "Tell a random id of each value in its place: same groups, no meaning."},
    )
    missing: Missing = field(
        default="unknown",
        metadata={"description": "Documents without a value: tell `unknown`, no line at all, or an error."},
    )
    pieces: bool = field(
        default=False,
        metadata={
            "description": "Cut documents that are longer than a row into pieces with a line each, and lay "
            "them into rows whole, so that every token is read after its line."
        },
    )
    row_tokens: int | None = None

    def __post_init__(self) -> None:
        if self.pieces and (self.row_tokens is None or self.row_tokens < 2 * SHORTEST_PIECE):
            raise RecipeError(
                f"pieces need rows of at least {2 * SHORTEST_PIECE} tokens, found {self.row_tokens}",
                where="metadata",
            )

    @property
    def n_added(self) -> int:
        return 0

    @property
    def needs(self) -> tuple[str, ...]:
        return () if self.fixed is not None or not self.line else (base_column(self.column),)

    def when_asked(self) -> SampleTransform:
        """The lines before whole evaluation documents."""
        return replace(self, pieces=False)

    def __call__(self, documents: Documents, *, seed: int) -> TokenStream:
        """The documents, each after its line of weight 0."""
        if not self.line:
            return documents.stream
        if self.fixed is not None:
            values = pa.repeat(pa.scalar(self.fixed, pa.large_string()), documents.stream.n_documents)
        else:
            values = self.values(documents)
            if self.known:
                is_known = pc.or_kleene(
                    pc.is_null(values), pc.is_in(values, pa.array(self.known, pa.large_string()))
                )
                values = pc.if_else(is_known, values, pa.scalar(UNKNOWN, pa.large_string()))
        known = values.dictionary_encode()
        words = [self._told(str(value), seed) for value in known.dictionary.to_pylist()]
        which = np.asarray(known.indices.fill_null(len(words)), np.int64)
        lines = [self.line.replace("{value}", word) for word in words]
        if self.missing == "unknown":
            lines.append(self.line.replace("{value}", UNKNOWN))
        else:
            which = np.where(which == len(words), -1, which)
        return insert_lines(documents, lines, which, row_tokens=self.row_tokens if self.pieces else None)

    def as_record(self) -> dict[str, Any]:
        found = record(self, "metadata", 1)
        return {**found, "row_tokens": self.row_tokens} if self.pieces else found

    def values(self, documents: Documents) -> pa.Array:
        """What is told of each document before `known` is looked at, large_string, (D,); null: nothing.

        Raises:
            DataError: a document has no value, and `missing` says that this is an error.
        """
        words = column_words(documents, self.column)
        if self.form != "value":
            words = host_of(words)
        if self.form in ("domain", "suffix"):
            words = _of_hosts(words, self.form)
        if self.missing == "error" and words.null_count:
            first = int(np.argmax(np.asarray(words.is_null())))
            raise DataError(
                f"expected a {self.form} in the column {self.column!r}, found none",
                where=f"{documents.stream.name}, document {first}",
                hint="set `missing` to `unknown` or `none`",
            )
        return pc.utf8_slice_codeunits(pc.replace_substring_regex(words, r"\s+", " "), 0, LONGEST)

    def _told(self, value: str, seed: int) -> str:
        if not self.random_ids or value == UNKNOWN:
            return value
        return hashlib.sha256(f"prill-metadata-1:{seed}:{value}".encode()).hexdigest()[:16]


def frequent_values(values: pa.Array, min_documents: int) -> tuple[str, ...]:
    """Values that at least so many documents have, sorted: for `known`, so that rare ones are not told."""
    counts = pc.value_counts(values.drop_null())
    frequent = counts.filter(pc.greater_equal(counts.field("counts"), min_documents))
    return tuple(sorted(frequent.field("values").to_pylist()))


def host_of(urls: pa.Array) -> pa.Array:
    """Hosts of URLs in lower case, without user and port; null where there is none.

    >>> host_of(pa.array(["https://En.Wikipedia.org/wiki/A", "example.com", "mailto:x", None])).to_pylist()
    ['en.wikipedia.org', 'example.com', None, None]
    """
    pattern = r"^\s*(?:[A-Za-z][A-Za-z0-9+.-]*://)?(?:[^/?#@\s]*@)?(?P<host>\[[0-9A-Fa-f:.]+\]|[^/?#:@\s]*[^/?#:@\s.])"
    tail = r"\.?(?::[0-9]+)?(?:[/?#][\s\S]*)?\s*$"
    found = pc.extract_regex(urls.cast(pa.large_string()), pattern + tail)
    return pc.ascii_lower(pc.struct_field(found, "host"))


def insert_lines(
    documents: Documents,
    lines: list[str],
    which_D: NDArray[np.int64],
    *,
    row_tokens: int | None,
    weight: float = 0.0,
) -> TokenStream:
    """The documents, each after line `which_D[d]` (-1: none); with `row_tokens`, each piece of a row.

    Raises:
        DataError: a line leaves too little of a row to the text.
    """
    ids = documents.encode(lines) if lines else []
    stream = documents.stream
    if row_tokens is None:
        return prefix_documents(stream, ids, which_D, weight=weight)
    sizes = np.array([*(len(found) for found in ids), 0], np.int64)
    room_D = row_tokens - sizes[which_D]
    if int(room_D.min()) < SHORTEST_PIECE:
        longest = lines[int(which_D[int(room_D.argmin())])]
        raise DataError(
            f"a line must leave {SHORTEST_PIECE} of {row_tokens} tokens of a row to the text, "
            f"found {longest!r} of {row_tokens - int(room_D.min())} tokens",
            where=stream.name,
            hint="use longer rows, or a shorter line",
        )
    pieces, owner = cut_documents(stream, room_D)
    return in_whole_rows(prefix_documents(pieces, ids, which_D[owner], weight=weight), row_tokens)


def _of_hosts(hosts: pa.Array, form: Form) -> pa.Array:
    """The registered domain of each host, or what stands behind its first label."""
    known = hosts.dictionary_encode()
    found = [registered_domain(host) for host in known.dictionary.to_pylist()]
    if form == "suffix":
        found = [domain and domain.partition(".")[2] for domain in found]
    return pa.array(found, pa.large_string()).take(known.indices)
