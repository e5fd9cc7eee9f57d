"""Clusters: the kernel against exact products, k-means on planted groups, trees, whatever the shards."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from made_text import topics
from pool_of import opened, recipe_of
from prill.features._products_kernel import multiply, pack
from prill.features.clusters import Centroids, Clusters, Tree, fit_tree
from prill.features.kmeans import kmeans, nearest_of
from prill.features.vectors import Vectors, unit_length


def blobs(
    n_each: int, n_blobs: int, k: int, *, seed: int = 0, spread: float = 0.05
) -> tuple[np.ndarray, ...]:
    draws = np.random.default_rng(seed)
    centres = unit_length(draws.normal(size=(n_blobs, k)).astype(np.float32))
    label = np.tile(np.arange(n_blobs), n_each)
    rows = centres[label] + spread * draws.normal(size=(len(label), k)) / np.sqrt(k)
    return unit_length(rows.astype(np.float32)), label


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 20), st.integers(1, 40), st.integers(1, 70), st.integers(0, 2**31))
def test_products_are_exact_sums_and_do_not_depend_on_other_rows(n: int, c: int, k: int, seed: int) -> None:
    draws = np.random.default_rng(seed)
    x = draws.normal(size=(n, k)).astype(np.float32)
    table = draws.normal(size=(c, k)).astype(np.float32)
    out = np.empty((n, c), np.float32)
    multiply(x, pack(table), out)
    np.testing.assert_allclose(out, x.astype(np.float64) @ table.T.astype(np.float64), atol=2e-5)
    row = int(draws.integers(n))
    alone = np.empty((1, c), np.float32)
    multiply(x[row : row + 1].copy(), pack(table), alone)
    np.testing.assert_array_equal(alone[0], out[row])


def test_nearest_is_nearest_and_the_first_of_equals() -> None:
    x = np.array([[0.0, 0.0], [1.0, 1.0], [2.0, 0.0]], np.float32)
    centroids = np.array([[5.0, 5.0], [1.0, 0.0], [1.0, 0.0]], np.float32)
    assert nearest_of(x, centroids).tolist() == [1, 1, 1]


def test_planted_groups_are_found() -> None:
    x, label = blobs(60, 12, 32)
    found = kmeans(x, 12, seed=3)
    chosen = nearest_of(x, found)
    assert len(found) == 12
    assert len({(a, b) for a, b in zip(label, chosen, strict=True)}) == 12


def test_mini_batches_end_near_the_minimum_of_whole_rounds() -> None:
    x = unit_length(np.random.default_rng(1).normal(size=(6000, 16)).astype(np.float32))
    found = kmeans(x, 32, seed=0)
    centroids = x[:32]
    for _ in range(60):  # Lloyd, to the end
        near = np.argmin(((x[:, None] - centroids[None]) ** 2).sum(axis=2), axis=1)
        centroids = np.stack([x[near == c].mean(axis=0) for c in range(32)])
    inertia = [((x - c[nearest_of(x, c)]) ** 2).sum() for c in (found, centroids.astype(np.float32))]
    assert inertia[0] < 1.02 * inertia[1]


@pytest.mark.parametrize("n_rows", [1, 3])
def test_fewer_rows_than_clusters_give_fewer_clusters(n_rows: int) -> None:
    x = np.repeat(np.eye(4, dtype=np.float32)[:n_rows], 5, axis=0)
    found = kmeans(x, 8, seed=0)
    assert sorted(map(tuple, found)) == sorted(map(tuple, np.eye(4, dtype=np.float32)[:n_rows]))


def test_a_tree_assigns_to_the_nearest_child_of_the_nearest_child() -> None:
    x, _ = blobs(20, 30, 24, spread=0.4)
    tree = fit_tree(x, (5, 4), seed=7)
    cluster, distance = tree.assign(x)
    rows = tree.centred(x).astype(np.float64)
    top, low = (level.astype(np.float64) for level in tree.levels)
    node = np.argmin(((rows[:, None] - top[0]) ** 2).sum(axis=2), axis=1)
    squares = ((rows[:, None] - low[node]) ** 2).sum(axis=2)
    child = np.nanargmin(squares, axis=1)
    np.testing.assert_array_equal(cluster, node * 4 + child)
    np.testing.assert_array_equal(tree.at_level(cluster, 0), node)
    np.testing.assert_array_equal(tree.at_level(cluster, 1), cluster)
    np.testing.assert_allclose(distance, np.sqrt(squares[np.arange(len(x)), child]), atol=1e-5)
    assert (tree.n_leaves, tree.n_clusters(0)) == (20, 5)


def test_every_leaf_with_a_centroid_is_the_nearest_of_a_sampled_row() -> None:
    x, _ = blobs(6, 9, 16, spread=0.3)
    tree = fit_tree(x, (4, 4, 4), seed=1)
    used = np.flatnonzero(np.isfinite(tree.levels[-1][:, :, 0]).ravel())
    np.testing.assert_array_equal(np.unique(tree.assign(x)[0]), used)
    others = unit_length(np.random.default_rng(5).normal(size=(500, 16)).astype(np.float32))
    cluster, distance = tree.assign(others)
    assert np.isin(cluster, used).all()
    assert np.isfinite(distance).all()


@settings(max_examples=20, deadline=None)
@given(st.permutations(range(24)), st.integers(1, 24))
def test_a_cluster_does_not_depend_on_the_batch(order: list[int], size: int) -> None:
    x, _ = blobs(4, 6, 16, spread=0.8)
    tree = fit_tree(x, (3, 3), seed=2)
    cluster, distance = tree.assign(x)
    part = order[:size]
    np.testing.assert_array_equal(tree.assign(x[part])[0], cluster[part])
    np.testing.assert_array_equal(tree.assign(x[part])[1], distance[part])


def test_zeros_have_no_cluster_and_a_tree_survives_its_file(tmp_path: Path) -> None:
    x, _ = blobs(10, 4, 16)
    tree = fit_tree(x, (4, 2), seed=0)
    tree.save(tmp_path / "tree.safetensors")
    again = Tree.load(tmp_path / "tree.safetensors")
    rows = np.concatenate([np.zeros((1, 16), np.float32), x])
    for a, b in zip(tree.assign(rows), again.assign(rows), strict=True):
        np.testing.assert_array_equal(a, b)
    assert again.assign(rows)[0][0] == -1
    assert np.isnan(again.assign(rows)[1][0])


def test_a_common_direction_does_not_hide_the_groups() -> None:
    x, label = blobs(40, 6, 32, spread=0.3)
    shared = np.zeros(32, np.float32)
    shared[0] = 8.0
    tree = fit_tree(unit_length(x + shared), (6,), seed=0)
    cluster, _ = tree.assign(unit_length(x + shared))
    assert len({(a, b) for a, b in zip(label, cluster, strict=True)}) == 6


def clustered(
    folder: Path, documents: list[str], *, shards: int
) -> tuple[np.ndarray, np.ndarray, bytes, dict]:
    vectors = Vectors.of("hashed", n_dimensions=64)
    feature = Clusters(centroids=Centroids(vectors=vectors, k=(4, 4)))
    with opened(recipe_of(folder, documents, shards=shards), folder) as features:
        features.resolve([feature])
        told = replace(features.given(feature), parts={f: d.parts for f, d in features.done.items()})
        found = [feature.read(told, shard) for shard in range(shards)]
        counts = features.done[feature.centroids].record.counts
        content = features.done[feature.centroids].parts[0].read_bytes()
    return np.concatenate([a for a, _ in found]), np.concatenate([b for _, b in found]), content, dict(counts)


def test_clusters_of_a_pool_are_the_same_bytes_whatever_the_shards(tmp_path: Path) -> None:
    documents = [*topics([0, 1, 2, 3] * 20), "", " \n "]
    cluster, distance, content, counts = clustered(tmp_path / "1", documents, shards=1)
    split, split_distance, split_content, _ = clustered(tmp_path / "3", documents, shards=3)
    assert content == split_content
    np.testing.assert_array_equal(cluster, split)
    np.testing.assert_array_equal(distance, split_distance)
    assert cluster[-2:].tolist() == [-1, -1]
    assert counts["documents"] == 80
    for topic in range(4):
        nodes = cluster[topic:80:4] // 4
        assert (nodes == nodes[0]).all()
