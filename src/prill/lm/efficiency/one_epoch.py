"""How large a model and how many tokens a compute budget pays for, and what repeats in it.

With C = 6 P T floating-point operations and T = r P tokens, P = sqrt(C / (6 r)). The ratio r is about 5 in
the first study (wall-clock, 2019) and about 20 in later compute-optimal work; today's models see far more,
because they are built to be run. For comparisons of data, fix r in all arms.

One pass over fresh data needs no dropout and no early stopping, and its training loss is an unbiased estimate
of its test loss. What counts is tokens that are unique: near copies and up-sampled sources repeat although
the global count says one pass (`effective_epochs`). Up to about 4 passes are nearly as good as fresh data.

Source: Komatsuzaki 2019, arXiv:1906.06669; ratio 20: Hoffmann et al. 2022, arXiv:2203.15556; repeats:
Muennighoff et al. 2023, arXiv:2305.16264. P parameters, T tokens, U unique tokens, C operations.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from prill.errors import DataError, RecipeError

__all__ = [
    "COMPUTE_OPTIMAL",
    "ONE_EPOCH",
    "PowerLaw",
    "Sizing",
    "advise_size",
    "effective_epochs",
    "fit_power_law",
    "memorises",
]

ONE_EPOCH, COMPUTE_OPTIMAL = 5.0, 20.0
"""Tokens a parameter of Komatsuzaki 2019 and of Hoffmann et al. 2022."""
USEFUL_PASSES = 4.0
MEMORISING_GAP = 0.01
WHERE = "sizing"
Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Sizing:
    """What a budget pays for.

    Attributes:
        n_params: P.
        n_tokens: T.
        n_passes: T / U.
        dropout: 0 for one pass; None: tune it, there is repetition to memorise.
        watch_overfitting: whether early stopping and the gap to held-out loss matter.
        note: one sentence of advice.
    """

    n_params: float
    n_tokens: float
    n_passes: float
    dropout: float | None
    watch_overfitting: bool
    note: str


def advise_size(flops: float, *, unique_tokens: float, ratio: float = COMPUTE_OPTIMAL) -> Sizing:
    """Model size and token count for a budget, and how often the data repeats.

    Args:
        flops: C, of training.
        unique_tokens: U, after near copies are removed.
        ratio: tokens a parameter.
    Raises:
        RecipeError: a number is not positive and finite.

    >>> sizing = advise_size(3e18, unique_tokens=1e10, ratio=5)
    >>> f"{sizing.n_params:.3e} {sizing.n_tokens:.3e}"
    '3.162e+08 1.581e+09'
    """
    for name, value in (("flops", flops), ("unique_tokens", unique_tokens), ("ratio", ratio)):
        if not (value > 0 and math.isfinite(value)):
            raise RecipeError(f"`{name}` must be positive, found {value}", where=WHERE)
    n_params = math.sqrt(flops / (6 * ratio))
    n_tokens = ratio * n_params
    passes = n_tokens / unique_tokens
    return Sizing(
        n_params=n_params,
        n_tokens=n_tokens,
        n_passes=passes,
        dropout=0.0 if passes <= 1 else None,
        watch_overfitting=passes > 1,
        note=_note(passes),
    )


def effective_epochs(
    read_tokens: Mapping[str, float], unique_tokens: Mapping[str, float]
) -> dict[str, float]:
    """Passes over each source's unique tokens; a global count of 1 can hide many of an up-sampled one.

    Args:
        read_tokens: tokens trained on, by source.
        unique_tokens: tokens left when near copies are removed, by source.
    Raises:
        DataError: a source that is read has no unique tokens.
    """
    for source, n_read in read_tokens.items():
        if n_read > 0 and not unique_tokens.get(source, 0) > 0:
            raise DataError(
                f"a source that is read needs unique tokens, found {unique_tokens.get(source, 0)}",
                where=f"source {source!r}",
            )
    return {source: n / unique_tokens[source] if n else 0.0 for source, n in read_tokens.items()}


def memorises(train_loss: float, held_out_loss: float, *, gap: float = MEMORISING_GAP) -> bool:
    """Whether held-out loss exceeds training loss by more than `gap` of it: a sign of repetition."""
    return held_out_loss - train_loss > gap * held_out_loss


@dataclass(frozen=True, kw_only=True)
class PowerLaw:
    """loss(t) = offset + scale t^(-power)."""

    offset: float
    scale: float
    power: float

    def loss(self, t: float) -> float:
        """The loss at `t` iterations or tokens."""
        return float(self.offset + self.scale * t**-self.power)


def fit_power_law(t: Sequence[float], losses: Sequence[float], *, with_offset: bool = True) -> PowerLaw:
    """A power law through final losses of separately decayed runs, by least squares on log(loss - offset).

    Points of one run's own decay mix schedule and data: do not use them. Without an offset it is a straight
    line in log-log, whose power is too small wherever the true offset is not 0.

    Args:
        t: iterations or tokens, positive, at least 3 different ones (2 without an offset).
        losses: one each, positive.
    Raises:
        DataError: too few points, or they are not positive and finite, or the loss does not fall.
    """
    x, y = np.asarray(t, np.float64), np.asarray(losses, np.float64)
    needed = 3 if with_offset else 2
    is_fine = x.shape == y.shape and x.ndim == 1 and bool(np.all(np.isfinite(x) & np.isfinite(y)))
    if not is_fine or len(np.unique(x)) < needed or np.any(x <= 0) or np.any(y <= 0):
        raise DataError(
            f"a power law needs {needed} or more different, positive points, found {len(x)} and {len(y)}",
            where=WHERE,
        )
    log_x = np.log(x)
    offset = _best_offset(log_x, y) if with_offset else 0.0
    intercept, slope, _ = _line(log_x, np.log(y - offset))
    if not slope < 0:
        raise DataError(f"a power law needs losses that fall, found a power of {-slope:.3g}", where=WHERE)
    return PowerLaw(offset=offset, scale=math.exp(intercept), power=-slope)


def _best_offset(log_x: Floats, y: Floats) -> float:
    """The offset whose log residual is least: a grid in log(min - offset), then golden section."""
    lowest = float(y.min())

    def cost(u: float) -> float:
        gap = lowest * math.exp(u)  # distance of the lowest loss from the offset
        return _line(log_x, np.log(y - (lowest - gap)))[2]

    grid = np.linspace(math.log(1e-9), 0.0, 400)
    best = int(np.argmin([cost(float(u)) for u in grid]))
    low, high = float(grid[max(0, best - 1)]), float(grid[min(len(grid) - 1, best + 1)])
    golden = (math.sqrt(5) - 1) / 2
    for _ in range(80):
        a, b = high - golden * (high - low), low + golden * (high - low)
        low, high = (low, b) if cost(a) <= cost(b) else (a, high)
    return lowest * (1 - math.exp((low + high) / 2))


def _line(x: Floats, y: Floats) -> tuple[float, float, float]:
    """Intercept, slope and summed squared residual of a least-squares line."""
    centred = x - x.mean()
    slope = float(centred @ (y - y.mean()) / (centred @ centred))
    intercept = float(y.mean() - slope * x.mean())
    residual = y - intercept - slope * x
    return intercept, slope, float(residual @ residual)


def _note(passes: float) -> str:
    if passes <= 1:
        return "one pass over fresh data: no dropout, no early stopping, training loss is test loss"
    if passes <= USEFUL_PASSES:
        return f"{passes:.1f} passes: nearly as good as fresh data, but watch the gap to held-out loss"
    return (
        f"{passes:.1f} passes: beyond about {USEFUL_PASSES:.0f} a repeat adds little; "
        "find more data or train a larger model for fewer tokens"
    )
