"""Sizing by one epoch: the card's figures, the one-pass identity, power laws."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prill.errors import DataError, RecipeError
from prill.lm.data import TokenStream
from prill.lm.efficiency.one_epoch import advise_size, effective_epochs, fit_power_law, memorises
from prill.lm.feed.stream import StreamFeed


def test_sizes_of_a_budget() -> None:
    five, twenty = (advise_size(3e18, unique_tokens=1e10, ratio=r) for r in (5, 20))
    assert (five.n_params, five.n_tokens) == pytest.approx((3.162e8, 1.581e9), rel=1e-3)
    assert (twenty.n_params, twenty.n_tokens) == pytest.approx((1.581e8, 3.162e9), rel=1e-3)
    assert five.n_params * five.n_tokens == pytest.approx(twenty.n_params * twenty.n_tokens)
    assert (five.dropout, five.watch_overfitting) == (0.0, False)


@given(st.floats(1e12, 1e26), st.floats(1, 1000), st.floats(1e3, 1e15))
def test_a_budget_is_spent_exactly(flops: float, ratio: float, unique: float) -> None:
    found = advise_size(flops, unique_tokens=unique, ratio=ratio)
    assert 6 * found.n_params * found.n_tokens == pytest.approx(flops)
    assert found.n_tokens / found.n_params == pytest.approx(ratio)
    assert found.n_passes == pytest.approx(found.n_tokens / unique)
    assert found.watch_overfitting == (found.n_passes > 1)


def test_repeats_are_told() -> None:
    few = advise_size(3e18, unique_tokens=1e9, ratio=20)
    many = advise_size(3e18, unique_tokens=1e8, ratio=20)
    assert (few.dropout, few.note[:30]) == (None, "3.2 passes: nearly as good as ")
    assert many.note.startswith("31.6 passes: beyond about 4 a repeat adds little")


def test_epochs_are_counted_by_source() -> None:
    # one pass in all (100 of 100 tokens), yet the small source is read three times
    found = effective_epochs({"web": 70.0, "books": 30.0, "none": 0.0}, {"web": 90.0, "books": 10.0})
    assert found == pytest.approx({"web": 7 / 9, "books": 3.0, "none": 0.0})
    with pytest.raises(DataError, match="source 'web': a source that is read needs unique tokens, found 0"):
        effective_epochs({"web": 1.0}, {})


def test_memorising_shows_as_a_gap() -> None:
    assert memorises(2.0, 2.05)
    assert not memorises(2.0, 2.01)


def test_one_pass_has_an_unbiased_training_loss_and_ten_passes_do_not() -> None:
    """A running mean as the model: squared loss on the next number before its update."""

    def training_loss(values: np.ndarray, n_passes: int) -> float:
        order = np.tile(values, n_passes)
        before = np.concatenate([[0.0], np.cumsum(order)[:-1]]) / np.maximum(1, np.arange(len(order)))
        return float(np.mean((order - before)[len(order) // 2 :] ** 2))

    rng = np.random.default_rng(0)
    gaps, repeated, fresh = [], [], []
    for _ in range(400):
        values = rng.normal(size=200)
        n_seen = np.arange(100, 200)
        gaps.append(training_loss(values, 1) - float(np.mean(1 + 1 / n_seen)))  # exact test loss
        fresh.append(training_loss(values, 1))
        repeated.append(training_loss(values[:20], 10))
    error = np.std(gaps) / len(gaps) ** 0.5
    assert abs(np.mean(gaps)) < 2 * error
    assert np.mean(repeated) < np.mean(fresh) - 0.02


def test_a_one_epoch_run_reads_every_document_once() -> None:
    docs = [np.full(15, number + 1) for number in range(12)]  # 16 tokens with its end: one row each
    stream = TokenStream.from_documents(docs, eos=0, name="pool")
    feed = StreamFeed(stream=stream, row_tokens=16, seed=3, shuffle="block", n_rows=12)
    names = [name for row in range(12) for name in feed.documents(row, 1)]
    assert sorted(names) == sorted(f"pool, document {number}" for number in range(12))


def test_power_laws_are_recovered_with_their_offset() -> None:
    t = np.logspace(3, 5, 20)
    losses = 2 + 50 * t**-0.5
    found = fit_power_law(t.tolist(), losses.tolist())
    assert (found.offset, found.scale, found.power) == pytest.approx((2, 50, 0.5), abs=1e-4)
    assert found.power == pytest.approx(0.5, abs=1e-6)
    assert found.loss(1e6) == pytest.approx(2.05, abs=1e-6)
    line = fit_power_law(t.tolist(), losses.tolist(), with_offset=False)
    assert line.power < 0.2


def test_fits_that_cannot_be_are_refused() -> None:
    with pytest.raises(DataError, match="3 or more different, positive points, found 2 and 2"):
        fit_power_law([1, 2], [3, 2])
    with pytest.raises(DataError, match="losses that fall"):
        fit_power_law([1, 2], [2, 3], with_offset=False)
    with pytest.raises(RecipeError, match="`unique_tokens` must be positive, found 0"):
        advise_size(1e18, unique_tokens=0)
