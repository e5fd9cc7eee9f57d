"""Shingle sets of some documents, read again from the corpus: in memory, or in one file that is mapped.

Legend: C candidates.
"""

from __future__ import annotations

import mmap
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from prill.corpus.corpus import Corpus
from prill.engine import Engine
from prill.features.minhash import shingle_sets
from prill.prepare.duplicates._records import Rows
from prill.run.atomic import machine_errors

__all__ = ["CandidateSets", "read_sets"]

_VALUE_BYTES = 4


@dataclass(frozen=True, kw_only=True, eq=False)
class CandidateSets:
    """Where each candidate's ascending shingle hashes stand in `values`.

    Attributes:
        starts, lengths: int64, shape (C,).
        values: uint32.
        limit: length at which sets were cut.
        mapped: the file that `values` lie in, or None.
        memory_bytes: how much of the file may be in memory at a time.
    """

    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]
    values: NDArray[np.uint32]
    limit: int
    mapped: mmap.mmap | None
    memory_bytes: int

    def within_memory(self, ranks_P2: NDArray[np.int64]) -> Iterator[slice]:
        """Consecutive pairs whose sets fit into memory together; after each slice, they are let go."""
        ends = np.cumsum(_VALUE_BYTES * self.lengths[ranks_P2].sum(axis=1))
        start = 0
        while start < len(ends):
            used = int(ends[start - 1]) if start else 0
            stop = max(start + 1, int(np.searchsorted(ends, used + self.memory_bytes, side="right")))
            yield slice(start, stop)
            if self.mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
                self.mapped.madvise(mmap.MADV_DONTNEED)
            start = stop


def read_sets(
    corpus: Corpus,
    places_C: NDArray[np.int64],
    rows: Rows,
    engine: Engine,
    *,
    n: int,
    limit: int,
    file: Path,
    memory_bytes: int,
) -> CandidateSets:
    """Sets of the documents at ascending places; beyond `memory_bytes` they go to `file`."""
    store = _Store(file, memory_bytes)
    starts_C, lengths_C = np.zeros(len(places_C), np.int64), np.zeros(len(places_C), np.int64)

    def read(shard: int) -> None:
        part = rows.within(shard, places_C)
        wanted = places_C[part] - rows.starts[shard]
        found = part.start
        for batch in corpus.batches(corpus.shards[shard]):
            first, stop = np.searchsorted(wanted, [batch.first_row, batch.first_row + batch.n_rows])
            if first == stop:
                continue
            sets = shingle_sets(batch.text, wanted[first:stop] - batch.first_row, n=n, limit=limit)
            here = slice(found, found + len(sets.lengths))
            at = store.add(sets.values)
            lengths_C[here] = sets.lengths
            starts_C[here] = at + np.cumsum(sets.lengths) - sets.lengths
            found = here.stop

    held = (rows.within(shard, places_C) for shard in range(len(corpus.shards)))
    shards = [shard for shard, part in enumerate(held) if part.stop > part.start]
    engine.map(read, shards, kind="threads", name="read candidates again")
    values, mapped = store.values()
    return CandidateSets(
        starts=starts_C,
        lengths=lengths_C,
        values=values,
        limit=limit,
        mapped=mapped,
        memory_bytes=memory_bytes,
    )


class _Store:
    """Values one behind the other, in the order in which threads bring them."""

    def __init__(self, file: Path, memory_bytes: int) -> None:
        self._file, self._memory_bytes = file, memory_bytes
        self._held: list[NDArray[np.uint32]] = []
        self._n_held = self._n_filed = 0
        self._lock = threading.Lock()

    def add(self, values: NDArray[np.uint32]) -> int:
        """Put values in; where they start."""
        with self._lock:
            at = self._n_filed + self._n_held
            self._held.append(values)
            self._n_held += len(values)
            if _VALUE_BYTES * self._n_held > self._memory_bytes:
                self._flush()
            return at

    def values(self) -> tuple[NDArray[np.uint32], mmap.mmap | None]:
        """All values, and the map of the file that they lie in, if there is one."""
        if not self._n_filed:
            return np.concatenate(self._held) if self._held else np.empty(0, np.uint32), None
        self._flush()
        with machine_errors(self._file), self._file.open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return np.frombuffer(mapped, np.uint32), mapped

    def _flush(self) -> None:
        with machine_errors(self._file), self._file.open("ab") as file:
            for values in self._held:
                file.write(values.data)
        self._n_filed, self._n_held, self._held = self._n_filed + self._n_held, 0, []
