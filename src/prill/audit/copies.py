"""Copies: how many, in how many clusters of which sizes, and the largest clusters.

Exact copies come from the hashes of the read step, in slices of the hash range, so that memory holds about
`rows_at_once` hashes, however large the corpus: a cluster is all documents with one 128-bit hash of the text,
and all but its first document are copies. Other copies come from the columns that a grouping wrote.

Legend: D documents.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from prill.corpus.columns import read_columns

__all__ = ["CopyCluster", "CopyFacts", "exact_copies", "grouped_copies"]


@dataclass(frozen=True, kw_only=True)
class CopyCluster:
    """Copies of one text: how many documents, and bytes and place of the one that stays."""

    n_documents: int
    n_bytes: int
    shard: int
    row: int


@dataclass(frozen=True, kw_only=True)
class CopyFacts:
    """Copies among documents.

    Attributes:
        n_copies: documents of clusters without the one that stays: n_documents - n_distinct.
        n_bytes: of these copies.
        sizes: (documents in a cluster, clusters of that size), ascending, from 2.
        largest: most documents first, then most bytes, then the first place.
    """

    n_documents: int
    n_clusters: int
    n_copies: int
    n_bytes: int
    sizes: tuple[tuple[int, int], ...]
    largest: tuple[CopyCluster, ...]

    @property
    def n_distinct(self) -> int:
        """Different texts."""
        return self.n_documents - self.n_copies


def exact_copies(
    read_parts: Sequence[Path],
    *,
    is_counted: Callable[[int], NDArray[np.bool_]] | None = None,
    n_largest: int = 20,
    rows_at_once: int = 20_000_000,
) -> CopyFacts:
    """Copies by the hashes of the read step.

    Args:
        read_parts: one file a shard with `hash_high`, `hash_low`, `n_bytes`.
        is_counted: which documents of a shard count, shape (D,); all when not given.
    """
    n_rows = sum(int(pq.read_metadata(path).num_rows) for path in read_parts)
    n_slices = max(1, -(-n_rows // rows_at_once))
    sizes: Counter[int] = Counter()
    largest: list[CopyCluster] = []
    n_documents = n_copies = n_bytes = 0
    for number in range(n_slices):
        rows = _slice(read_parts, is_counted, number, n_slices)
        n_documents += len(rows)
        starts, counts = _clusters(rows)
        n_copies += int((counts - 1).sum())
        n_bytes += int(((counts - 1) * rows["n_bytes"][starts].astype(np.int64)).sum())
        starts, counts = starts[counts > 1], counts[counts > 1]
        for size, n_clusters in zip(*np.unique(counts, return_counts=True), strict=True):
            sizes[int(size)] += int(n_clusters)
        largest = sorted([*largest, *_largest(rows, starts, counts, n_largest)], key=_rank)[:n_largest]
    return CopyFacts(
        n_documents=n_documents,
        n_clusters=sizes.total(),
        n_copies=n_copies,
        n_bytes=n_bytes,
        sizes=tuple(sorted(sizes.items())),
        largest=tuple(largest),
    )


def grouped_copies(
    group_parts: Sequence[Path], read_parts: Sequence[Path], prefix: str, *, n_largest: int = 20
) -> CopyFacts:
    """Copies as a grouping found them.

    Args:
        group_parts: one file a shard with `<prefix>_cluster` (null when alone), `_size` and `_keep`.
        read_parts: the read step's, with `n_bytes`.
    """
    sizes: Counter[int] = Counter()
    largest: list[CopyCluster] = []
    n_documents = n_copies = n_bytes = 0
    names = [f"{prefix}_{name}" for name in ("cluster", "size", "keep")]
    for shard, (group_part, read_part) in enumerate(zip(group_parts, read_parts, strict=True)):
        table = read_columns(group_part, names)
        lengths = read_columns(read_part, ["n_bytes"])["n_bytes"].to_numpy()
        size, keep = (_integers(table[name]) for name in names[1:])
        is_in = table[names[0]].is_valid().to_numpy()
        stays, copies = is_in & (keep > 0) & (size > 1), is_in & (keep == 0)
        n_documents += len(is_in)
        n_copies += int(copies.sum())
        n_bytes += int(lengths[copies].sum())
        rows = np.flatnonzero(stays)
        sizes.update(size[rows].tolist())
        order = rows[np.lexsort((rows, -lengths[rows], -size[rows]))][:n_largest]
        found = [
            CopyCluster(n_documents=int(size[row]), n_bytes=int(lengths[row]), shard=shard, row=int(row))
            for row in order
        ]
        largest = sorted([*largest, *found], key=_rank)[:n_largest]
    return CopyFacts(
        n_documents=n_documents,
        n_clusters=sizes.total(),
        n_copies=n_copies,
        n_bytes=n_bytes,
        sizes=tuple(sorted(sizes.items())),
        largest=tuple(largest),
    )


_ROW = np.dtype(
    [("high", np.uint64), ("low", np.uint64), ("shard", np.int64), ("row", np.int64), ("n_bytes", np.int64)]
)


def _slice(
    read_parts: Sequence[Path],
    is_counted: Callable[[int], NDArray[np.bool_]] | None,
    number: int,
    n_slices: int,
) -> NDArray[np.void]:
    """Hashes, places and lengths of the documents of one slice, sorted."""
    parts = [np.zeros(0, _ROW)]
    for shard, path in enumerate(read_parts):
        table = read_columns(path, ["hash_high", "hash_low", "n_bytes"])
        high = table["hash_high"].to_numpy()
        is_in = high % np.uint64(n_slices) == number
        chosen = np.flatnonzero(is_in if is_counted is None else is_in & is_counted(shard))
        part = np.zeros(len(chosen), _ROW)
        part["high"], part["low"] = high[chosen], table["hash_low"].to_numpy()[chosen]
        part["shard"], part["row"] = shard, chosen
        part["n_bytes"] = table["n_bytes"].to_numpy()[chosen]
        parts.append(part)
    rows = np.concatenate(parts)
    return rows[np.lexsort((rows["row"], rows["shard"], rows["low"], rows["high"]))]


def _clusters(rows: NDArray[np.void]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First row and size of every run of equal hashes."""
    if not len(rows):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    is_new = (rows["high"][1:] != rows["high"][:-1]) | (rows["low"][1:] != rows["low"][:-1])
    starts = np.concatenate([np.zeros(1, np.int64), np.flatnonzero(is_new) + 1])
    return starts, np.diff(np.append(starts, len(rows)))


def _largest(
    rows: NDArray[np.void], starts: NDArray[np.int64], counts: NDArray[np.int64], n_largest: int
) -> list[CopyCluster]:
    first = rows[starts]
    order = np.lexsort((first["row"], first["shard"], -first["n_bytes"], -counts))[:n_largest]
    return [
        CopyCluster(
            n_documents=int(counts[at]),
            n_bytes=int(first["n_bytes"][at]),
            shard=int(first["shard"][at]),
            row=int(first["row"][at]),
        )
        for at in order
    ]


def _integers(column: pa.ChunkedArray) -> NDArray[np.int64]:
    """Numbers or truth values; null counts as 0."""
    return np.asarray(column.cast(pa.int64()).fill_null(0).to_numpy(), np.int64)


def _rank(cluster: CopyCluster) -> tuple[int, int, int, int]:
    return -cluster.n_documents, -cluster.n_bytes, cluster.shard, cluster.row
