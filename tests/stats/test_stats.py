"""Statistics against scipy, by hand, and by coverage on simulated data."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prill.errors import DataError, InternalError
from prill.stats import (
    Crossing,
    bootstrap_ratio_interval,
    combine_multiples,
    combined_interval,
    crossing,
    decision_accuracy,
    holm,
    kendall_tau,
    mean_interval,
    mixed_p,
    mixed_quantile,
    n_seeds_needed,
    noise_floor,
    paired_interval,
    ratio_error,
    smallest_detectable,
    t_cdf,
    t_quantile,
    two_sided_p,
    value_at,
)


@pytest.mark.parametrize("df", [0.7, 1, 1.5, 2, 3, 7.3, 30, 200, 1e4, 1e6, 1e9])
def test_t_agrees_with_scipy(df: float) -> None:
    from scipy import stats

    for p in (1e-6, 0.001, 0.025, 0.2, 0.5, 0.8, 0.975, 0.9999):
        assert t_quantile(p, df) == pytest.approx(stats.t.ppf(p, df), rel=1e-6, abs=1e-9)
        assert t_cdf(t_quantile(p, df), df) == pytest.approx(p, rel=1e-9)
    for t in (-40.0, -3.0, -0.1, 0.0, 0.5, 2.0, 10.0):
        assert t_cdf(t, df) == pytest.approx(stats.t.cdf(t, df), rel=1e-6, abs=1e-13)
    assert two_sided_p(2.0, df) == pytest.approx(2 * stats.t.sf(2.0, df), rel=1e-6)


def test_t_at_its_ends() -> None:
    assert t_quantile(0.975, 2) == pytest.approx(4.30265273)  # the table of every textbook
    assert (t_cdf(-math.inf, 3), t_cdf(math.inf, 3)) == (0.0, 1.0)
    for p, df in ((0.0, 3.0), (1.0, 3.0), (0.5001, 0.0)):
        with pytest.raises(InternalError):
            t_quantile(p, df)


def test_mean_interval_by_hand() -> None:
    # 1 2 3: mean 2, sd 1, se 1/sqrt(3), t(2) = 4.3027, half-width 2.4841.
    found = mean_interval([1.0, 2.0, 3.0])
    assert found.estimate == 2
    assert found.half_width == pytest.approx(2.48414, abs=1e-5)
    assert found.p_value == pytest.approx(0.0741799, abs=1e-6)
    assert not found.excludes(0)
    assert (found.sign, mean_interval([1.0, 1.1]).sign, mean_interval([-1.0, -1.1]).sign) == (0, 1, -1)
    one = mean_interval([1.0])
    assert (one.low, one.half_width, one.p_value, one.excludes(0)) == (None, None, None, False)
    assert paired_interval([2.0, 3.0, 5.0], [1.0, 1.0, 2.0]).estimate == 2
    same = paired_interval([2.0, 3.0], [2.0, 3.0])
    assert (same.low, same.high, same.p_value) == (0, 0, 1.0)
    assert paired_interval([2.0, 3.0], [1.0, 2.0]).p_value == 0.0


@pytest.mark.parametrize("values", [[], [1.0, math.nan], [math.inf]])
def test_intervals_refuse_what_is_not_a_number(values: list[float]) -> None:
    with pytest.raises(DataError):
        mean_interval(values)
    with pytest.raises(DataError):
        paired_interval([1.0], [1.0, 2.0])


def test_seed_intervals_cover_the_truth_as_often_as_they_say() -> None:
    rng = np.random.default_rng(1)
    hits = sum(not mean_interval(x).excludes(0.3) for x in rng.normal(0.3, 2.0, (1500, 3)))
    assert hits / 1500 == pytest.approx(0.95, abs=0.02)  # 3.5 sd of a share of 1,500


def test_document_intervals_cover_the_truth_as_often_as_they_say() -> None:
    rng, hits, errors = np.random.default_rng(2), 0, []
    for _ in range(300):
        sizes = rng.integers(50, 500, 80).astype(float)
        losses = sizes * (2.0 + rng.normal(0, 0.4, 80))
        found = bootstrap_ratio_interval(losses, sizes, generator=rng, n_resamples=300)
        hits += not found.excludes(2.0)
        errors.append((ratio_error(losses, sizes) or 0) / (found.standard_error or 1))
    assert hits / 300 == pytest.approx(0.94, abs=0.04)
    assert np.mean(errors) == pytest.approx(1, abs=0.03)


def test_combined_intervals_cover_when_seeds_and_documents_both_vary() -> None:
    # difference[seed, document] = truth + seed effect + document effect, equal lengths.
    rng, combined_hits, seed_hits = np.random.default_rng(3), 0, 0
    n = 800
    for _ in range(n):
        values = (
            -0.2 + rng.normal(0, 0.05, (3, 1)) + rng.normal(0, 0.4, (1, 40)) + rng.normal(0, 0.05, (3, 40))
        )
        error = ratio_error(values.mean(axis=0), np.ones(40))
        seeds = values.mean(axis=1)
        combined_hits += not combined_interval(seeds, document_error=error, n_documents=40).excludes(-0.2)
        seed_hits += not mean_interval(seeds).excludes(-0.2)
    assert combined_hits / n == pytest.approx(0.96, abs=0.03)
    assert seed_hits / n < 0.9  # seeds alone say too much about documents they never saw


@settings(max_examples=60, deadline=None)
@given(t=st.floats(-60, 60), share=st.floats(0, 1), df=st.floats(1, 50))
def test_a_mixed_p_value_is_the_level_at_which_t_becomes_significant(
    t: float, share: float, df: float
) -> None:
    parts = ((share, df), (1 - share, 80.0))
    p = mixed_p(t, parts)
    low, high = sorted((two_sided_p(t, df), two_sided_p(t, 80.0)))
    assert low <= p <= high
    if 1e-9 < p < 0.999:
        assert mixed_quantile(1 - p / 2, parts) == pytest.approx(abs(t), rel=1e-6)


@pytest.mark.parametrize("n_seeds", [2, 3])
def test_few_seeds_do_not_make_findings_of_noise(n_seeds: int) -> None:
    # the worst case for Welch and Satterthwaite (12 % and 8 %): most of the variance between the seeds
    rng, wrong, n = np.random.default_rng(5), 0, 1200
    for _ in range(n):
        documents = rng.normal(0, 0.1, 30)
        seeds = rng.normal(0, 0.06, n_seeds) + documents.mean()
        error = ratio_error(documents, np.ones(30))
        wrong += combined_interval(seeds, document_error=error, n_documents=30).excludes(0)
    assert wrong / n < 0.075


def test_combined_interval_ends_in_its_parts() -> None:
    seeds = [0.1, 0.2, 0.3]
    alone = combined_interval(seeds, document_error=0.0, n_documents=50)
    assert alone.half_width == pytest.approx(mean_interval(seeds).half_width)
    documents = combined_interval([0.2, 0.2], document_error=0.1, n_documents=50)
    assert documents.half_width == pytest.approx(0.1 * t_quantile(0.975, 49))
    assert combined_interval([0.2], document_error=0.1, n_documents=50).low is None
    assert combined_interval(seeds, document_error=None, n_documents=1).low is None
    assert combined_interval([0.0, 0.0], document_error=0.0, n_documents=5).p_value == 1.0


def test_ratio_sums_before_it_divides() -> None:
    # (1 + 30) / (1 + 10) = 2.818, not the mean of 1 and 3.
    found = bootstrap_ratio_interval([1.0, 30.0], [1.0, 10.0], generator=np.random.default_rng(0))
    assert found.estimate == pytest.approx(31 / 11)
    one = bootstrap_ratio_interval([1.0], [2.0], generator=np.random.default_rng(0))
    assert (one.estimate, one.low, ratio_error([1.0], [2.0])) == (0.5, None, None)
    again = bootstrap_ratio_interval([1.0, 30.0], [1.0, 10.0], generator=np.random.default_rng(0))
    assert again == found
    for x, y in (([1.0], [0.0]), ([1.0], [1.0, 2.0]), ([math.nan], [1.0]), ([], [])):
        with pytest.raises(DataError):
            ratio_error(x, y)


def test_detectable_differences_are_found_as_often_as_promised() -> None:
    from scipy import stats

    for n in (3, 4, 8, 30):
        size = smallest_detectable(1.0, n)
        assert size is not None
        shift, edge = size * math.sqrt(n), stats.t.ppf(0.975, n - 1)
        power = 1 - stats.nct.cdf(edge, n - 1, shift) + stats.nct.cdf(-edge, n - 1, shift)
        assert power == pytest.approx(0.8, abs=0.05)
    assert smallest_detectable(1.0, 1) is None
    assert noise_floor([1.0]) is None
    assert noise_floor([1.0, 3.0]) == pytest.approx(math.sqrt(2))


def test_seeds_needed_agree_with_the_card() -> None:
    # Unpaired sd = sqrt(2) sigma; the card's normal values are 16 and 63, t needs a little more.
    assert n_seeds_needed(1.0, math.sqrt(2)) == 18
    assert n_seeds_needed(0.5, math.sqrt(2)) == 65
    assert n_seeds_needed(0.02, 0.018) == 9  # the calibration says about 9
    assert n_seeds_needed(0.0, 1.0) is None
    assert n_seeds_needed(1e-9, 1.0) is None
    assert n_seeds_needed(1.0, 0.0) == 2


def test_holm_by_hand() -> None:
    # .01*3, .03*2, max(.04, .06) -> .03 .06 .06
    adjusted = holm({"a": 0.04, "b": 0.01, "c": 0.03})
    assert adjusted == pytest.approx({"b": 0.03, "c": 0.06, "a": 0.06})
    assert holm({}) == {}
    assert holm({"a": 0.9, "b": 0.8}) == {"b": 1.0, "a": 1.0}


def test_crossing_by_hand() -> None:
    tokens, losses = [1e6, 4e6, 16e6], [3.0, 2.0, 1.0]
    assert crossing(tokens, losses, 2.5) == Crossing(n_tokens=pytest.approx(2e6), bound="exact")  # type: ignore[arg-type]
    assert crossing(tokens, losses, 2.0).n_tokens == 4e6
    assert crossing(tokens, losses, 0.5) == Crossing(n_tokens=16e6, bound="at_least")
    assert crossing(tokens, losses, 3.5) == Crossing(n_tokens=1e6, bound="at_most")
    assert crossing(tokens, losses, 3.0) == Crossing(n_tokens=1e6, bound="exact")
    assert value_at(tokens, losses, 2e6) == pytest.approx(2.5)
    assert value_at(tokens, losses, 4e6) == 2.0
    assert value_at(tokens, losses, 17e6) is None
    for bad in (([], []), ([1.0, 1.0], [1.0, 1.0]), ([1.0], [math.nan]), ([0.0], [1.0])):
        with pytest.raises(DataError):
            crossing(*bad, 1.0)


@settings(max_examples=60, deadline=None)
@given(level=st.floats(0.5, 3.5), losses=st.lists(st.floats(0.6, 3.4), min_size=2, max_size=6))
def test_value_at_a_crossing_is_the_level(level: float, losses: list[float]) -> None:
    tokens = [2.0**i for i in range(len(losses))]
    found = crossing(tokens, losses, level)
    if found.bound == "exact" and tokens[0] <= found.n_tokens <= tokens[-1]:
        assert value_at(tokens, losses, found.n_tokens) == pytest.approx(level, abs=1e-6)


def test_multiples_over_seeds_stay_honest() -> None:
    def of(*ratios: tuple[float, str]) -> object:
        return combine_multiples([Crossing(n_tokens=n, bound=b) for n, b in ratios])  # type: ignore[arg-type]

    exact = combine_multiples([Crossing(n_tokens=n, bound="exact") for n in (4.0, 16.0)])
    assert exact.value == pytest.approx(8)
    assert exact.low is not None
    assert exact.low < 8
    bound = combine_multiples([Crossing(n_tokens=4, bound="exact"), Crossing(n_tokens=16, bound="at_least")])
    assert (bound.value, bound.bound, bound.low) == (pytest.approx(8), "at_least", None)
    assert of((4, "at_most"), (16, "at_least")).bound == "unknown"  # type: ignore[attr-defined]
    assert of((4, "exact")).low is None  # type: ignore[attr-defined]
    assert of().value is None  # type: ignore[attr-defined]


def test_ranks_agree_with_the_card() -> None:
    small, target = (0.50, 0.48, 0.55, 0.40), (0.60, 0.61, 0.70, 0.50)
    assert decision_accuracy(small, target) == pytest.approx(5 / 6)
    assert kendall_tau(small, target) == pytest.approx(2 / 3)
    assert decision_accuracy([-x for x in small], target) == pytest.approx(1 / 6)
    assert decision_accuracy([math.exp(9 * x) for x in small], target) == pytest.approx(5 / 6)
    assert kendall_tau((0.25, 0.26, 0.255, 0.27, 0.29, 0.28), range(6)) == pytest.approx(0.7333, abs=1e-4)
    assert decision_accuracy((1.0, 1.0), (1.0, 2.0)) is None
    assert kendall_tau((1.0, 1.0), (1.0, 2.0)) is None
    with pytest.raises(DataError):
        decision_accuracy((1.0,), (1.0,))


def test_tau_with_ties_agrees_with_scipy() -> None:
    from scipy import stats

    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 4, 30).tolist(), rng.integers(0, 4, 30).tolist()
    assert kendall_tau(a, b) == pytest.approx(stats.kendalltau(a, b).statistic)


def test_noisy_small_runs_decide_as_often_as_the_gaussian_model_says() -> None:
    # E[decision accuracy] = 1 - atan(noise / spread) / pi = 0.75 when both are equal.
    rng = np.random.default_rng(4)
    found = []
    for _ in range(60):
        truth = rng.normal(size=25)
        found.append(decision_accuracy((truth + rng.normal(size=25)).tolist(), truth.tolist()))
    assert np.mean(found) == pytest.approx(0.75, abs=0.025)  # sd of one is 0.053
