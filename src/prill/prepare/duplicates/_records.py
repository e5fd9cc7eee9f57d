"""Records of (key, place) for all documents, and the pairs of places that share a key, in bounded memory.

Few records stay in memory. Many are dealt out to files by range of the key, and one file at a time is sorted;
a key lies in one range, so the pairs do not depend on the number of files.

Legend: N records, P pairs. A place is the number of a document in the whole corpus.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from prill.errors import InternalError
from prill.run.atomic import machine_errors

__all__ = ["RECORD_BYTES", "PairCounts", "Pairs", "Records", "Rows", "pairs_of"]

RECORD_BYTES = 16
"""Bytes of a record in a file."""

_WORK_BYTES = 72  # a record with all that sorting it and counting its key takes
_MOST_FILES = 4096
_SMALLEST_TABLE = 1 << 16


@dataclass(frozen=True, kw_only=True, eq=False)
class Rows:
    """Which places each shard's documents have: shard s has starts[s]:starts[s + 1]."""

    starts: NDArray[np.int64]

    @classmethod
    def of(cls, read_parts: Sequence[Path]) -> Rows:
        """From the footers of the read step's files."""
        import pyarrow.parquet as pq

        sizes = [pq.read_metadata(path).num_rows for path in read_parts]
        return cls(starts=np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes, dtype=np.int64)]))

    @property
    def n_documents(self) -> int:
        return int(self.starts[-1])

    def within(self, shard: int, places: NDArray[np.int64]) -> slice:
        """Which of the ascending `places` lie in a shard."""
        first, stop = np.searchsorted(places, self.starts[shard : shard + 2])
        return slice(int(first), int(stop))


class Records:
    """A bag of (key, place), filled by many threads and then taken out by range of the key.

    Args:
        folder: for files, made when needed.
        n_expected: records at most.
        memory_bytes: about how much a part may take while it is worked off.
    """

    def __init__(self, folder: Path, *, n_expected: int, memory_bytes: int) -> None:
        wanted = -(-n_expected * _WORK_BYTES // max(1, memory_bytes))
        self.n_parts = min(max(1, wanted), _MOST_FILES)
        self._folder = folder
        self._held: list[tuple[NDArray[np.uint64], NDArray[np.int64]]] = []
        self._lock = threading.Lock()
        if self.n_parts > 1:
            folder.mkdir(parents=True)

    def add(self, keys_N: NDArray[np.uint64], places_N: NDArray[np.int64]) -> None:
        """Put records in, from any thread."""
        if self.n_parts == 1:
            with self._lock:
                self._held.append((keys_N, places_N))
            return
        parts = ((keys_N >> np.uint64(32)) * np.uint64(self.n_parts)) >> np.uint64(32)
        order = np.argsort(parts, kind="stable")
        records = np.stack([keys_N[order], places_N[order].view(np.uint64)], axis=1)
        bounds = np.searchsorted(parts[order], np.arange(self.n_parts + 1, dtype=np.uint64))
        with self._lock, machine_errors(self._folder):
            for part in np.flatnonzero(np.diff(bounds)):
                with (self._folder / f"{part}.bin").open("ab") as file:
                    file.write(records[bounds[part] : bounds[part + 1]].data)

    def parts(self) -> Iterator[tuple[NDArray[np.uint64], NDArray[np.int64]]]:
        """Keys and places, a part of the range after the other; each can be taken once."""
        if self.n_parts == 1:
            held, self._held = self._held, []
            if held:
                yield np.concatenate([keys for keys, _ in held]), np.concatenate([at for _, at in held])
            return
        for part in range(self.n_parts):
            path = self._folder / f"{part}.bin"
            if path.exists():
                records = np.fromfile(path, np.uint64).reshape(-1, 2)
                path.unlink()
                yield records[:, 0].copy(), records[:, 1].copy().view(np.int64)


@dataclass(kw_only=True)
class PairCounts:
    """What was left out where many documents share a key.

    Attributes:
        n_bounded_keys: keys with more documents than are all compared.
        n_pairs_left_out: pairs of such keys that were not looked at.
    """

    n_bounded_keys: int = 0
    n_pairs_left_out: int = 0


def pairs_of(
    keys_N: NDArray[np.uint64],
    places_N: NDArray[np.int64],
    *,
    leaders: int,
    n_documents: int,
    counts: PairCounts,
) -> NDArray[np.int64]:
    """Different pairs of places with an equal key, int64, shape (P, 2), in ascending order.

    A document is paired with the first `leaders` documents of its key and with the one before it, so that a
    key of m documents costs at most m (leaders + 1) pairs. `keys_N` and `places_N` are used up.
    """
    from prill.features._pairs_kernel import count_keys, key_pairs, shared

    if n_documents >= 1 << 32:
        raise InternalError(f"expected fewer than 2^32 documents, found {n_documents}")
    slots = np.zeros(max(_SMALLEST_TABLE, 1 << (4 * len(keys_N)).bit_length()), np.uint8)
    count_keys(keys_N, slots)
    n = shared(keys_N, slots, places_N)
    order = np.lexsort((places_N[:n], keys_N[:n]))
    keys_N, places_N = keys_N[:n][order], places_N[:n][order]
    n_pairs, n_bounded, n_left = key_pairs(keys_N, places_N, leaders, np.empty((0, 2), np.int64))
    pairs_P2 = np.empty((n_pairs, 2), np.int64)
    if n_pairs:
        key_pairs(keys_N, places_N, leaders, pairs_P2)
    counts.n_bounded_keys += n_bounded
    counts.n_pairs_left_out += n_left
    codes = np.unique(pairs_P2[:, 0].astype(np.uint64) << np.uint64(32) | pairs_P2[:, 1].astype(np.uint64))
    halves = [codes >> np.uint64(32), codes & np.uint64(0xFFFFFFFF)]
    return np.stack(halves, axis=1).astype(np.int64)


@dataclass(kw_only=True)
class Pairs:
    """Pairs in parts, in memory up to a limit and in files beyond it.

    Attributes:
        folder: for files, made when needed.
        memory_bytes: of pairs kept in memory.
    """

    folder: Path
    memory_bytes: int
    n_pairs: int = 0
    _parts: list[NDArray[np.int64] | Path] = field(default_factory=list)
    _held_bytes: int = 0

    def add(self, pairs_P2: NDArray[np.int64]) -> None:
        """Put a part behind the others."""
        self.n_pairs += len(pairs_P2)
        if self._held_bytes + pairs_P2.nbytes <= self.memory_bytes:
            self._held_bytes += pairs_P2.nbytes
            self._parts.append(pairs_P2)
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{len(self._parts)}.npy"
        with machine_errors(path):
            np.save(path, pairs_P2)
        self._parts.append(path)

    def __iter__(self) -> Iterator[NDArray[np.int64]]:
        for part in self._parts:
            yield np.load(part, allow_pickle=False) if isinstance(part, Path) else part
