"""An upper-confidence bandit whose arms are clusters of documents.

A pull samples documents of a cluster; the reward is their mean influence less a threshold. A positive reward
accepts the cluster's next block of documents, and every reward is shared with near clusters. Pure functions
over arrays: the loop asks its caller for means.

Source: Zhang et al. 2024, arXiv:2409.16986 (Quad), section 4; released code c2f0b39, whose bonus divides by
the pulls plus one and which counts a neighbour's update as a pull. Legend: C clusters.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["EXHAUSTED", "Arms", "choose", "pull", "run_bandit", "ucb"]

EXHAUSTED = -9_999_999.0
"""The bound of a cluster without documents left."""

Means = Callable[[NDArray[np.int64], int], NDArray[np.float64]]
"""(clusters to pull, iteration) -> mean influence of documents sampled from each."""


@dataclass(frozen=True, kw_only=True)
class Arms:
    """Where the bandit stands.

    Attributes:
        score: sum of rewards, own and shared, float64, (C,).
        pulls: int64, (C,).
        blocks: accepted blocks, int64, (C,).
        n_blocks: blocks that each cluster has, int64, (C,); 0 where it has no documents.
        n_iterations: so far.
    """

    score: NDArray[np.float64]
    pulls: NDArray[np.int64]
    blocks: NDArray[np.int64]
    n_blocks: NDArray[np.int64]
    n_iterations: int = 0

    @classmethod
    def fresh(cls, n_blocks: NDArray[np.int64]) -> Arms:
        """Nothing pulled yet."""
        blank = np.zeros(len(n_blocks), np.int64)
        return cls(score=blank.astype(np.float64), pulls=blank, blocks=blank.copy(), n_blocks=n_blocks)

    @property
    def means(self) -> NDArray[np.float64]:
        """Mean reward a pull, 0 where there was none, (C,)."""
        return self.score / np.maximum(self.pulls, 1)


def ucb(arms: Arms, *, alpha: float) -> NDArray[np.float64]:
    """score / pulls + alpha sqrt(2 ln(total) / (pulls + 1)), (C,); `EXHAUSTED` where nothing is left."""
    total = max(int(arms.pulls.sum()), 1)
    bound = arms.means + alpha * np.sqrt(2 * np.log(total) / (arms.pulls + 1))
    return np.where(arms.blocks >= arms.n_blocks, EXHAUSTED, bound)


def choose(bounds: NDArray[np.float64], n_arms: int) -> NDArray[np.int64]:
    """The clusters to pull: the highest bounds, at ties the lowest number; none that is exhausted."""
    order = np.argsort(-bounds, kind="stable")[:n_arms]
    return order[bounds[order] > EXHAUSTED].astype(np.int64)


def pull(
    arms: Arms,
    chosen: Sequence[int] | NDArray[np.int64],
    means: Sequence[float] | NDArray[np.float64],
    distances: NDArray[np.float64],
    *,
    tau: float,
    radius: float,
) -> Arms:
    """The arms after one iteration.

    Args:
        chosen: clusters that were sampled.
        means: mean influence of each one's sample.
        distances: between centres, (C, C), 0 on the diagonal; NaN where there is no centre.
        tau: reward = mean - tau.
        radius: clusters nearer than this share a reward, the share falling linearly to 0.
    """
    score, pulls, blocks = arms.score.copy(), arms.pulls.copy(), arms.blocks.copy()
    for cluster, mean in zip(chosen, means, strict=True):
        reward = float(mean) - tau
        blocks[cluster] += reward > 0
        near = distances[cluster] < radius
        near[cluster] = False
        score[near] += reward * (1 - distances[cluster, near] / radius)
        near[cluster] = True
        score[cluster] += reward
        pulls[near] += 1
    return dataclasses.replace(
        arms,
        score=score,
        pulls=pulls,
        blocks=np.minimum(blocks, arms.n_blocks),
        n_iterations=arms.n_iterations + 1,
    )


def run_bandit(
    n_blocks: NDArray[np.int64],
    means: Means,
    distances: NDArray[np.float64],
    *,
    tau: float,
    alpha: float,
    radius: float,
    n_arms: int,
    wanted_blocks: int,
    most_iterations: int,
) -> Arms:
    """Pull until enough blocks are accepted, nothing is left, or the iterations are used up."""
    arms = Arms.fresh(n_blocks)
    while arms.n_iterations < most_iterations and int(arms.blocks.sum()) < wanted_blocks:
        chosen = choose(ucb(arms, alpha=alpha), n_arms)
        if not len(chosen):
            break
        found = means(chosen, arms.n_iterations)
        arms = pull(arms, chosen, found, distances, tau=tau, radius=radius)
    return arms
