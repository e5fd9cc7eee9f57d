"""Picks for the rater: balanced over predicted classes, with a random part of known probability."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prill.errors import DataError, RecipeError
from prill.features.labelling import balanced, entropy, pick, pseudo_labels


def keys_of(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2**63, n, dtype=np.uint64)


def one_hot(labels: list[int] | np.ndarray, n_classes: int, sure: float = 0.9) -> np.ndarray:
    rest = (1 - sure) / (n_classes - 1)
    return np.where(np.arange(n_classes) == np.asarray(labels)[:, None], sure, rest)


def test_the_case_of_the_card() -> None:
    # Counts (2, 0, 1). Class 1 is smallest: item 4. Then (2, 1, 1): the lower of 1 and 2 again, item 5.
    # Then (2, 2, 1): class 2, item 6. Then (2, 2, 2): class 0, item 0.
    labels = np.array([0, 0, 0, 0, 1, 1, 2, 0, 1, 0])
    rows, counts = balanced(labels, np.array([2.0, 0.0, 1.0]), 4, np.arange(10))
    assert rows.tolist() == [4, 5, 6, 0]
    assert counts.tolist() == [3, 2, 2]


def test_a_class_without_candidates_does_not_take_the_remaining_picks() -> None:
    # The reference keeps class 2 in front for ever and picks the rest at random: here it is passed over.
    labels = np.array([0] * 50 + [1] * 50)
    rows, counts = balanced(labels, np.zeros(3), 20, np.arange(100))
    assert np.bincount(labels[rows]).tolist() == [10, 10]
    assert counts.tolist() == [10, 10, 0]


def test_equal_start_and_equal_labels_give_equal_counts() -> None:
    p = one_hot(np.arange(400) % 4, 4)
    found = pick(p, np.zeros(4), 40, keys_of(400), 1, gamma=1.0, random_share=0.0)
    assert found.counts.tolist() == [10, 10, 10, 10]
    assert np.bincount(np.arange(400)[found.rows] % 4).tolist() == [10, 10, 10, 10]


def test_equal_probabilities_and_all_proposed_is_a_random_sample() -> None:
    # Each class is as likely: pseudo-labels are keyed draws, so picks are random and every row equally often.
    n, hits = 40, np.zeros(40)
    for seed in range(600):
        found = pick(np.full((n, 4), 0.25), np.zeros(4), 8, keys_of(n), seed, gamma=1.0, random_share=0.0)
        hits[found.rows] += 1
    # 600 draws of probability 0.2: sd 9.8; four of them over 40 rows.
    assert np.abs(hits - 120).max() < 4 * 9.8


def test_the_least_sure_are_proposed() -> None:
    p = one_hot(np.arange(100) % 2, 2, sure=0.95)
    p[:10] = [0.6, 0.4]
    found = pick(p, np.zeros(2), 10, keys_of(100), 0, gamma=0.1, random_share=0.0)
    assert sorted(found.rows.tolist()) == list(range(10))
    # -(.6 ln .6 + .4 ln .4) = 0.6730; the reference adds 1e-6 inside.
    assert entropy(p)[0] == pytest.approx(0.6730117 - 2e-6, abs=1e-6)


def test_ties_of_the_likeliest_class_are_spread_by_the_draw() -> None:
    p = np.array([[0.4, 0.2, 0.4]] * 4)
    assert pseudo_labels(p, np.array([0.1, 0.49, 0.51, 0.99])).tolist() == [0, 0, 2, 2]


def test_the_random_part_has_the_probability_it_says() -> None:
    n, hits = 60, np.zeros(60)
    p = np.random.default_rng(3).dirichlet(np.ones(3), n)
    for seed in range(800):
        found = pick(p, np.zeros(3), 20, keys_of(n), seed, gamma=1.0, random_share=0.5)
        hits[found.rows[found.is_random]] += 1
        assert found.inclusion[found.is_random].tolist() == [10 / 50] * 10
        assert found.inclusion[~found.is_random].tolist() == [1.0] * 10
        assert found.weights.sum() == pytest.approx(n)  # the weights stand for every document
    assert abs(hits.sum() / 800 - 10) < 1e-9


def test_weighted_sums_are_unbiased_although_the_picks_are_not_random() -> None:
    rng = np.random.default_rng(5)
    p = rng.dirichlet(np.ones(3) * 0.3, 300)
    y = p @ np.array([0.0, 1.0, 5.0]) + (-(p * np.log(p + 1e-9)).sum(axis=1)) * 3  # depends on uncertainty
    keys = keys_of(300)
    picked = [pick(p, np.array([9.0, 3.0, 0.0]), 60, keys, s, random_share=0.5) for s in range(400)]
    weighted = [float((y[f.rows] * f.weights).sum() / 300) for f in picked]
    plain = [float(y[f.rows].mean()) for f in picked]
    error = np.std(weighted, ddof=1) / 20
    assert abs(np.mean(weighted) - y.mean()) < 4 * error
    assert abs(np.mean(plain) - y.mean()) > 20 * error


def test_counts_may_be_tokens() -> None:
    labels, sizes = np.array([0, 0, 1, 1, 1, 1]), np.array([100.0, 100, 30, 30, 30, 30])
    rows, counts = balanced(labels, np.zeros(2), 5, np.arange(6), sizes)
    assert rows.tolist() == [0, 2, 3, 4, 5]  # 100 against 30, 60, 90, then 120
    assert counts.tolist() == [100, 120]


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    n=st.integers(1, 60),
    n_classes=st.integers(2, 6),
    query=st.floats(0, 1),
    gamma=st.floats(0, 1),
    share=st.floats(0, 1),
)
def test_picks_are_distinct_and_do_not_depend_on_the_order_of_rows(
    seed: int, n: int, n_classes: int, query: float, gamma: float, share: float
) -> None:
    rng = np.random.default_rng(seed)
    p, keys = rng.dirichlet(np.ones(n_classes), n), np.unique(keys_of(3 * n, seed))[:n]
    counts, n_query = rng.integers(0, 5, n_classes), int(query * n)
    found = pick(p, counts, n_query, keys, seed, gamma=gamma, random_share=share)
    assert len(set(found.rows.tolist())) == len(found.rows) == n_query
    assert found.weights.sum() == pytest.approx(n if found.is_random.any() else n_query)
    order = rng.permutation(n)
    again = pick(p[order], counts, n_query, keys[order], seed, gamma=gamma, random_share=share)
    assert keys[order][again.rows].tolist() == keys[found.rows].tolist()
    # A class is passed over only once its candidates are used: no other class gets two more than it.
    is_first = ~found.is_random
    assert found.counts.sum() == counts.sum() + is_first.sum()


def test_impossible_requests_are_named() -> None:
    p, keys = np.full((4, 2), 0.5), keys_of(4)
    with pytest.raises(DataError, match="found 5 of 4"):
        pick(p, np.zeros(2), 5, keys, 0)
    with pytest.raises(DataError, match=r"found \[nan, 0.5\] \(1 such rows\)"):
        pick(np.where(np.arange(8).reshape(4, 2) == 4, np.nan, p), np.zeros(2), 1, keys, 0)
    with pytest.raises(DataError, match="3 classes, found shape"):
        pick(p, np.zeros(3), 1, keys, 0)
    with pytest.raises(RecipeError, match="`gamma` must be between 0 and 1, found 2"):
        pick(p, np.zeros(2), 1, keys, 0, gamma=2)
