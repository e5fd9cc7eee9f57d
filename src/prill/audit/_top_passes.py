"""The readings of a corpus that find its most repeated n-grams and lines, shard by shard.

Legend: N sizes of n-grams (the lists are these and the lines), C cells, S slots, W words of 64 cells.
"""

from __future__ import annotations

import itertools
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from prill.audit._hash_tables import CellTable, KeyTable
from prill.corpus.batch import text_buffers
from prill.corpus.corpus import Corpus
from prill.features.keyed import keyed_uniform
from prill.features.text_hash import hash_documents

__all__ = ["CollectShard", "CountShard", "Reader", "texts_at"]

_TOKEN = re.compile(r"\w+|[^\w\s]+")
_SAMPLE_SEED = 0x70B
_N_SLOTS = 1 << 18


@dataclass(frozen=True, kw_only=True)
class Reader:
    """The documents that are counted."""

    corpus: Corpus
    share: float
    is_counted: Callable[[int], NDArray[np.bool_]] | None

    def columns(self, shard: int) -> Iterator[tuple[pa.Array, NDArray[np.int64]]]:
        """Texts and their rows; those that Python must lower come again, lowered, when they are asked for."""
        chosen = None if self.is_counted is None else self.is_counted(shard)
        for batch in self.corpus.batches(self.corpus.shards[shard]):
            rows = batch.first_row + np.arange(batch.n_rows, dtype=np.int64)
            is_in = np.ones(batch.n_rows, np.bool_) if chosen is None else chosen[rows]
            if self.share < 1:
                is_in = is_in & (keyed_uniform(_SAMPLE_SEED, hash_documents(batch.text)[1]) < self.share)
            yield (batch.text, rows) if is_in.all() else (batch.text.filter(pa.array(is_in)), rows[is_in])


@dataclass(frozen=True, kw_only=True)
class CountShard:
    """Adds one shard to the cells."""

    reader: Reader
    sizes: tuple[int, ...]
    n_line_bytes: int
    cells: CellTable

    def __call__(self, shard: int) -> None:
        from prill.features._characters import character_table
        from prill.features._top_ngrams_kernel import count_lines, count_ngrams

        part_NC = self.cells.scratch()
        sizes = np.array(self.sizes, np.int64)
        n_tokens = np.zeros(len(sizes) + 1, np.int64)
        for text, _ in self.reader.columns(shard):
            special_D = np.zeros(len(text), np.bool_)
            for column, seen_D in _twice(text, special_D):
                counted = count_ngrams(*text_buffers(column), character_table(), sizes, part_NC[:-1], seen_D)
                n_tokens[:-1] += counted
            n_tokens[-1] += count_lines(*text_buffers(text), self.n_line_bytes, part_NC[-1])
        self.cells.add(part_NC, n_tokens)


@dataclass(frozen=True, kw_only=True)
class CollectShard:
    """Adds one shard's exact counts of what falls into hot cells.

    Attributes:
        hot: the hot cells of each list, 64 a word, shape (N + 1, W); lines last.
        tables: one a list; replaced by larger ones as shards arrive.
    """

    reader: Reader
    sizes: tuple[int, ...]
    n_line_bytes: int
    hot: NDArray[np.uint64]
    tables: list[KeyTable]
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, shard: int) -> None:
        from prill.features._characters import character_table
        from prill.features._top_ngrams_kernel import collect_lines, collect_ngrams

        n_lists = len(self.tables)
        keys = np.zeros((n_lists, _N_SLOTS), np.uint64)
        found = np.zeros((n_lists, _N_SLOTS + 1, 4), np.int64)
        used = np.zeros(n_lists, np.int64)
        sizes = np.array(self.sizes, np.int64)
        for text, rows in self.reader.columns(shard):
            special_D = np.zeros(len(text), np.bool_)
            for column, seen_D in _twice(text, special_D):
                collect_ngrams(
                    *text_buffers(column),
                    rows if column is text else rows[special_D],
                    character_table(),
                    sizes,
                    self.hot[:-1],
                    keys[:-1],
                    found[:-1],
                    used[:-1],
                    seen_D,
                )
            used[-1] = collect_lines(
                *text_buffers(text), rows, self.n_line_bytes, self.hot[-1], keys[-1], found[-1], used[-1]
            )
        parts = [KeyTable.of_slots(shard, keys[k], found[k]) for k in range(n_lists)]
        with self.lock:
            for k, part in enumerate(parts):
                self.tables[k] = self.tables[k].merge(part)


def _twice(text: pa.Array, special_D: NDArray[np.bool_]) -> Iterator[tuple[pa.Array, NDArray[np.bool_]]]:
    """The texts, which a kernel marks where Python must lower them; then those that it marked, lowered."""
    yield text, special_D
    if special_D.any():
        lowered = [document.lower() for document in text.filter(pa.array(special_D)).to_pylist()]
        yield pa.array(lowered, pa.large_string()), np.zeros(len(lowered), np.bool_)


def texts_at(corpus: Corpus, places: Sequence[tuple[int, int, int, int]], *, is_line: bool) -> list[str]:
    """The n-grams or lines at the given places, in their order.

    Args:
        places: shard, row, number of the first token and of tokens; for lines, first byte and bytes.
    """
    found: dict[tuple[int, int, int, int], str] = {}
    for shard in sorted({place[0] for place in places}):
        wanted = sorted({place for place in places if place[0] == shard})
        last_row = wanted[-1][1]
        for batch in corpus.batches(corpus.shards[shard]):
            stop = batch.first_row + batch.n_rows
            for place in wanted:
                if batch.first_row <= place[1] < stop:
                    text = batch.text[place[1] - batch.first_row].as_py()
                    found[place] = _line_at(text, *place[2:]) if is_line else _ngram_at(text, *place[2:])
            if stop > last_row:
                break
    return [found[place] for place in places]


def _line_at(text: str, start: int, length: int) -> str:
    return text.encode()[start : start + length].decode()


def _ngram_at(text: str, first: int, n: int) -> str:
    tokens = itertools.islice(_TOKEN.finditer(text.lower()), first, first + n)
    return " ".join(token.group() for token in tokens)
