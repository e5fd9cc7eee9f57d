"""Shrinkage of predicted scores: the card's numbers, its simulation, and coverage of the intervals."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prill.errors import DataError
from prill.stats.shrinkage import (
    Shrinkage,
    corrected_mean,
    density_score,
    fit_shrinkage,
    lcc,
    prediction_powered_mean,
    tweedie,
)

Y = np.arange(5.0)
YHAT = np.array([1.2, 1.5, 2.1, 2.4, 2.9])


def fitted(y: np.ndarray, yhat: np.ndarray, least: int = 3) -> Shrinkage:
    return fit_shrinkage(y, yhat, generator=np.random.default_rng(0), n_resamples=300, least_labels=least)


def test_the_line_and_the_linear_correction_of_the_card() -> None:
    fit = fitted(Y, YHAT)
    assert fit.intercept == pytest.approx(1.16, abs=1e-12)
    assert fit.slope == pytest.approx(0.43, abs=1e-12)
    assert fit.verdict == "correct"
    np.testing.assert_allclose(lcc(YHAT, fit), [0.093023, 0.790698, 2.186047, 2.883721, 4.046512], atol=5e-7)


def test_the_kernel_score_and_tweedie_of_the_card() -> None:
    expected = [0.958333, 0.389574, 0.004075, -0.286051, -1.171637]
    np.testing.assert_allclose(density_score(YHAT, YHAT, 0.5), expected, atol=5e-7)
    corrected = [1.008333, 1.422085, 2.099185, 2.457210, 3.134327]
    np.testing.assert_allclose(tweedie(YHAT, 0.2, bandwidth=0.5), corrected, atol=5e-7)


@pytest.fixture(scope="module")
def simulation() -> dict[str, np.ndarray]:
    """Labels of variance 1 seen with noise of variance 1: the best prediction is half of what is seen."""
    rng = np.random.default_rng(7)
    n = 400_000
    y = rng.normal(size=n)
    noise = rng.normal(size=n)
    return {"y": y, "a": (y + noise) / 2, "b": (y + 0.3 + rng.normal(size=n)) / 2, "e": rng.normal(size=n)}


def test_effects_are_halved_and_restored(simulation: dict[str, np.ndarray]) -> None:
    # Standard error of a difference of 400,000 pairs: sqrt(2 / 400,000) / 2 = 0.0011, twice that corrected.
    y, a, b = simulation["y"], simulation["a"], simulation["b"]
    fit = fitted(y[:10_000], a[:10_000])
    assert fit.slope == pytest.approx(0.5, abs=0.015)
    assert fit.residual_variance == pytest.approx(0.5, abs=0.02)
    assert b.mean() - a.mean() == pytest.approx(0.15, abs=0.005)
    assert lcc(b, fit).mean() - lcc(a, fit).mean() == pytest.approx(0.3, abs=0.015)
    moved = [tweedie(x, fit.residual_variance, population=a).mean() for x in (a, b)]
    assert moved[1] - moved[0] == pytest.approx(0.3, abs=0.015)
    alone = tweedie(b, fit.residual_variance).mean()
    assert alone == pytest.approx(b.mean(), abs=0.002)  # by its own density a mean cannot move


def test_where_not_to_correct(simulation: dict[str, np.ndarray]) -> None:
    y, a = simulation["y"], simulation["a"]
    fit = fitted(y[:10_000], a[:10_000])
    z = 2 * y + simulation["e"]

    def slope(x: np.ndarray) -> float:
        return float(np.cov(x, z)[0, 1] / np.var(x))

    corrected = lcc(a, fit)
    assert [slope(y), slope(a)] == pytest.approx([2.0, 2.0], abs=0.01)
    assert slope(corrected) == pytest.approx(1.0, abs=0.03)  # the right slope is made wrong
    shares = [(x > 1.5).mean() for x in (y, a, corrected)]
    assert shares == pytest.approx([0.066, 0.017, 0.144], abs=0.004)  # thresholds on corrected scores


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32), a=st.floats(-5, 5), b=st.floats(0.35, 0.9))
def test_the_linear_correction_undoes_any_line(seed: int, a: float, b: float) -> None:
    y = np.random.default_rng(seed).normal(size=300)
    fit = fitted(y, a + b * y)
    np.testing.assert_allclose(lcc(a + b * y, fit), y, atol=1e-9)


def test_a_slope_of_one_is_left_alone() -> None:
    y = np.random.default_rng(0).normal(size=300)
    exact = fitted(y, y)
    assert exact.verdict == "as it is"
    assert lcc(y, exact).tolist() == y.tolist()
    noisy = fitted(y, y + np.random.default_rng(1).normal(size=300) * 0.3)
    assert noisy.low < 1 < noisy.high
    assert noisy.verdict == "as it is"


def test_a_small_slope_abstains() -> None:
    rng = np.random.default_rng(2)
    y = rng.normal(size=400)
    fit = fitted(y, 0.1 * y + rng.normal(size=400))
    assert fit.verdict == "abstain"
    assert lcc(y, fit).tolist() == y.tolist()


def test_corrections_at_the_edges_are_bounded() -> None:
    yhat = np.concatenate([np.random.default_rng(0).normal(size=500), [50.0]])
    moved = np.abs(tweedie(yhat, 0.25, population=yhat[:500]) - yhat)
    assert moved.max() <= 2 * 0.5 + 1e-12
    assert np.isfinite(moved).all()


def test_the_binned_density_equals_the_exact_one() -> None:
    base = np.random.default_rng(4).gamma(3.0, size=4100)
    x = np.quantile(base, [0.05, 0.3, 0.6, 0.95])
    exact = [
        -((xi - base) * np.exp(-(((xi - base) / 0.3) ** 2) / 2)).sum()
        / 0.09
        / np.exp(-(((xi - base) / 0.3) ** 2) / 2).sum()
        for xi in x
    ]
    np.testing.assert_allclose(density_score(x, base, 0.3), exact, atol=2e-3)


def test_grades_are_corrected_linearly_only() -> None:
    grades = np.random.default_rng(0).integers(0, 6, 400) * 1.0
    with pytest.raises(DataError, match="found 6 values in 400"):
        tweedie(grades, 0.5)


def test_the_interval_of_the_slope_covers_it() -> None:
    rng, hits = np.random.default_rng(5), 0
    for _ in range(120):
        y = rng.normal(size=250)
        fit = fitted(y, (y + rng.normal(size=250)) / 2)
        hits += fit.low <= 0.5 <= fit.high
    assert 0.88 <= hits / 120 <= 0.99


def test_the_corrected_mean_of_a_selection_covers_the_truth() -> None:
    rng, hits = np.random.default_rng(6), 0
    for _ in range(60):
        y, group = rng.normal(size=300), rng.normal(size=300) + 0.8
        predictions = (group + rng.normal(size=300)) / 2
        interval, fit = corrected_mean(
            predictions, y, (y + rng.normal(size=300)) / 2, generator=rng, n_resamples=200
        )
        assert fit.verdict == "correct"
        assert interval.low is not None
        assert interval.high is not None
        hits += interval.low <= 0.8 <= interval.high
    assert hits >= 51  # 57 expected, sd 1.7


def test_prediction_powered_means_are_unbiased_however_bad_the_model() -> None:
    rng, estimates, hits = np.random.default_rng(9), [], 0
    y = rng.gamma(2.0, size=5000)
    yhat = 10 - y + rng.normal(size=5000)  # worse than useless
    pi = np.where(y > 2, 0.04, 0.01)  # labels are not a plain sample
    for _ in range(150):
        rows = np.flatnonzero(rng.random(5000) < pi)
        found = prediction_powered_mean(yhat, y[rows], yhat[rows], weights_n=1 / pi[rows])
        estimates.append(found.estimate)
        hits += found.low <= y.mean() <= found.high
    assert abs(np.mean(estimates) - y.mean()) < 4 * np.std(estimates, ddof=1) / np.sqrt(150)
    assert hits / 150 > 0.88


def test_a_prediction_powered_mean_by_hand() -> None:
    # Mean prediction 2, errors 1 and 3: 2 + 2. Variance: 1 / 2 of the predictions, 2 / 2 of the errors.
    found = prediction_powered_mean(np.array([1.0, 3.0]), np.array([2.0, 5.0]), np.array([1.0, 2.0]))
    assert found.estimate == 4.0
    assert found.standard_error == pytest.approx(np.sqrt(2 / 2 + 2 / 2))


def test_too_few_or_equal_labels_are_named() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(DataError, match="at least 200 labelled items, found 5") as caught:
        fit_shrinkage(Y, YHAT, generator=rng)
    assert "label 195 more" in str(caught.value)
    with pytest.raises(DataError, match=r"labels that differ, found 3\.0 for all 5"):
        fitted(np.full(5, 3.0), YHAT)
    with pytest.raises(DataError, match="finite"):
        fitted(np.array([1.0, np.nan, 2.0]), np.ones(3))
