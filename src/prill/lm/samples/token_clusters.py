"""Which swaps confuse a detector: counts over pairs of token clusters, explicit and saved.

Tokens are clustered once. The count of the pair (a, b) rises by 1 each time the detector is wrong about a
token of cluster a that shows one of cluster b, and falls by 1 each time it is right. To swap a token of a,
its row of counts is stretched to 0 .. 1 and b is drawn from softmax(beta x row): confusing pairs are drawn
more.

The table is a value, never changed in place: training runs in stages, each under the table it began with, and
`counted` makes the table of the next from what the detector said of the rows of the last
(`prill.lm.objectives.swaps.counts_after`). `save` puts it beside the stage's checkpoint; its hash is part of
what decides the rows, so a resumed stage reads the same swaps and no worker can use an old table.

Legend: V tokens, C clusters, N positions.
Source: Di Liello et al. 2022, arXiv:2210.13536, section 3 (C-RTS). Differs: counts move between stages, not
after every batch; they are kept within a bound, since they would sink without end where the detector is
right.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prill.errors import DataError
from prill.lm.samples.keyed_bits import keyed

__all__ = ["ClusterCounts", "cluster_tokens"]

Ints = NDArray[np.int64]

BETA = 2.0
BOUND = 10_000


@dataclass(frozen=True, kw_only=True, eq=False)
class ClusterCounts:
    """Counts of confusion over pairs of clusters.

    Args:
        cluster_of: cluster of each token, from 0, (V,).
        counts: int64, (C, C), from the cluster that was to the one that is shown.
    Raises:
        DataError: a cluster has no row.
    """

    cluster_of: Ints
    counts: Ints

    def __post_init__(self) -> None:
        n_clusters = len(self.counts)
        if self.counts.shape != (n_clusters, n_clusters) or self.cluster_of.max() >= n_clusters:
            raise DataError(
                f"expected a square table with a row for cluster {self.cluster_of.max()}, "
                f"found {self.counts.shape}",
                where="cluster counts",
            )

    @classmethod
    def start(cls, cluster_of: Ints) -> ClusterCounts:
        """All counts 1: every pair alike."""
        n_clusters = int(cluster_of.max()) + 1
        return cls(cluster_of=cluster_of, counts=np.ones((n_clusters, n_clusters), np.int64))

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 of clusters and counts."""
        seen = hashlib.sha256(np.ascontiguousarray(self.cluster_of, "<i8").tobytes())
        seen.update(np.ascontiguousarray(self.counts, "<i8").tobytes())
        return seen.hexdigest()

    def shares(self, *, beta: float = BETA) -> NDArray[np.float64]:
        """Probability of each cluster to replace one of each, (C, C); a row of equal counts is uniform."""
        low, high = self.counts.min(1, keepdims=True), self.counts.max(1, keepdims=True)
        stretched = (self.counts - low) / np.maximum(high - low, 1)
        weight = np.exp(beta * stretched)
        return np.asarray(weight / weight.sum(1, keepdims=True))

    def counted(
        self,
        before: Ints,
        after: Ints,
        is_wrong: NDArray[np.bool_],
        *,
        only_swapped: bool = False,
        bound: int = BOUND,
    ) -> ClusterCounts:
        """The table after what a detector said of N positions; sums, so workers' parts may be added up.

        Args:
            before: tokens of the text, (N,).
            after: tokens shown, (N,).
            is_wrong: the detector took a swapped token for an original or the reverse, (N,).
            only_swapped: positions that show their own token do not count.
            bound: farthest that a count may lie from 1.
        """
        used = (before != after) if only_swapped else np.ones(before.shape, np.bool_)
        n_clusters = len(self.counts)
        pair = self.cluster_of[before[used]] * n_clusters + self.cluster_of[after[used]]
        wrong = np.bincount(pair[is_wrong[used]], minlength=n_clusters**2)
        right = np.bincount(pair[~is_wrong[used]], minlength=n_clusters**2)
        moved = self.counts + (wrong - right).reshape(n_clusters, n_clusters)
        return dataclasses.replace(self, counts=np.clip(moved, 1 - bound, 1 + bound).astype(np.int64))

    def save(self, path: Path) -> None:
        """Write to a safetensors file.

        Raises:
            ResourceError: the disk is full or not writable.
        """
        import torch

        from prill.lm.tensorfile import write_tensors

        tensors = {name: torch.from_numpy(getattr(self, name).copy()) for name in ("cluster_of", "counts")}
        write_tensors(path, tensors, {"format": "cluster counts", "version": 1})

    @classmethod
    def load(cls, path: Path) -> ClusterCounts:
        """What `save` wrote.

        Raises:
            DataError: the file is absent, damaged, or holds something else.
        """
        from prill.lm.tensorfile import read_tensors

        tensors, meta = read_tensors(path)
        if meta.get("format") != "cluster counts":
            raise DataError(f"expected cluster counts, found {meta.get('format')!r}", where=str(path))
        return cls(cluster_of=tensors["cluster_of"].numpy(), counts=tensors["counts"].numpy())


def cluster_tokens(embeddings: NDArray[Any], n_clusters: int, *, seed: int, n_rounds: int = 20) -> Ints:
    """The cluster of each token by k-means over its embedding, (V,).

    Starts from tokens drawn by the seed; ties go to the lower cluster, and one that loses all its tokens
    keeps its centre.

    Args:
        embeddings: (V, d), of a trained model.
        n_clusters: at most V.
    """
    points = np.asarray(embeddings, np.float64)
    order = np.argsort(keyed(np.arange(len(points)), seed=seed, use="clusters"), kind="stable")
    centres = points[order[:n_clusters]]
    found = np.zeros(len(points), np.int64)
    for _ in range(n_rounds):
        distance = (centres**2).sum(1) - 2 * points @ centres.T
        nearest = distance.argmin(1).astype(np.int64)
        if np.array_equal(nearest, found):
            break
        found = nearest
        size = np.bincount(found, minlength=n_clusters)
        total = np.zeros_like(centres)
        np.add.at(total, found, points)
        centres = np.where(size[:, None] > 0, total / np.maximum(size, 1)[:, None], centres)
    return found
