"""What OptCS does with labelled and test documents once their scores are there: pure arithmetic.

Legend: n labelled documents, m test documents, T texts of the target, K scores.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from prill.stats.conformal import Discoveries, Pruning

__all__ = ["Block", "Choice", "choice", "null_steps", "nulls_at"]

_Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Block:
    """What is calibrated and tested on.

    Attributes:
        labelled: scores, shape (K, n).
        is_good: shape (n,); all False when random documents of the pool stand for labelled ones.
        test: scores, shape (K, m).
        own: scores of the target's texts, shape (K, T), without labels; else None.
    """

    labelled: _Floats
    is_good: NDArray[np.bool_]
    test: _Floats
    own: _Floats | None


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The chosen score as steps of nulls (see `null_steps`), and what happened.

    Attributes:
        score: its index.
        votes: test documents for which each score was chosen, shape (K,).
        n_selected: test documents selected by OptCS.
        p_value: largest selected one under the chosen score; half of the least possible when none is.
        fdr: Benjamini and Hochberg's estimate for all test documents up to that p-value.
        prevalence: share of good documents, as labelled, said or estimated.
    """

    score: int
    steps: tuple[_Floats, _Floats]
    votes: NDArray[np.int64]
    n_selected: int
    p_value: float
    fdr: float
    prevalence: float


def choice(
    block: Block, *, q: float, prevalence: float | None, pruning: Pruning, e_share: float, seed: int
) -> Choice:
    """Choose a score and its threshold; `prevalence` counts without labels only, None estimates it."""
    from prill.stats.conformal import chosen_by_counts

    n, m = block.labelled.shape[1], block.test.shape[1]
    share = _prevalence(block, prevalence)
    steps = [
        null_steps(row[~block.is_good], None if block.own is None else block.own[k], share)
        for k, row in enumerate(block.labelled)
    ]
    nulls = np.stack([nulls_at(*step, row) for step, row in zip(steps, block.test, strict=True)])
    found = chosen_by_counts(nulls, block.test, n=n, q=q, pruning=pruning, seed=seed, e_share=e_share)
    chosen = _most_often(found, block)
    p = (1 + nulls[chosen]) / (n + 1)
    is_in = found.selected & (found.score == chosen)
    limit = float(p[is_in].max()) if is_in.any() else 0.5 / (n + 1)
    return Choice(
        score=chosen,
        steps=steps[chosen],
        votes=np.bincount(found.score, minlength=len(steps)).astype(np.int64),
        n_selected=int(found.selected.sum()),
        p_value=limit,
        fdr=min(1.0, m * limit / int((p <= limit).sum())) if is_in.any() else 0.0,
        prevalence=share,
    )


def null_steps(pool_n: _Floats, own_T: _Floats | None, prevalence: float) -> tuple[_Floats, _Floats]:
    """How many documents that are not good score at least as high, at each score where that changes.

    Without labels it is the pool's documents less those that must be good: `prevalence` of them, which
    score like the target's. The difference is made to fall with the score and rounded up, both of which
    make p-values larger.

    Args:
        pool_n: scores of labelled documents that are not good, or of random documents of the pool.
        own_T: scores of the target's own documents; None takes nothing off.
        prevalence: share of good documents among `pool_n`.
    Returns:
        Scores, rising, and the number at each; above the last score the number is 0.
    """
    pool = np.sort(pool_n)
    own = np.sort(own_T) if own_T is not None and prevalence > 0 else np.empty(0)
    scores = np.unique(np.concatenate([pool, own]))
    above = (len(pool) - np.searchsorted(pool, scores, side="left")).astype(np.float64)
    if len(own):
        above = above - prevalence * len(pool) * (1 - np.searchsorted(own, scores, side="left") / len(own))
    falling = np.maximum.accumulate(np.maximum(above, 0.0)[::-1])[::-1]
    return scores, np.ceil(falling - 1e-9)


def nulls_at(scores: _Floats, n_nulls: _Floats, at_D: _Floats) -> _Floats:
    """The number of the first step at or above each score; NaN for NaN. Shape (D,)."""
    found = np.append(n_nulls, 0.0)[np.searchsorted(scores, at_D, side="left")]
    return np.where(np.isnan(at_D), np.nan, found)


def _prevalence(block: Block, said: float | None) -> float:
    """The share of good documents in the pool: as labelled, as said, or the largest that scores allow.

    A share pi of the pool scores like the target, so for every score and member the pool's share above it
    is at least pi times the target's. Only scores that half of the target reaches are looked at: members
    are fitted on these texts, and score the best of them too high.
    """
    if block.own is None:
        return float(block.is_good.mean())
    if said is not None:
        return said
    found = 0.999
    for pool, own in zip(block.labelled, np.sort(block.own, axis=1), strict=True):
        at = own[: max(1, len(own) // 2)]
        reached = 1 - np.arange(len(at)) / len(own)
        above = 1 - np.searchsorted(np.sort(pool), at, side="left") / len(pool)
        found = min(found, float((above / reached).min()))
    return found


def _most_often(found: Discoveries, block: Block) -> int:
    """The member chosen for most of the selected documents; when nothing is selected, the one that tells the
    good from the others best (only the order rests on it)."""
    pool = block.labelled
    if found.selected.any():
        return int(np.argmax(np.bincount(found.score[found.selected], minlength=len(pool))))
    good = pool[:, block.is_good] if block.own is None else block.own
    nulls = np.sort(pool[:, ~block.is_good], axis=1)
    below = [
        np.searchsorted(row, x, side="left").mean() + np.searchsorted(row, x, side="right").mean()
        for row, x in zip(nulls, good, strict=True)
    ]
    return int(np.argmax(below))
