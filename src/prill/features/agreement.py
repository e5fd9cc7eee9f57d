"""How well predicted grades follow given ones, on documents that were kept back.

Legend: D documents.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from prill.features.keyed import derive_seed, keyed_uniform
from prill.features.rater.rubric import Scale
from prill.features.stages import spearman

__all__ = ["agreement", "rounded_grade", "stratified"]


def rounded_grade(raw: NDArray[np.float64], scale: Scale) -> NDArray[np.float64]:
    """Whole grades: clipped to the scale, then rounded to the nearest, halves to the even one.

    As Python's `round`, which the reference uses: 2.5 is 2, 3.5 is 4, 0.5 is 0. NaN stays.

    >>> rounded_grade(np.array([2.49, 2.5, 2.51, 3.5, -0.3, 5.7]), Scale(name="g", low=0, high=5)).tolist()
    [2.0, 2.0, 3.0, 4.0, 0.0, 5.0]
    """
    return np.asarray(np.rint(np.clip(raw, scale.low, scale.high)) + 0.0)


def agreement(
    grades: NDArray[np.float64], predicted: NDArray[np.float64], scale: Scale, threshold: float
) -> dict[str, Any]:
    """How well predictions follow grades that the student has not seen.

    Returns:
        n; accuracy of rounded predictions; f1 of "at least the threshold" (None where nothing is); spearman;
        slope, intercept and residual variance: predicted = intercept + slope * grade, where a slope below 1
        is shrinkage (see `target-shrinkage-correction`).
    """
    is_seen = np.isfinite(predicted)
    y, p = grades[is_seen], predicted[is_seen]
    if len(y) < 2:
        return {"n": len(y)}
    whole = rounded_grade(p, scale)
    good, found = np.rint(y) >= threshold, whole >= threshold
    n_either = int(good.sum() + found.sum())
    spread = float(((y - y.mean()) ** 2).sum())
    slope = float(((y - y.mean()) * (p - p.mean())).sum()) / spread if spread > 0 else None
    return {
        "n": len(y),
        "accuracy": float((whole == np.rint(y)).mean()),
        "threshold": threshold,
        "f1": 2 * int((good & found).sum()) / n_either if n_either else None,
        "spearman": spearman(y, p),
        "slope": slope,
        "intercept": None if slope is None else float(p.mean()) - slope * float(y.mean()),
        "residual_variance": float((y - p).var()),
    }


def stratified(
    grades: NDArray[np.float64], keys: NDArray[np.uint64], share: float, seed: int
) -> NDArray[np.bool_]:
    """Which are kept back: this share of each grade, rounded, those with the smallest keyed draws."""
    draws = keyed_uniform(derive_seed(seed, "distilled.held_out"), keys)
    held = np.zeros(len(keys), np.bool_)
    for level in np.unique(np.rint(grades)):
        here = np.flatnonzero(np.rint(grades) == level)
        held[here[np.lexsort((keys[here], draws[here]))][: round(share * len(here))]] = True
    return held
