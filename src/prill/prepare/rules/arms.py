"""Arms of a filter study: threshold, inverse, random drop of the same share, leave one domain out.

A filter that helps may help because it removes bad text or because it removes text at all. So each
threshold arm comes with two others of the same size: the inverse, which keeps the other end of the scores,
and a random drop, keyed by the hash of the text so that re-sharding changes nothing.

Source: Longpre et al. 2024, arXiv:2305.13169, sections 3 to 6. Differs: the random arm of equal share is
ours; the paper compares with the full data only.

Legend: D documents.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from prill.errors import DataError, RecipeError, near
from prill.features.keyed import derive_seed, keyed_uniform

__all__ = ["ArmKind", "FilterArm", "age_slope", "domain_arms", "threshold_arms"]

ArmKind: TypeAlias = Literal["full", "threshold", "inverse", "random", "without"]


@dataclass(frozen=True, kw_only=True, eq=False)
class FilterArm:
    """One arm: what it keeps.

    Attributes:
        name: as tables show it: `full`, `quality <= 0.7`, `inverse of quality <= 0.7`, `random 70 %`,
            `without books`.
        kind: what it is for.
        keep: which documents stay, bool, shape (D,).
    """

    name: str
    kind: ArmKind
    keep: NDArray[np.bool_]

    @property
    def share(self) -> float:
        """Share of documents kept; 0 without documents."""
        return float(self.keep.mean()) if len(self.keep) else 0.0


def threshold_arms(
    scores_D: NDArray[np.float64],
    keys_D: NDArray[np.uint64],
    *,
    name: str,
    thresholds: Sequence[float],
    higher_is_better: bool,
    seed: int = 0,
) -> tuple[FilterArm, ...]:
    """The full data, and for each threshold the filter, its inverse and a random drop, all of one size.

    The filter keeps scores <= t when low is good, >= t when high is good, so arms of several thresholds are
    nested. The inverse keeps as many documents from the other end; equal scores are told apart by the keyed
    draw, then by place. The random arm keeps the documents of the smallest draws, so random arms are nested
    too.

    Args:
        scores_D: finite, float64, shape (D,).
        keys_D: the low half of the text hashes, uint64, shape (D,).
        name: of the score, as arms show it.
        thresholds: different numbers.
        higher_is_better: the direction of the score.
        seed: of the random drop.
    Raises:
        DataError: a score is not finite.
        RecipeError: a threshold stands twice.
    """
    _check(scores_D, name, thresholds)
    draws_D = keyed_uniform(derive_seed(seed, "filter.random"), keys_D)
    order = np.lexsort((draws_D, -scores_D if higher_is_better else scores_D))[::-1]  # worst first
    by_draw = np.argsort(draws_D, kind="stable")
    sign = ">=" if higher_is_better else "<="
    arms = [FilterArm(name="full", kind="full", keep=np.ones(len(scores_D), dtype=np.bool_))]
    for threshold in thresholds:
        keep_D = scores_D >= threshold if higher_is_better else scores_D <= threshold
        n_kept = int(keep_D.sum())
        title = f"{name} {sign} {threshold:g}"
        share = 100 * n_kept / max(len(scores_D), 1)
        arms += [
            FilterArm(name=title, kind="threshold", keep=keep_D),
            FilterArm(name=f"inverse of {title}", kind="inverse", keep=_only(order[:n_kept], len(order))),
            FilterArm(
                name=f"random {share:.3g} % for {title}",
                kind="random",
                keep=_only(by_draw[:n_kept], len(order)),
            ),
        ]
    return tuple(arms)


def domain_arms(domains: Sequence[str | None], *, leave_out: Sequence[str] = ()) -> tuple[FilterArm, ...]:
    """The full data, and for each domain an arm without it; what the arms remove parts the corpus.

    Args:
        domains: of each document, D of them; None is a domain of its own that is never left out.
        leave_out: which domains; empty for all, in alphabetical order.
    Raises:
        RecipeError: no document is of a domain that is to be left out.
    """
    values = np.array([domain or "" for domain in domains], dtype=object)
    known = sorted({domain for domain in domains if domain})
    for domain in leave_out:
        if domain not in known:
            raise RecipeError(f"expected the name of a domain, found {domain!r}", hint=near(domain, known))
    full = FilterArm(name="full", kind="full", keep=np.ones(len(values), dtype=np.bool_))
    chosen = tuple(dict.fromkeys(leave_out)) or tuple(known)
    without = (
        FilterArm(name=f"without {domain}", kind="without", keep=np.asarray(values != domain, dtype=np.bool_))
        for domain in chosen
    )
    return (full, *without)


def age_slope(gap_years: NDArray[np.float64], scores: NDArray[np.float64]) -> tuple[float, float]:
    """How much a score falls a year between pretraining and evaluation, and how well a line tells it.

    Args:
        gap_years: evaluation year less pretraining year of each result, of either sign.
        scores: the result's score.
    Returns:
        Temporal degradation: the slope of the fall over |gap|, points a year; and Pearson's r of the fall.
        Both 0 when all distances or all scores are equal.
    Source: section 4 and appendix; the fit is ordinary least squares. Differs: none.
    """
    distance = np.abs(np.asarray(gap_years, dtype=np.float64))
    fall = -np.asarray(scores, dtype=np.float64)
    x, y = distance - distance.mean(), fall - fall.mean()
    xx, yy, xy = float(x @ x), float(y @ y), float(x @ y)
    if xx == 0 or yy == 0:
        return 0.0, 0.0
    return xy / xx, xy / float(np.sqrt(xx * yy))


def _check(scores_D: NDArray[np.float64], name: str, thresholds: Sequence[float]) -> None:
    bad = np.flatnonzero(~np.isfinite(scores_D))
    if bad.size:
        message = f"expected finite scores in {name!r}, found {scores_D[bad[0]]} and {bad.size - 1} more"
        raise DataError(message, where=f"document {bad[0]}", hint="score every document, or drop those first")
    if len(set(thresholds)) < len(thresholds):
        raise RecipeError(f"expected different thresholds, found {list(thresholds)}", where=name)


def _only(places: NDArray[np.intp], n: int) -> NDArray[np.bool_]:
    keep = np.zeros(n, dtype=np.bool_)
    keep[places] = True
    return keep
