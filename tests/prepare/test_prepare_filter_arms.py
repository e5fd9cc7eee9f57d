"""Arms of a filter study: sizes, nesting, seeds, and the numbers that the plan of the study states."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prill.errors import DataError, RecipeError
from prill.prepare.rules.arms import age_slope, domain_arms, threshold_arms

TENTHS = np.arange(10) / 10
KEYS = np.arange(1, 11, dtype=np.uint64)


def test_ten_scores_cut_at_seven_tenths() -> None:
    full, filtered, inverse, random = threshold_arms(
        TENTHS, KEYS, name="tox", thresholds=[0.7], higher_is_better=False
    )
    assert full.keep.all()
    assert np.flatnonzero(filtered.keep).tolist() == list(range(8))  # <= .7 -> 8 rows
    assert np.flatnonzero(inverse.keep).tolist() == list(range(2, 10))  # the 8 highest
    assert (filtered.keep & inverse.keep).sum() == 6
    assert random.keep.sum() == 8
    assert [arm.name for arm in (full, filtered, inverse, random)] == [
        "full",
        "tox <= 0.7",
        "inverse of tox <= 0.7",
        "random 80 % for tox <= 0.7",
    ]


def test_the_random_arm_belongs_to_seed_and_text() -> None:
    def random_arm(keys: np.ndarray, seed: int) -> np.ndarray:
        arms = threshold_arms(TENTHS, keys, name="q", thresholds=[0.4], higher_is_better=True, seed=seed)
        return arms[3].keep

    first = random_arm(KEYS, 1)
    assert (random_arm(KEYS, 1) == first).all()
    assert any((random_arm(KEYS, seed) != first).any() for seed in range(2, 6))
    assert (random_arm(KEYS[::-1].copy(), 1)[::-1] == first).all()  # the text decides, not the place


@given(
    st.lists(st.integers(0, 6), min_size=1, max_size=40),
    st.lists(st.integers(0, 6), min_size=1, max_size=4, unique=True),
    st.booleans(),
)
def test_arms_are_nested_and_of_equal_size(scores: list[int], thresholds: list[int], high: bool) -> None:
    keys = np.arange(len(scores), dtype=np.uint64)
    thresholds.sort(reverse=high)
    arms = threshold_arms(
        np.array(scores, dtype=np.float64), keys, name="q", thresholds=thresholds, higher_is_better=high
    )
    for kind in ("threshold", "inverse", "random"):
        of_kind = [arm.keep for arm in arms if arm.kind == kind]
        for smaller, larger in itertools.pairwise(of_kind):
            assert not (smaller & ~larger).any()
    for i in range(1, len(arms), 3):
        assert len({int(arm.keep.sum()) for arm in arms[i : i + 3]}) == 1


def test_leave_one_out_parts_the_corpus() -> None:
    domains = ["books", "web", None, "web", "code", "books"]
    full, *arms = domain_arms(domains)
    assert [arm.name for arm in arms] == ["without books", "without code", "without web"]
    removed = sum((~arm.keep).astype(int) for arm in arms)
    assert removed.tolist() == [1, 1, 0, 1, 1, 1]  # each document of a domain once
    assert full.share == 1
    with pytest.raises(RecipeError, match="did you mean 'books'"):
        domain_arms(domains, leave_out=["boks"])


def test_scores_must_be_finite_and_thresholds_different() -> None:
    with pytest.raises(DataError, match="found nan"):
        threshold_arms(np.array([0.1, np.nan]), KEYS[:2], name="q", thresholds=[0.5], higher_is_better=True)
    with pytest.raises(RecipeError, match="different thresholds"):
        threshold_arms(TENTHS, KEYS, name="q", thresholds=[0.5, 0.5], higher_is_better=True)


def test_the_slope_of_age() -> None:
    gap = np.arange(-5, 6, dtype=np.float64)
    slope, r = age_slope(gap, 50 - 0.4 * np.abs(gap))
    assert slope == pytest.approx(0.4, abs=1e-12)
    assert r == pytest.approx(1, abs=1e-12)
    assert age_slope(gap, np.full(11, 3.0)) == (0.0, 0.0)
