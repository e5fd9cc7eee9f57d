"""Do cheap runs rank the choices as the real ones would: decision accuracy and Kendall's tau.

Higher values are better on both sides, or lower on both: reversing both changes nothing.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from prill.errors import DataError

__all__ = ["decision_accuracy", "kendall_tau"]


def decision_accuracy(small: Sequence[float], target: Sequence[float]) -> float | None:
    """Share of pairs of recipes whose winner in the small runs also wins at the target.

    A pair tied on either side abstains and is left out; None when every pair is tied.

    Raises:
        DataError: the counts differ or there are fewer than two recipes.
    Source: Magnusson et al. 2025, arXiv:2504.11393 (DataDecide).
    """
    agree, disagree, _, _ = _pairs(small, target)
    return agree / (agree + disagree) if agree + disagree else None


def kendall_tau(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Kendall's tau-b: agreements less disagreements, corrected for ties; None if one side is all tied.

    Raises:
        DataError: the counts differ or there are fewer than two values.
    Source: Kendall 1945, Biometrika 33:239.
    """
    agree, disagree, tied_a, tied_b = _pairs(a, b)
    n = len(a) * (len(a) - 1) // 2
    scale = (n - tied_a) * (n - tied_b)
    return (agree - disagree) / scale**0.5 if scale else None


def _pairs(a: Sequence[float], b: Sequence[float]) -> tuple[int, int, int, int]:
    """Pairs that agree, that disagree, tied in a, tied in b."""
    if len(a) != len(b) or len(a) < 2:
        raise DataError(f"ranks need two or more values on both sides, found {len(a)} and {len(b)}")
    agree = disagree = tied_a = tied_b = 0
    for i, j in itertools.combinations(range(len(a)), 2):
        sign_a, sign_b = (a[i] > a[j]) - (a[i] < a[j]), (b[i] > b[j]) - (b[i] < b[j])
        tied_a, tied_b = tied_a + (sign_a == 0), tied_b + (sign_b == 0)
        agree, disagree = agree + (sign_a * sign_b > 0), disagree + (sign_a * sign_b < 0)
    return agree, disagree, tied_a, tied_b
