"""Intervals for means, paired differences, and differences that vary over both seeds and documents.

An interval is reported with what it was made of (count, spread, sources of noise), so that a reader can
redo it. One value gives an estimate without bounds: no spread is known, and none is made up.

Legend: N values (seeds), D documents.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prill.errors import DataError
from prill.stats.student import Mixed, mixed_p, mixed_quantile

__all__ = ["Interval", "combined_interval", "mean_interval", "paired_interval"]

Values = Sequence[float] | NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Interval:
    """An estimate with bounds; `low`, `high` and `standard_error` are None when no spread is known."""

    estimate: float
    low: float | None
    high: float | None
    confidence: float
    n: int
    """How many values (seeds, documents) it rests on."""
    standard_error: float | None
    noise: Mixed
    """(share of the variance, degrees of freedom) of each source of noise; empty when none is known."""

    @property
    def half_width(self) -> float | None:
        """Half the length of the interval, in the unit of the estimate."""
        return None if self.low is None or self.high is None else (self.high - self.low) / 2

    @property
    def p_value(self) -> float | None:
        """Two-sided probability of an estimate this far from 0 if the truth were 0; None without a spread.

        Without any spread at all (a standard error of 0) it is 1 at 0 and 0 elsewhere.
        """
        if self.standard_error is None:
            return None
        if self.standard_error == 0:
            return 1.0 if self.estimate == 0 else 0.0
        return mixed_p(self.estimate / self.standard_error, self.noise)

    def excludes(self, value: float) -> bool:
        """Whether `value` lies outside the bounds; never without bounds."""
        return self.low is not None and self.high is not None and not self.low <= value <= self.high

    @property
    def sign(self) -> int:
        """-1 or +1 when the bounds leave no doubt about the direction, 0 otherwise."""
        return (1 if self.estimate > 0 else -1) if self.excludes(0.0) else 0

    def to_json(self) -> dict[str, Any]:
        """Plain values, unrounded."""
        return {**vars(self), "half_width": self.half_width, "p_value": self.p_value}


def mean_interval(values: Values, *, confidence: float = 0.95) -> Interval:
    """The mean of independent values with its t interval.

    Args:
        values: shape (N,), finite; one value gives no bounds.
    Raises:
        DataError: there is no value, or one is not finite.
    """
    x = _finite(values)
    n = len(x)
    if n == 1:
        return _unbounded(float(x[0]), confidence, 1)
    error = float(x.std(ddof=1)) / math.sqrt(n)
    return _bounded(float(x.mean()), error, ((1.0, n - 1.0),), confidence, n)


def paired_interval(a: Values, b: Values, *, confidence: float = 0.95) -> Interval:
    """The mean of a - b over pairs (the same seed) with its t interval.

    Raises:
        DataError: the counts differ, there is no pair, or a value is not finite.
    """
    x, y = _finite(a), _finite(b)
    if len(x) != len(y):
        raise DataError(f"pairs need as many values on both sides, found {len(x)} and {len(y)}")
    return mean_interval(x - y, confidence=confidence)


def combined_interval(
    seed_values: Values, *, document_error: float | None, n_documents: int, confidence: float = 0.95
) -> Interval:
    """The mean over seeds with the uncertainty of both the seeds and the sampled documents.

    The variance is s² / N + e², with s the spread over seeds and e the standard error from sampling
    documents. Each seed is measured on the same documents, so the first term holds none of the second's main
    effect; their interaction is in both, which errs on the safe side. The t quantile is the mean of those of
    N - 1 and D - 1 degrees of freedom, weighted by the two variances (`mixed_quantile` says why).

    Args:
        seed_values: shape (N,), one value (a paired difference) for each seed.
        document_error: standard error of the estimate from sampling documents; None when unknown (one
            document).
        n_documents: D; gives D - 1 degrees of freedom.
    Returns:
        Without bounds if N is 1 or the document error is unknown.
    Source: Cochran and Cox 1957, section 4.14. Madaan et al. 2024, arXiv:2406.10229, asks for both sources of
    noise.
    """
    x = _finite(seed_values)
    n = len(x)
    if n == 1 or document_error is None or n_documents < 2:
        return _unbounded(float(x.mean()), confidence, n)
    of_seeds, of_documents = float(x.var(ddof=1)) / n, document_error**2
    variance = of_seeds + of_documents
    if variance == 0:
        return _bounded(float(x.mean()), 0.0, ((1.0, n - 1.0),), confidence, n)
    share = of_seeds / variance
    noise = ((share, n - 1.0), (1 - share, n_documents - 1.0))
    return _bounded(float(x.mean()), math.sqrt(variance), noise, confidence, n)


def _bounded(estimate: float, error: float, noise: Mixed, confidence: float, n: int) -> Interval:
    half = mixed_quantile(0.5 + confidence / 2, noise) * error
    return Interval(
        estimate=estimate,
        low=estimate - half,
        high=estimate + half,
        confidence=confidence,
        n=n,
        standard_error=error,
        noise=noise,
    )


def _unbounded(estimate: float, confidence: float, n: int) -> Interval:
    return Interval(
        estimate=estimate, low=None, high=None, confidence=confidence, n=n, standard_error=None, noise=()
    )


def _finite(values: Values) -> NDArray[np.float64]:
    x = np.asarray(values, dtype=np.float64)
    if x.size == 0:
        raise DataError("an interval needs at least one value, found none")
    if not np.isfinite(x).all():
        i = int(np.argmin(np.isfinite(x)))
        raise DataError(f"an interval needs finite values, found {x[i]} at position {i}")
    return x
