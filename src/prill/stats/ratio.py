"""Ratios of sums over sampled documents, such as bits per byte: their standard error and bootstrap interval.

Sums come before the division, so a long document counts by its length, and the resampling unit is the
document.

Legend: D documents, R resamples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from prill.errors import DataError
from prill.stats.intervals import Interval

__all__ = ["bootstrap_ratio_interval", "ratio_error"]

Values = Sequence[float] | NDArray[np.float64]
_CELLS = 1 << 22


def ratio_error(numerator: Values, denominator: Values) -> float | None:
    """Standard error of sum(numerator) / sum(denominator) when documents are sampled.

    The linearised ratio: sqrt(D / (D - 1) * sum((x - r y)²)) / sum(y).

    Args:
        numerator, denominator: one value for each document, shape (D,); denominators above 0.
    Returns:
        None for a single document: its spread is unknown.
    Raises:
        DataError: shapes differ, values are not finite, or a denominator is not positive.
    Source: Cochran 1977, Sampling Techniques, equation 6.13, without finite-population correction.
    """
    x, y = _checked(numerator, denominator)
    n = len(x)
    if n == 1:
        return None
    ratio = x.sum() / y.sum()
    return math.sqrt(n / (n - 1) * float(np.square(x - ratio * y).sum())) / float(y.sum())


def bootstrap_ratio_interval(
    numerator: Values,
    denominator: Values,
    *,
    generator: np.random.Generator,
    n_resamples: int = 2_000,
    confidence: float = 0.95,
) -> Interval:
    """Percentile interval of sum(numerator) / sum(denominator) over resampled documents.

    For a paired difference of two arms, pass the difference of their losses as numerator: the documents and
    their bytes are shared, so the difference of ratios is the ratio of differences.

    Args:
        generator: the only randomness; derive its seed from the study's seed and the name of the use.
    Returns:
        Without bounds for a single document. `standard_error` is the spread of the resamples.
    Raises:
        DataError: as for `ratio_error`.
    Source: Efron and Tibshirani 1993, An Introduction to the Bootstrap, section 13.3.
    """
    x, y = _checked(numerator, denominator)
    n = len(x)
    estimate = float(x.sum() / y.sum())
    if n == 1:
        return Interval(
            estimate=estimate, low=None, high=None, confidence=confidence, n=1, standard_error=None, noise=()
        )
    ratios = _resampled(x, y, generator, n_resamples)
    tail = (1 - confidence) / 2
    low, high = (float(q) for q in np.quantile(ratios, [tail, 1 - tail]))
    return Interval(
        estimate=estimate,
        low=min(low, estimate),
        high=max(high, estimate),
        confidence=confidence,
        n=n,
        standard_error=float(ratios.std(ddof=1)),
        noise=((1.0, n - 1.0),),
    )


def _resampled(
    x: NDArray[np.float64], y: NDArray[np.float64], generator: np.random.Generator, n_resamples: int
) -> NDArray[np.float64]:
    """Ratios of R resamples, in blocks of bounded memory. Shape (R,)."""
    n, parts = len(x), []
    block = max(1, _CELLS // n)
    for first in range(0, n_resamples, block):
        size = min(block, n_resamples - first)
        index = generator.integers(0, n, size=(size, n))
        parts.append(x[index].sum(axis=1) / y[index].sum(axis=1))
    return np.concatenate(parts)


def _checked(numerator: Values, denominator: Values) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    x, y = np.asarray(numerator, dtype=np.float64), np.asarray(denominator, dtype=np.float64)
    if x.shape != y.shape or x.ndim != 1 or not x.size:
        raise DataError(
            f"a ratio needs one pair of values for each document, found shapes {x.shape} and {y.shape}"
        )
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise DataError("a ratio needs finite values, found NaN or infinity")
    if not (y > 0).all():
        raise DataError(f"a ratio needs denominators above 0, found {y.min()}")
    return x, y
