"""Step Law: intervals of its fits, the peer rule, forced batches."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prill.errors import RecipeError
from prill.lm.steplaw import (
    advise,
    olmo_ladder_rate,
    rate_for_batch,
    step_law_batch_interval,
    step_law_batch_tokens,
    step_law_rate,
    step_law_rate_interval,
)

# 2.5 and 97.5 % points of the 1000 released draws, pushed through one by one
DRAWS = [
    (1e9, 1e11, 1.5182e-3, 1.8190e-3, 1.01545e6, 1.19847e6),
    (7e9, 1.4e12, 7.651e-4, 1.13647e-3, 4.19515e6, 5.87732e6),
    (4e8, 8e9, 1.40450e-3, 1.54064e-3, 2.48979e5, 2.74811e5),
    (1e8, 2e9, 2.34236e-3, 2.84699e-3, 1.09111e5, 1.29178e5),
    (1e7, 2e8, 5.20630e-3, 8.14389e-3, 2.71941e4, 3.76151e4),
    (3.3e5, 5e5, 7.39168e-3, 1.830749e-2, 721.26, 1524.20),
]


@pytest.mark.parametrize(("n", "d", "low", "high", "batch_low", "batch_high"), DRAWS)
def test_intervals_are_those_of_the_released_draws(
    n: float, d: float, low: float, high: float, batch_low: float, batch_high: float
) -> None:
    rate, batch = step_law_rate_interval(n, d), step_law_batch_interval(d)
    assert (rate.low, rate.high) == pytest.approx((low, high), rel=0.04)
    assert (batch.low, batch.high) == pytest.approx((batch_low, batch_high), rel=0.02)
    assert rate.low < step_law_rate(n, d) < rate.high
    assert batch.low < step_law_batch_tokens(d) < batch.high


def test_intervals_widen_away_from_the_data() -> None:
    def width(n: float, d: float) -> float:
        found = step_law_rate_interval(n, d)
        return found.high / found.low

    assert width(4e8, 8e9) < width(1e8, 2e9) < width(1e7, 2e8) < width(3.3e5, 5e5)


def test_olmo_ladder_rates_of_datadecide() -> None:
    # sizes without embeddings as DataDecide lists them: "4M" 3.7 M, "150M" 151.9 M, "1B" 1176.8 M
    found = [olmo_ladder_rate(n) for n in (3.7e6, 151.9e6, 1176.8e6)]
    assert found == pytest.approx([1.4e-2, 4.2e-3, 2.1e-3], rel=0.04)


def test_a_forced_batch_lowers_the_rate_and_never_raises_it() -> None:
    assert rate_for_batch(1e-2, batch_tokens=25_000, best_batch_tokens=100_000) == pytest.approx(5e-3)
    assert rate_for_batch(1e-2, batch_tokens=400_000, best_batch_tokens=100_000) == 1e-2


@given(st.floats(1e5, 1e10), st.floats(1e5, 1e13))
def test_advice_tells_where_the_law_stands(n: float, d: float) -> None:
    advice = advise(int(n), int(d), 256)
    assert advice.law_interval.low < advice.law_interval.high
    assert advice.law_batch_interval.low < advice.law_batch_tokens < advice.law_batch_interval.high
    assert advice.ladder_rate == olmo_ladder_rate(int(n))


def test_nothing_to_advise_on_is_refused() -> None:
    with pytest.raises(RecipeError, match="positive parameters and tokens, found 0 and 5"):
        step_law_rate_interval(0, 5)
