"""The readings of a corpus that find its most repeated n-grams and lines, shard by shard.

Legend: N sizes of n-grams (the lists are these and the lines), C cells, S slots, W words of 64 cells.
"""

from __future__ import annotations

import itertools
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from prill.audit._hash_tables import CellTable, KeyTable
from prill.corpus.batch import text_buffers
from prill.corpus.corpus import Corpus
from prill.features.keyed import keyed_uniform
from prill.features.text_hash import hash_documents

__all__ = ["CollectShard", "CountShard", "Reader"]

_TOKEN = re.compile(r"\w+|[^\w\s]+")
_SAMPLE_SEED = 0x70B
_PIECE_BYTES = 1_000_000
_PIECE_END = re.compile(rb"[ \n]")
_N_SLOTS = 1 << 18

_Column: TypeAlias = tuple[pa.Array, NDArray[np.int64]]
_Place: TypeAlias = tuple[int, int, int, int]


@dataclass(frozen=True, kw_only=True)
class Reader:
    """The documents that are counted: read once and held when the sample is small, else read for each pass.

    Attributes:
        share: of the documents, chosen by the hash of their text.
        holds: whether they may be held in memory.
    """

    corpus: Corpus
    share: float
    is_counted: Callable[[int], NDArray[np.bool_]] | None
    holds: bool
    _held: dict[int, list[_Column]] = field(default_factory=dict)

    def columns(self, shard: int) -> Iterator[_Column]:
        """Texts and their rows."""
        if shard in self._held:
            yield from self._held[shard]
            return
        seen = []
        for column in self._read(shard):
            if self.holds:
                seen.append(column)
            yield column
        if self.holds:
            self._held[shard] = seen

    def _read(self, shard: int) -> Iterator[_Column]:
        chosen = None if self.is_counted is None else self.is_counted(shard)
        for batch in self.corpus.batches(self.corpus.shards[shard]):
            rows = batch.first_row + np.arange(batch.n_rows, dtype=np.int64)
            is_in = np.ones(batch.n_rows, np.bool_) if chosen is None else chosen[rows]
            if self.share < 1:
                is_in = is_in & (keyed_uniform(_SAMPLE_SEED, hash_documents(batch.text)[1]) < self.share)
            yield (batch.text, rows) if is_in.all() else (batch.text.filter(pa.array(is_in)), rows[is_in])

    def texts(self, places: Sequence[_Place], *, is_line: bool) -> list[str]:
        """The n-grams or lines at the given places, in their order.

        Args:
            places: shard, row, number of the first token and of tokens; for lines, first byte and bytes.
        """
        found: dict[_Place, str] = {}
        for shard in sorted({place[0] for place in places}):
            wanted = sorted({place for place in places if place[0] == shard})
            for column, rows in self.columns(shard):
                for row, places_of_row in itertools.groupby(wanted, key=lambda place: place[1]):
                    at = int(np.searchsorted(rows, row))
                    if at < len(rows) and rows[at] == row:
                        data = memoryview(column[at].as_buffer())
                        look = _lines_at if is_line else _ngrams_at
                        found.update(look(data, list(places_of_row)))
                if found.keys() >= set(wanted):
                    break
        return [found[place] for place in places]


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

        cells_NC, n_counted_N = self.cells.own()
        sizes = np.array(self.sizes, np.int64)
        for text, _ in self.reader.columns(shard):
            special_D = np.zeros(len(text), np.bool_)
            for column, seen_D in _twice(text, special_D):
                counted = count_ngrams(*text_buffers(column), character_table(), sizes, cells_NC[:-1], seen_D)
                n_counted_N[:-1] += counted
            n_counted_N[-1] += count_lines(*text_buffers(text), self.n_line_bytes, cells_NC[-1])


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
    own: threading.local = field(default_factory=threading.local)

    def __call__(self, shard: int) -> None:
        from prill.features._characters import character_table
        from prill.features._top_ngrams_kernel import collect_lines, collect_ngrams

        n_lists = len(self.tables)
        keys, found = self._slots()
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
        parts = [KeyTable.taken(shard, keys[k], found[k]) for k in range(n_lists)]
        with self.lock:
            for k, part in enumerate(parts):
                self.tables[k] = self.tables[k].merge(part)

    def _slots(self) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
        """This thread's open tables, all free: new pages for every shard cost more than counting."""
        if not hasattr(self.own, "slots"):
            n_lists = len(self.tables)
            keys = np.zeros((n_lists, _N_SLOTS), np.uint64)
            self.own.slots = (keys, np.zeros((n_lists, _N_SLOTS + 1, 4), np.int64))
        slots: tuple[NDArray[np.uint64], NDArray[np.int64]] = self.own.slots
        return slots


def _twice(text: pa.Array, special_D: NDArray[np.bool_]) -> Iterator[tuple[pa.Array, NDArray[np.bool_]]]:
    """The texts, which a kernel marks where Python must lower them; then those that it marked, lowered."""
    yield text, special_D
    if special_D.any():
        lowered = [document.lower() for document in text.filter(pa.array(special_D)).to_pylist()]
        yield pa.array(lowered, pa.large_string()), np.zeros(len(lowered), np.bool_)


def _lines_at(data: memoryview, places: Sequence[_Place]) -> dict[_Place, str]:
    return {place: bytes(data[place[2] : place[2] + place[3]]).decode() for place in places}


def _ngrams_at(data: memoryview, places: Sequence[_Place]) -> dict[_Place, str]:
    """The n-grams of one document, which is walked once and never decoded as a whole."""
    last = max(first + n for _, _, first, n in places)
    wanted = {token for _, _, first, n in places for token in range(first, first + n)}
    words = itertools.islice(enumerate(_words(data)), last)
    kept = {number: word for number, word in words if number in wanted}
    return {place: " ".join(kept[place[2] + k] for k in range(place[3])) for place in places}


def _words(data: memoryview) -> Iterator[str]:
    """The words of a text in UTF-8, decoded in pieces that end at a space or a line end."""
    start = 0
    while start < len(data):
        end = _PIECE_END.search(data, start + _PIECE_BYTES)
        stop = end.start() if end else len(data)
        piece = bytes(data[start:stop]).decode().lower()
        yield from (token.group() for token in _TOKEN.finditer(piece))
        start = stop
