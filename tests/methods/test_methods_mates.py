"""MATES: the card's choice, z-scores, thresholds that tell what was taken, and a tiny run for real."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from made_text import documents
from pool_of import resolve, scores_of
from prill.errors import DataError
from prill.features.stages import (
    fit_ridge,
    preference,
    spearman,
    stage_of,
    threshold_of,
    z_scores,
)
from prill.methods.mates import staged_scores
from prill.pipeline.features import Features

pytest.importorskip("torch")

PREDICTED = np.array([-1.2, 0.3, -0.5, 2.0, 0.0])
SMALL = {
    "n_tokens": 6_000,
    "warm_steps": 4,
    "n_probes": 24,
    "n_exam_tokens": 256,
    "stage_tokens": 2_000,
    "stage_share": 0.2,
}


def test_the_cards_choice_in_both_forms() -> None:
    noise = np.random.default_rng(0).gumbel(size=5)
    np.testing.assert_allclose(noise, [-0.01316, 1.15703, 3.173984, 4.0944, -0.517658], atol=1e-5)
    reference = -preference(PREDICTED, noise, temperature=0.5, form="reference")
    np.testing.assert_allclose(reference, [-2.41316, 1.75703, 2.173984, 8.0944, -0.517658], atol=1e-5)
    assert set(np.argsort(reference)[:2].tolist()) == {0, 4}
    correct = preference(PREDICTED, noise, temperature=0.5, form="gumbel")
    assert np.argsort(-correct)[:2].tolist() == [2, 0]


def test_the_released_form_takes_the_best_more_often_than_softmax() -> None:
    # the card: gaps (0, 1, 1), the best is taken 0.616 of the time instead of 0.576
    draws = np.random.default_rng(1).gumbel(size=(200_000, 3))
    predicted = np.array([0.0, 1.0, 1.0])
    shares = {
        form: float(
            (preference(predicted, draws, temperature=1.0, form=form).argmax(axis=1) == 0).mean()  # type: ignore[arg-type]
        )
        for form in ("gumbel", "reference")
    }
    assert shares["gumbel"] == pytest.approx(1 / (1 + 2 * np.exp(-1)), abs=0.004)
    assert shares["gumbel"] == pytest.approx(0.576, abs=0.004)
    assert shares["reference"] == pytest.approx(0.616, abs=0.004)


def test_for_two_documents_both_forms_agree() -> None:
    draws = np.random.default_rng(2).gumbel(size=(100_000, 2))
    predicted = np.array([0.0, 1.0])
    found = [
        (preference(predicted, draws, temperature=1.0, form=form).argmax(axis=1) == 0).mean()  # type: ignore[arg-type]
        for form in ("gumbel", "reference")
    ]
    assert found == pytest.approx([1 / (1 + np.exp(-1))] * 2, abs=0.006)


def test_inclusion_follows_the_softmax() -> None:
    from prill.features.keyed import keyed_gumbel

    keys = np.arange(5, dtype=np.uint64)
    n = 20_000
    counts = np.zeros(5)
    for seed in range(n):
        counts[preference(PREDICTED, keyed_gumbel(seed, keys), temperature=0.5).argmax()] += 1
    share = np.exp(-PREDICTED / 0.5)
    expected = n * share / share.sum()
    chi_squared = float(((counts - expected) ** 2 / expected).sum())
    assert chi_squared < 18.5  # 0.1 % of a chi-squared with 4 degrees


def test_without_noise_the_smallest_predictions_are_taken() -> None:
    preferred = preference(PREDICTED, np.full(5, np.nan), temperature=0.5, form="none")
    threshold, n_taken = threshold_of(preferred, np.full(5, 10), 20)
    assert n_taken == 2
    assert np.flatnonzero(preferred >= threshold).tolist() == [0, 2]


def test_z_scores_divide_by_the_population_deviation_and_guard_equal_losses() -> None:
    z, mean, deviation = z_scores(np.array([1.0, 2.0, 3.0, 4.0]))
    assert (mean, deviation) == (2.5, pytest.approx(1.25**0.5))  # ddof 0: variance 5 / 4
    np.testing.assert_allclose(z, np.array([-1.5, -0.5, 0.5, 1.5]) / 1.25**0.5)
    z, mean, deviation = z_scores(np.full(4, 3.0))
    assert z.tolist() == [0.0] * 4
    assert (mean, deviation) == (3.0, 0.0)


def test_ridge_finds_a_linear_rule_and_ranks_by_it() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(200, 8)).astype(np.float32)
    labels = vectors.astype(np.float64) @ np.arange(8.0) + 3
    is_validation = np.arange(200) < 20
    weight, bias, correlation = fit_ridge(vectors, labels, is_validation=is_validation)
    assert correlation > 0.99
    assert spearman(vectors.astype(np.float64) @ weight + bias, labels) > 0.99


def test_ridge_of_constant_labels_or_vectors_predicts_their_mean() -> None:
    vectors = np.ones((30, 4), np.float32)
    weight, bias, correlation = fit_ridge(vectors, np.arange(30.0), is_validation=np.arange(30) < 3)
    np.testing.assert_allclose(vectors.astype(np.float64) @ weight + bias, 14.5)
    assert correlation == 0.0


def test_spearman_by_hand() -> None:
    # ranks 1 2.5 2.5 4 and 1 3 2 4: 1 - covariance by hand = 4.5 / sqrt(4.5 x 5)
    assert spearman(np.array([1.0, 2, 2, 3]), np.array([1.0, 3, 2, 4])) == pytest.approx(
        4.5 / (4.5 * 5) ** 0.5
    )
    assert spearman(np.array([1.0, 1]), np.array([1.0, 2])) == 0.0


@settings(max_examples=50)
@given(
    preferred=st.lists(st.floats(-5, 5), min_size=1, max_size=40),
    budget=st.integers(1, 500),
    seed=st.integers(0, 1000),
)
def test_a_threshold_takes_the_best_until_the_budget_is_full(
    preferred: list[float], budget: int, seed: int
) -> None:
    values = np.array(preferred)
    n_tokens = np.random.default_rng(seed).integers(1, 50, size=len(values))
    threshold, n_taken = threshold_of(values, n_tokens, budget)
    taken = values >= threshold
    assert n_taken == taken.sum() >= 1
    assert taken.all() or n_tokens[taken].sum() >= budget
    above = values > threshold
    assert n_tokens[above].sum() < budget or not above.any()


@settings(max_examples=50)
@given(st.integers(0, 10_000), st.integers(1, 3), st.integers(1, 30))
def test_nothing_is_taken_twice_and_earlier_stages_rank_first(seed: int, n_stages: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    preferred = [rng.normal(size=n) for _ in range(n_stages)]
    taken = stage_of(preferred, rng.normal(size=n_stages).tolist())
    assert ((taken >= 0) & (taken <= n_stages)).all()
    scores = staged_scores(taken, rng.normal(scale=3, size=(n_stages, n)))
    for stage in range(n_stages):
        if (taken == stage).any() and (taken > stage).any():
            assert scores[taken == stage].min() > scores[taken > stage].max()


def test_a_tiny_run_takes_stages(kinds: Features) -> None:
    found = scores_of(kinds, "mates", SMALL)
    assert set(found) == {"a", "b"}
    assert np.isnan(found["a"][-1])
    for scores in found.values():
        stages = np.floor(scores[:-1])
        assert set(stages.tolist()) == {0.0, 1.0, 2.0}  # two stages, and what none took
    assert not np.array_equal(found["a"], found["b"])


def test_probes_at_rate_zero_are_all_alike_and_do_not_divide_by_zero(kinds: Features) -> None:
    from safetensors.numpy import load_file

    from prill.features.checkpoints import Warmed
    from prill.features.probes import InfluenceModel, Probes
    from prill.features.proxies import Proxy
    from prill.features.vectors import Vectors

    start = Warmed.of(Proxy.of_pool(n_tokens=6_000), n_steps=4, n_rows=1)
    still = Probes(checkpoint=start, targets=("b",), n_probes=24, n_exam_tokens=256, rate_share=0.0)
    moved = Probes(checkpoint=start, targets=("b",), n_probes=24, n_exam_tokens=256)
    vectors = Vectors.of("hashed", n_dimensions=32)
    apart = Probes(checkpoint=start, targets=("b",), n_probes=24, n_exam_tokens=256, n_together=5)
    scaled = InfluenceModel(probes=moved, vectors=vectors, target="b", form="none")
    model = InfluenceModel(probes=still, vectors=vectors, target="b", form="none")
    kinds.resolve([still, moved, apart, scaled, model])
    alike = load_file(kinds.done[still].path)["losses"][0]
    assert len(set(alike.tolist())) == 1
    assert len(set(load_file(kinds.done[moved].path)["losses"][0].tolist())) > 12
    one, other = (load_file(kinds.done[f].path) for f in (moved, apart))
    np.testing.assert_array_equal(one["place"], other["place"])
    np.testing.assert_allclose(one["losses"], other["losses"], rtol=2e-3)  # stacks round in bf16
    stored = load_file(kinds.done[scaled].path)
    given = kinds.given(scaled)
    seen = np.concatenate([vectors.read(given, shard) for shard in (0, 1)]).astype(np.float64)
    predicted = seen[:-1] @ stored["weight"] + stored["numbers"][0]
    assert (predicted.mean(), predicted.std()) == pytest.approx((0, 1), abs=1e-9)
    counts = kinds.done[model].record.counts
    assert counts["is_constant"]
    assert counts["n_taken"] > 0
    assert np.isfinite(load_file(kinds.done[model].path)["weight"]).all()


def test_too_little_to_probe_or_to_judge_by_is_told(tmp_path: Path) -> None:
    from prill.features.checkpoints import Warmed
    from prill.features.probes import Probes
    from prill.features.proxies import Proxy

    start = Warmed.of(Proxy.of_pool(n_tokens=6_000), n_steps=2, n_rows=1)
    few = documents(12, seed=1, n_words=(200, 210))
    with pytest.raises(DataError, match="at least 20 documents that may be chosen, found 12"):
        resolve(
            [Probes(checkpoint=start, targets=("b",))], few, {"b": documents(8, seed=9)}, tmp_path / "few"
        )
    pool = documents(60, seed=1)
    with pytest.raises(DataError, match="at least 64 tokens of target 'b' to judge models by, found"):
        resolve([Probes(checkpoint=start, targets=("b",))], pool, {"b": ["a b", "c"]}, tmp_path / "short")
