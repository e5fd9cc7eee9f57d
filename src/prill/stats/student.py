"""Student's t without a statistics package: distribution, quantile and p-value.

The distribution function is a regularised incomplete beta function, by its continued fraction; the quantile
inverts it by guarded Newton steps. Degrees of freedom may be fractional.

Source: Abramowitz and Stegun 1964, 26.7.1 and 26.5.8; the continued fraction is evaluated by the modified
Lentz algorithm (Press et al., Numerical Recipes, section 6.4).
"""

from __future__ import annotations

import math

from prill.errors import InternalError

__all__ = ["Mixed", "mixed_p", "mixed_quantile", "t_cdf", "t_quantile", "two_sided_p"]

Mixed = tuple[tuple[float, float], ...]
"""(share of the variance, degrees of freedom) of every source of noise; the shares add up to 1."""

_TINY = 1e-300
_STEPS = 10_000
_NEARLY_NORMAL = 1e7


def t_cdf(t: float, df: float) -> float:
    """Probability that a t variable with `df` degrees of freedom is at most `t`.

    Args:
        df: degrees of freedom, above 0; above 1e7 the normal distribution is used (difference below 1e-7).
    """
    if not df > 0:
        raise InternalError(f"degrees of freedom must be above 0, found {df}", where="t distribution")
    if math.isinf(t):
        return 0.0 if t < 0 else 1.0
    if df > _NEARLY_NORMAL:
        return 0.5 * math.erfc(-t / math.sqrt(2))
    tail = 0.5 * _incomplete_beta(df / 2, 0.5, df / (df + t * t), t * t / (df + t * t))
    return tail if t < 0 else 1 - tail


def two_sided_p(t: float, df: float) -> float:
    """Probability of a t variable at least as far from 0 as `t`."""
    return min(1.0, 2 * t_cdf(-abs(t), df))


def t_quantile(p: float, df: float) -> float:
    """The t below which a share `p` of the distribution lies.

    Tested against an independent implementation to a relative error of 1e-6.

    Args:
        p: between 0 and 1, both excluded.
        df: degrees of freedom, above 0.
    """
    if not 0 < p < 1:
        raise InternalError(f"a quantile needs a share between 0 and 1, found {p}", where="t distribution")
    if p == 0.5:
        return 0.0
    if p > 0.5:
        return -_lower_quantile(1 - p, df)
    return _lower_quantile(p, df)


def mixed_quantile(p: float, parts: Mixed) -> float:
    """The quantile for an estimate whose variance has several parts: t quantiles weighted by variance share.

    Source: Cochran and Cox 1957, Experimental Designs, section 4.14. Differs from Welch and Satterthwaite:
    with two or three seeds their degrees of freedom call noise a finding in up to 12% of cases instead of 5%,
    this in at most 6% (2 seeds) or 5% (3 or more), by simulation.
    """
    return sum(share * t_quantile(p, df) for share, df in parts)


def mixed_p(t: float, parts: Mixed) -> float:
    """The p-value that goes with `mixed_quantile`: the smallest level at which `t` is significant."""
    if len(parts) == 1:
        return two_sided_p(t, parts[0][1])
    each = [two_sided_p(t, df) for share, df in parts if share > 0]
    low, high = min(each), max(each)  # the answer lies between those of the parts
    while high - low > 1e-9 * high and high > 1e-12:
        middle = math.sqrt(low * high) if low > 0 else high / 2
        low, high = (middle, high) if -mixed_quantile(middle / 2, parts) > abs(t) else (low, middle)
    return high


def _lower_quantile(p: float, df: float) -> float:
    """Newton steps, kept inside a bracket."""
    low, high = -1.0, 0.0
    while t_cdf(low, df) > p:
        low, high = 2 * low, low
    x = (low + high) / 2
    for _ in range(200):
        error = t_cdf(x, df) - p
        low, high = (x, high) if error < 0 else (low, x)
        step = x - error / _density(x, df)
        nearer = step if low < step < high else (low + high) / 2
        if abs(nearer - x) <= 1e-15 * abs(x):
            break
        x = nearer
    return x


def _density(t: float, df: float) -> float:
    if df > _NEARLY_NORMAL:
        return math.exp(-t * t / 2) / math.sqrt(2 * math.pi)
    front = math.lgamma((df + 1) / 2) - math.lgamma(df / 2) - 0.5 * math.log(df * math.pi)
    return math.exp(front - (df + 1) / 2 * math.log1p(t * t / df))


def _incomplete_beta(a: float, b: float, x: float, y: float) -> float:
    """Regularised I_x(a, b); `y` is 1 - x, given apart so that neither end loses digits."""
    if x <= 0 or y <= 0:
        return 0.0 if x <= 0 else 1.0
    log_front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log(y)
    front = math.exp(log_front)
    if x < (a + 1) / (a + b + 2):
        return front * _beta_fraction(a, b, x) / a
    return 1 - front * _beta_fraction(b, a, y) / b


def _beta_fraction(a: float, b: float, x: float) -> float:
    c, d = 1.0, 1 - (a + b) * x / (a + 1)
    d = 1 / (d if abs(d) > _TINY else _TINY)
    value = d
    for m in range(1, _STEPS):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        step = 1.0
        for term in (even, odd):
            d, c = 1 + term * d, 1 + term / c
            d, c = 1 / (d if abs(d) > _TINY else _TINY), (c if abs(c) > _TINY else _TINY)
            step = c * d
            value *= step
        if abs(step - 1) < 1e-15:
            break
    return value
