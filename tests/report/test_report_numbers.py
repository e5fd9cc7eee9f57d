"""Numbers and axes: what people read is rounded once, signed truly and never misleading."""

import math

import pytest

from prill.report import numbers
from prill.report.axes import Scale, decimals, linear_ticks, log_ticks, padded


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0, "0"),
        (999, "999"),
        (1_000, "1 k"),
        (250_000, "250 k"),
        (28_600_000, "28.6 M"),
        (999_600, "1 M"),
        (3.2e9, "3.2 B"),
    ],
)
def test_compact_counts_keep_three_digits(value, shown):
    assert numbers.compact(value).replace("\u00a0", " ") == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [(-0.5567, "−0.557"), (0.0192, "+0.019"), (-0.0001, "0.000"), (0.0, "0.000"), (None, "–")],
)
def test_differences_carry_their_sign_but_zero_has_none(value, shown):
    assert numbers.difference(value) == shown


def test_values_that_are_not_finite_are_said_in_words():
    assert numbers.score(math.nan) == "not a number"
    assert numbers.loss(math.inf) == "infinite"
    assert numbers.compact(-math.inf) == "minus infinite"


def test_interval_without_bounds_is_not_known():
    assert numbers.interval(None, 0.1) == "not known"
    assert numbers.interval(-0.613, -0.501) == "−0.613 to −0.501"


def test_small_shares_are_not_shown_as_nothing():
    assert numbers.percent(0.0004).replace("\u00a0", " ") == "< 0.1 %"
    assert numbers.percent(0.0).replace("\u00a0", " ") == "0.0 %"


def test_powers_carry_the_mantissa_over():
    assert numbers.power(9.96e14).replace("\u00a0", " ") == "1.0 × 10¹⁵"
    assert numbers.power(3.56e13).replace("\u00a0", " ") == "3.6 × 10¹³"


def test_ratio_of_an_absent_pool_share_is_a_dash():
    assert numbers.ratio(0.1, 0.0) == "–"
    assert numbers.ratio(0.5, 0.1) == "×5"


def test_sizes_use_decimal_units():
    assert numbers.size(81_100_000).replace("\u00a0", " ") == "81.1 MB"
    assert numbers.size(12).replace("\u00a0", " ") == "12 B"


def test_linear_ticks_are_round_and_inside():
    assert linear_ticks(-0.63, 0.04, n_about=4) == [-0.6, -0.4, -0.2, 0.0]
    assert linear_ticks(1.97, 2.83, n_about=4) == [2.0, 2.2, 2.4, 2.6, 2.8]


def test_log_ticks_are_the_measured_values_when_few():
    assert log_ticks([5e5, 2.5e5, 1e6, 5e5], 2.5e5, 1e6) == [2.5e5, 5e5, 1e6]


def test_log_ticks_fall_back_to_round_numbers():
    many = [1e5 * 1.1**i for i in range(40)]
    ticks = log_ticks(many, many[0], many[-1])
    assert 2 <= len(ticks) <= 6
    assert all(many[0] <= tick <= many[-1] for tick in ticks)
    assert log_ticks((), 20, 60_000)


def test_log_ticks_stay_few_over_many_decades():
    assert len(log_ticks((), 1.0, 1e30)) <= 6


def test_scale_maps_ends_to_ends():
    scale = Scale(low=1, high=100, start=0, stop=10, is_log=True)
    assert [scale(v) for v in (1, 10, 100)] == pytest.approx([0, 5, 10])


def test_padding_ignores_what_is_not_finite_and_is_never_empty():
    low, high = padded([math.nan, 2.0, 2.0])
    assert low < 2.0 < high
    assert padded([]) != (0.0, 0.0)


def test_decimals_tell_ticks_apart():
    assert decimals([2.0, 2.05, 2.1]) == 2
    assert decimals([0.0, 10.0]) == 0
    assert decimals([1.0]) == 0
