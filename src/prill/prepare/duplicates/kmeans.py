"""Clusters of unit vectors by their angle, from keyed starts, so that a corpus always has the same ones.

Legend: D vectors, C centroids, K dimensions.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["assign", "fit", "normalised"]

_ROWS = 4096  # of a product at a time


def normalised(vectors_DK: NDArray[np.float32]) -> NDArray[np.float32]:
    """Vectors of length one; zeros stay zeros."""
    lengths_D = np.linalg.norm(vectors_DK.astype(np.float64), axis=1, keepdims=True)
    unit_DK: NDArray[np.float32] = (vectors_DK / np.where(lengths_D > 0, lengths_D, 1)).astype(np.float32)
    return unit_DK


def assign(
    vectors_DK: NDArray[np.float32], centroids_CK: NDArray[np.float32]
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The centroid with the largest cosine, the first of equals, and that cosine."""
    which_D = np.empty(vectors_DK.shape[0], np.int32)
    cosine_D = np.empty(vectors_DK.shape[0], np.float32)
    for first in range(0, vectors_DK.shape[0], _ROWS):
        cosines = vectors_DK[first : first + _ROWS] @ centroids_CK.T
        best = np.argmax(cosines, axis=1)
        which_D[first : first + _ROWS] = best
        cosine_D[first : first + _ROWS] = np.take_along_axis(cosines, best[:, None], axis=1)[:, 0]
    return which_D, cosine_D


def fit(sample_DK: NDArray[np.float32], n_clusters: int, n_rounds: int) -> NDArray[np.float32]:
    """Centroids after some rounds of spherical k-means, begun with the first vectors of the sample.

    Args:
        sample_DK: unit vectors in an order that depends on nothing but the documents.
        n_clusters: C, at most D.
        n_rounds: rounds; ends early when nothing moves.
    Returns:
        Unit vectors, float32, shape (C, K). A cluster without members keeps its centroid.
    Source: Dhillon and Modha 2001, "Concept decompositions for large sparse text data", section 3.
    """
    centroids_CK = sample_DK[:n_clusters].copy()
    last_D = np.full(sample_DK.shape[0], -1, np.int32)
    for _ in range(n_rounds):
        which_D, _cosine = assign(sample_DK, centroids_CK)
        if (which_D == last_D).all():
            break
        last_D = which_D
        order = np.argsort(which_D, kind="stable")
        clusters, firsts = np.unique(which_D[order], return_index=True)
        sums = np.add.reduceat(sample_DK[order].astype(np.float64), firsts, axis=0)
        moved = normalised(sums.astype(np.float32))
        centroids_CK[clusters] = np.where(moved.any(axis=1, keepdims=True), moved, centroids_CK[clusters])
    return centroids_CK
