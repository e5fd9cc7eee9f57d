"""Ranks by tokens equal a plain sort, whatever the shards."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prill.errors import DataError
from prill.stats.order_key import order_key, value_of_key
from prill.stats.token_ranks import Ranks, token_ranks


def ranks_of(scores: np.ndarray, tokens: np.ndarray, ends: list[int], **more: float) -> Ranks:
    bounds = list(itertools.pairwise([0, *ends, len(scores)]))

    def columns(shard: int) -> tuple[np.ndarray, np.ndarray]:
        first, stop = bounds[shard]
        return scores[None, first:stop], tokens[first:stop]

    (found,) = token_ranks(columns, len(bounds), 1, **more)
    return found


def by_comparing(scores: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """Tokens of lower scores and half of those of equal ones, over all tokens."""
    weight = np.where(np.isfinite(scores), tokens, 0)
    lower = (weight * (scores[None, :] < scores[:, None])).sum(axis=1)
    equal = (weight * (scores[None, :] == scores[:, None])).sum(axis=1)
    return (lower + equal / 2) / weight.sum()


def test_a_case_worked_by_hand() -> None:
    # Tokens 10, 20, 30, 40 at scores 1, 2, 2, 9: 5 of 100, then 10 + 25 for both 2s, then 60 + 20.
    found = ranks_of(np.array([1.0, 2, 2, 9]), np.array([10, 20, 30, 40]), [1])
    assert found.of(np.array([1.0, 2, 2, 9])).tolist() == [0.05, 0.35, 0.35, 0.8]
    assert np.isnan(found.of(np.array([np.nan]))[0])


@settings(max_examples=80, deadline=None)
@given(
    scores=st.lists(
        st.one_of(
            st.floats(allow_infinity=False), st.sampled_from([0.0, -0.0, 1.0, 1.0 + 2**-52, float("inf")])
        ),
        min_size=1,
        max_size=40,
    ),
    data=st.data(),
)
def test_small_pools_are_ranked_exactly_in_any_shards(scores: list[float], data: st.DataObject) -> None:
    n = len(scores)
    score = np.array(scores)
    tokens = np.array(data.draw(st.lists(st.integers(0, 50), min_size=n, max_size=n)))
    if not (np.isfinite(score) & (tokens > 0)).any():
        return
    ends = sorted(data.draw(st.lists(st.integers(0, n), max_size=3)))
    found = ranks_of(score, tokens, ends).of(score)
    counts = np.isfinite(score) & (tokens > 0)
    np.testing.assert_allclose(found[counts], by_comparing(score, tokens)[counts], atol=1e-12)


@pytest.mark.parametrize("shape", ["normal", "narrow", "integers", "one heavy"])
def test_large_pools_are_ranked_within_the_resolution_and_in_order(shape: str) -> None:
    rng = np.random.default_rng(1)
    score = {
        "normal": rng.normal(size=20_000),
        "narrow": 1e6 + rng.normal(size=20_000) * 1e-6,
        "integers": rng.integers(0, 6, 20_000) * 1.0,
        "one heavy": np.where(rng.random(20_000) < 0.7, 3.5, rng.normal(size=20_000)),
    }[shape]
    tokens = rng.integers(1, 500, 20_000)
    found = ranks_of(score, tokens, [7000, 7001], resolution=2**-8)
    order = np.argsort(score, kind="stable")
    ranks = found.of(score)
    lower = np.concatenate([[0], np.cumsum(tokens[order])])
    first = lower[np.searchsorted(score[order], score, side="left")]
    after = lower[np.searchsorted(score[order], score, side="right")]
    exact = (first + after) / 2 / tokens.sum()
    assert np.abs(ranks - exact).max() <= 2 * 2**-8
    assert (np.diff(ranks[order])[np.diff(score[order]) > 0] > 0).all()  # distinct scores stay distinct
    assert np.average(ranks, weights=tokens) == pytest.approx(0.5, abs=2**-8)
    assert len(found.low) <= 4 / 2**-8


def test_shards_change_no_bit() -> None:
    rng = np.random.default_rng(2)
    score, tokens = rng.normal(size=5000), rng.integers(1, 99, 5000)
    a, b = (ranks_of(score, tokens, ends, resolution=2**-6) for ends in ([], [10, 900, 901, 4000]))
    assert all(np.array_equal(x, y) for x, y in zip(vars(a).values(), vars(b).values(), strict=True))
    stored = Ranks.from_arrays("m", a.to_arrays("m"))
    assert np.array_equal(stored.of(score), a.of(score))


def test_nothing_to_rank_is_an_error() -> None:
    with pytest.raises(DataError, match="at least one document with a finite score"):
        ranks_of(np.array([np.nan, 1.0]), np.array([5, 0]), [])


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(allow_nan=False), min_size=2, max_size=20))
def test_keys_keep_the_order_of_values_and_can_be_read_back(values: list[float]) -> None:
    keys = order_key(np.array(values))
    assert value_of_key(keys).tolist() == values
    for a, b in itertools.product(range(len(values)), repeat=2):
        assert (values[a] < values[b]) == (keys[a] < keys[b])
