"""Which items may be called good, so that the expected share of mistakes among them is at most q.

A labelled item with label at most c is a null. The p-value of a test item under a score is the share of
labelled items that are nulls and score at least as high, the item itself counted in: small where nulls do
not reach. Benjamini and Hochberg's rule (BH) on these p-values controls the false discovery rate (FDR) when
labelled and test items are exchangeable, whatever the score.

When the score itself was chosen on the same labels, that fails. OptCS chooses a score for every test item as
if that item were labelled too, and puts e-values in the place of p-values: the guarantee holds for any number
of scores.

Legend: n labelled items, m test items, K scores. Higher scores are better.
Source: Jin and Candes 2023, arXiv:2210.01408 (conformal selection); Bai and Jin 2024, arXiv:2411.17983
(OptCS, sections 3 and 4) and the authors' code; weights: Jin and Candes 2023, arXiv:2307.09291, and their
code; Wang and Ramdas 2022, arXiv:2009.02824 (BH on e-values).
Differs: nulls with the same score as the test item count (`ties="count"`): with the code's strict comparison
a constant score passes everything once n is large. Scores that allow as many selections go to the first, not
to a random one. All test items are treated at once: O(K (n + m) log) without weights, O(K m (n + m)) with.
That raising an item never removes it holds for one score; with several it can, when the choice of the score
changes (1.2% of what was selected, in a simulation with three).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from prill.errors import DataError, RecipeError

__all__ = [
    "Discoveries",
    "Pruning",
    "Ties",
    "benjamini_hochberg",
    "chosen_by_counts",
    "conformal_p_values",
    "e_benjamini_hochberg",
    "nulls_above",
    "optcs",
]

Ties = Literal["count", "strict"]
Pruning = Literal["none", "homogeneous", "heterogeneous"]

_Floats = NDArray[np.float64]
_ROUNDING = 1e-12  # p-values are ratios of whole numbers: equality with a threshold counts as below
_BLOCK = 1 << 22


@dataclass(frozen=True, kw_only=True)
class Discoveries:
    """What was selected among m test items, and why.

    Attributes:
        selected: shape (m,).
        score: index of the score that was chosen for each item, shape (m,).
        n_reference: R, how many the rule would select if the item were labelled, shape (m,).
        p_value, e_value: under the chosen score, shape (m,).
        q: level of the false discovery rate.
        pruning, seed: the random draws that the selection depends on; they do nothing without pruning.
    """

    selected: NDArray[np.bool_]
    score: NDArray[np.int64]
    n_reference: NDArray[np.int64]
    p_value: _Floats
    e_value: _Floats
    q: float
    pruning: Pruning
    seed: int


def nulls_above(
    scores_n: _Floats,
    is_good_n: NDArray[np.bool_],
    test_scores_m: _Floats,
    *,
    weights_n: _Floats | None = None,
    ties: Ties = "count",
) -> _Floats:
    """How many nulls score higher than each test item, or what they weigh. Shape (m,).

    Args:
        ties: `count` adds nulls with the same score; `strict` leaves them out.
    """
    weights = np.ones(len(scores_n)) if weights_n is None else np.asarray(weights_n, np.float64)
    null = np.asarray(scores_n, np.float64)[~is_good_n]
    order = np.argsort(null, kind="stable")
    below = np.concatenate([[0.0], np.cumsum(weights[~is_good_n][order])])
    at = np.searchsorted(null[order], test_scores_m, side="left" if ties == "count" else "right")
    return np.asarray(below[-1] - below[at], np.float64)


def conformal_p_values(
    scores_n: _Floats,
    is_good_n: NDArray[np.bool_],
    test_scores_m: _Floats,
    *,
    weights_n: _Floats | None = None,
    test_weights_m: _Floats | None = None,
    ties: Ties = "count",
    draws_m: _Floats | None = None,
) -> _Floats:
    """The p-value of "this item is not good" for each test item under one score fixed in advance. Shape (m,).

        p_j = (w_j + sum over nulls i with a higher score of w_i) / (w_j + sum over all i of w_i)

    Args:
        is_good_n: label above c.
        weights_n, test_weights_m: density of the test items over that of the labelled ones, at each item,
            up to one factor; None: 1. For labels that were sampled by another mix than the test items.
        draws_m: uniform draws: the item's own weight and that of tied nulls counts by so much, which makes
            p-values exactly uniform; None: as `ties` says.
    Raises:
        DataError: scores or weights are not finite, or shapes differ.
    """
    scores, test = _checked(scores_n, is_good_n, test_scores_m)
    weights, own = _weights(len(scores), weights_n), _weights(len(test), test_weights_m)
    total = weights.sum() + own
    if draws_m is None:
        return np.asarray((nulls_above(scores, is_good_n, test, weights_n=weights, ties=ties) + own) / total)
    strict = nulls_above(scores, is_good_n, test, weights_n=weights, ties="strict")
    tied = nulls_above(scores, is_good_n, test, weights_n=weights, ties="count") - strict
    return np.asarray((strict + np.asarray(draws_m) * (tied + own)) / total)


def benjamini_hochberg(p_values_m: _Floats, q: float) -> NDArray[np.bool_]:
    """Which p-values are at most q r / m, for the largest r that so many p-values allow. Shape (m,).

    Source: Benjamini and Hochberg 1995, Journal of the Royal Statistical Society B 57:289.

    >>> benjamini_hochberg(np.array([0.1, 0.1, 0.1, 0.2, 0.6]), 0.3).tolist()
    [True, True, True, True, False]
    """
    _check_level(q)
    p = np.asarray(p_values_m, np.float64)
    m = len(p)
    fits = np.sort(p) <= q * np.arange(1, m + 1) / m * (1 + _ROUNDING)
    r = int(np.flatnonzero(fits)[-1]) + 1 if fits.any() else 0
    return np.asarray((p <= q * r / m * (1 + _ROUNDING)) & (r > 0))


def e_benjamini_hochberg(e_values_m: _Floats, q: float) -> NDArray[np.bool_]:
    """BH on 1 / e: holds under any dependence of the e-values. Shape (m,)."""
    e = np.asarray(e_values_m, np.float64)
    inverse = np.divide(1.0, e, out=np.full(len(e), np.inf), where=e > 0)
    return benjamini_hochberg(inverse, q)


def optcs(
    scores_Kn: _Floats,
    is_good_n: NDArray[np.bool_],
    test_scores_Km: _Floats,
    *,
    q: float,
    pruning: Pruning = "none",
    seed: int = 0,
    e_share: float = 1.0,
    weights_n: _Floats | None = None,
    test_weights_m: _Floats | None = None,
    ties: Ties = "count",
) -> Discoveries:
    """Selects test items after choosing, for each, the best of K scores on the same labels.

    Args:
        scores_Kn, test_scores_Km: finite; each score fixed without these labels.
        is_good_n: label above c; c is chosen before looking.
        q: level of the false discovery rate.
        pruning: divide the e-values by one uniform draw (homogeneous) or by one for each item
            (heterogeneous): more is selected, but it depends on the seed.
        e_share: level within the e-values as a share of q; below 1 the final rule has slack (the code: 0.9).
        weights_n, test_weights_m: as for `conformal_p_values`.
    Raises:
        DataError: shapes differ, or a value is not finite.
        RecipeError: a level is not between 0 and 1.
    """
    scores, test = np.atleast_2d(scores_Kn).astype(np.float64), np.atleast_2d(test_scores_Km)
    if len(scores) != len(test) or not len(scores):
        raise DataError(
            f"expected the same scores of labelled and test items, found {len(scores)} and {len(test)}",
            where="optcs",
        )
    pairs = [_checked(row, is_good_n, test_row) for row, test_row in zip(scores, test, strict=True)]
    weights, own = _weights(scores.shape[1], weights_n), _weights(test.shape[1], test_weights_m)
    above = [
        [nulls_above(row, is_good_n, test_row, weights_n=weights, ties=t) for row, test_row in pairs]
        for t in ("count", ties)
    ]
    return chosen_by_counts(
        np.stack(above[0]),
        np.stack([test_row for _, test_row in pairs]),
        n=float(weights.sum()),
        q=q,
        pruning=pruning,
        seed=seed,
        e_share=e_share,
        own_m=own,
        above_Km=np.stack(above[1]),
    )


def chosen_by_counts(
    at_or_above_Km: _Floats,
    test_scores_Km: _Floats,
    *,
    n: float,
    q: float,
    pruning: Pruning = "none",
    seed: int = 0,
    e_share: float = 1.0,
    own_m: _Floats | None = None,
    above_Km: _Floats | None = None,
) -> Discoveries:
    """`optcs` from how many nulls score at least as high as each test item under each score.

    Args:
        at_or_above_Km: of the nulls; falls as the score rises.
        n: labelled items, or their weight.
        own_m: weight of each test item; None: 1.
        above_Km: nulls that count in the p-value under the chosen score; None: `at_or_above_Km`.
    """
    _check_level(q)
    _check_level(e_share * q)
    own = _weights(test_scores_Km.shape[1], own_m)
    m, inner = len(own), e_share * q
    reference = np.stack(
        [_references(a, s, n, inner, own) for a, s in zip(at_or_above_Km, test_scores_Km, strict=True)]
    )
    score = np.argmax(reference, axis=0)
    items = np.arange(m)
    n_reference = reference[score, items]
    nulls = (at_or_above_Km if above_Km is None else above_Km)[score, items]
    p = (nulls + own) / (n + own)
    passes = p <= inner * n_reference / m * (1 + _ROUNDING)
    e = np.where(passes, m / (inner * n_reference), 0.0)
    return Discoveries(
        selected=e_benjamini_hochberg(e / _pruning_draws(pruning, seed, m), q),
        score=score.astype(np.int64),
        n_reference=n_reference,
        p_value=p,
        e_value=e,
        q=q,
        pruning=pruning,
        seed=seed,
    )


def _references(above_m: _Floats, scores_m: _Floats, n: float, q: float, own_m: _Floats) -> NDArray[np.int64]:
    """R of every test item j under one score: how many BH would take if j were labelled a null.

    In the order of falling scores the p-values of the others rise: `above` for those that score higher than
    j, with j's weight added from its score down; j itself counts as 0. So the r-th smallest p-value belongs
    to the item before j in place r - 1, or to the one behind it in place r; the largest r that fits is R.
    """
    m = len(scores_m)
    order = np.argsort(-scores_m, kind="stable")
    score, above = scores_m[order], above_m[order]
    first = np.searchsorted(-score, -score, side="left")  # of each item's ties
    last = np.searchsorted(-score, -score, side="right") - 1
    found = np.empty(m, np.int64)
    if np.all(own_m == own_m[0]):
        found[order] = _references_alike(above, first, last, n, q, float(own_m[0]))
        return found
    place, own = np.arange(m), own_m[order]
    block = max(1, _BLOCK // m)
    for start in range(0, m, block):
        j = np.arange(start, min(start + block, m))[:, None]
        limit = q / m * (n + own[j]) * (1 + _ROUNDING)
        fits_before = (place < first[j]) & (above <= limit * (place + 2))
        # Ties with j share a p-value and j's own place is in front, so of them the last one decides.
        is_behind = (place > last[j]) | ((place == last[j]) & (last[j] > first[j]))
        fits_behind = is_behind & (above + own[j] <= limit * (place + 1))
        r = np.maximum(np.where(fits_before, place + 2, 1), np.where(fits_behind, place + 1, 1))
        found[order[j[:, 0]]] = r.max(axis=1)
    return found


def _references_alike(
    above: _Floats, first: NDArray[np.int64], last: NDArray[np.int64], n: float, q: float, own: float
) -> NDArray[np.int64]:
    """`_references` for items of one weight, in sorted order: two conditions serve all of them."""
    m = len(above)
    place = np.arange(m)
    limit = q / m * (n + own) * (1 + _ROUNDING)
    before = np.maximum.accumulate(np.where(above <= limit * (place + 2), place + 2, 1))
    r_before = np.where(first > 0, before[np.maximum(first - 1, 0)], 1)
    fits_behind = above + own <= limit * (place + 1)
    best_behind = int(np.flatnonzero(fits_behind)[-1]) if fits_behind.any() else -1
    r_behind = np.where(best_behind > last, best_behind + 1, 1)
    r_tie = np.where((last > first) & fits_behind[last], last + 1, 1)
    return np.asarray(np.maximum(np.maximum(r_before, r_behind), r_tie), np.int64)


def _pruning_draws(pruning: Pruning, seed: int, m: int) -> _Floats:
    if pruning == "none":
        return np.ones(m)
    generator = np.random.default_rng(seed)
    return np.full(m, generator.random()) if pruning == "homogeneous" else generator.random(m)


def _weights(n: int, weights: _Floats | None) -> _Floats:
    found = np.ones(n) if weights is None else np.asarray(weights, np.float64)
    if found.shape != (n,) or not np.isfinite(found).all() or (found < 0).any():
        raise DataError(f"expected {n} finite weights of at least 0, found shape {found.shape}")
    return found


def _checked(
    scores_n: _Floats, is_good_n: NDArray[np.bool_], test_scores_m: _Floats
) -> tuple[_Floats, _Floats]:
    scores, test = np.asarray(scores_n, np.float64), np.asarray(test_scores_m, np.float64)
    if scores.shape != np.shape(is_good_n) or scores.ndim != 1 or test.ndim != 1:
        raise DataError(
            f"expected a score and a label an item, found shapes {scores.shape} and {np.shape(is_good_n)}",
            where="conformal selection",
        )
    if not len(test):
        raise DataError("expected at least one test item, found none", where="conformal selection")
    if not (np.isfinite(scores).all() and np.isfinite(test).all()):
        raise DataError("scores must be finite numbers, found NaN or infinity", where="conformal selection")
    return scores, test


def _check_level(q: float) -> None:
    if not 0 < q < 1:
        raise RecipeError(f"a level lies between 0 and 1, found {q}", where="conformal selection")
