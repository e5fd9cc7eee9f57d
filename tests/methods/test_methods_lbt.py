"""Learning by teaching: the card's rules for answers, gains against random text, and a tiny run for real."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from made_text import KINDS
from pool_of import scores_of
from prill.errors import DataError
from prill.features.teaching import gains_of
from prill.methods.lbt import answer_scores, choose_answer
from prill.pipeline.features import Features

pytest.importorskip("torch")

ANSWERS, SCORES = list("AABCCC"), [2, 3, 6, 1, 1, 1]


def test_the_cards_answers() -> None:
    assert answer_scores(ANSWERS, SCORES) == {"A": (2, 3, 5, 2.5), "B": (1, 6, 6, 6), "C": (3, 1, 3, 1)}
    chosen = {rule: choose_answer(ANSWERS, SCORES, rule) for rule in ("maj", "max", "sum", "avg")}
    assert chosen == {"maj": "C", "max": "B", "sum": "B", "avg": "B"}


@given(st.lists(st.sampled_from("ABCD"), min_size=1, max_size=20), st.integers(1, 9))
def test_equal_scores_make_the_sum_a_majority(answers: list[str], score: int) -> None:
    scores = [score] * len(answers)
    majority = choose_answer(answers, scores, "maj")
    assert choose_answer(answers, scores, "sum") == majority
    assert choose_answer(answers, scores, "max") == majority  # ties go to the commoner answer
    assert choose_answer(answers, scores, "avg") == majority


def test_no_answer_is_an_error() -> None:
    with pytest.raises(DataError, match="found none"):
        choose_answer([], [], "maj")


def test_gains_by_hand() -> None:
    before = np.array([[5.0], [4.0]])
    after = np.array([[[4.0], [4.9]], [[3.2], [4.1]]])
    random = np.array([[[4.8], [4.6]], [[3.8], [4.0]]])
    found = gains_of(before, after, random)
    # student 1: random text gains 0.2 and 0.4, mean 0.3; lessons gain 1.0 and 0.1: 0.7 and -0.2
    # student 2: random text gains 0.2 and 0.0, mean 0.1; lessons gain 0.8 and -0.1: 0.7 and -0.2
    np.testing.assert_allclose(found.gain, [[0.7], [-0.2]])
    np.testing.assert_allclose(found.error, [[0.0], [0.0]], atol=1e-12)
    # controls about their mean, students averaged: (-0.1 + 0.1) / 2 = 0 and (0.1 - 0.1) / 2 = 0
    np.testing.assert_allclose(found.noise, [0.0], atol=1e-12)
    alone = gains_of(before[:1], after[:1], random[:1])
    assert np.isnan(alone.error).all()
    np.testing.assert_allclose(alone.noise, [0.02**0.5])  # -0.1 and 0.1, ddof 1


def test_random_groups_gain_nothing_in_the_mean_and_scatter_by_the_noise() -> None:
    rng = np.random.default_rng(0)
    gains, noises = [], []
    for _ in range(300):
        losses = rng.normal(4, 0.1, size=(2, 20, 1))
        found = gains_of(np.full((2, 1), 5.0), losses[:, :12], losses[:, 12:])
        gains.append(found.gain)
        noises.append(found.noise)
    every = np.concatenate(gains)
    means = np.array([g.mean() for g in gains])
    assert abs(means.mean()) < 4 * means.std() / len(means) ** 0.5
    # a lesson of random text scatters by the noise, and by the controls' mean: sqrt(1 + 1 / 8)
    assert every.std() == pytest.approx(np.mean(noises) * (9 / 8) ** 0.5, rel=0.1)


def test_a_tiny_run_prefers_the_clusters_of_the_targets_kind(kinds: Features) -> None:
    small = {
        "stages": (6_000,),
        "warm_steps": 4,
        "clusters": (4,),
        "n_steps": 2,
        "n_rows": 1,
        "n_random": 3,
        "n_exam_tokens": 512,
    }
    found = scores_of(kinds, "lbt", small)
    for name, other in (("a", "b"), ("b", "a")):
        scores = found[name]
        assert np.isnan(scores[-1])
        assert len(np.unique(scores[:-1])) <= 4  # a gain a cluster
        assert scores[name == KINDS].mean() > scores[other == KINDS].mean()
