"""Selection stage by stage: predicted post-step losses, noise, thresholds, nothing consumed twice.

Each stage has a linear influence model over document vectors, which predicts the z-scored loss on the target
after one step on a document (lower is better), and takes a share of the tokens that no earlier stage took.
What a stage took is told by its threshold alone, so that any shard can be read without the others.

Source: Yu et al. 2024, arXiv:2406.06046 (MATES), sections 3.2 and 3.3. Legend: D documents, K dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Form",
    "StageModel",
    "fit_ridge",
    "preference",
    "spearman",
    "stage_of",
    "threshold_of",
    "z_scores",
]

Form = Literal["gumbel", "reference", "none"]

PENALTIES = tuple(10.0**power for power in range(-2, 5))
"""Ridge penalties tried, in units of the mean eigenvalue."""


@dataclass(frozen=True, kw_only=True)
class StageModel:
    """What a stage knows and took.

    Attributes:
        weight: float64, (K,).
        bias: float64.
        threshold: documents whose preference is at least this were taken.
        seed: of the stage's noise.
    """

    weight: NDArray[np.float64]
    bias: float
    threshold: float
    seed: int

    def predict(self, vectors: NDArray[np.float32]) -> NDArray[np.float64]:
        """Predicted z-scored loss after a step, (D,); lower is better. The same whatever else is in D."""
        return np.asarray((vectors.astype(np.float64) * self.weight).sum(axis=1) + self.bias)


def z_scores(losses: NDArray[np.float64]) -> tuple[NDArray[np.float64], float, float]:
    """(losses - mean) / deviation with ddof 0; zeros where all are equal. Also mean and deviation."""
    mean, deviation = float(losses.mean()), float(losses.std())
    if not deviation > 0:
        return np.zeros_like(losses), mean, 0.0
    return (losses - mean) / deviation, mean, deviation


def preference(
    predicted: NDArray[np.float64], noise: NDArray[np.float64], *, temperature: float, form: Form = "gumbel"
) -> NDArray[np.float64]:
    """What the largest of are taken, (D,).

    `gumbel`: -pred / temperature + noise, whose k largest are a sample without replacement in proportion to
    exp(-pred / temperature). `reference`: the released code takes the smallest of pred / temperature + noise,
    which is another distribution for three documents or more. `none`: -pred.
    """
    if form == "none":
        return -predicted
    scaled = predicted / temperature
    return noise - scaled if form == "gumbel" else -(scaled + noise)


def threshold_of(
    preferred: NDArray[np.float64], n_tokens: NDArray[np.int64], budget: float
) -> tuple[float, int]:
    """The lowest preference that is taken so that about `budget` tokens are, and how many documents that is.

    Documents are taken from the top until they hold the budget; equal preferences go together.
    """
    if not len(preferred):
        return float("inf"), 0
    order = np.argsort(-preferred, kind="stable")
    n_taken = int(np.searchsorted(np.cumsum(n_tokens[order]), budget)) + 1
    lowest = float(preferred[order[min(n_taken, len(order)) - 1]])
    return lowest, int((preferred >= lowest).sum())


def stage_of(preferred: Sequence[NDArray[np.float64]], thresholds: Sequence[float]) -> NDArray[np.int64]:
    """The stage that took each document, (D,): the first whose threshold it reaches, else their number."""
    taken = np.stack([p >= t for p, t in zip(preferred, thresholds, strict=True)])
    return np.where(taken.any(axis=0), taken.argmax(axis=0), len(thresholds)).astype(np.int64)


def fit_ridge(
    vectors: NDArray[np.float32], labels: NDArray[np.float64], *, is_validation: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], float, float]:
    """Linear weights, bias, and the rank correlation on the validation part.

    The penalty is the one of `PENALTIES` whose predictions rank the validation part best (the largest of
    equals); the weights are then fitted to everything.
    """
    best = (-2.0, PENALTIES[-1])
    train = ~is_validation
    for penalty in reversed(PENALTIES):
        weight, bias = _ridge(vectors[train], labels[train], penalty)
        score = spearman(vectors[is_validation].astype(np.float64) @ weight + bias, labels[is_validation])
        best = max(best, (score, penalty), key=lambda found: found[0])
    weight, bias = _ridge(vectors, labels, best[1])
    return weight, bias, best[0]


def spearman(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Spearman's rank correlation, ties at their mean rank; 0 where a side is all tied or too short."""
    if len(a) < 2:
        return 0.0
    ranks = [_ranks(values) for values in (a, b)]
    deviations = [r - r.mean() for r in ranks]
    scale = float(np.sqrt((deviations[0] ** 2).sum() * (deviations[1] ** 2).sum()))
    return float((deviations[0] * deviations[1]).sum()) / scale if scale > 0 else 0.0


def _ridge(
    vectors: NDArray[np.float32], labels: NDArray[np.float64], penalty: float
) -> tuple[NDArray[np.float64], float]:
    wide = vectors.astype(np.float64)
    middle, level = wide.mean(axis=0), float(labels.mean())
    centred = wide - middle
    gram = centred.T @ centred
    scale = float(np.trace(gram)) / len(gram)
    if not scale > 0:
        return np.zeros(wide.shape[1]), level
    weight = np.linalg.solve(gram + penalty * scale * np.eye(len(gram)), centred.T @ (labels - level))
    return weight, level - float(middle @ weight)


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return np.asarray((ends - (counts - 1) / 2)[inverse])
