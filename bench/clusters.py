"""Clusters: fitting a tree, documents a second into its leaves, memory; against scikit-learn and faiss.

    python bench/clusters.py [--documents 60000] [--dimensions 256] [--rounds 3]

Vectors are made here: overlapping groups on the sphere, without a file. Everything runs in one process with
one thread; figures are CPU seconds of this process, medians over rounds in which all jobs run in turn.
Rows: the tree (128 x 128 = 16,384 leaves), one flat level of 64, and, where they are installed, scikit-learn
(MiniBatchKMeans, flat) and faiss (a flat index over all leaves: the exact nearest of all). Inertia is the
mean squared distance to the assigned centroid; that of a tree is a little above that of an exact search in
its own leaves, and the table says by how much. Assigning includes centring for ours alone.
"""

from __future__ import annotations

import os

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"))

import argparse
import resource
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


def main() -> None:
    """Time everything in turn and print the table."""
    args = _arguments()
    vectors = made(args.documents, args.dimensions)
    sample, shape = vectors[: args.sample], (args.k, args.k)
    found: dict[str, list[tuple[float, Any]]] = {}
    for _ in range(args.rounds):
        for name, job in _jobs(sample, vectors, shape).items():
            found.setdefault(name, []).append(_timed(job))
    print(f"{args.documents:,} documents of {args.dimensions} dimensions, sample {len(sample):,}\n")
    print("| job | CPU s | documents / s | inertia |\n|---|---:|---:|---:|")
    for name, runs in found.items():
        seconds, inertia = statistics.median(s for s, _ in runs), runs[0][1]
        n = len(sample) if "fit" in name else len(vectors)
        print(f"| {name} | {seconds:.2f} | {n / seconds:,.0f} | {inertia:.4f} |")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"\nPeak memory {peak:,.0f} MB, of which vectors {vectors.nbytes / 2**20:,.0f} MB")


def _jobs(sample: Array, vectors: Array, shape: tuple[int, int]) -> dict[str, Callable[[], float]]:
    from prill.features.clusters import fit_tree

    tree, flat = _once(fit_tree, sample, shape), _once(fit_tree, sample, (64,))
    n_leaves = shape[0] * shape[1]
    tree.assign(vectors[:64])  # compiled, packed
    flat.assign(vectors[:64])
    jobs: dict[str, Callable[[], float]] = {
        f"tree: fit {shape[0]} x {shape[1]}": lambda: _inertia(fit_tree(sample, shape, seed=0), sample),
        f"tree: assign to {n_leaves:,} leaves": lambda: _mean_square(tree, vectors),
        "flat: fit 64": lambda: _inertia(fit_tree(sample, (64,), seed=0), sample),
        "flat: assign to 64": lambda: _mean_square(flat, vectors),
    }
    return {**jobs, **_scikit(sample, vectors), **_faiss(tree, vectors)}


def _scikit(sample: Array, vectors: Array) -> dict[str, Callable[[], float]]:
    try:
        from sklearn.cluster import MiniBatchKMeans
    except ImportError:
        return {}
    centred = _centred(sample, vectors)

    def fit(n: int = 64) -> Any:
        model = MiniBatchKMeans(n, batch_size=1024, n_init=1, max_iter=4, random_state=0)
        return model.fit(centred[: len(sample)])

    model = fit()

    def fitted() -> float:
        return float(fit().inertia_) / len(sample)

    def assigned() -> float:
        near = model.predict(centred)
        return float(((centred - model.cluster_centers_[near]) ** 2).sum(axis=1).mean())

    return {"scikit-learn: fit 64, mini-batches": fitted, "scikit-learn: assign to 64": assigned}


def _faiss(tree: Any, vectors: Array) -> dict[str, Callable[[], float]]:
    try:
        import faiss
    except ImportError:
        return {}
    faiss.omp_set_num_threads(1)
    leaves = tree.levels[-1].reshape(-1, vectors.shape[1])
    index = faiss.IndexFlatL2(vectors.shape[1])
    index.add(np.ascontiguousarray(leaves[np.isfinite(leaves[:, 0])]))
    rows = tree.centred(vectors)
    return {f"faiss: exact search in {index.ntotal:,} leaves": lambda: float(index.search(rows, 1)[0].mean())}


def made(n: int, k: int) -> Array:
    """Overlapping groups with a common direction, of length one, in random order."""
    draws = np.random.default_rng(0)
    centres = draws.normal(size=(2_000, k)).astype(np.float32)
    rows = centres[draws.integers(len(centres), size=n)] + draws.normal(size=(n, k)).astype(np.float32)
    rows[:, 0] += 8
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


_FITTED: dict[Any, Any] = {}


def _once(fit: Callable[..., Any], sample: Array, shape: tuple[int, ...]) -> Any:
    if shape not in _FITTED:
        _FITTED[shape] = fit(sample, shape, seed=0)
    return _FITTED[shape]


def _centred(sample: Array, vectors: Array) -> Array:
    rows = vectors - sample.mean(axis=0)
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def _inertia(tree: Any, sample: Array) -> float:
    return _mean_square(tree, sample)


def _mean_square(tree: Any, vectors: Array) -> float:
    parts = [tree.assign(vectors[i : i + 16_384])[1] for i in range(0, len(vectors), 16_384)]
    return float((np.concatenate(parts).astype(np.float64) ** 2).mean())


def _timed(job: Callable[[], float]) -> tuple[float, float]:
    start = time.process_time()
    result = job()
    return time.process_time() - start, result


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--documents", type=int, default=60_000)
    parser.add_argument("--sample", type=int, default=60_000)
    parser.add_argument("--dimensions", type=int, default=256)
    parser.add_argument("--k", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3)
    return parser.parse_args()


if __name__ == "__main__":
    main()
