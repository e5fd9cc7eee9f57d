"""Quad: the card's bandit step and its properties, block scores, and a tiny run for real."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from made_text import KINDS
from pool_of import scores_of
from prill.features.bandit import EXHAUSTED, Arms, choose, pull, run_bandit, ucb
from prill.methods.quad import block_scores
from prill.pipeline.features import Features

pytest.importorskip("torch")

SMALL = {
    "n_tokens": 6_000,
    "clusters": (4,),
    "n_arms": 2,
    "n_documents": 4,
    "n_pilot": 12,
    "most_iterations": 4,
    "accept_share": 0.3,
    "curvature_tokens": 2_000,
    "target_tokens": 1_000,
}


def apart(n: int) -> np.ndarray:
    """Distances of clusters none of which are near."""
    distances = np.full((n, n), 9.0)
    np.fill_diagonal(distances, 0.0)
    return distances


def test_the_cards_step() -> None:
    distances = apart(4)
    distances[0, 1] = distances[1, 0] = 0.05
    arms = pull(Arms.fresh(np.full(4, 5)), [0, 2], [0.010, 0.001], distances, tau=0.002, radius=0.2)
    # rewards 0.008 and -0.001; cluster 1 gets 0.008 x (1 - 0.05 / 0.2) = 0.006
    np.testing.assert_allclose(arms.score, [0.008, 0.006, -0.001, 0.0], atol=1e-12)
    assert arms.pulls.tolist() == [1, 1, 1, 0]
    assert arms.pulls.sum() == 3
    assert np.flatnonzero(arms.blocks).tolist() == [0]
    bounds = ucb(arms, alpha=0.1)
    np.testing.assert_allclose(bounds, [0.112815, 0.110815, 0.103815, 0.148230], atol=1e-6)
    assert choose(bounds, 4).tolist() == [3, 0, 1, 2]


def test_the_first_clusters_come_first_while_nothing_is_known() -> None:
    assert choose(ucb(Arms.fresh(np.ones(5, np.int64)), alpha=0.1), 2).tolist() == [0, 1]


def test_without_a_bonus_the_best_cluster_is_repeated_until_it_is_exhausted() -> None:
    seen: list[int] = []

    def means(chosen: np.ndarray, iteration: int) -> np.ndarray:
        seen.extend(chosen.tolist())
        return np.array([0.5, 1.0, 0.1])[chosen]

    common = {"tau": 0.0, "radius": 0.0, "wanted_blocks": 99, "most_iterations": 6}
    start = run_bandit(np.array([2, 3, 2]), means, apart(3), alpha=0.0, n_arms=3, **common)  # type: ignore[arg-type]
    assert start.blocks.tolist() == [2, 3, 2]  # all are pulled; three iterations exhaust them
    seen.clear()
    arms = Arms.fresh(np.array([2, 3, 2]))
    arms = pull(arms, [0, 1, 2], [0.5, 1.0, 0.1], apart(3), tau=0.0, radius=0.0)
    for _ in range(2):
        (best,) = choose(ucb(arms, alpha=0.0), 1)
        assert best == 1
        arms = pull(arms, [best], [1.0], apart(3), tau=0.0, radius=0.0)
    bounds = ucb(arms, alpha=0.0)
    assert bounds[1] == EXHAUSTED
    assert choose(bounds, 3).tolist() == [0, 2]


def test_the_bound_of_an_unpulled_cluster_grows() -> None:
    arms, found = Arms.fresh(np.full(3, 99)), []
    for _ in range(5):
        arms = pull(arms, [0], [0.1], apart(3), tau=0.0, radius=0.2)
        found.append(float(ucb(arms, alpha=0.1)[2]))
    assert found[0] == 0.0  # ln 1
    assert all(a < b for a, b in itertools.pairwise(found))


@settings(max_examples=40)
@given(st.integers(0, 10_000), st.integers(2, 7), st.floats(0, 1), st.floats(0.0, 2.0))
def test_relabelled_clusters_permute_the_result(seed: int, n: int, tau: float, radius: float) -> None:
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(n, 2))
    distances = np.linalg.norm(points[:, None] - points[None], axis=2)
    order = rng.permutation(n)  # new label i is old label order[i]
    old = new = Arms.fresh(rng.integers(1, 4, size=n))
    new = Arms.fresh(old.n_blocks[order])
    for _ in range(3):
        chosen = rng.permutation(n)[: max(1, n // 2)]
        means = rng.normal(size=len(chosen))
        old = pull(old, chosen, means, distances, tau=tau, radius=radius)
        renamed = [int(np.flatnonzero(order == c)[0]) for c in chosen]
        new = pull(new, renamed, means, distances[np.ix_(order, order)], tau=tau, radius=radius)
    np.testing.assert_allclose(new.score, old.score[order], atol=1e-12)
    np.testing.assert_array_equal(new.pulls, old.pulls[order])
    np.testing.assert_array_equal(new.blocks, old.blocks[order])
    np.testing.assert_allclose(ucb(new, alpha=0.1), ucb(old, alpha=0.1)[order], atol=1e-12)


def test_the_loop_stops_at_what_is_wanted_and_never_takes_more_than_there_is() -> None:
    def means(chosen: np.ndarray, iteration: int) -> np.ndarray:
        return np.ones(len(chosen))

    common = {"tau": 0.0, "alpha": 0.1, "radius": 0.0, "most_iterations": 99}
    some = run_bandit(np.full(6, 2), means, apart(6), n_arms=2, wanted_blocks=5, **common)
    assert some.blocks.sum() == 6  # two an iteration: the first number from 5 on
    every = run_bandit(np.full(6, 2), means, apart(6), n_arms=4, wanted_blocks=99, **common)
    assert every.blocks.tolist() == [2] * 6
    none = run_bandit(np.zeros(3, np.int64), means, apart(3), n_arms=2, wanted_blocks=5, **common)
    assert none.n_iterations == 0


def test_the_bandit_finds_the_clusters_that_are_best() -> None:
    rng = np.random.default_rng(0)
    truth = np.linspace(-1, 1, 20)[rng.permutation(20)]

    def means(chosen: np.ndarray, iteration: int) -> np.ndarray:
        return truth[chosen] + 0.1 * rng.normal(size=len(chosen))

    arms = run_bandit(
        np.full(20, 3),
        means,
        apart(20),
        tau=0.5,
        alpha=0.1,
        radius=0.0,
        n_arms=4,
        wanted_blocks=12,
        most_iterations=40,
    )
    accepted = np.repeat(np.arange(20), arms.blocks)
    assert truth[accepted].min() > 0.3  # a threshold of 0.5, noise of 0.1
    assert len(accepted) >= 12


def test_scores_put_accepted_documents_first_and_good_clusters_before_others() -> None:
    cluster = np.array([0, 0, 1, 1, 2, -1])
    draw = np.array([0.1, 0.9, 0.2, 0.8, 0.5, 0.5])
    found = block_scores(cluster, draw, np.array([0.3, -0.2, 0.3]), np.array([0.5, 0.2, 0.0]))
    # ranks of means: 1, 0, 1 of C = 3; accepted are 0 (0.1 <= 0.5) and 2 (0.2 <= 0.2)
    np.testing.assert_allclose(
        found[:5], [1 + (2 - 0.1) / 3, (2 - 0.9) / 3, 1 + (1 - 0.2) / 3, (1 - 0.8) / 3, (2 - 0.5) / 3]
    )
    assert np.isnan(found[5])
    shuffled = block_scores(
        cluster, draw, np.array([0.3, -0.2, 0.3]), np.array([0.5, 0.2, 0.0]), is_shuffled=True
    )
    np.testing.assert_allclose(shuffled[[0, 2]], [1.9, 1.8])


def test_a_tiny_run_accepts_blocks_of_the_targets_own_kind(kinds: Features) -> None:
    found = scores_of(kinds, "quad", SMALL)
    for name, scores in found.items():
        assert np.isnan(scores[-1])
        assert (scores > 1).any()
        assert (KINDS[np.argsort(-scores[:-1])[:20]] == name).mean() > 0.9


def test_what_was_done_is_told_and_projections_agree_roughly(kinds: Features) -> None:
    from safetensors.numpy import load_file

    from prill.methods.quad import Quad, QuadSettings

    asked = [
        Quad(QuadSettings.model_validate(SMALL | more)).needs(["b"], Path())["bandit"]
        for more in ({}, {"projection": 32}, {"curvature": "none", "tau": 1e9})
    ]
    kinds.resolve(asked)
    exact, projected, none = (kinds.done[feature] for feature in asked)
    counts = exact.record.counts
    assert 12 <= counts["n_gradients"] <= 12 + 4 * 2 * 4
    assert counts["flops"] > 0
    assert counts["targets"]["b"]["n_accepted_blocks"] > 0
    assert none.record.counts["targets"]["b"]["n_accepted_blocks"] == 0  # no influence reaches tau
    one, other = (load_file(done.path) for done in (exact, projected))
    shared = [i for i, place in enumerate(one["place"].tolist()) if place in other["place"].tolist()]
    where = [other["place"].tolist().index(one["place"][i].tolist()) for i in shared]
    correlation = np.corrcoef(one["influence"][shared, 0], other["influence"][where, 0])[0, 1]
    assert correlation > 0.8
