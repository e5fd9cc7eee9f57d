"""Step Law: the learning rate and batch size for a model size and a token count.

    eta* = 1.79 N^-0.713 D^0.307        B* = 0.58 D^0.571 tokens

N counts non-embedding parameters, D training tokens. The coefficients are the published, rounded means of
1000 bootstrap fits (unrounded: ln eta* = 0.5863 - 0.7129 ln N + 0.3075 ln D and ln B* = -0.5435 + 0.5709
ln D; the rates agree within 2 %, far inside the flat optimum). The law was fitted for N from about 60 M to
1 B and D from 2 to 100 B tokens, with AdamW and a cosine to a small final rate.

What Prill does below that range: the law's batch still holds, its rate does not: at nano (N = 0.33 M) and
D = 0.5 M it gives 1.2e-2, and a run of some hundred steps cannot use the rate of a long one.
`bench/step_law.py` trained grids of rate x batch at pico, nano and tiny with D 0.13 M, and at nano with
0.5 M. The best batch was the law's at 0.13 M (two rows of 256); at 0.5 M two rows were 0.4 % better than its
four. At the law's batch the best rates were about 5.7e-3, 3.6e-3 and 2.8e-3 for the three sizes (means of
two runs, 2.2e-3 and 3.5e-3 for tiny), and 3.6e-3 for nano with 0.5 M, so they fall about as N^(-1/3), as on
the OLMo ladder, and hardly depend on D. On the demonstration's corpus nano's best was 3e-3 to 4.5e-3.
So from 0.1 M to 1 M parameters the rate is 3e-3 (N / 0.33 M)^(-1/3) (or the law's, if lower),
below as at 0.1 M, from 10 M on the law's, and in between it is interpolated in log N. `Advice.origin` says
which.

Source: Li et al. 2025, arXiv:2503.04715, and its released table of fits; the lower end: Prill's calibration.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from prill.errors import RecipeError

__all__ = [
    "Advice",
    "Interval",
    "advise",
    "olmo_ladder_rate",
    "rate_for_batch",
    "step_law_batch_interval",
    "step_law_batch_tokens",
    "step_law_rate",
    "step_law_rate_interval",
]

Origin = Literal["law", "measured", "interpolated"]

RATE, RATE_POWER_N, RATE_POWER_D = 1.79, -0.713, 0.307
BATCH, BATCH_POWER_D = 0.58, 0.571
RATE_MEAN = (0.58630779, -0.71292229, 0.30749095)
RATE_COVARIANCE = (
    (3.8906211149e-01, -1.3558938971e-02, -5.1324935321e-03),
    (-1.3558938971e-02, 8.9148573725e-04, -1.7433178853e-04),
    (-5.1324935321e-03, -1.7433178853e-04, 3.6631184290e-04),
)
"""Of (1, ln N, ln D) for ln eta*, over the 1000 released bootstrap fits."""
BATCH_MEAN = (-0.54354217, 0.57094436)
BATCH_COVARIANCE = ((1.911796359e-01, -8.1515722e-03), (-8.1515722e-03, 3.485179e-04))
"""Of (1, ln D) for ln B*."""
MEASURED_RATE, MEASURED_AT, MEASURED_POWER_N = 3e-3, 328_320, -1 / 3  # at nano, and how pico and tiny differ
MEASURED_FROM, MEASURED_UP_TO = 1e5, 1e6
LAW_FROM = 1e7
MIN_ROWS = 2


@dataclass(frozen=True, kw_only=True)
class Interval:
    """The middle 95 % of the bootstrap fits' predictions."""

    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Advice:
    """Learning rate and batch for one (N, D).

    Attributes:
        peak_rate: peak learning rate, at `n_rows`.
        n_rows: rows of `seq_len` tokens a step.
        law_rate: what the law alone would give, at its own batch.
        law_interval: of the fits behind the law. It is narrow where they had data; below them it says how
            uncertain the extrapolated fit is, not how wrong extrapolating may be.
        law_batch_tokens: the law's batch before rounding to rows.
        law_batch_interval: of the fits behind it.
        ladder_rate: the OLMo ladder's rule, for a cross-check.
        origin: `law`, `measured` (calibration of small proxies) or `interpolated` between the two.
    """

    peak_rate: float
    n_rows: int
    law_rate: float
    law_interval: Interval
    law_batch_tokens: float
    law_batch_interval: Interval
    ladder_rate: float
    origin: Origin


