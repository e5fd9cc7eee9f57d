"""What the passes over shards add to: tables of cells, then tables of keys. Threads may add at once.

Both only add counts and take the smallest place, so that the order in which shards arrive changes nothing.

Legend: N lists (n-grams of N sizes, or lines), C cells, K keys.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

__all__ = ["CellTable", "KeyTable", "hot_words"]

_FULL = np.uint32(0xFFFFFFFF)


@dataclass(frozen=True, kw_only=True)
class CellTable:
    """Counts of cells over all shards, saturating at 2^32 - 1. Each thread adds to a table of its own.

    Attributes:
        n_lists, n_cells: the shape of a table.
    """

    n_lists: int
    n_cells: int
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _own: threading.local = field(default_factory=threading.local)
    _parts: list[tuple[NDArray[np.uint32], NDArray[np.int64]]] = field(default_factory=list)

    def own(self) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
        """This thread's cells, shape (N, C), and how much it has counted for each list, shape (N,)."""
        if not hasattr(self._own, "part"):
            cells = np.zeros((self.n_lists, self.n_cells), np.uint32)
            self._own.part = (cells, np.zeros(self.n_lists, np.int64))
            with self._lock:
                self._parts.append(self._own.part)
        part: tuple[NDArray[np.uint32], NDArray[np.int64]] = self._own.part
        return part

    def total(self) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
        """The same of all threads together, when all of them are done; their tables are used up."""
        nothing = (np.zeros((self.n_lists, self.n_cells), np.uint32), np.zeros(self.n_lists, np.int64))
        cells_NC, n_counted_N = self._parts.pop() if self._parts else nothing
        while self._parts:
            more_NC, more_N = self._parts.pop()
            cells_NC += more_NC
            cells_NC[cells_NC < more_NC] = _FULL
            n_counted_N += more_N
        return cells_NC, n_counted_N


@dataclass(frozen=True, kw_only=True)
class KeyTable:
    """Exact counts of the keys of one list.

    Attributes:
        keys: whole hashes, ascending, uint64, shape (K,).
        counts: int64, shape (K,).
        places: of the first occurrence: shard, row, place in the document, length; int64, shape (K, 4).
        n_unplaced: occurrences for which a shard's table had no room.
    """

    keys: NDArray[np.uint64]
    counts: NDArray[np.int64]
    places: NDArray[np.int64]
    n_unplaced: int = 0

    @classmethod
    def empty(cls) -> KeyTable:
        nothing = np.zeros(0, np.int64)
        return cls(keys=nothing.astype(np.uint64), counts=nothing, places=np.zeros((0, 4), np.int64))

    @classmethod
    def taken(cls, shard: int, keys_S: NDArray[np.uint64], found_S4: NDArray[np.int64]) -> KeyTable:
        """What one shard brought into a kernel's open table (`_top_ngrams_kernel`), free again then."""
        slots = np.flatnonzero(keys_S)
        slots = slots[np.argsort(keys_S[slots])]
        found = found_S4[slots]
        places = np.column_stack([np.full(len(slots), shard, np.int64), found[:, 1:]])
        table = cls(keys=keys_S[slots], counts=found[:, 0], places=places, n_unplaced=int(found_S4[-1, 0]))
        keys_S[slots] = 0
        found_S4[slots] = 0
        found_S4[-1] = 0
        return table

    def merge(self, other: KeyTable) -> KeyTable:
        """Both together: counts add up, the first place stays."""
        keys = np.concatenate([self.keys, other.keys])
        counts = np.concatenate([self.counts, other.counts])
        places = np.concatenate([self.places, other.places])
        order = np.lexsort((places[:, 2], places[:, 1], places[:, 0], keys))
        keys, counts, places = keys[order], counts[order], places[order]
        first = np.flatnonzero(np.concatenate([np.ones(min(1, len(keys)), bool), keys[1:] != keys[:-1]]))
        return KeyTable(
            keys=keys[first],
            counts=np.add.reduceat(counts, first) if len(first) else counts,
            places=places[first],
            n_unplaced=self.n_unplaced + other.n_unplaced,
        )

    def count_of(self, key: int) -> int | None:
        """Occurrences of a key; None when it was not looked for or never met."""
        at = int(np.searchsorted(self.keys, np.uint64(key)))
        return int(self.counts[at]) if at < len(self.keys) and int(self.keys[at]) == key else None


def hot_words(
    cells_C: NDArray[np.uint32], n_hot: int, wanted: NDArray[np.int64]
) -> tuple[NDArray[np.uint64], int]:
    """The fullest cells as bits, 64 a word, and the largest count of a cell that is not among them.

    Args:
        n_hot: at most so many cells are chosen by count; of equal ones all or none.
        wanted: cells to add, whatever their count.
    """
    floor = 0
    if n_hot < len(cells_C):
        floor = int(np.partition(cells_C, len(cells_C) - n_hot - 1)[len(cells_C) - n_hot - 1])
    is_hot = cells_C > floor
    is_hot[wanted] = True
    return np.packbits(is_hot, bitorder="little").view(np.uint64), floor
