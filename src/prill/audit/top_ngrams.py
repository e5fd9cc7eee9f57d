"""The most repeated lines and word n-grams of a corpus, exactly counted in bounded memory.

The first pass adds one to a hashed cell for every n-gram, so a cell counts at least what each n-gram in it
counts. The second pass counts by whole 64-bit hash what falls into the fullest cells. Whatever lies in none
of these occurs at most as often as the fullest cell left out: this is the `floor` of a list, and the list
ends there, so that none of its entries could be displaced by an n-gram that was never looked at. Counts are
never too low; two n-grams with one 64-bit hash would share a count. Large corpora are counted in a sample of
documents keyed by their text, the same for any order of shards.

Words are the tokens of `\\w+|[^\\w\\s]+` in lower case: letters and digits, or marks between them. N-grams
run over line ends, never over documents. A line is what stands between line ends, without blanks around it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, field_validator

from prill.audit._hash_tables import CellTable, KeyTable, hot_words
from prill.audit._top_passes import CollectShard, CountShard, Reader
from prill.corpus.corpus import Corpus
from prill.engine import Engine

__all__ = ["TOP_VERSION", "Top", "TopList", "TopSpec", "top_repeats"]

TOP_VERSION = 1
"""Version of hashes, sampling and order; it changes whenever a list can change."""


_HELD_BYTES = 256_000_000


class TopSpec(BaseModel):
    """What is counted, and in how much memory."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sizes: tuple[int, ...] = Field(
        default=(1, 2, 3, 10),
        min_length=1,
        max_length=8,
        description="Lengths of the n-grams, words, 1 to 64.",
    )
    n_rows: int = Field(default=20, ge=1, le=1_000, description="Entries of each list.")
    n_line_bytes: int = Field(default=8, ge=1, description="Shortest line that counts, bytes.")
    sample_bytes: int = Field(
        default=50_000_000,
        ge=1,
        description="Text to count in, bytes; of a larger corpus, a keyed sample.",
    )
    n_cells: int = Field(
        default=1 << 22, ge=64, le=1 << 30, description="Cells of each table, 4 bytes each, a power of two."
    )
    n_hot: int = Field(default=1_024, ge=1, description="Cells of each table that are counted exactly.")

    @field_validator("sizes")
    @classmethod
    def _lengths(cls, sizes: tuple[int, ...]) -> tuple[int, ...]:
        if any(not 1 <= n <= 64 for n in sizes) or len(set(sizes)) < len(sizes):
            raise ValueError(f"expected different lengths of 1 to 64 words, found {list(sizes)}")
        return sizes

    @field_validator("n_cells")
    @classmethod
    def _power_of_two(cls, n_cells: int) -> int:
        if n_cells & (n_cells - 1):
            raise ValueError(f"expected a power of two, found {n_cells}")
        return n_cells


@dataclass(frozen=True, kw_only=True)
class Top:
    """One repeated n-gram or line: its text, and how often it occurs in what was counted."""

    text: str
    count: int
    key: int = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class TopList:
    """The most repeated n-grams of one length, or lines.

    Attributes:
        n: words; 0 for lines.
        rows: most frequent first.
        n_counted: words or lines that were counted.
        floor: what is not among `known` occurs at most so often; every row occurs more often.
        sample_share: share of the documents in which this was counted.
        known: exact counts by key of all that was looked at.
    """

    n: int
    rows: tuple[Top, ...]
    n_counted: int
    floor: int
    sample_share: float
    known: KeyTable = field(repr=False)

    @property
    def n_unplaced(self) -> int:
        """Occurrences that found no room; above zero, rows may be missing or counted too low."""
        return self.known.n_unplaced


def top_repeats(
    corpus: Corpus,
    engine: Engine,
    *,
    spec: TopSpec,
    n_bytes: int,
    is_counted: Callable[[int], NDArray[np.bool_]] | None = None,
    also: Sequence[TopList] = (),
) -> tuple[TopList, ...]:
    """The most repeated n-grams of each size, then the most repeated lines.

    Reads the corpus once when the sample is at most 256 MB, which is then held, else up to three times; takes
    beside about workers x (sizes + 1) x 4 bytes x cells of memory.

    Args:
        n_bytes: text of the corpus, bytes; decides the share that is sampled.
        is_counted: which documents of a shard to count, shape (D,); all when not given.
        also: the lists of the same spec for another corpus: its sample share holds here too, and its rows
            are counted here, so that both can be compared (`known`).
    Source: Elazar et al. 2024, arXiv:2310.20707 (WIMBD), most common n-grams. Differs: a second pass makes
        the counts exact, with one cell an n-gram instead of five; words as above, not those of UAX 29.
    """
    share = also[0].sample_share if also else min(1.0, spec.sample_bytes / max(1, n_bytes))
    holds = share * n_bytes <= _HELD_BYTES
    reader = Reader(corpus=corpus, share=share, is_counted=is_counted, holds=holds)
    n_lists = len(spec.sizes) + 1
    shards = [shard.index for shard in corpus.shards]
    chosen, n_counted_N = _hot_cells(reader, engine, spec, also)
    collect = CollectShard(
        reader=reader,
        sizes=spec.sizes,
        n_line_bytes=spec.n_line_bytes,
        hot=np.stack([words for words, _ in chosen]),
        tables=[KeyTable.empty()] * n_lists,
    )
    engine.map(collect, shards, kind="threads", name="collect repeats")
    return tuple(
        TopList(
            n=n,
            rows=_rows(reader, collect.tables[k], chosen[k][1], spec.n_rows, is_line=n == 0),
            n_counted=int(n_counted_N[k]),
            floor=chosen[k][1],
            sample_share=share,
            known=collect.tables[k],
        )
        for k, n in enumerate((*spec.sizes, 0))
    )


def _hot_cells(
    reader: Reader, engine: Engine, spec: TopSpec, also: Sequence[TopList]
) -> tuple[list[tuple[NDArray[np.uint64], int]], NDArray[np.int64]]:
    """The first pass: hot cells as bits and the floor of each list, and how much was counted."""
    n_lists = len(spec.sizes) + 1
    cells = CellTable(n_lists=n_lists, n_cells=spec.n_cells)
    count = CountShard(reader=reader, sizes=spec.sizes, n_line_bytes=spec.n_line_bytes, cells=cells)
    shards = [shard.index for shard in reader.corpus.shards]
    engine.map(count, shards, kind="threads", name="count repeats")
    cells_NC, n_counted_N = cells.total()
    chosen = [
        hot_words(cells_NC[k], spec.n_hot, _cells_of(also[k].rows if also else (), spec.n_cells))
        for k in range(n_lists)
    ]
    return chosen, n_counted_N


def _cells_of(rows: Sequence[Top], n_cells: int) -> NDArray[np.int64]:
    shift = 64 - (n_cells.bit_length() - 1)
    return np.array([row.key >> shift for row in rows], np.int64)


def _rows(reader: Reader, table: KeyTable, floor: int, n_rows: int, *, is_line: bool) -> tuple[Top, ...]:
    """The most frequent keys with their texts; what occurs once is not repeated."""
    order = np.lexsort((table.keys, -table.counts))[:n_rows]
    order = order[table.counts[order] > max(floor, 1)]
    places = [(int(p[0]), int(p[1]), int(p[2]), int(p[3])) for p in table.places[order]]
    texts = reader.texts(places, is_line=is_line)
    return tuple(
        Top(text=text, count=int(table.counts[at]), key=int(table.keys[at]))
        for text, at in zip(texts, order, strict=True)
    )
