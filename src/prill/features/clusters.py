"""Clusters of the pool: a tree of centroids fitted on a keyed sample, and the leaf of every document.

Each node of the tree has its own few children, so that a document is compared with 64 + 64 centroids to find
one of 4,096 leaves, with 128 + 128 for 16,384. A leaf's number is a mixed-radix one: its parent is the number
divided by the children of a node, and every coarser level comes for free.

Before anything is compared, the mean of the sample is taken off and what is left has length one: vectors of
text share one large direction (the commonest words; in encoders the same effect), which says nothing.

Source: Grangier et al. 2024, arXiv:2410.03735 (hierarchical k-means, 64 children a node); Mu and Viswanath
2018, arXiv:1702.01417 ("All-but-the-top": the mean). Differs: of the latter only the mean is taken off.

Legend: D documents, K dimensions, P nodes of a level, C children of a node.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from prill.corpus.columns import ColumnInfo, read_columns, write_columns
from prill.engine import Kind
from prill.errors import DataError
from prill.features.feature import Given, ShardFeature, WholeFeature
from prill.features.keyed import derive_seed
from prill.features.kmeans import KMEANS_VERSION, half_squares, kmeans
from prill.features.vectors import Vectors
from prill.run.atomic import atomic_write

__all__ = ["Centroids", "Clusters", "Tree", "fit_tree"]


@dataclass(frozen=True, kw_only=True)
class Tree:
    """Centroids, level by level.

    Attributes:
        mean: of the sample, float64, shape (K,); taken off every vector.
        levels: float32, shape (P, C, K) each; NaN where a node has fewer children.
    """

    mean: NDArray[np.float64]
    levels: tuple[NDArray[np.float32], ...]

    @property
    def n_leaves(self) -> int:
        """Numbers that leaves may have; some may stay unused."""
        return int(self.levels[-1].shape[0] * self.levels[-1].shape[1])

    def n_clusters(self, level: int) -> int:
        """Numbers that the nodes of a level may have, from the coarsest, 0."""
        return int(self.levels[level].shape[0] * self.levels[level].shape[1])

    def centred(self, vectors_DK: NDArray[np.float32]) -> NDArray[np.float32]:
        """What is compared: without the mean, of length one; zeros stay zeros."""
        from prill.features._products_kernel import centre_rows

        out_DK = np.empty(vectors_DK.shape, np.float32)
        centre_rows(np.ascontiguousarray(vectors_DK), self.mean, out_DK)
        return out_DK

    def assign(self, vectors_DK: NDArray[np.float32]) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """The leaf of every vector, and the distance to its centroid.

        A pure function of each row: other rows, their number and their order change no bit.

        Returns:
            cluster, int32, shape (D,), -1 for a vector of zeros; distance, float32, between 0 and 2,
            NaN for a vector of zeros.
        """
        from prill.features._products_kernel import nearest_column

        x_DK = self.centred(vectors_DK)
        node_D = np.zeros(len(x_DK), np.int64)
        child_D, product_D = np.zeros(len(x_DK), np.int64), np.zeros(len(x_DK), np.float32)
        for level, (tables, half_square) in zip(self.levels, self._packed, strict=True):
            order_D = np.argsort(node_D, kind="stable")
            nearest_column(x_DK, order_D, node_D, tables, half_square, child_D, product_D)
            distance_D = self._distance(x_DK, half_square[node_D, child_D], product_D)
            node_D = node_D * level.shape[1] + child_D
        is_seen_D = np.any(x_DK != 0, axis=1)
        cluster_D = np.where(is_seen_D, node_D, -1).astype(np.int32)
        return cluster_D, np.where(is_seen_D, distance_D, np.nan).astype(np.float32)

    def at_level(self, cluster_D: NDArray[np.int32], level: int) -> NDArray[np.int32]:
        """Leaves as nodes of a coarser level; -1 stays."""
        n_below = math.prod(table.shape[1] for table in self.levels[level + 1 :])
        return np.where(cluster_D >= 0, cluster_D // n_below, -1).astype(np.int32)

    @staticmethod
    def _distance(
        x_DK: NDArray[np.float32], half_square_D: NDArray[np.float32], product_D: NDArray[np.float32]
    ) -> NDArray[np.float64]:
        wide_D = half_square_D.astype(np.float64) - product_D
        own_D = np.any(x_DK != 0, axis=1).astype(np.float64)
        return np.asarray(np.sqrt(np.maximum(own_D + 2 * wide_D, 0.0)))

    @functools.cached_property
    def _packed(self) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
        from prill.features._products_kernel import LANES, pack

        found = []
        for level in self.levels:
            tables = np.stack([pack(np.nan_to_num(node_CK)) for node_CK in level])
            half_square = np.full((len(level), tables.shape[1] * LANES), np.inf, np.float32)
            squares = np.stack([half_squares(node_CK) for node_CK in level])
            half_square[:, : level.shape[1]] = np.where(np.isnan(squares), np.inf, squares)
            found.append((tables, half_square))
        return found

    def save(self, path: Path) -> None:
        """Write it as safetensors."""
        from safetensors.numpy import save

        arrays = {"mean": self.mean} | {f"level_{i}": level for i, level in enumerate(self.levels)}
        atomic_write(path, save(arrays))

    @staticmethod
    def load(path: Path) -> Tree:
        """The tree that `save` wrote."""
        from safetensors.numpy import load_file

        stored = load_file(path)
        levels = tuple(stored[f"level_{i}"] for i in range(len(stored) - 1))
        return Tree(mean=stored["mean"], levels=levels)


def fit_tree(vectors_NK: NDArray[np.float32], k: Sequence[int], *, seed: int) -> Tree:
    """The tree of a sample.

    Args:
        vectors_NK: float32, none of zeros, in the order of keys.
        k: children of a node, for each level from the coarsest.
        seed: of the starts.
    """
    empty = Tree(mean=vectors_NK.mean(axis=0, dtype=np.float64), levels=())
    x_NK = empty.centred(vectors_NK)
    levels: list[NDArray[np.float32]] = []
    tree = empty
    for depth, n_children in enumerate(k):
        n_nodes = math.prod(k[:depth])
        level = np.full((n_nodes, n_children, x_NK.shape[1]), np.nan, np.float32)
        node_N = tree.assign(vectors_NK)[0].astype(np.int64) if levels else np.zeros(len(x_NK), np.int64)
        order_N = np.argsort(node_N, kind="stable")
        ends = np.searchsorted(node_N[order_N], np.arange(n_nodes + 1))
        for node in range(n_nodes):
            rows = order_N[ends[node] : ends[node + 1]]
            if len(rows):
                own_seed = derive_seed(seed, f"kmeans.{depth}.{node}")
                found_CK = kmeans(np.ascontiguousarray(x_NK[rows]), n_children, seed=own_seed)
                level[node, : len(found_CK)] = found_CK
        levels.append(level)
        tree = Tree(mean=empty.mean, levels=tuple(levels))
    return tree


@dataclass(frozen=True, kw_only=True)
class Centroids(WholeFeature):
    """A tree of centroids, fitted on a keyed sample of the documents that may be chosen.

    Attributes:
        vectors: of the pool; of three windows the first counts.
        k: children of a node, for each level from the coarsest: (64, 64) has 4,096 leaves.
        n_documents: of the sample, all of which is held in memory: 4 K bytes each, twice.
        use: keys the sample and the starts.
    """

    kind: ClassVar[str] = "centroids"
    version: ClassVar[int] = KMEANS_VERSION
    is_apart: ClassVar[bool] = True
    vectors: Vectors
    k: tuple[int, ...] = (64, 64)
    n_documents: int = 65_536
    use: str = "clusters"

    @property
    def label(self) -> str:
        return f"{' x '.join(str(n) for n in self.k)} centroids"

    @property
    def files(self) -> tuple[str, ...]:
        return ("centroids.safetensors",)

    def build(self, given: Given, paths: Sequence[Path]) -> Mapping[str, Any]:
        sample_NK = self.vectors.sample(given, n_documents=self.n_documents, use=self.use).vectors[:, 0]
        if len(sample_NK) == 0:
            raise DataError("expected at least one document with a vector in the pool, found none")
        tree = fit_tree(sample_NK, self.k, seed=derive_seed(given.seed, self.use))
        tree.save(paths[0])
        n_used = int(np.isfinite(tree.levels[-1][:, :, 0]).sum())
        n_products = len(sample_NK) * sum(self.k) * sample_NK.shape[1]
        return {"documents": len(sample_NK), "leaves": n_used, "flops": 2.0 * 8 * n_products}

    def read(self, given: Given) -> Tree:
        """The tree, from a run."""
        return Tree.load(given.file(self))


@dataclass(frozen=True, kw_only=True)
class Clusters(ShardFeature):
    """The leaf of every document: columns `cluster` (int32, -1 without text) and `distance` (float32)."""

    kind: ClassVar[str] = "clusters"
    version: ClassVar[int] = KMEANS_VERSION
    engine_kind: ClassVar[Kind] = "threads"
    centroids: Centroids

    @property
    def label(self) -> str:
        return "cluster of every document"

    @property
    def needs(self) -> tuple[Centroids, Vectors]:
        return (self.centroids, self.centroids.vectors)

    @property
    def columns(self) -> Sequence[ColumnInfo]:
        """What the columns mean."""
        span = self.centroids.vectors.columns[0].span
        what = f"of {' x '.join(str(n) for n in self.centroids.k)} clusters"
        return (
            ColumnInfo(
                name="cluster",
                span=span,
                version=self.version,
                summary=f"leaf {what}; -1 without text",
            ),
            ColumnInfo(
                name="distance",
                span=span,
                version=self.version,
                summary="Euclidean distance to the leaf's centroid, vectors of length one",
            ),
        )

    def write(self, given: Given, shard: int, path: Path) -> None:
        tree = self.centroids.read(given)
        found = [tree.assign(rows.vectors[:, 0]) for rows in self.centroids.vectors.stored(given, shard)]
        cluster_D = np.concatenate([cluster for cluster, _ in found])
        distance_D = np.concatenate([distance for _, distance in found])
        write_columns(path, {"cluster": cluster_D, "distance": pa.array(distance_D)}, self.columns)

    def flops(self, given: Given) -> float:
        vectors, n_columns = self.centroids.vectors, sum(self.centroids.k)
        n_documents = sum(len(given.pool.keys(shard)) for shard in range(given.pool.n_shards))
        return 2.0 * n_documents * n_columns * vectors.n_dimensions

    def read(self, given: Given, shard: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Cluster and distance of a shard's documents."""
        table = read_columns(given.files(self)[shard], ["cluster", "distance"])
        return table["cluster"].to_numpy(), table["distance"].to_numpy()
