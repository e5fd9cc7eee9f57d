"""Laboratories: every number of their card, and what must hold whatever the seed."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prill.errors import RecipeError
from prill.study.laboratory import bigram_lab, mean_lab
from prill.study.laboratory.bigram_lab import BigramLab, LabSource, lab_targets, scaled_lab
from prill.study.laboratory.chains import (
    add_half_excess,
    context_regret,
    corrupted_pairs,
    pair_weights,
    pairs_of,
    sample_documents,
    stationary,
)
from prill.study.laboratory.mean_lab import MeanLab
from prill.study.laboratory.regression_lab import RegressionLab, TaskGroups

CARD = bigram_lab.card_lab()
CHAINS = [source.chain for source in CARD.sources]


@pytest.mark.parametrize(
    ("n", "best", "risk", "matched", "uniform"),
    [
        (5, (0.05, 0.80, 0.15), 0.91, 1.36, 1.262222),
        (20, (0.6125, 0.35, 0.0375), 0.311875, 0.34, 0.662222),
        (100, (0.7625, 0.23, 0.0075), 0.066875, 0.068, 0.502222),
    ],
)
def test_means_the_best_shares_and_risks_of_the_card(
    n: int, best: tuple[float, ...], risk: float, matched: float, uniform: float
) -> None:
    lab = mean_lab.card_lab()
    found = lab.best(n)
    np.testing.assert_allclose(found, best, atol=1e-12)
    assert lab.risk(found, n) == pytest.approx(risk, abs=1e-12)
    assert lab.risk(np.array([0.8, 0.2, 0]), n) == pytest.approx(matched, abs=1e-12)
    assert lab.risk(np.full(3, 1 / 3), n) == pytest.approx(uniform, abs=5e-7)


def test_means_with_endless_points_the_target_is_matched() -> None:
    # 0.8 - 3.75 / N, 0.2 + 3 / N, 0.75 / N; the card's 0.799997 is its solver's, a millionth off
    found = mean_lab.card_lab().best(1e6)
    np.testing.assert_allclose(found, (0.79999625, 0.200003, 7.5e-7), atol=1e-12)


def test_means_sizes_rank_mixtures_differently() -> None:
    lab = mean_lab.card_lab()
    quiet, matched = np.array([0.05, 0.8, 0.15]), np.array([0.8, 0.2, 0.0])
    assert lab.risk(quiet, 5) < lab.risk(matched, 5)
    assert lab.risk(quiet, 100) > lab.risk(matched, 100)


@given(st.integers(0, 10**6), st.integers(2, 5), st.integers(1, 3))
@settings(max_examples=25, deadline=None)
def test_means_no_mixture_beats_the_best(seed: int, n_sources: int, n_dimensions: int) -> None:
    rng = np.random.default_rng(seed)
    lab = MeanLab(
        means=rng.normal(size=(n_sources, n_dimensions)),
        variances=rng.uniform(0.1, 4, n_sources),
        target=rng.normal(size=n_dimensions),
    )
    n = float(rng.choice([3, 30, 3000]))
    best = lab.best(n)
    assert best.min() >= 0
    assert best.sum() == pytest.approx(1)
    least = lab.risk(best, n)
    for shares in (*rng.dirichlet(np.full(n_sources, 0.4), 60), *np.eye(n_sources)):
        assert lab.risk(shares, n) >= least - 1e-9
        nearby = 0.999 * best + 0.001 * shares
        assert lab.risk(nearby, n) >= least - 1e-9


@pytest.mark.parametrize(
    ("shares", "loss"),
    [
        ((1, 0, 0), 1.407466),
        ((0, 1, 0), 1.640976),
        ((0, 0, 1), 1.386294),
        ((1 / 3, 1 / 3, 1 / 3), 1.219282),
        ((0.5, 0.5, 0), 1.193550),
        ((0.6, 0.4, 0), 1.184516),
    ],
)
def test_chains_the_losses_of_the_card(shares: tuple[float, ...], loss: float) -> None:
    assert CARD.loss(np.array(shares)) == pytest.approx(loss, abs=5e-7)


def test_chains_the_entropy_rate_and_the_weights_that_em_finds() -> None:
    assert CARD.loss(CARD.right) == pytest.approx(1.184516, abs=5e-7)
    assert CARD.regret(CARD.right) == 0
    found = pair_weights(CARD.target_pairs, [source.pairs for source in CARD.sources], 5000)
    np.testing.assert_allclose(found, (0.5998, 0.3998, 0.0004), atol=5e-5)


def test_chains_what_few_symbols_cost_a_learner() -> None:
    rng = np.random.default_rng(0)
    # the card's means had standard errors .0016 and .0004; four of both together
    for n, expected, theirs in ((200, 0.0296, 0.0016), (1000, 0.0062, 0.0004)):
        found = add_half_excess(CARD.target_chain, n, 200, rng)
        error = math.hypot(theirs, float(found.std()) / math.sqrt(200))
        assert abs(found.mean() - expected) < 4 * error
        assert found.mean() == pytest.approx(4 * 3 / (2 * n), rel=0.15)


def test_chains_an_ideal_learner_hardly_cares_about_the_mixture_of_long_documents() -> None:
    # the card says neither target nor other shares; .1 on the first chain, .45 on each other gives its values
    shares, rng = np.array([0.1, 0.45, 0.45]), np.random.default_rng(1)
    for n, expected, bound in ((8, 0.2259, 0.2878), (32, 0.0710, 0.0720), (128, 0.01799, 0.01799)):
        found = context_regret(0, CHAINS, shares, n_symbols=n, n_documents=20_000, rng=rng)
        assert found == pytest.approx(expected, abs=0.0025)
        assert found <= math.log(10) / n + 1e-12
        assert math.log(10) / n == pytest.approx(bound, abs=5e-5)


@given(st.integers(0, 10**6), st.integers(2, 8))
@settings(max_examples=30, deadline=None)
def test_chains_shares_are_stationary_and_corruption_keeps_pairs_whole(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    chain = rng.dirichlet(np.full(n, 0.1), n)
    shares = stationary(chain)
    np.testing.assert_allclose(shares @ chain, shares, atol=1e-12)
    corrupted = corrupted_pairs(pairs_of(chain), 0.1)
    assert corrupted.sum() == pytest.approx(1)
    np.testing.assert_allclose(corrupted.sum(0), corrupted.sum(1), atol=1e-12)
    np.testing.assert_allclose(corrupted_pairs(pairs_of(chain), 1.0), 1 / n**2)


def test_chains_documents_have_the_pairs_they_should_clean_or_corrupted() -> None:
    rng = np.random.default_rng(2)
    for corruption in (0.0, 0.1):
        source = LabSource(name="x", kind="right", chain=CHAINS[1], corruption=corruption)
        documents = source.documents(np.full(400, 256), rng)
        pairs = np.zeros((4, 4))
        for document in documents:
            np.add.at(pairs, (document[:-1], document[1:]), 1)
        np.testing.assert_allclose(pairs / pairs.sum(), source.pairs, atol=0.004)
    lengths = np.array([64, 5, 300])
    assert [len(d) for d in sample_documents(CHAINS[0], lengths, rng)] == [64, 5, 300]


def test_the_scaled_laboratory_is_what_the_card_asks_for() -> None:
    lab = scaled_lab(3)
    kinds = [source.kind for source in lab.sources]
    assert (len(kinds), kinds.count("right"), kinds.count("wrong")) == (15, 4, 8)
    assert [source.is_decoy for source in lab.sources] == [False] * 12 + [True] * 3
    assert lab.n_symbols == 64
    assert [lab.sources[13].n_copies, lab.sources[14].corruption] == [20, 0.1]
    assert np.array_equal(lab.sources[13].chain, lab.sources[0].chain)
    # documents of the target come from one chain, whose pairs are those of the mixture
    np.testing.assert_allclose(pairs_of(lab.target_chain), lab.target_pairs, atol=1e-12)
    same, other = (np.abs(lab.sources[0].chain - lab.sources[k].chain).sum(1).mean() for k in (1, 3))
    assert same < other  # members of a family resemble one another
    with pytest.raises(RecipeError, match="found 2 of 3"):
        scaled_lab(0, n_families=2)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_right_shares_are_the_best_and_the_target_tells_them(seed: int) -> None:
    lab = scaled_lab(seed, n_symbols=24)
    rng = np.random.default_rng(seed)
    n = len(lab.sources)
    for shares in (*np.eye(n), np.full(n, 1 / n), *rng.dirichlet(np.full(n, 0.3), 20)):
        assert lab.regret(shares) > 0
        assert lab.regret(0.99 * lab.right + 0.01 * shares) >= -1e-12
    plain = BigramLab(sources=lab.sources[:12], right=lab.right[:12])
    found = pair_weights(plain.target_pairs, [source.pairs for source in plain.sources], 300)
    assert plain.distance(found) < 0.01
    single = lab_targets(lab)["single"]
    assert single.regret(single.right) == 0
    assert lab.right @ single.right == 0


def test_regression_the_errors_of_the_card() -> None:
    """Ours are means over pools, the card's of a pool each, which at M=2 is a matter of luck."""
    lab, rng = RegressionLab(), np.random.default_rng(0)
    expected = {2: (1.375, 0.25), 16: (0.929, 0.08), 256: (0.481, 0.06)}
    for n_tasks, (new_error, tolerance) in expected.items():
        pool, pool_ridge, new, new_ridge = lab.errors(n_tasks, 1500, rng)
        assert pool < 0.005
        assert pool_ridge == pytest.approx(0.038, abs=0.006)
        assert new == pytest.approx(new_error, abs=tolerance)
        assert new_ridge == pytest.approx(0.038, abs=0.006)


