"""The card's oracles for schedules, and Step Law."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prill.errors import RecipeError
from prill.lm.schedule import Branch, Phase, Schedule, cosine, infinite, wsd
from prill.lm.schedules.spec import ScheduleSpec, WsdSpec
from prill.lm.shape import LADDER, Shape, flops_per_token, ladder_shape, memory_bytes
from prill.lm.steplaw import advise, step_law_batch_tokens, step_law_rate

INFINITE = {
    "peak": 3e-4,
    "constant": 1.65e-4,
    "floor": 3e-5,
    "warmup": 100,
    "cooldown_until": 6000,
    "anneal_from": 8500,
    "total": 10_000,
}


@pytest.mark.parametrize(("t", "rate"), [(50, 1.5e-4), (100, 3e-4), (5050, 1.65e-4), (10_000, 3e-5)])
def test_cosine_oracle(t: int, rate: float) -> None:
    assert cosine(peak=3e-4, floor=3e-5, warmup=100, total=10_000).value(t) == pytest.approx(rate, rel=1e-9)


@pytest.mark.parametrize(
    ("t", "rate"), [(3050, 2.325e-4), (6000, 1.65e-4), (8500, 1.65e-4), (9250, 7.0356e-5), (10_000, 3e-5)]
)
def test_infinite_oracle(t: int, rate: float) -> None:
    assert infinite(**INFINITE).value(t) == pytest.approx(rate, rel=1e-5)


def test_infinite_with_inverse_square_root_and_the_second_reading() -> None:
    schedule = infinite(**INFINITE, cooldown="inverse_sqrt", anneal_steps_from_zero=1500)
    assert schedule.value(3050) == pytest.approx(1.8563e-4, rel=1e-5)
    assert schedule.value(10_000) == pytest.approx(1.27770e-4, rel=1e-5)


def test_wsd_uses_midpoints_so_no_step_is_wasted() -> None:
    schedule = wsd(peak=1.0, warmup=2, decay_from=4, total=8)
    assert [schedule.rate(s) for s in range(9)] == [0.25, 0.75, 1.0, 1.0, 0.875, 0.625, 0.375, 0.125, 0.0]


@pytest.mark.parametrize(
    "schedule",
    [
        cosine(peak=3e-4, floor=3e-5, warmup=100, total=10_000),
        infinite(**INFINITE),
        infinite(**INFINITE, cooldown="inverse_sqrt"),
        wsd(peak=3e-4, warmup=100, decay_from=9000, total=10_000, floor=3e-5),
    ],
)
def test_schedules_are_continuous_and_bounded(schedule: Schedule) -> None:
    values = [schedule.value(t) for t in range(10_001)]
    steps = [abs(b - a) for a, b in itertools.pairwise(values)]
    assert max(steps[:100]) <= 3.0001e-6  # the warm-up's own slope
    assert max(steps[100:]) <= 1e-6
    assert all(3e-5 * 0.999999 <= v <= 3e-4 * 1.000001 for v in values[100:])


def test_arms_with_different_tails_share_the_trunk() -> None:
    short = wsd(peak=1.0, warmup=3, decay_from=80, total=100)
    long = wsd(peak=1.0, warmup=3, decay_from=160, total=200)
    assert [short.rate(s) for s in range(80)] == [long.rate(s) for s in range(80)]


def test_wrong_tables_are_refused() -> None:
    with pytest.raises(RecipeError, match="without a gap, expected a start at 5, found 6"):
        Schedule(phases=(Phase(start=0, stop=5, first=0, last=1), Phase(start=6, stop=9, first=1, last=0)))
    with pytest.raises(RecipeError, match=r"must end above 0, found 1.0 to 0.0"):
        Phase(start=0, stop=5, first=1.0, last=0.0, curve="exponential")
    with pytest.raises(RecipeError, match="must end after it begins"):
        Phase(start=5, stop=4, first=1.0, last=0.0)


def test_branches_never_exceed_their_budget() -> None:
    # 250,000 // 1024 = 244 steps, decay round(48.8) = 49; 500,000 // 1024 = 488, decay round(97.6) = 98
    wsd = ScheduleSpec(wsd=WsdSpec())
    found = wsd.course((250_000, 500_000), steps_for=lambda n: n // 1024).branches
    assert found == (Branch(start=195, stop=244), Branch(start=390, stop=488))
    with pytest.raises(RecipeError, match=r"must rise by at least one step, found \[2048, 2049\]"):
        wsd.course((2048, 2049), steps_for=lambda n: n // 1024)
    with pytest.raises(RecipeError, match=r"found \[1000\]"):
        wsd.course((1000,), steps_for=lambda n: n // 1024)


@pytest.mark.parametrize(
    ("n", "d", "rate", "batch"),
    [
        (1e9, 1e11, 1.6325e-3, 1.108e6),
        (7e9, 1.4e12, 9.166e-4, 4.999e6),
        (4e8, 8e9, 1.4449e-3, 2.619e5),
        (1e8, 2e9, 2.5367e-3, 1.187e5),
        (1e7, 2e8, 6.46e-3, 15.6 * 2048),
    ],
)
def test_step_law_oracle(n: float, d: float, rate: float, batch: float) -> None:
    assert step_law_rate(n, d) == pytest.approx(rate, rel=1e-3)
    assert step_law_batch_tokens(d) == pytest.approx(batch, rel=4e-3)  # 15.6 sequences is rounded


def test_step_law_scaling_identities() -> None:
    assert step_law_rate(1e9, 2e10) / step_law_rate(1e9, 1e10) == pytest.approx(1.237, rel=1e-3)
    assert step_law_batch_tokens(2e10) / step_law_batch_tokens(1e10) == pytest.approx(1.486, rel=1e-3)
    assert step_law_rate(2e9, 1e10) / step_law_rate(1e9, 1e10) == pytest.approx(0.610, rel=1e-3)


def test_advice_for_nano_is_the_calibrated_one_and_the_law_from_ten_million() -> None:
    nano = ladder_shape("nano", vocab_size=4096)
    advice = advise(nano.n_params, 500_000, nano.seq_len)
    assert (advice.peak_rate, advice.n_rows, advice.origin) == (3e-3, 4, "measured")
    assert advice.law_rate == pytest.approx(1.18e-2, rel=0.01)
    large = advise(100_000_000, 2_000_000_000, 1024)
    assert (large.origin, large.peak_rate, large.n_rows) == ("law", large.law_rate, 116)


@given(st.floats(1e5, 1e9), st.integers(100_000, 10**11))
def test_advice_lies_between_measurement_and_law(n: float, d: int) -> None:
    advice = advise(int(n), d, 256)
    measured = min(3e-3 * (int(n) / 328_320) ** (-1 / 3), advice.law_rate)
    assert measured * 0.999999 <= advice.peak_rate <= advice.law_rate * 1.000001
    assert advice.n_rows >= 2


def test_advice_follows_what_was_measured_below_a_million_parameters() -> None:
    pico, tiny = (ladder_shape(name, vocab_size=4096) for name in ("pico", "tiny"))
    # the best rates of bench/step_law.py at the law's batch were about 5.7e-3 and 2.8e-3; the optimum is flat
    assert advise(pico.n_params, 128_000, 256).peak_rate == pytest.approx(5.7e-3, rel=0.3)
    assert advise(tiny.n_params, 128_000, 256).peak_rate == pytest.approx(2.8e-3, rel=0.3)
    assert advise(pico.n_params, 128_000, 256).n_rows == 2


def test_ladder_sizes_are_as_documented() -> None:
    millions = {name: ladder_shape(name, vocab_size=4096).n_params / 1e6 for name in LADDER}
    documented = {
        "pico": 0.11,
        "nano": 0.33,
        "tiny": 0.96,
        "micro": 3.1,
        "mini": 10.6,
        "small": 32.1,
        "base": 59.5,
        "large": 99.1,
    }
    assert millions == pytest.approx(documented, rel=0.03)


def test_costs_by_hand() -> None:
    # one layer, d 2, f 3, V 5, T 4: N = 4 * 4 + 3 * 6 + 2 * 2 + 2 = 40, embedding 10
    shape = Shape(vocab_size=5, d_model=2, n_layers=1, n_heads=1, d_ff=3, seq_len=4)
    assert (shape.n_params, shape.n_embedding, shape.n_total) == (40, 10, 50)
    # scoring: 2 * (40 + 10) + 2 * 1 * 4 * 2 = 116; training three times that
    assert (flops_per_token(shape, training=False), flops_per_token(shape)) == (116, 348)


def test_memory_of_a_training_by_hand() -> None:
    shape = Shape(vocab_size=5, d_model=2, n_layers=1, n_heads=1, d_ff=3, seq_len=4)
    # fp32: a parameter takes 7 x 4 bytes and its copy 4; a block's own gradients 4; beside all 32 MiB
    weights = 50 * 32 + 40 * 4
    # a token keeps two streams, 6 d + 3 f values and 4 scores a block; the backward pass takes one block more
    token = 2 * (8 * 2 + (6 * 2 + 3 * 3 + 4) * 4)
    one = memory_bytes(shape, n_models=1, n_rows=2)
    assert one == weights + 8 * token + (32 << 20)
    assert memory_bytes(shape, n_models=2, n_rows=2) - one == weights + 8 * token
    deep = ladder_shape("nano", vocab_size=4096)
    kept = memory_bytes(deep, n_models=1, n_rows=64)
    assert memory_bytes(deep, n_models=1, n_rows=64, recompute=True) < 0.8 * kept


def test_bad_shapes_tell_all_problems() -> None:
    with pytest.raises(RecipeError, match="`vocab_size` must be at least 1, found 0") as caught:
        Shape(vocab_size=0, d_model=2, n_layers=0, n_heads=1, d_ff=3, seq_len=4)
    assert len(caught.value.problems) == 2
    with pytest.raises(RecipeError, match="even multiple of `n_heads`, found 6 and 4"):
        Shape(vocab_size=9, d_model=6, n_layers=1, n_heads=4, d_ff=3, seq_len=4)
    with pytest.raises(RecipeError, match="did you mean 'nano'"):
        ladder_shape("nanno", vocab_size=10)
