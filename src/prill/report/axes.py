"""Axes: from values to places, and where the ticks go.

Ticks fall on 1, 2 or 5 times a power of ten; on a logarithmic axis on the measured values themselves when
they are few, since those are the numbers a reader looks for.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

__all__ = ["Scale", "decimals", "linear_ticks", "log_ticks", "padded"]


@dataclass(frozen=True, kw_only=True)
class Scale:
    """Maps values in [low, high] to places in [start, stop], linearly or by logarithm."""

    low: float
    high: float
    start: float
    stop: float
    is_log: bool = False

    def __call__(self, value: float) -> float:
        low, high, value = (math.log(v) if self.is_log else v for v in (self.low, self.high, value))
        return self.start + (value - low) / (high - low) * (self.stop - self.start)


def padded(values: Iterable[float], *, share: float = 0.06) -> tuple[float, float]:
    """The range of the finite values, widened on both sides by `share` of its width; never empty."""
    finite = [value for value in values if math.isfinite(value)]
    low, high = (min(finite), max(finite)) if finite else (0.0, 1.0)
    width = (high - low) or abs(high) * 0.1 or 1.0
    return low - share * width, high + share * width


def linear_ticks(low: float, high: float, *, n_about: int = 5) -> list[float]:
    """Round numbers within [low, high], about `n_about` of them.

    >>> linear_ticks(-0.63, 0.04, n_about=4)
    [-0.6, -0.4, -0.2, 0.0]
    """
    raw = (high - low) / max(n_about, 1)
    magnitude = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * magnitude for factor in (1, 2, 5, 10) if factor * magnitude >= raw * 0.75)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(index * step, 12) + 0.0 for index in range(first, last + 1)]


def log_ticks(values: Sequence[float], low: float, high: float, *, n_most: int = 6) -> list[float]:
    """The measured values when they are few and well apart, else 1-2-5 numbers, else powers of ten."""
    distinct = sorted(set(values))
    apart = 0.8 * math.log(high / low) / n_most
    if 0 < len(distinct) <= n_most and all(math.log(b / a) >= apart for a, b in pairwise(distinct)):
        return distinct
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1, 2, 5), (1, 3), (1,)):
        ticks = [f * 10.0**e for e in exponents for f in factors if low <= f * 10.0**e <= high]
        if len(ticks) <= n_most:
            return ticks
    return ticks[:: math.ceil(len(ticks) / n_most)]


def decimals(ticks: Sequence[float]) -> int:
    """Decimals that tell neighbouring ticks apart."""
    step = min((b - a for a, b in pairwise(ticks)), default=1.0)
    return max(0, -math.floor(math.log10(step) + 1e-9)) if step > 0 else 0
