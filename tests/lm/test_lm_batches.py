"""Batch tables: exact counts in closed form, ramps and curricula, rows cut shorter without losing a token."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prill.errors import RecipeError
from prill.lm.batches import BatchPhase, BatchTable, shorten
from prill.lm.data import Rows, Soft, TokenStream, batch
from prill.lm.ramps import length_curriculum, linear_ramp, step_law_ramp

T = 64


@st.composite
def tables(draw: st.DrawFn) -> BatchTable:
    """Tables whose phases all have steps, with ends in steps or in tokens."""
    phases, step, row = [], 0, 0
    for _ in range(draw(st.integers(0, 3))):
        n_rows, n_steps = draw(st.integers(1, 9)), draw(st.integers(1, 40))
        length = draw(st.sampled_from([8, 16, 32, 64]))
        step, row = step + n_steps, row + n_steps * n_rows
        if draw(st.booleans()):
            phases.append(BatchPhase(n_rows=n_rows, row_tokens=length, until_step=step))
        else:
            spare = draw(st.integers(0, n_rows * T - 1))
            phases.append(BatchPhase(n_rows=n_rows, row_tokens=length, until_tokens=row * T + spare))
    last = BatchPhase(n_rows=draw(st.integers(1, 9)), row_tokens=draw(st.sampled_from([8, 64])))
    return BatchTable(row_tokens=T, phases=(*phases, last))


@given(tables(), st.integers(0, 150))
def test_steps_follow_one_another_without_gap_or_overlap(table: BatchTable, n_steps: int) -> None:
    row = 0
    for step in range(n_steps):
        part = table.at(step)
        assert part.first_row == row
        assert table.n_tokens(step) == row * T
        assert table.step_tokens(step) == part.n_rows * T
        row += part.n_rows
    assert table.n_tokens(n_steps) == row * T


@given(tables(), st.integers(-5, 60_000))
def test_steps_for_is_the_largest_number_within_the_tokens(table: BatchTable, n_tokens: int) -> None:
    n_steps = table.steps_for(n_tokens)
    assert n_steps == 0 or table.n_tokens(n_steps) <= n_tokens
    assert table.n_tokens(n_steps + 1) > n_tokens


def test_a_step_belongs_to_the_phase_that_begins_with_it() -> None:
    table = BatchTable(
        row_tokens=T,
        phases=(BatchPhase(n_rows=2, row_tokens=32, until_step=3), BatchPhase(n_rows=4, row_tokens=T)),
    )
    assert (table.at(2).n_rows, table.at(2).row_tokens) == (2, 32)
    assert (table.at(3).n_rows, table.at(3).row_tokens, table.at(3).first_row) == (4, T, 6)


def test_meco_counts_of_the_card() -> None:
    table = BatchTable.constant(512, 8192)  # 40,000 steps of 512 x 8192 tokens, switch at step 36,000
    assert table.step_tokens(0) == 4_194_304
    assert table.n_tokens(40_000) == 167_772_160_000
    assert table.n_tokens(36_000) == 150_994_944_000
    assert table.steps_for(167_772_160_000) == 40_000


def test_a_linear_ramp_is_megatrons() -> None:
    # 16 to 64 by 16 over 3,000 tokens: three increments, one after each 1,000 tokens
    ramp = linear_ramp(first=16, last=64, increment=16, over_tokens=3_000)
    assert ramp == ((16, 1000), (32, 2000), (48, 3000), (64, None))


def test_a_step_law_ramp_takes_the_nearest_power_of_two_to_the_law() -> None:
    total = 10**8
    ramp = step_law_ramp(n_rows=64, total_tokens=total, first=4)
    assert [rows for rows, _ in ramp] == [4, 8, 16, 32, 64]
    for rows, end in ramp[:-1]:
        assert end is not None
        # at the switch the law's batch lies halfway, in logarithms, between this one and the next
        assert 64 * (end / total) ** 0.571 == pytest.approx(rows * 2**0.5, rel=1e-4)


def test_a_curriculum_merges_with_a_ramp_and_keeps_the_tokens_of_both() -> None:
    table = BatchTable.merged(
        row_tokens=T,
        n_rows=linear_ramp(first=2, last=4, increment=2, over_tokens=64 * 100),
        lengths=length_curriculum(row_tokens=T, over_tokens=64 * 80, parts=(4, 2)),
    )
    seen = [(table.n_tokens(s), table.at(s).n_rows, table.at(s).row_tokens) for s in range(100)]
    for n_tokens, n_rows, length in seen:
        assert n_rows == (2 if n_tokens < 6400 else 4)
        assert length == (16 if n_tokens < 2560 else 32 if n_tokens < 5120 else 64)
    assert (table.largest, table.shortest_row) == (4, 16)


def test_ends_closer_than_a_step_leave_no_empty_phase() -> None:
    table = BatchTable.merged(
        row_tokens=T, n_rows=((8, 8 * T * 5), (16, None)), lengths=((32, 8 * T * 5 + T), (64, None))
    )
    assert [(p.n_rows, p.row_tokens) for p in table.phases] == [(8, 32), (16, 64)]


@pytest.mark.parametrize(
    ("phases", "said"),
    [
        ((), "at least one phase, found"),
        ((BatchPhase(n_rows=0, row_tokens=T),), "at least one row, found 0"),
        ((BatchPhase(n_rows=1, row_tokens=24),), "must divide the longest one of 64 tokens, found 24"),
        ((BatchPhase(n_rows=1, row_tokens=T, until_step=4),), "no end, since it is the last"),
        ((BatchPhase(n_rows=1, row_tokens=T), BatchPhase(n_rows=1, row_tokens=T)), "one end"),
        (
            (BatchPhase(n_rows=4, row_tokens=T, until_tokens=4 * T - 1), BatchPhase(n_rows=1, row_tokens=T)),
            "at least one step",
        ),
    ],
)
def test_bad_tables_are_refused_with_the_value(phases: tuple[BatchPhase, ...], said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        BatchTable(row_tokens=T, phases=phases)


@pytest.mark.parametrize(
    "steps", [(), ((4, 100), (2, None), (8, None)), ((4, 200), (8, 100), (2, None)), ((4, 9),)]
)
def test_ends_must_rise_and_only_the_last_be_open(steps: tuple[tuple[int, int | None], ...]) -> None:
    with pytest.raises(RecipeError, match="ends in tokens must rise"):
        BatchTable.merged(row_tokens=T, n_rows=steps)


def test_presets_refuse_what_cannot_be() -> None:
    with pytest.raises(RecipeError, match="whole increments, found 4 to 9 by 2"):
        linear_ramp(first=4, last=9, increment=2, over_tokens=100)
    with pytest.raises(RecipeError, match="cut into 8 equal parts"):
        length_curriculum(row_tokens=100, over_tokens=1000)
    with pytest.raises(RecipeError, match="rows and tokens above 0, found 0"):
        step_law_ramp(n_rows=0, total_tokens=10)


@st.composite
def streams(draw: st.DrawFn) -> TokenStream:
    sizes = draw(st.lists(st.integers(1, 150), min_size=4, max_size=20))
    total = sum(sizes) + 300
    starts = np.concatenate([[0], np.cumsum([*sizes, 300])])
    rng = np.random.default_rng(draw(st.integers(0, 9)))
    tokens = rng.integers(1, 50, total).astype(np.uint16)
    tokens[starts[1:] - 1] = 0
    opens = np.arange(total) - np.repeat(starts[:-1], np.diff(starts))
    return TokenStream(
        tokens=tokens,
        doc_starts=starts,
        weights=rng.random(total, np.float32),
        visible=opens < rng.integers(0, 40),
    )


@settings(max_examples=40)
@given(streams(), st.sampled_from([8, 16, 32]))
def test_cut_rows_are_the_rows_of_a_shorter_length(stream: TokenStream, length: int) -> None:
    n_rows = stream.n_tokens // T
    cut = shorten(batch(stream, np.arange(n_rows), seq_len=T), length)
    short = batch(stream, np.arange(n_rows * T // length), seq_len=length)
    for name in ("inputs", "targets", "positions", "segments", "weights"):
        assert np.array_equal(getattr(cut, name), getattr(short, name)), name
    # a row's first input, seen by all behind it anyway, may differ; nothing else
    assert cut.visible is not None
    assert short.visible is not None
    assert np.array_equal(cut.visible[:, 1:], short.visible[:, 1:])


def test_stacks_and_soft_targets_are_cut_alike() -> None:
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 9, (3, 2, T))
    rows = Rows(
        inputs=ids,
        targets=ids + 1,
        positions=np.tile(np.arange(T), (3, 2, 1)),
        segments=np.zeros((3, 2, T), np.int64),
        soft=Soft(ids=ids[..., None].repeat(4, -1), shares=np.ones((3, 2, T, 4), np.float32)),
    )
    cut = shorten(rows, 16)
    assert cut.inputs.shape == (3, 8, 16)
    assert cut.soft is not None
    assert cut.soft.ids.shape == (3, 8, 16, 4)
    assert np.array_equal(cut.soft.ids[..., 0], cut.inputs)
    assert np.array_equal(cut.inputs[1, 5], rows.inputs[1, 1, 16:32])
    assert np.array_equal(cut.positions[2, 7], np.arange(16))
    assert shorten(rows, T) is rows
    with pytest.raises(RecipeError, match="found 24"):
        shorten(rows, 24)
