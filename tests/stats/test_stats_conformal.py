"""Conformal selection: the card's numbers, a plain re-implementation, and the false discovery rate."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prill.errors import DataError, RecipeError
from prill.stats.conformal import (
    benjamini_hochberg,
    conformal_p_values,
    e_benjamini_hochberg,
    optcs,
)

Y = np.array([0, 0, 1, 0, 1, 0, 1, 0, 0]) > 0.5
FIRST = np.array([0.2, 0.5, 0.9, 0.1, 0.7, 0.4, 0.6, 0.3, 0.35])
FIRST_TEST = np.array([0.95, 0.8, 0.55, 0.45, 0.15])
SECOND = np.array([0.6, 0.3, 0.5, 0.4, 0.2, 0.7, 0.9, 0.1, 0.8])
SECOND_TEST = np.array([0.1, 0.9, 0.6, 0.2, 0.4])
BOTH, BOTH_TEST = np.stack([FIRST, SECOND]), np.stack([FIRST_TEST, SECOND_TEST])


def plain_references(scores, is_good, test, q, weights=None, own=None) -> np.ndarray:
    """The definition: auxiliary p-values of all others for every item, then BH."""
    n, m = len(scores), len(test)
    w, v = (np.ones(n) if weights is None else weights), (np.ones(m) if own is None else own)
    found = np.empty(m, int)
    for j in range(m):
        p = np.empty(m)
        for i in range(m):
            nulls = (w * ((scores >= test[i]) & ~is_good)).sum()
            p[i] = (nulls + v[j] * (test[j] >= test[i])) / (w.sum() + v[j])
        p[j] = 0.0
        fits = np.sort(p) <= q * np.arange(1, m + 1) / m * (1 + 1e-12)
        found[j] = np.flatnonzero(fits)[-1] + 1
    return found


def test_p_values_of_the_card() -> None:
    p = conformal_p_values(FIRST, Y, FIRST_TEST)
    assert p.tolist() == [0.1, 0.1, 0.1, 0.2, 0.6]
    assert np.flatnonzero(benjamini_hochberg(p, 0.3)).tolist() == [0, 1, 2, 3]
    # The card compares strictly; with ties counted against the item three of these rise by 0.1.
    strict = conformal_p_values(SECOND, Y, SECOND_TEST, ties="strict")
    assert strict.tolist() == [0.6, 0.1, 0.3, 0.6, 0.4]
    assert not benjamini_hochberg(strict, 0.3).any()
    assert conformal_p_values(SECOND, Y, SECOND_TEST).tolist() == [0.7, 0.1, 0.4, 0.6, 0.5]


@pytest.mark.parametrize("ties", ["count", "strict"])
def test_optcs_of_the_card(ties) -> None:
    found = optcs(BOTH, Y, BOTH_TEST, q=0.3, ties=ties)
    assert found.score.tolist() == [0] * 5
    assert found.n_reference.tolist() == [4, 4, 4, 4, 5]
    np.testing.assert_allclose(found.e_value, [4.166667] * 4 + [0], atol=5e-7)
    assert np.flatnonzero(found.selected).tolist() == [0, 1, 2, 3]


def test_pruning_depends_on_the_stored_seed_only() -> None:
    # e = 5 / (0.3 R): with draws of at most 1, everything selected without pruning stays.
    plain = optcs(BOTH, Y, BOTH_TEST, q=0.3)
    for pruning in ("homogeneous", "heterogeneous"):
        a, b = (optcs(BOTH, Y, BOTH_TEST, q=0.3, pruning=pruning, seed=5) for _ in range(2))
        assert a.selected.tolist() == b.selected.tolist()
        assert (a.pruning, a.seed) == (pruning, 5)
        assert (a.selected >= plain.selected).all()


def test_slack_within_the_e_values_keeps_the_level() -> None:
    found = optcs(BOTH, Y, BOTH_TEST, q=0.3, e_share=0.9)
    # R at 0.27: the fourth p-value 0.2 <= 0.27 * 4 / 5 still; e = 5 / (0.27 * 4).
    np.testing.assert_allclose(found.e_value[:4], 5 / (0.27 * 4))
    assert found.selected.tolist() == [True] * 4 + [False]


@settings(max_examples=120, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    n=st.integers(1, 25),
    m=st.integers(1, 14),
    q=st.sampled_from([0.1, 0.3, 0.5, 0.8]),
    levels=st.sampled_from([3, 10**6]),
    is_weighted=st.booleans(),
)
def test_counting_equals_the_definition(seed, n, m, q, levels, is_weighted) -> None:
    rng = np.random.default_rng(seed)
    cal, test = rng.integers(0, levels, (3, n)) / 2, rng.integers(0, levels, (3, m)) / 2
    good = rng.random(n) < 0.6
    cal, test = cal + good, test + (rng.random(m) < 0.4)
    w, v = (rng.uniform(0.1, 3, n), rng.uniform(0.1, 3, m)) if is_weighted else (None, None)
    found = optcs(cal, good, test, q=q, weights_n=w, test_weights_m=v)
    plain = np.stack([plain_references(c, good, t, q, w, v) for c, t in zip(cal, test, strict=True)])
    assert found.score.tolist() == plain.argmax(axis=0).tolist()
    assert found.n_reference.tolist() == plain.max(axis=0).tolist()


@settings(max_examples=80, deadline=None)
@given(seed=st.integers(0, 2**32), n=st.integers(1, 30), m=st.integers(1, 12))
def test_equal_weights_change_nothing(seed: int, n: int, m: int) -> None:
    rng = np.random.default_rng(seed)
    good, cal, test = rng.random(n) < 0.5, rng.normal(size=(2, n)), rng.normal(size=(2, m))
    plain = optcs(cal, good, test, q=0.4)
    # Weights of 3 everywhere, one of them different by a hair so that the general path is taken.
    own = np.full(m, 3.0)
    own[-1] = np.nextafter(3.0, 4)
    weighted = optcs(cal, good, test, q=0.4, weights_n=np.full(n, 3.0), test_weights_m=own)
    assert weighted.n_reference.tolist() == plain.n_reference.tolist()
    np.testing.assert_allclose(weighted.p_value, plain.p_value)


@settings(max_examples=80, deadline=None)
@given(seed=st.integers(0, 2**32), j=st.integers(0, 9), by=st.floats(0, 3))
def test_raising_the_only_score_never_removes_the_item(seed: int, j: int, by: float) -> None:
    rng = np.random.default_rng(seed)
    good, test_good = rng.random(60) < 0.5, rng.random(10) < 0.7
    cal, test = rng.normal(size=60) + 2 * good, rng.normal(size=10) + 2 * test_good
    before = optcs(cal[None], good, test[None], q=0.4).selected[j]
    test[j] += by
    assert optcs(cal[None], good, test[None], q=0.4).selected[j] >= before


def test_one_score_has_plain_p_values() -> None:
    rng = np.random.default_rng(0)
    good, cal, test = rng.random(50) < 0.4, rng.normal(size=50), rng.normal(size=20)
    found = optcs(cal[None], good, test[None], q=0.2)
    assert found.p_value.tolist() == conformal_p_values(cal, good, test).tolist()


def test_a_constant_score_selects_nothing_however_many_labels() -> None:
    good = np.arange(1000) < 300
    for n in (10, 1000):
        found = optcs(np.ones((1, n)), good[:n] if n > 10 else good[295:305], np.ones((1, 5)), q=0.3)
        assert not found.selected.any()
    # The strict comparison of the reference calls all of them good.
    strict = optcs(np.ones((1, 1000)), good, np.ones((1, 5)), q=0.3, ties="strict")
    assert strict.selected.all()


def test_fewer_labels_than_one_over_q_discover_nothing() -> None:
    good = np.zeros(4, bool)
    assert not optcs(np.zeros((1, 4)), good, np.full((1, 1), 9.0), q=0.19).selected.any()
    assert optcs(np.zeros((1, 4)), good, np.full((1, 1), 9.0), q=0.2).selected.all()


def simulated(rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    """8 weak scores, 100 labels, 60 items, a base rate of 0.3; the last scores are pure noise."""
    good = rng.random(160) < 0.3
    quality = np.array([0.6, 0.4, 1.2, 0.8, 0.3, 0.0, 0.0, 0.0])
    scores = rng.normal(size=(8, 160)) + quality[:, None] * good
    return scores[:, :100], good[:100], scores[:, 100:], good[100:]


def test_the_false_discovery_rate_is_kept_although_the_score_was_chosen() -> None:
    rng, q, n_repeats = np.random.default_rng(3), 0.2, 400
    shares = {"fixed": [], "naive": [], "optcs": []}
    for _ in range(n_repeats):
        cal, good, test, truth = simulated(rng)
        p = [conformal_p_values(c, good, t) for c, t in zip(cal, test, strict=True)]
        naive = max((benjamini_hochberg(row, q) for row in p), key=lambda s: s.sum())
        pruned = optcs(cal, good, test, q=q, pruning="homogeneous", seed=int(rng.integers(2**31)))
        kept = {"fixed": benjamini_hochberg(p[0], q), "naive": naive, "optcs": pruned.selected}
        for name, selected in kept.items():
            shares[name].append((selected & ~truth).sum() / max(1, selected.sum()))
    fdr = {name: float(np.mean(found)) for name, found in shares.items()}
    error = {name: float(np.std(found, ddof=1)) / np.sqrt(n_repeats) for name, found in shares.items()}
    assert fdr["fixed"] <= q * 0.7 + 3 * error["fixed"]  # BH controls at q times the share of nulls
    assert fdr["optcs"] <= q + 3 * error["optcs"]
    assert fdr["naive"] > q + 3 * error["naive"]  # choosing the best of eight on the same labels does not
    assert fdr["optcs"] > 0.01  # the test sees discoveries


def test_weights_correct_labels_of_another_mix() -> None:
    # Labels come from group a nine times in ten, test items from b: nulls of b score high.
    rng, q = np.random.default_rng(8), 0.2
    plain, weighted = [], []
    for _ in range(200):
        group = rng.random(300) < np.where(np.arange(300) < 200, 0.1, 0.9)
        good = rng.random(300) < 0.4
        score = np.where(good, 3.0, 2.0 * group) + rng.normal(size=300)
        w = np.where(group, 9.0, 1 / 9)
        cal, test = slice(0, 200), slice(200, 300)
        p = conformal_p_values(score[cal], good[cal], score[test])
        pw = conformal_p_values(score[cal], good[cal], score[test], weights_n=w[cal], test_weights_m=w[test])
        for found, values in ((plain, p), (weighted, pw)):
            selected = benjamini_hochberg(values, q)
            found.append((selected & ~good[test]).sum() / max(1, selected.sum()))
    assert np.mean(weighted) <= q + 3 * np.std(weighted, ddof=1) / np.sqrt(200)
    assert np.mean(plain) > q


def test_random_ties_make_p_values_uniform() -> None:
    rng = np.random.default_rng(1)
    p = np.concatenate(
        [
            conformal_p_values(
                rng.integers(0, 3, 20) * 1.0,
                np.zeros(20, bool),
                rng.integers(0, 3, 5) * 1.0,
                draws_m=rng.random(5),
            )
            for _ in range(400)
        ]
    )
    assert np.abs(np.quantile(p, [0.1, 0.5, 0.9]) - [0.1, 0.5, 0.9]).max() < 0.04


def test_e_values_of_zero_and_infinity() -> None:
    assert e_benjamini_hochberg(np.array([0.0, np.inf, 4.0]), 0.5).tolist() == [False, True, True]


def test_what_cannot_be_judged_is_named() -> None:
    with pytest.raises(DataError, match="finite numbers"):
        optcs(np.array([[np.nan, 1.0]]), np.array([True, False]), np.zeros((1, 2)), q=0.1)
    with pytest.raises(DataError, match="found 2 and 1"):
        optcs(BOTH, Y, FIRST_TEST[None], q=0.1)
    with pytest.raises(DataError, match="at least one test item"):
        conformal_p_values(FIRST, Y, np.zeros(0))
    with pytest.raises(RecipeError, match="between 0 and 1, found 1"):
        benjamini_hochberg(np.ones(2), 1.0)
