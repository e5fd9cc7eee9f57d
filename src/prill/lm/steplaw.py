"""Step Law: the learning rate and batch size for a model size and a token count.

    eta* = 1.79 N^-0.713 D^0.307        B* = 0.58 D^0.571 tokens

N counts non-embedding parameters, D training tokens. The coefficients are the published, rounded means of
1000 bootstrap fits (unrounded: ln eta* = 0.5863 - 0.7129 ln N + 0.3075 ln D and ln B* = -0.5435 + 0.5709
ln D; the rates agree within 2 %, far inside the flat optimum). The law was fitted for N from about 60 M to
1 B and D from 2 to 100 B tokens, with AdamW and a cosine to a small final rate.

What Prill does below that range: the law's batch still holds (N = 0.33 M, D = 0.5 M gives 1,040 tokens, and
four rows of 256 measured well), but its rate does not: it gives 1.2e-2, and a run of some hundred steps
cannot use the rate of a long one. On the demonstration's corpus (nano, 0.25 M tokens, two seeds) random text
ended on the held-out rest at 2.717, 2.675 and 2.693 bits per byte with 2e-3, 3e-3 and 4.5e-3; the chosen
text preferred 3e-3 or more as well. So up to 1 M parameters the rate is the measured 3e-3 (or the law's, if
lower), from 10 M on it is the law's, and in between it is interpolated in log N. `Advice.origin` says which.

Source: Li et al. 2025, arXiv:2503.04715, and its released table of fits; the lower end: Prill's calibration.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from prill.errors import RecipeError

__all__ = ["Advice", "advise", "step_law_batch_tokens", "step_law_rate"]

Origin = Literal["law", "measured", "interpolated"]

RATE, RATE_POWER_N, RATE_POWER_D = 1.79, -0.713, 0.307
BATCH, BATCH_POWER_D = 0.58, 0.571
MEASURED_RATE = 3e-3
MEASURED_UP_TO = 1e6
LAW_FROM = 1e7
MIN_ROWS = 4


@dataclass(frozen=True, kw_only=True)
class Advice:
    """Learning rate and batch for one (N, D).

    Attributes:
        peak_rate: peak learning rate.
        n_rows: rows of `seq_len` tokens a step.
        law_rate: what the law alone would give.
        law_batch_tokens: the law's batch before rounding to rows.
        origin: `law`, `measured` (calibration of small proxies) or `interpolated` between the two.
    """

    peak_rate: float
    n_rows: int
    law_rate: float
    law_batch_tokens: float
    origin: Origin


def step_law_rate(n_params: float, n_tokens: float) -> float:
    """Optimal peak learning rate eta*(N, D) of the law alone."""
    _check(n_params, n_tokens)
    return float(RATE * n_params**RATE_POWER_N * n_tokens**RATE_POWER_D)


def step_law_batch_tokens(n_tokens: float) -> float:
    """Optimal batch B*(D) of the law, in tokens."""
    _check(1.0, n_tokens)
    return float(BATCH * n_tokens**BATCH_POWER_D)


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
    measured = min(MEASURED_RATE, law_rate)
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
        law_batch_tokens=batch,
        origin=origin,
    )


def _check(n_params: float, n_tokens: float) -> None:
    if not (n_params > 0 and n_tokens > 0):
        raise RecipeError(
            f"Step Law needs positive parameters and tokens, found {n_params} and {n_tokens}",
            where="learning rate",
        )
