"""Which documents a costly rater labels next: a class-balanced, informative part and a purely random part.

A cheap classifier proposes the documents it is least sure of. Out of these, the class with the fewest labels
so far gets the next pick, again and again, so that rare grades are not drowned: picks chosen for uncertainty
alone are unbalanced and can be worse than random ones. Classes are those that the classifier predicts, so
look at its confusions after the first round.

A fifth of the budget is drawn at random from all that is left. These labels alone may calibrate thresholds,
error rates and shrinkage. Given the picks before them, which are in with certainty, every pick has a known
probability of inclusion, so that sums with weights 1 / inclusion are unbiased for the whole pool.

Legend: N documents, G classes, M picks.
Source: Bang, Ahn, Lee 2024, arXiv:2311.11178 (pseudo-class balance, PCB), and the authors' code.
Differs: a class without a candidate is passed over for the round; the code keeps it in front and spends all
remaining picks at random. A random part with known probabilities of inclusion. Random picks, and ties between
classes of equal probability, are keyed. Rows may be counted by what they cost instead of 1. The first round,
without a classifier, is `random_share=1`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from prill.errors import DataError, RecipeError
from prill.features.keyed import derive_seed, keyed_uniform

__all__ = ["Picked", "balanced", "entropy", "pick", "pseudo_labels"]

LABELLING_VERSION = 1
"""Version of the order of picks; it changes whenever a pick changes."""

_EPSILON = 1e-6  # of the reference, inside the logarithm
_BLOCK = 1 << 16


@dataclass(frozen=True, kw_only=True)
class Picked:
    """What to label, in the order of picking: balanced picks first, then the random ones.

    Attributes:
        rows: int64, shape (M,), no row twice.
        inclusion: probability that a row is in, given the balanced picks, float64, shape (M,): 1 for
            balanced picks, n_random / (N - n_balanced) for random ones.
        is_random: which are of the random part, shape (M,). Only these are exchangeable with what was not
            picked: use them alone for conformal thresholds, and with `weights` for means over the pool.
        counts: labels of each class when the pseudo-labels of the balanced picks are taken for true, (G,).
    """

    rows: NDArray[np.int64]
    inclusion: NDArray[np.float64]
    is_random: NDArray[np.bool_]
    counts: NDArray[np.float64]

    @property
    def weights(self) -> NDArray[np.float64]:
        """1 / inclusion: for sums over the whole pool. Shape (M,)."""
        return 1.0 / self.inclusion


def pick(
    probabilities_NG: NDArray[np.floating],
    counts_G: NDArray[np.number],
    n_query: int,
    keys_N: NDArray[np.uint64],
    seed: int,
    *,
    gamma: float = 0.1,
    random_share: float = 0.2,
    sizes_N: NDArray[np.number] | None = None,
) -> Picked:
    """The documents of the next round.

    Args:
        probabilities_NG: of each class for each document, from the cheap classifier, finite. Leave out
            documents that are labelled already.
        counts_G: labels of each class so far, documents or what `sizes_N` counts, finite.
        n_query: M, at most N.
        keys_N: key of each document's text: the same documents are picked in any order of the rows.
        seed: of this round's draws; derive another for every round.
        gamma: share of the documents, the least sure ones, that the balanced picks are made from.
        random_share: share of the picks that is purely random; rounded to whole picks.
        sizes_N: what a pick adds to its class, such as its tokens; None counts documents.
    Raises:
        RecipeError: `gamma` or `random_share` is not a share.
        DataError: shapes differ, a value is not finite, or there are fewer documents than picks.
    """
    p, counts = np.asarray(probabilities_NG, np.float64), np.asarray(counts_G, np.float64)
    sizes = np.ones(len(p)) if sizes_N is None else np.asarray(sizes_N, np.float64)
    _check_shares(gamma=gamma, random_share=random_share)
    _check(p, counts, sizes, keys_N, n_query)
    n_random = math.floor(random_share * n_query + 0.5)
    n_balanced = n_query - n_random
    labels = pseudo_labels(p, keyed_uniform(derive_seed(seed, "labelling.class"), keys_N))
    order = keyed_uniform(derive_seed(seed, "labelling.pick"), keys_N)
    n_proposed = min(len(p), max(math.ceil(gamma * len(p)), n_balanced))
    unsure = np.sort(np.lexsort((order, -entropy(p)))[:n_proposed])
    chosen, counts = balanced(labels[unsure], counts, n_balanced, order[unsure], sizes[unsure])
    first = unsure[chosen]
    left = np.setdiff1d(np.arange(len(p)), first)
    draws = keyed_uniform(derive_seed(seed, "labelling.random"), keys_N)[left]
    second = left[np.argsort(draws, kind="stable")[:n_random]]
    share = n_random / len(left) if len(left) else 1.0
    return Picked(
        rows=np.concatenate([first, second]).astype(np.int64),
        inclusion=np.repeat([1.0, share], [n_balanced, n_random]),
        is_random=np.repeat([False, True], [n_balanced, n_random]),
        counts=counts,
    )


def balanced(
    labels_N: NDArray[np.integer],
    counts_G: NDArray[np.floating],
    n: int,
    order_N: NDArray[np.number],
    sizes_N: NDArray[np.floating] | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """n rows, each of the class with the smallest count then; a pick raises the count of its class.

    A class without rows left is passed over. Equal counts go to the lower class.

    Args:
        labels_N: class of each row, 0 to G - 1.
        n: at most N.
        order_N: rows of one class are taken from the smallest value on; equal values by row.
        sizes_N: what a pick adds; None: 1.
    Returns:
        The rows as picked, shape (n,), and the counts behind the last pick, shape (G,).

    >>> labels, counts = np.array([0, 0, 0, 0, 1, 1, 2, 0, 1, 0]), np.array([2.0, 0.0, 1.0])
    >>> rows, counts = balanced(labels, counts, 4, np.arange(10))
    >>> rows.tolist(), counts.tolist()
    ([4, 5, 6, 0], [3.0, 2.0, 2.0])
    """
    counts = np.array(counts_G, np.float64)
    by_class = np.lexsort((order_N, labels_N))
    ends = np.cumsum(np.bincount(labels_N, minlength=len(counts)))
    at = ends - np.bincount(labels_N, minlength=len(counts))
    rows = np.empty(n, np.int64)
    for i in range(n):
        g = int(np.argmin(np.where(at < ends, counts, np.inf)))
        rows[i] = by_class[at[g]]
        counts[g] += 1.0 if sizes_N is None else sizes_N[rows[i]]
        at[g] += 1
    return rows, counts


def entropy(probabilities_NG: NDArray[np.float64]) -> NDArray[np.float64]:
    """- sum over classes of p ln(p + 1e-6), nats: high where the classifier is unsure. Shape (N,)."""
    found = np.empty(len(probabilities_NG))
    for first in range(0, len(found), _BLOCK):
        p = probabilities_NG[first : first + _BLOCK]
        found[first : first + _BLOCK] = -(p * np.log(p + _EPSILON)).sum(axis=1)
    return found


def pseudo_labels(probabilities_NG: NDArray[np.float64], draws_N: NDArray[np.float64]) -> NDArray[np.int64]:
    """The likeliest class of each document; among equally likely ones the draw in (0, 1) decides. (N,)."""
    is_best = probabilities_NG == probabilities_NG.max(axis=1, keepdims=True)
    place = np.floor(draws_N * is_best.sum(axis=1))  # how many of the best classes to pass over
    return np.asarray(np.argmax(is_best & (np.cumsum(is_best, axis=1) > place[:, None]), axis=1), np.int64)


def _check_shares(**shares: float) -> None:
    for name, share in shares.items():
        if not 0 <= share <= 1:
            raise RecipeError(f"`{name}` must be between 0 and 1, found {share}", where="labelling")


def _check(
    p: NDArray[np.float64],
    counts: NDArray[np.float64],
    sizes: NDArray[np.float64],
    keys: NDArray[np.uint64],
    n_query: int,
) -> None:
    if p.ndim != 2 or p.shape[1] != len(counts) or not len(p) == len(keys) == len(sizes):
        raise DataError(
            f"expected a probability for each of {len(keys)} documents and {len(counts)} classes, "
            f"found shape {p.shape} and {len(sizes)} sizes",
            where="labelling",
        )
    if not 0 <= n_query <= len(p):
        raise DataError(
            f"expected at most as many picks as documents, found {n_query} of {len(p)}",
            where="labelling",
            hint="ask for fewer labels, or offer more documents",
        )
    bad = np.flatnonzero(~np.isfinite(p).all(axis=1) | (p < 0).any(axis=1))
    if len(bad):
        raise DataError(
            f"probabilities must be finite and not negative, found {p[bad[0]].tolist()} "
            f"({len(bad)} such rows)",
            where=f"labelling, row {bad[0]}",
            hint="leave out documents that the classifier cannot judge",
        )
    if not (np.isfinite(counts).all() and np.isfinite(sizes).all()):
        raise DataError("counts and sizes must be finite numbers", where="labelling")
