"""Numbers as people read them: rounded to what the uncertainty allows, and never past a bound."""

from __future__ import annotations

import math

__all__ = ["count", "decimals_for", "fixed", "percent", "times", "tokens"]

_MOST_DECIMALS = 6


def decimals_for(half_width: float | None) -> int:
    """Decimals worth showing: one digit of the half-width, two if it starts with 1 or 2; at least 2, at most
    6."""
    if half_width is None or not half_width > 0:
        return 3
    exponent = math.floor(math.log10(half_width))
    lead = half_width / 10.0**exponent
    return min(_MOST_DECIMALS, max(2, -exponent + (1 if lead < 2.95 else 0)))


def fixed(value: float, decimals: int) -> str:
    """`value` with this many decimals; never a negative zero."""
    text = f"{value:.{decimals}f}"
    return text.lstrip("-") if float(text) == 0 else text


def tokens(n: float) -> str:
    """0.5 M tokens, 524 k tokens, 1.25 B tokens: three digits at most."""
    if round(n) == 1:
        return "1 token"
    for size, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if n >= (size / 2 if size > 1e3 else size):
            return f"{_three_digits(n / size)} {letter} tokens"
    return f"{n:.0f} tokens"


def times(multiple: float, *, bound: str = "exact") -> str:
    """A multiple: two digits below 100; a lower bound is rounded down, an upper one up."""
    digits = 1 if multiple < 9.95 else 0
    if multiple >= 100:
        digits = -(math.floor(math.log10(multiple)) - 1)
    scaled = multiple * 10.0**digits
    if bound == "at_least":
        whole: float = math.floor(scaled + 1e-9)
    elif bound == "at_most":
        whole = math.ceil(scaled - 1e-9)
    else:
        whole = round(scaled)
    text = f"{whole / 10.0**digits:,.{max(digits, 0)}f}"
    return text.removesuffix(".0")


def percent(share: float) -> str:
    """A share as a percentage with two digits; tiny ones as less than 0.01 %."""
    if 0 < share < 1e-4:
        return "less than 0.01 %"
    if share == 0:
        return "0 %"
    decimals = max(0, 1 - math.floor(math.log10(100 * share)))
    return f"{100 * share:.{min(decimals, 2)}f} %"


def count(n: int, noun: str) -> str:
    """1 seed, 3 seeds."""
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def _three_digits(x: float) -> str:
    decimals = max(0, 2 - math.floor(math.log10(x))) if x > 0 else 0
    text = f"{x:.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
