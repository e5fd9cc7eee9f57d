"""Shares of successes among trials, with intervals that hold for shares near 0 and 1 and for few trials."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from prill.errors import DataError

__all__ = ["Proportion", "clopper_pearson", "wilson"]

_BISECTIONS = 60


@dataclass(frozen=True, kw_only=True)
class Proportion:
    """A share of successes.

    Attributes:
        k, n: successes and trials.
        low, high: bounds of the share at `confidence`.
    """

    k: int
    n: int
    low: float
    high: float
    confidence: float

    @property
    def estimate(self) -> float | None:
        """k / n; None without trials."""
        return self.k / self.n if self.n else None


def wilson(k: int, n: int, *, confidence: float = 0.95) -> Proportion:
    """Score interval of a binomial share; 0 to 1 without trials.

    Args:
        k: successes, 0 to n.
        n: trials.
    Raises:
        DataError: k is outside 0 to n, or the confidence outside 0 to 1.
    Source: Wilson 1927, Journal of the American Statistical Association 22:209.

    >>> [round(bound, 4) for bound in (wilson(10, 10).low, wilson(10, 10).high)]
    [0.7225, 1.0]
    """
    _check(k, n, confidence)
    if n == 0:
        return Proportion(k=0, n=0, low=0.0, high=1.0, confidence=confidence)
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    share, spread = k / n, z * z / n
    middle = (share + spread / 2) / (1 + spread)
    half = z * math.sqrt(share * (1 - share) / n + spread / (4 * n)) / (1 + spread)
    low = 0.0 if k == 0 else max(0.0, middle - half)
    high = 1.0 if k == n else min(1.0, middle + half)
    return Proportion(k=k, n=n, low=low, high=high, confidence=confidence)


def clopper_pearson(k: int, n: int, *, confidence: float = 0.95) -> Proportion:
    """Exact interval of a binomial share: it covers the truth at least as often as it says.

    The bounds are the shares under which k or more, or k or fewer, successes have probability
    (1 - confidence) / 2, found by bisection.

    Args, Raises: as `wilson`.
    Source: Clopper and Pearson 1934, Biometrika 26:404.

    >>> [round(bound, 4) for bound in (clopper_pearson(10, 10).low, clopper_pearson(0, 10).high)]
    [0.6915, 0.3085]
    """
    _check(k, n, confidence)
    tail = (1 - confidence) / 2
    low = 0.0 if k == 0 else _root(lambda share: _at_least(k, n, share) - tail)
    high = 1.0 if k == n else _root(lambda share: tail - (1 - _at_least(k + 1, n, share)))
    return Proportion(k=k, n=n, low=low, high=high, confidence=confidence)


def _check(k: int, n: int, confidence: float) -> None:
    if not 0 <= k <= n or not 0 < confidence < 1:
        message = f"expected 0 <= k <= n and 0 < confidence < 1, found k={k}, n={n}, confidence={confidence}"
        raise DataError(message)


def _at_least(k: int, n: int, share: float) -> float:
    """Probability of k or more successes."""
    counts = np.arange(k, n + 1)
    logs = [math.lgamma(n + 1) - math.lgamma(i + 1) - math.lgamma(n - i + 1) for i in counts.tolist()]
    terms = np.array(logs) + counts * math.log(share) + (n - counts) * math.log1p(-share)
    return float(np.exp(terms).sum())


def _root(rising: Callable[[float], float]) -> float:
    low, high = 0.0, 1.0
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (low, middle) if rising(middle) > 0 else (middle, high)
    return (low + high) / 2