def step_law_rate(n_params: float, n_tokens: float) -> float:
    """Optimal peak learning rate eta*(N, D) of the law alone."""
    _check(n_params, n_tokens)
    return float(RATE * n_params**RATE_POWER_N * n_tokens**RATE_POWER_D)


def step_law_batch_tokens(n_tokens: float) -> float:
    """Optimal batch B*(D) of the law, in tokens."""
    _check(1.0, n_tokens)
    return float(BATCH * n_tokens**BATCH_POWER_D)


def step_law_rate_interval(n_params: float, n_tokens: float) -> Interval:
    """95 % interval of eta* over the released bootstrap fits.

    Their coefficients are taken as jointly normal, with the mean and the covariance of the 1000 draws: the
    bounds are within 4 % of those of the draws themselves from N = 0.3 M to 7 B.
    """
    _check(n_params, n_tokens)
    return _interval(RATE_MEAN, RATE_COVARIANCE, (1.0, math.log(n_params), math.log(n_tokens)))


def step_law_batch_interval(n_tokens: float) -> Interval:
    """95 % interval of B*, tokens, as for the rate."""
    _check(1.0, n_tokens)
    return _interval(BATCH_MEAN, BATCH_COVARIANCE, (1.0, math.log(n_tokens)))


def olmo_ladder_rate(n_params: float) -> float:
    """Peak rate of the OLMo model ladder, eta = 0.0047 (N / 108 M)^(-1/3): a peer to compare with.

    Source: Bhagia et al. 2024, arXiv:2412.04403; it reproduces the rates of DataDecide's sizes.
    """
    _check(n_params, 1.0)
    return float(0.0047 * (n_params / 108e6) ** (-1 / 3))


def rate_for_batch(rate: float, *, batch_tokens: float, best_batch_tokens: float) -> float:
    """The rate for a forced batch: times the square root of the ratio below the best one, unchanged above.

    On the law's released dense grid (17 cells, 167 pairs of cell and batch), the lowest loss at the forced
    batch is missed by 0.11 % on average at batches below half of B*, and by 0.09 % above twice B*. Raising
    the rate with the square root there, the usual rule, misses it by 0.96 %; not lowering it below, by 1.2 %.
    Runs of a hundred steps are another matter: there pico and nano gained from 1.6 times the rate at 2 B*.
    """
    _check(rate, batch_tokens)
    return rate * min(1.0, math.sqrt(batch_tokens / best_batch_tokens))


def advise(n_params: int, n_tokens: int, seq_len: int) -> Advice:
    """Learning rate and rows a step for a run; every arm of a comparison must use the same advice.

    Args:
        n_params: non-embedding parameters.
        n_tokens: training tokens of the longest branch.
        seq_len: tokens a row.
    Raises:
        RecipeError: a number is not positive.
    """
    law_rate = step_law_rate(n_params, n_tokens)
    origin: Origin
    batch = step_law_batch_tokens(n_tokens)
    size = max(n_params, MEASURED_FROM) / MEASURED_AT
    measured = min(MEASURED_RATE * size**MEASURED_POWER_N, law_rate)
    if n_params <= MEASURED_UP_TO:
        rate, origin = measured, "measured"
    elif n_params >= LAW_FROM:
        rate, origin = law_rate, "law"
    else:
        share = math.log(n_params / MEASURED_UP_TO) / math.log(LAW_FROM / MEASURED_UP_TO)
        rate, origin = measured ** (1 - share) * law_rate**share, "interpolated"
    return Advice(
        peak_rate=rate,
        n_rows=max(MIN_ROWS, round(batch / seq_len)),
        law_rate=law_rate,
        law_interval=step_law_rate_interval(n_params, n_tokens),
        law_batch_tokens=batch,
        law_batch_interval=step_law_batch_interval(n_tokens),
        ladder_rate=olmo_ladder_rate(n_params),
        origin=origin,
    )


def _check(n_params: float, n_tokens: float) -> None:
    if not (n_params > 0 and n_tokens > 0):
        raise RecipeError(
            f"Step Law needs positive parameters and tokens, found {n_params} and {n_tokens}",
            where="learning rate",
        )


def _interval(mean: Sequence[float], covariance: Sequence[Sequence[float]], at: Sequence[float]) -> Interval:
    """exp(mean x +- 1.96 sd) of a linear form whose coefficients are normal."""
    middle = math.fsum(m * x for m, x in zip(mean, at, strict=True))
    variance = math.fsum(covariance[i][j] * at[i] * at[j] for i in range(len(at)) for j in range(len(at)))
    reach = 1.96 * math.sqrt(variance)
    return Interval(low=math.exp(middle - reach), high=math.exp(middle + reach))
