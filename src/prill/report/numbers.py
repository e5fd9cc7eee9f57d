"""Numbers as people read them: true minus signs, thousands separators, k / M / B, three decimals of loss.

One place decides how a quantity looks, so that the page, the charts and the terminal agree. A value that
is not known shows as a dash, one that is not finite in words.
"""

from __future__ import annotations

import math

__all__ = [
    "compact",
    "count",
    "difference",
    "interval",
    "loss",
    "percent",
    "plain",
    "power",
    "ratio",
    "score",
    "size",
]

NBSP = "\u00a0"
_DASH = "–"
_STEPS = ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k"))
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def count(value: int | None) -> str:
    """`15,085`"""
    return _DASH if value is None else f"{value:,}".replace("-", "−")


def compact(value: float | None) -> str:
    """`28.6 M`: three significant digits at most, for axes and sentences."""
    if value is None or not math.isfinite(value):
        return _odd(value)
    for step, letter in _STEPS:
        if abs(value) >= step * 0.9995:
            return f"{_short(value / step)}{NBSP}{letter}"
    return _short(value)


def loss(value: float | None) -> str:
    """Bits per byte: `2.178`"""
    return _odd(value) if value is None or not math.isfinite(value) else f"{value:.3f}".replace("-", "−")


def difference(value: float | None) -> str:
    """A difference in bits per byte with its sign: `−0.557`, `+0.019`."""
    if value is None or not math.isfinite(value):
        return _odd(value)
    shown = f"{value:+.3f}"
    return "0.000" if float(shown) == 0 else shown.replace("-", "−")


def interval(low: float | None, high: float | None) -> str:
    """`−0.613 to −0.501`"""
    if low is None or high is None:
        return "not known"
    return f"{difference(low)} to {difference(high)}"


def plain(value: float | None) -> str:
    """A score or another number of unknown size: four significant digits."""
    if value is None or not math.isfinite(value):
        return _odd(value)
    return f"{value:.4g}".replace("-", "−") if value else "0"


def score(value: float | None) -> str:
    """A score with four decimals, since neighbours at the line differ late; a large one with fewer."""
    if value is None or not math.isfinite(value):
        return _odd(value)
    if abs(value) >= 1e6:
        return power(value)
    digits = 4 if abs(value) < 100 else 1
    return f"{value:,.{digits}f}".replace("-", "−")


def percent(share: float | None) -> str:
    """A share of one as per cent: `4.1 %`, `< 0.1 %`."""
    if share is None or not math.isfinite(share):
        return _odd(share)
    if 0 < share < 0.001:
        return f"<{NBSP}0.1{NBSP}%"
    return f"{100 * share:.1f}{NBSP}%"


def ratio(kept: float, pool: float) -> str:
    """How many times larger the kept share is than the pool's: `×8.2`."""
    if pool <= 0:
        return _DASH
    value = kept / pool
    return f"×{value:.2f}" if value < 1 else f"×{_short(value)}"


def size(n_bytes: float | None) -> str:
    """Bytes with decimal prefixes, `81.1 MB`, as disks and networks count them."""
    if n_bytes is None:
        return _DASH
    for step, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if n_bytes >= step:
            return f"{_short(n_bytes / step)}{NBSP}{unit}"
    return f"{n_bytes:.0f}{NBSP}B"


def power(value: float | None) -> str:
    """A very large number as `1.2 × 10¹⁵`."""
    if value is None or not math.isfinite(value):
        return _odd(value)
    if abs(value) < 1e4:
        return _short(value)
    exponent = math.floor(math.log10(abs(value)))
    mantissa = f"{value / 10**exponent:.1f}"
    if mantissa == "10.0":
        mantissa, exponent = "1.0", exponent + 1
    return f"{mantissa}{NBSP}×{NBSP}10{str(exponent).translate(_SUPERSCRIPT)}"


def _short(value: float) -> str:
    digits = 0 if abs(value) >= 99.95 else 1 if abs(value) >= 9.995 else 2
    text = f"{value:.{digits}f}"
    return (text.rstrip("0").rstrip(".") if "." in text else text).replace("-", "−")


def _odd(value: float | None) -> str:
    if value is None:
        return _DASH
    return "not a number" if math.isnan(value) else "infinite" if value > 0 else "minus infinite"
