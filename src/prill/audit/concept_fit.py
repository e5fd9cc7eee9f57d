"""What accuracy the frequency of concepts predicts: a line over concepts, a correlation over bins.

The line is accuracy against log10 of the frequency. The correlation that the paper reports is over means of
bins and hides how concepts spread, so Spearman's rho over concepts stands beside it, with a bootstrap.

Source: Udandarao et al. 2024, arXiv:2404.04125, section 3.
Differs: base 10 instead of e; empty bins are left out; Spearman's rho is added.

Legend: C concepts, R resamples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prill.errors import DataError
from prill.stats.student import two_sided_p

__all__ = ["ConceptBin", "ConceptFit", "fit_concepts"]

_N_EDGES = 12


@dataclass(frozen=True, kw_only=True)
class ConceptBin:
    """Concepts of similar frequency: bounds of log10 frequency, count, mean accuracy and its spread."""

    low: float
    high: float
    n: int
    mean: float
    sd: float


@dataclass(frozen=True, kw_only=True, eq=False)
class ConceptFit:
    """Accuracy against log10 of frequency.

    Attributes:
        intercept, slope: of the line over concepts; slope is accuracy a factor of ten.
        bins: those that hold concepts.
        pearson_r, p_value: over the means of the inner bins, None with fewer than two, or three, of them.
        spearman: over concepts, with its bounds at 95 %; None when one side is constant.
        deficit: line less observed accuracy, float64, shape (C,): high means worse than its frequency says.
        tail: indices of concepts from the rarest up, int64, shape (C,).
    """

    intercept: float
    slope: float
    bins: tuple[ConceptBin, ...]
    pearson_r: float | None
    p_value: float | None
    spearman: tuple[float, float, float] | None
    deficit: NDArray[np.float64]
    tail: NDArray[np.int64]


def fit_concepts(
    freq: Sequence[float] | NDArray[Any],
    acc: Sequence[float] | NDArray[Any],
    *,
    generator: np.random.Generator,
    n_resamples: int = 1_000,
) -> ConceptFit:
    """Fit accuracy = intercept + slope * log10(frequency).

    A frequency of 0 counts as 1. Bins: twelve equally spaced edges from the smallest to the largest log
    frequency, right-closed; the first and last bin, which hold few concepts, are left out of `pearson_r`.

    Args:
        freq: frequency of each concept, at least 0, shape (C,).
        acc: accuracy of each concept, finite, shape (C,).
        generator: of the bootstrap.
        n_resamples: R.
    Raises:
        DataError: shapes differ, fewer than two concepts, values that are not finite or below 0, or all
            frequencies equal.
    Source: Udandarao et al. 2024, section 3. Differs: empty bins are left out; base 10 instead of e.
    """
    f, y = np.asarray(freq, dtype=np.float64), np.asarray(acc, dtype=np.float64)
    if f.shape != y.shape or f.ndim != 1 or len(f) < 2:
        raise DataError(
            f"two or more concepts with frequency and accuracy expected, found {f.shape}, {y.shape}"
        )
    if not (np.isfinite(f).all() and np.isfinite(y).all() and (f >= 0).all()):
        raise DataError("frequencies of at least 0 and finite accuracies expected, found others")
    x = np.log10(np.maximum(f, 1))
    if np.ptp(x) == 0:
        raise DataError(f"concepts of different frequency expected, found {f[0]:g} for all {len(f)}")
    slope = float(((x - x.mean()) * (y - y.mean())).sum() / np.square(x - x.mean()).sum())
    intercept = float(y.mean() - slope * x.mean())
    bins, r, p = _binned(x, y)
    return ConceptFit(
        intercept=intercept,
        slope=slope,
        bins=bins,
        pearson_r=r,
        p_value=p,
        spearman=_spearman_interval(x, y, generator, n_resamples),
        deficit=intercept + slope * x - y,
        tail=np.lexsort((y, x)).astype(np.int64),
    )


def _binned(
    x: NDArray[np.float64], y: NDArray[np.float64]
) -> tuple[tuple[ConceptBin, ...], float | None, float | None]:
    """Bins with concepts, and Pearson's r over the means of the inner ones with its p-value."""
    edges = np.linspace(x.min(), x.max(), _N_EDGES)
    number = np.minimum(np.digitize(x, edges, right=True), _N_EDGES - 1)
    bins, inner = [], []
    for k in np.unique(number).tolist():
        own = y[number == k]
        low, high = float(edges[max(k - 1, 0)]), float(edges[k])
        bins.append(ConceptBin(low=low, high=high, n=len(own), mean=float(own.mean()), sd=float(own.std())))
        if 0 < k < _N_EDGES - 1:
            inner.append(((low + high) / 2, float(own.mean())))
    if len(inner) < 2:
        return tuple(bins), None, None
    r = _correlation(np.array([place for place, _ in inner]), np.array([mean for _, mean in inner]))
    return tuple(bins), r, _p_of(r, len(inner))


def _p_of(r: float | None, n: int) -> float | None:
    if r is None or n < 3:
        return None
    return two_sided_p(r * math.sqrt((n - 2) / (1 - r * r)), n - 2) if abs(r) < 1 - 1e-12 else 0.0


def _correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float | None:
    a, b = a - a.mean(), b - b.mean()
    scale = math.sqrt(float(np.square(a).sum() * np.square(b).sum()))
    return max(-1.0, min(1.0, float((a * b).sum()) / scale)) if scale > 0 else None


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ranks from 0, ties in the middle of their places."""
    _, group, size = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(size) - (size + 1) / 2)[group], dtype=np.float64)


def _spearman_interval(
    x: NDArray[np.float64], y: NDArray[np.float64], generator: np.random.Generator, n_resamples: int
) -> tuple[float, float, float] | None:
    rho = _correlation(_ranks(x), _ranks(y))
    if rho is None:
        return None
    drawn = []
    for _ in range(n_resamples):
        chosen = generator.integers(0, len(x), size=len(x))
        value = _correlation(_ranks(x[chosen]), _ranks(y[chosen]))
        if value is not None:
            drawn.append(value)
    low, high = np.quantile(drawn, [0.025, 0.975]).tolist() if drawn else (-1.0, 1.0)
    return rho, low, high
