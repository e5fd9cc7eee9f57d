"""The nearest preferred neighbour of each vector in its cluster, out of core.

Vectors of kept documents go to scratch as unit vectors, one file a shard. Centroids are fitted on a sample;
then clusters are taken a few at a time, as many as fit the memory, and compared inside.

Legend: D documents of a shard, N with a vector of all shards, K dimensions, C clusters, M members of some.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from prill.corpus.columns import read_columns
from prill.errors import DataError
from prill.features.keyed import derive_seed, keyed_uniform
from prill.prepare.duplicates.kmeans import assign, fit, normalised
from prill.prepare.measure import GroupingInputs
from prill.run.atomic import machine_errors

__all__ = ["Found", "Neighbours"]

_SAMPLE_A_CLUSTER = 256
_SAMPLE_BYTES = 256 << 20  # at most; not the memory allowed, which must not change the result
_DOCUMENTS_A_CLUSTER = 1000
_ROWS = 1024  # of a product at a time
_DIGITS = 4  # of a cosine: what rounding of float32 sums leaves certain


@dataclass(frozen=True, kw_only=True, eq=False)
class Found:
    """Of D documents, shape (D,).

    Attributes:
        clusters: -1 without a vector.
        cosines, shards, rows: of the neighbour; -1 where there is none.
    """

    clusters: NDArray[np.int32]
    cosines: NDArray[np.float32]
    shards: NDArray[np.int32]
    rows: NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Neighbours:
    """Where vectors come from and where they go.

    Attributes:
        folder: of the scratch files.
        files: columns with the vectors, one file a shard.
        column: their name.
        is_centred: whether the mean of all vectors is taken off first.
        keep: which of two near documents is preferred.
    """

    folder: Path
    files: Sequence[Path]
    column: str
    is_centred: bool
    keep: Literal["farthest", "nearest", "first"]

    def find(self, inputs: GroupingInputs, *, n_clusters: int | None, n_rounds: int) -> int:
        """Write the neighbours of all documents to scratch; the number of clusters."""
        shards = range(len(self.files))
        run = partial(inputs.engine.map, items=shards, kind="threads")
        sums = run(partial(self._store, inputs), name="semantic: vectors")
        widths = {total.shape[0] for total, n in sums if n}
        if len(widths) > 1:
            message = f"expected vectors of one length, found {sorted(widths)}"
            raise DataError(message, where=str(self.files[0].parent))
        n_all = sum(n for _, n in sums)
        if n_all == 0:
            return 0
        n_dimensions = widths.pop()
        mean_K = np.zeros(n_dimensions)
        for total, n in sums:
            mean_K += total if n and self.is_centred else 0
        run(partial(self._centre, (mean_K / n_all).astype(np.float32)), name="semantic: centre")
        most = max(1, _SAMPLE_BYTES // (4 * n_dimensions))
        n = int(min(n_clusters or -(-n_all // _DOCUMENTS_A_CLUSTER), n_all, most))
        sample_DK = self._sample(inputs, min(n_all, max(n, min(n * _SAMPLE_A_CLUSTER, most))), n_dimensions)
        centroids_CK = fit(sample_DK, n, n_rounds)
        run(partial(self._assign, centroids_CK), name="semantic: assign")
        n_groups = min(n, max(1, -(-n_all * n_dimensions * 16 // max(inputs.memory_bytes, 1))))
        bounds = np.linspace(0, n, n_groups + 1).astype(int)
        for first, last in itertools.pairwise(bounds.tolist()):
            self._compare(first, last, n_dimensions)
        return n

    def of_shard(self, shard: int, n_documents: int) -> Found:
        """What `find` wrote, for all documents of a shard."""
        found = Found(
            clusters=np.full(n_documents, -1, np.int32),
            cosines=np.full(n_documents, -1, np.float32),
            shards=np.full(n_documents, -1, np.int32),
            rows=np.full(n_documents, -1, np.int64),
        )
        rows = self._read(shard, "rows", np.int64)
        if rows.shape[0]:
            found.clusters[rows] = self._read(shard, "clusters", np.int32)
            found.cosines[rows] = self._read(shard, "cosines", np.float32)
            found.shards[rows] = self._read(shard, "shards", np.int32)
            found.rows[rows] = self._read(shard, "others", np.int64)
        return found

    def _store(self, inputs: GroupingInputs, shard: int) -> tuple[NDArray[np.float64], int]:
        """Store the vectors of kept documents, but for zeros; their sum and number."""
        column = read_columns(self.files[shard], [self.column])[self.column].combine_chunks()
        is_kept_D = inputs.is_kept(shard)
        if len(column) != is_kept_D.shape[0] or column.null_count:
            message = f"expected {is_kept_D.shape[0]} vectors without nulls, found {len(column)}"
            raise DataError(message, where=str(self.files[shard]))
        values = np.asarray(column.flatten(), np.float32)
        if values.shape[0] % max(len(column), 1) or not np.isfinite(values).all():
            message = "expected vectors of one length with finite numbers, found others"
            raise DataError(message, where=str(self.files[shard]))
        vectors_DK = values.reshape(len(column), -1) if len(column) else values.reshape(0, 1)
        is_taken_D = is_kept_D & vectors_DK.any(axis=1)
        vectors_DK = normalised(vectors_DK[is_taken_D])
        self._put(shard, "vectors", vectors_DK)
        self._put(shard, "rows", np.flatnonzero(is_taken_D).astype(np.int64))
        return vectors_DK.sum(axis=0, dtype=np.float64), vectors_DK.shape[0]

    def _centre(self, mean_K: NDArray[np.float32], shard: int) -> None:
        """Take the mean off and make room for the results."""
        vectors_DK = self._vectors(shard, mean_K.shape[0])
        n = vectors_DK.shape[0]
        if mean_K.any():
            self._put(shard, "vectors", normalised(vectors_DK - mean_K))
        self._put(shard, "cosines", np.full(n, -1, np.float32))
        self._put(shard, "shards", np.full(n, -1, np.int32))
        self._put(shard, "others", np.full(n, -1, np.int64))

    def _sample(self, inputs: GroupingInputs, n: int, n_dimensions: int) -> NDArray[np.float32]:
        """The n vectors with the smallest draws, in the order of these; equal texts by place."""
        draws, places = [], []
        seed = derive_seed(0, "prepare.semantic")
        for shard in range(len(self.files)):
            rows = self._read(shard, "rows", np.int64)
            low = read_columns(inputs.read_parts[shard], ["hash_low"])["hash_low"].combine_chunks()
            draw = keyed_uniform(seed, np.asarray(low, np.uint64)[rows])
            best = np.argsort(draw, kind="stable")[:n]
            draws.append(draw[best])
            places.append(np.stack([np.full(best.shape[0], shard), best], axis=1))
        order = np.argsort(np.concatenate(draws), kind="stable")[:n]
        chosen = np.concatenate(places)[order]
        sample = np.empty((order.shape[0], n_dimensions), np.float32)
        for shard in np.unique(chosen[:, 0]):
            at = chosen[:, 0] == shard
            sample[at] = self._vectors(int(shard), n_dimensions)[chosen[at, 1]]
        return sample

    def _assign(self, centroids_CK: NDArray[np.float32], shard: int) -> None:
        which, cosine = assign(self._vectors(shard, centroids_CK.shape[1]), centroids_CK)
        self._put(shard, "clusters", which)
        self._put(shard, "centrality", cosine)

    def _compare(self, first: int, last: int, n_dimensions: int) -> None:
        """Find the neighbours of all members of clusters first..last-1."""
        parts: list[tuple[NDArray[Any], ...]] = []
        for shard in range(len(self.files)):
            which = self._read(shard, "clusters", np.int32)
            at = np.flatnonzero((which >= first) & (which < last))
            if at.shape[0]:
                centrality = self._read(shard, "centrality", np.float32)[at]
                vectors = np.array(self._vectors(shard, n_dimensions)[at])
                parts.append((which[at], centrality, np.full(at.shape[0], shard, np.int32), at, vectors))
        if not parts:
            return
        cluster, centrality, shard_M, at_M, vectors = (np.concatenate(p) for p in zip(*parts, strict=True))
        liked = {"farthest": np.round(centrality, _DIGITS), "nearest": -np.round(centrality, _DIGITS)}
        key = liked.get(self.keep, np.zeros(cluster.shape[0], np.float32))
        order = np.lexsort((at_M, shard_M, key, cluster))
        bounds = np.flatnonzero(np.diff(cluster[order], prepend=-1, append=last))
        cosine_M, other_M = np.full(order.shape[0], -1, np.float32), np.full(order.shape[0], -1, np.int64)
        for start, stop in itertools.pairwise(bounds.tolist()):
            members = order[start:stop]
            cosine, other = _before(vectors[members])
            cosine_M[members] = cosine
            other_M[members] = np.where(other < 0, -1, members[other])
        self._save(shard_M, at_M, cosine_M, other_M)

    def _save(
        self,
        shard_M: NDArray[np.int32],
        at_M: NDArray[np.int64],
        cosine_M: NDArray[np.float32],
        other_M: NDArray[np.int64],
    ) -> None:
        rows = {int(shard): self._read(int(shard), "rows", np.int64) for shard in np.unique(shard_M)}
        row_M = np.empty(shard_M.shape[0], np.int64)
        for shard, own in rows.items():
            row_M[shard_M == shard] = own[at_M[shard_M == shard]]
        is_found = other_M >= 0
        for shard in rows:
            here = (shard_M == shard) & is_found
            for what, values in (
                ("cosines", cosine_M[here]),
                ("shards", shard_M[other_M[here]]),
                ("others", row_M[other_M[here]]),
            ):
                stored = self._read(shard, what, values.dtype.type)
                stored[at_M[here]] = values
                self._put(shard, what, stored)

    def _vectors(self, shard: int, n_dimensions: int) -> NDArray[np.float32]:
        path = self._path(shard, "vectors")
        with machine_errors(path):
            n = path.stat().st_size // (4 * n_dimensions)
            if n == 0:
                return np.empty((0, n_dimensions), np.float32)
            return np.memmap(path, np.float32, mode="r", shape=(n, n_dimensions))

    def _read(self, shard: int, what: str, kind: type) -> NDArray[Any]:
        with machine_errors(self._path(shard, what)):
            return np.fromfile(self._path(shard, what), kind)

    def _put(self, shard: int, what: str, values: NDArray[Any]) -> None:
        path = self._path(shard, what)
        with machine_errors(path):
            written = path.with_suffix(".new")
            values.tofile(written)
            written.replace(path)

    def _path(self, shard: int, what: str) -> Path:
        return self.folder / f"{what}-{shard:05d}"


def _before(vectors_MK: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The largest cosine of each vector to one before it, rounded, and which one; -1 for the first.

    Of equal cosines the earliest counts. Blocks of rows are multiplied, so that memory stays small.
    """
    n = vectors_MK.shape[0]
    cosine_M, other_M = np.full(n, -1, np.float32), np.full(n, -1, np.int64)
    for first in range(0, n, _ROWS):
        block = vectors_MK[first : first + _ROWS]
        last = first + block.shape[0]
        cosines = np.round(block @ vectors_MK[:last].T, _DIGITS)
        cosines[np.arange(first, last)[:, None] <= np.arange(last)[None, :]] = -2
        best = np.argmax(cosines, axis=1)
        value = np.take_along_axis(cosines, best[:, None], axis=1)[:, 0]
        is_any = value > -2
        cosine_M[first:last][is_any] = np.clip(value[is_any], -1, 1)
        other_M[first:last][is_any] = best[is_any]
    return cosine_M, other_M