def test_regression_a_rare_group_costs_at_most_the_logarithm_of_its_share() -> None:
    lab, rng = RegressionLab(n_places=8), np.random.default_rng(1)
    means = np.stack([np.full(8, 0.5), np.full(8, -0.5)])
    found = []
    for share in (0.5, 0.1, 0.01):
        groups = TaskGroups(lab=lab, means=means, shares=np.array([share, 1 - share]), spread=0.3)
        found.append(groups.regret(0, 800, rng))
        assert 0 < found[-1] <= math.log(1 / share)
    assert found[0] < found[1] < found[2]


def test_regression_one_wide_group_is_ridge_and_knowing_the_group_helps() -> None:
    lab, rng = RegressionLab(), np.random.default_rng(3)
    x, y = lab.sequences(rng.standard_normal((50, 8)), rng)
    one = TaskGroups(lab=lab, means=np.zeros((1, 8)), shares=np.ones(1), spread=1.0)
    np.testing.assert_allclose(one.predict(x, y), lab.ridge(x, y), atol=1e-9)
    two = TaskGroups(
        lab=lab, means=np.stack([np.ones(8), -np.ones(8)]), shares=np.array([0.3, 0.7]), spread=0.1
    )
    tasks = two.tasks(0, 600, rng)
    x, y = lab.sequences(tasks, rng)
    truth = np.einsum("bd,bd->b", tasks, x[:, -1])
    assert ((two.predict(x, y) - truth) ** 2).mean() < ((lab.ridge(x, y) - truth) ** 2).mean()
