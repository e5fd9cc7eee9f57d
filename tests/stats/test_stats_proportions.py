"""Intervals of shares: published values, agreement with scipy, coverage on simulated data."""

import numpy as np
import pytest
from scipy.stats import binomtest

from prill.errors import DataError
from prill.stats.proportions import clopper_pearson, wilson


@pytest.mark.parametrize(("k", "n"), [(0, 1), (1, 1), (0, 30), (29, 30), (15, 30), (998, 1000)])
def test_bounds_are_scipys(k: int, n: int) -> None:
    for method, made in (("wilson", wilson(k, n)), ("exact", clopper_pearson(k, n))):
        expected = binomtest(k, n).proportion_ci(0.95, method)
        assert (made.low, made.high) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_the_exact_interval_covers_as_often_as_it_says() -> None:
    draws = np.random.default_rng(3).binomial(40, 0.97, size=2_000)
    bounds = {k: clopper_pearson(k, 40) for k in set(draws.tolist())}
    covered = np.mean([bounds[k].low <= 0.97 <= bounds[k].high for k in draws.tolist()])
    assert covered >= 0.95


def test_no_trials_say_nothing_and_impossible_counts_are_refused() -> None:
    assert (wilson(0, 0).estimate, wilson(0, 0).low, wilson(0, 0).high) == (None, 0.0, 1.0)
    with pytest.raises(DataError, match="k=3, n=2"):
        wilson(3, 2)
