"""What an experiment of a given size can see: noise floor, smallest detectable difference, seeds needed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from prill.stats.student import Mixed, mixed_quantile

__all__ = ["detectable_with", "holm", "n_seeds_needed", "noise_floor", "smallest_detectable"]

_MOST_SEEDS = 10_000


def noise_floor(values: Sequence[float]) -> float | None:
    """Standard deviation over seeds of one arm (N - 1 in the denominator); None for a single seed."""
    return float(np.std(np.asarray(values, dtype=np.float64), ddof=1)) if len(values) > 1 else None


def smallest_detectable(
    sd: float, n_pairs: int, *, confidence: float = 0.95, power: float = 0.8
) -> float | None:
    """The true mean difference that a paired t test finds with probability `power`.

    (t[1 - alpha/2, n - 1] + t[power, n - 1]) * sd / sqrt(n): the noncentral t is approximated by a shifted
    central one; for three pairs or more the true power is within 0.05 of the stated one.

    Args:
        sd: standard deviation of the paired differences over seeds (sqrt(2) * the seed sd if unpaired).
        n_pairs: seeds; below 2 nothing can be detected and the answer is None.
    Source: Cohen 1988, Statistical Power Analysis, chapter 2.
    """
    if n_pairs < 2:
        return None
    return detectable_with(
        sd / math.sqrt(n_pairs), ((1.0, n_pairs - 1.0),), confidence=confidence, power=power
    )


def detectable_with(error: float, noise: Mixed, *, confidence: float = 0.95, power: float = 0.8) -> float:
    """The same for any estimate with this standard error and these sources of noise."""
    return (mixed_quantile(0.5 + confidence / 2, noise) + mixed_quantile(power, noise)) * error


def n_seeds_needed(
    difference: float, sd: float, *, confidence: float = 0.95, power: float = 0.8
) -> int | None:
    """Fewest pairs of runs with which `difference` would be found; None above 10,000 or for no difference."""
    size = abs(difference)
    if size == 0:
        return None
    fewest, most = 2, _MOST_SEEDS
    if _detectable(sd, most, confidence, power) > size:
        return None
    while fewest < most:
        middle = (fewest + most) // 2
        if _detectable(sd, middle, confidence, power) <= size:
            most = middle
        else:
            fewest = middle + 1
    return fewest


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Adjusted p-values that control the chance of any false claim among all of them.

    The k-th smallest of m is multiplied by m - k + 1; none is smaller than the one before, none above 1.

    Source: Holm 1979, Scandinavian Journal of Statistics 6:65.
    """
    adjusted: dict[str, float] = {}
    largest = 0.0
    for k, name in enumerate(sorted(p_values, key=lambda key: (p_values[key], key))):
        largest = min(1.0, max(largest, (len(p_values) - k) * p_values[name]))
        adjusted[name] = largest
    return adjusted


def _detectable(sd: float, n_pairs: int, confidence: float, power: float) -> float:
    return smallest_detectable(sd, n_pairs, confidence=confidence, power=power) or 0.0
