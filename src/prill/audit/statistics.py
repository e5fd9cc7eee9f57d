"""The fact sheet of a corpus, from stored columns: sizes, lengths, what it is made of, different texts.

Facts of shards merge into facts of the corpus. Everything is a sum of integers, a minimum or a set, so the
order of shards does not matter; the one exception says by how much its counts may be too low (`categories`).

Source: Elazar et al. 2024, arXiv:2310.20707 (WIMBD), section 3. Differs: lengths and words come from the
measures' columns (words are those of the rules, not UAX 29 pieces, which count punctuation).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from prill.audit.categories import Categories
from prill.audit.distinct import Distinct
from prill.audit.lengths import EDGES, LengthFacts

__all__ = ["STATISTICS_VERSION", "CorpusFacts", "FactsPlan"]

STATISTICS_VERSION = 1
"""Version of bins, sketches and orders; it changes whenever a fact can change."""


@dataclass(frozen=True, kw_only=True)
class CorpusFacts:
    """What is in a corpus.

    Attributes:
        n_tokens: None when they were not counted.
        lengths: by unit: `bytes`, `words`.
        categories: by title: `language`, `source`, `year`, `host`.
        distinct: different texts; None when no hash was given.
    """

    n_documents: int
    n_bytes: int
    n_tokens: int | None
    lengths: Mapping[str, LengthFacts] = field(default_factory=dict)
    categories: Mapping[str, Categories] = field(default_factory=dict)
    distinct: Distinct | None = None

    def merge(self, other: CorpusFacts) -> CorpusFacts:
        """Facts of both sets of documents, which were made by the same plan."""
        tokens = None if self.n_tokens is None or other.n_tokens is None else self.n_tokens + other.n_tokens
        distinct = self.distinct
        if distinct is not None and other.distinct is not None:
            distinct = distinct.merge(other.distinct)
        return CorpusFacts(
            n_documents=self.n_documents + other.n_documents,
            n_bytes=self.n_bytes + other.n_bytes,
            n_tokens=tokens,
            lengths={unit: facts.merge(other.lengths[unit]) for unit, facts in self.lengths.items()},
            categories={
                title: facts.merge(other.categories[title]) for title, facts in self.categories.items()
            },
            distinct=distinct,
        )

    def as_json(self, *, n_rows: int = 1_000) -> dict[str, Any]:
        """Plain values, ready for JSON; of each breakdown the `n_rows` largest values."""
        return {
            "version": STATISTICS_VERSION,
            "n_documents": self.n_documents,
            "n_bytes": self.n_bytes,
            "n_tokens": self.n_tokens,
            "length_edges": EDGES.tolist(),
            "lengths": {unit: asdict(facts) for unit, facts in self.lengths.items()},
            "categories": {
                title: {
                    "n_values": facts.n_values,
                    "n_missed": facts.n_missed,
                    "rows": [asdict(row) for row in facts.rows(n_rows)],
                }
                for title, facts in self.categories.items()
            },
            "n_distinct": None if self.distinct is None else self.distinct.estimate,
            "n_distinct_standard_error": None if self.distinct is None else self.distinct.standard_error,
        }


@dataclass(frozen=True, kw_only=True)
class FactsPlan:
    """Which stored columns the facts are made of.

    Attributes:
        n_bytes: column of bytes of text.
        n_tokens: column of tokens; None when they were not counted.
        lengths: column by unit: `{"bytes": "n_bytes", "words": "n_words"}`; nulls are left out.
        categories: column by title: `{"language": "language"}`; null is a value, "not stated".
        key: column with the hash of the text, uint64; None: different texts are not counted.
        n_places: most values that a breakdown keeps.
    """

    n_bytes: str = "n_bytes"
    n_tokens: str | None = None
    lengths: Mapping[str, str] = field(default_factory=lambda: {"bytes": "n_bytes"})
    categories: Mapping[str, str] = field(default_factory=dict)
    key: str | None = "hash_low"
    n_places: int = 16_384

    @property
    def columns(self) -> list[str]:
        """All columns that a table must have."""
        named = [self.n_bytes, self.n_tokens, self.key, *self.lengths.values(), *self.categories.values()]
        return list(dict.fromkeys(name for name in named if name is not None))

    def empty(self) -> CorpusFacts:
        """The facts of no documents."""
        types = {self.key: pa.uint64()} | dict.fromkeys(self.categories.values(), pa.string())
        nothing = {name: pa.array([], types.get(name, pa.int64())) for name in self.columns}
        return self.of(pa.table(nothing), shard=0)

    def of(
        self,
        table: pa.Table,
        *,
        shard: int,
        first_row: int = 0,
        is_counted_D: NDArray[np.bool_] | None = None,
    ) -> CorpusFacts:
        """The facts of some consecutive documents of one shard.

        Args:
            table: columns of D documents.
            first_row: row of the first one in its shard.
            is_counted_D: which of them count, shape (D,); all when not given.
        """
        rows_D = first_row + np.arange(table.num_rows, dtype=np.int64)
        if is_counted_D is not None:
            table, rows_D = table.filter(pa.array(is_counted_D)), rows_D[is_counted_D]
        n_bytes_D = _integers(table[self.n_bytes])
        n_tokens_D = np.zeros(len(rows_D), np.int64)
        if self.n_tokens is not None:
            n_tokens_D = _integers(table[self.n_tokens])
        return CorpusFacts(
            n_documents=table.num_rows,
            n_bytes=int(n_bytes_D.sum()),
            n_tokens=None if self.n_tokens is None else int(n_tokens_D.sum()),
            lengths={
                unit: _lengths(table[column], n_bytes_D, shard, rows_D)
                for unit, column in self.lengths.items()
            },
            categories={
                title: Categories.of(table[column], n_bytes_D, n_tokens_D, n_places=self.n_places)
                for title, column in self.categories.items()
            },
            distinct=None if self.key is None else Distinct.of(table[self.key].to_numpy().astype(np.uint64)),
        )


def _lengths(
    column: pa.ChunkedArray, n_bytes_D: NDArray[np.int64], shard: int, rows_D: NDArray[np.int64]
) -> LengthFacts:
    is_known_D = column.is_valid().to_numpy()
    lengths_D = _integers(column.drop_null())
    return LengthFacts.of(lengths_D, n_bytes_D[is_known_D], shard=shard, rows_D=rows_D[is_known_D])


def _integers(column: pa.ChunkedArray) -> NDArray[np.int64]:
    return np.asarray(column.fill_null(0).to_numpy(), np.int64)
