"""Schedules as a recipe names them: curves, courses, and what does not fit."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from prill.errors import RecipeError
from prill.lm.schedule import Branch, Phase, Schedule, cosine, rewarmed, wsd, wsd_s
from prill.lm.schedules.course import Course
from prill.lm.schedules.span import Span, whole_steps
from prill.lm.schedules.spec import ScheduleSpec

PIECEWISE = {
    "piecewise": {
        "phases": [
            {"until": "10 steps", "to": 1.0},
            {"until": "60%", "to": 1.0, "curve": "constant"},
            {"until": "80%", "to": 0.2, "curve": "cosine"},
            {"until": "100%", "to": 0.05, "start": 0.5, "curve": "exponential"},
        ]
    }
}
ALL: list[Any] = ["wsd", "cosine", "infinite", "wsd_s", "rewarm", "constant", PIECEWISE]


def course(spec: Any, *stops: int) -> Course:
    """Laid out with one token a step."""
    return ScheduleSpec.model_validate(spec).course(stops, steps_for=whole_steps(1))


def test_one_minus_square_root_decay_by_hand() -> None:
    # a quarter of the way: 1 - sqrt(0.25) = 0.5; at 0.81: 1 - 0.9 = 0.1
    schedule = wsd(peak=2.0, warmup=0, decay_from=100, total=200, curve="one_minus_sqrt")
    assert [schedule.value(t) for t in (100, 125, 181, 200)] == pytest.approx([2.0, 1.0, 0.2, 0.0])


def test_exponential_decay_halves_every_half_life() -> None:
    spec = {"wsd": {"decay": "40 steps", "curve": "exponential", "half_life": "10 steps"}}
    found = course(spec, 100).tails[0]
    # MiniCPM: 0.5^((t - T) / H)
    assert [found.value(t) for t in (60, 70, 80, 95, 100)] == pytest.approx(
        [1.0, 0.5, 0.25, 0.5**3.5, 0.5**4], rel=1e-12
    )


def test_wsd_s_jumps_back_to_its_peak_and_warms_up_once() -> None:
    schedule = wsd_s(
        warmup=10, stops=(50, 100), decays=(5, 10), peaks=(1.0, 0.5), floors=(0.0, 0.1), curve="linear"
    )
    assert [schedule.value(t) for t in (5, 10, 45, 47.5, 50)] == pytest.approx([0.5, 1, 1, 0.5, 0])
    assert [schedule.value(t) for t in (50.001, 90, 95, 100, 130)] == pytest.approx([0.5, 0.5, 0.3, 0.1, 0.1])


def test_periods_double_and_peaks_shrink_as_in_the_olmo_ladder() -> None:
    found = course({"wsd_s": {"warmup": "5 steps", "decay": "10%", "peaks": "sqrt"}}, 100, 200, 400)
    assert found.branches == tuple(Branch(start=s, stop=s) for s in (100, 200, 400))
    schedule = found.schedule(None)
    # decays: 10 of 100, 10 of 100, 20 of 200 steps; peaks 1, 1/sqrt(2), 1/2
    assert [schedule.value(t) for t in (90, 95, 190, 195, 380, 390)] == pytest.approx(
        [1, 0.5, 2**-0.5, 2**-0.5 / 2, 0.5, 0.25]
    )


def test_rewarming_goes_on_from_where_the_last_training_ended() -> None:
    first = cosine(peak=3e-4, floor=3e-5, warmup=100, total=1000)
    both = first.then(rewarmed(first=3e-5, peak=3e-4, floor=3e-5, warmup=100, total=1000))
    assert both.stop == 2000
    assert both.value(1000) == pytest.approx(3e-5)
    assert both.value(1050) == pytest.approx(1.65e-4)  # half way from 3e-5 to 3e-4
    assert [both.value(1000 + t) for t in (100, 550, 1000)] == pytest.approx(
        [first.value(t) for t in (100, 550, 1000)], rel=1e-12
    )
    again = course({"rewarm": {"warmup": "10%", "restarts": ["25%", "50%"]}}, 400).tails[0]
    assert [again.value(t) for t in (10, 100, 110, 200, 220, 400)] == pytest.approx(
        [1, 0.1, 1, 0.1, 1, 0.1], rel=1e-9
    )


@pytest.mark.parametrize("spec", ALL)
def test_rates_are_shares_of_the_peak_and_continuous_up_to_jumps(spec: Any) -> None:
    jumps = {"wsd_s": (500,), "piecewise": (800,)}.get(ScheduleSpec.model_validate(spec).name, ())
    for schedule, stop in zip(course(spec, 500, 1000).tails, (500, 1000), strict=True):
        values = [schedule.value(t) for t in range(stop + 1)]
        assert all(0 <= value <= 1 for value in values)
        moves = [abs(b - a) for t, (a, b) in enumerate(itertools.pairwise(values)) if t not in jumps]
        assert max(moves) <= 1 / 10 + 1e-9  # no phase here is shorter than 10 steps


@pytest.mark.parametrize("spec", ALL)
@given(stops=st.lists(st.integers(100, 5000), min_size=1, max_size=4, unique=True).map(sorted))
def test_branches_share_the_trunk_and_longer_counts_change_nothing(spec: Any, stops: list[int]) -> None:
    found = course(spec, *stops)
    assert [branch.stop for branch in found.branches] == stops
    for branch, tail in zip(found.branches, found.tails, strict=True):
        for step in {0, branch.start // 2, max(0, branch.start - 1)}:
            if step < branch.start:
                assert tail.rate(step) == found.trunk.rate(step)
    if spec is not PIECEWISE and len(stops) > 1:
        shorter = course(spec, *stops[:-1])
        for tail, same in zip(shorter.tails, found.tails, strict=False):
            assert all(tail.rate(step) == same.rate(step) for step in range(0, stops[0], 7))


def test_defaults_are_the_trunk_and_branches_that_trials_use() -> None:
    found = ScheduleSpec.model_validate("wsd").course((250_000, 500_000), steps_for=whole_steps(1024))
    assert found.branches == (Branch(start=195, stop=244), Branch(start=390, stop=488))
    assert found.tails[1] == wsd(peak=1.0, warmup=30, decay_from=390, total=488)
    assert {found.trunk.rate(step) for step in range(30, 488)} == {1.0}


def test_a_cosine_is_a_training_of_its_own_for_every_count() -> None:
    found = course({"cosine": {"warmup": 0.05, "floor": 0.1}}, 200, 400)
    assert found.branches == (Branch(start=0, stop=200), Branch(start=0, stop=400))
    assert found.tails[1] == cosine(peak=1.0, floor=0.1, warmup=20, total=400)


@pytest.mark.parametrize(
    ("written", "span", "shown"),
    [
        (0.05, Span(0.05, "share"), "5%"),
        ("12.5 %", Span(0.125, "share"), "12.5%"),
        (30, Span(30, "steps"), "30 steps"),
        ("1 step", Span(1, "steps"), "1 steps"),
        ("2M tokens", Span(2e6, "tokens"), "2000000 tokens"),
        ("250k tokens", Span(250_000, "tokens"), "250000 tokens"),
        (0, Span(0, "steps"), "0 steps"),
        ("100%", Span(1.0, "share"), "100%"),
    ],
)
def test_lengths_as_people_write_them(written: Any, span: Span, shown: str) -> None:
    assert Span.parse(written) == span
    assert str(span) == shown
    assert Span.parse(shown) == span


def test_lengths_in_tokens_are_never_exceeded() -> None:
    assert Span.parse("10_000 tokens").steps(1000, whole_steps(1024)) == 9
    assert Span.parse("33%").steps(10, whole_steps(1024)) == 3


@pytest.mark.parametrize("wrong", [1.5, 1.0, -1, "2 weeks", True, None, "101%", "0.5 steps"])
def test_lengths_that_are_none_are_refused(wrong: Any) -> None:
    with pytest.raises(ValueError, match="expected"):
        Span.parse(wrong)


def test_a_schedule_survives_its_record() -> None:
    for spec in ALL:
        found = ScheduleSpec.model_validate(spec)
        assert ScheduleSpec.model_validate(found.as_record()) == found


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            {"cosine": {"warmup": "60 steps"}},
            "the warm-up of 60 steps must end before the first decay .* step 50",
        ),
        (
            {"wsd": {"warmup": "45 steps"}},
            "the warm-up of 45 steps must end before the first decay .* step 40",
        ),
        ({"infinite": {"cooldown": "90%"}}, "the cooldown of 45 steps must end before the first decay"),
        ({"infinite": {"warmup": "40 steps"}}, "the warm-up of 40 steps must end before the cooldown ends"),
        (
            {"rewarm": {"restarts": ["20 steps"], "warmup": "30 steps"}},
            "must end before the rate warms up again",
        ),
        (
            {"wsd_s": {"warmup": "46 steps"}},
            "the warm-up of 46 steps must end before the first decay .* step 45",
        ),
        (
            {"piecewise": {"phases": [{"until": 9, "to": 1}, {"until": 5, "to": 0}]}},
            "must end after it begins",
        ),
    ],
)
def test_phases_that_do_not_fit_are_refused(spec: Any, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        course(spec, 50, 100)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"wsd": {"curve": "exponential"}}, "never reaches 0"),
        ({"wsd": {"half_life": "5 steps"}}, "needs `curve: exponential`"),
        ({"infinite": {"floor": 0}}, "greater than 0"),
        ({"cosine": {}, "wsd": {}}, "a schedule is one of"),
        ({}, "a schedule is one of"),
        ({"cosin": {}}, "Extra inputs"),
        ({"cosine": {"floor": 2}}, "less than or equal to 1"),
    ],
)
def test_specs_that_make_no_sense_are_refused(spec: Any, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ScheduleSpec.model_validate(spec)


def test_counts_must_rise() -> None:
    with pytest.raises(RecipeError, match=r"at least one step, found \[100, 100\]"):
        course("constant", 100, 100)


def test_gaps_after_joining_are_impossible() -> None:
    hold = Schedule(phases=(Phase(start=0, stop=3, first=1, last=1, curve="constant"),))
    assert hold.then(hold).phases[1].start == 3
    assert math.isclose(hold.then(hold).value(6), 1.0)
