"""DSIR: the card's worked example, the published package, degenerate input, planted signal."""

import math
import pickle
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from made_text import texts
from pool_of import run_method
from prill.errors import DataError
from prill.features._ngram_oracle import fast_bucket, ngrams
from prill.features.divergence import kl_divergence, kl_reduction
from prill.methods.dsir import DSIR, REFERENCE_SETTINGS, DSIRSettings, log_ratios

RAW = [
    "the cat sat on the mat",
    "buy cheap pills online now",
    "We prove the theorem by induction on n.",
    "click here to win a free phone",
]
TARGET = ["The proof follows by induction.", "We prove a lemma on the theorem."]


def scores(
    raw: Sequence[str], targets: dict[str, list[str]], **settings: Any
) -> dict[str, NDArray[np.float64]]:
    dsir = DSIR(DSIRSettings(**settings))
    counts = [dsir.counts(texts(documents)) for documents in targets.values()]
    state = dsir.state(dsir.counts(texts(raw)), dict(zip(targets, counts, strict=True)))
    return dict(zip(targets, dsir.score_text(state, texts(raw)), strict=True))


def reference(**settings: Any) -> dict[str, Any]:
    return REFERENCE_SETTINGS | {"min_length": 0} | settings


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, [-100.448980, -130.577924, -80.264226, -173.449973]),
        ({"n_buckets": 100}, [-85.861759, -103.025343, -55.771914, -130.041660]),
        ({"prior_ngrams": 10_000.0}, [-57.616042, -47.707328, -83.470637, -68.217488]),
        ({"n": 3}, [-154.954052, -170.238899, -178.367626, -226.377171]),
    ],
)
def test_reference_settings_reproduce_the_published_scores(
    settings: dict[str, Any], expected: list[float]
) -> None:
    np.testing.assert_allclose(
        scores(RAW, {"t": TARGET}, **reference(**settings))["t"], expected, atol=5.1e-7
    )


def test_kl_of_the_worked_example() -> None:
    dsir = DSIR(DSIRSettings(**reference()))
    raw, target = dsir.counts(texts(RAW)), dsir.counts(texts(TARGET))
    assert (np.count_nonzero(raw), np.count_nonzero(target)) == (47, 24)
    assert kl_divergence(target, raw) == pytest.approx(6.787675, abs=5e-7)
    assert kl_reduction(target, raw, target) == pytest.approx(6.787675, abs=1e-5)
    assert kl_reduction(target, raw, raw) == 0.0


def test_min_length_counts_tokens_as_the_reference_does() -> None:
    # lengths 6, 5, 9, 7 tokens
    for limit, kept in ((5, [True] * 4), (6, [True, False, True, True]), (8, [False, False, True, False])):
        got = scores(RAW, {"t": TARGET}, **reference(min_length=limit))["t"]
        assert list(np.isfinite(got)) == kept


def test_identical_pool_and_target_score_zero() -> None:
    got = scores(RAW, {"t": RAW})["t"]
    np.testing.assert_allclose(got, 0.0, atol=1e-9)


def test_log_ratio_by_hand() -> None:
    # target 3 of 4 in bucket 0, pool 1 of 2; prior worth 2 n-grams, one a bucket: p = (3 + 1) / (4 + 2)
    got = log_ratios(np.array([3, 1]), np.array([1, 1]), prior="pool", prior_ngrams=2.0)
    np.testing.assert_allclose(got, [np.log(4 / 6 / 0.5), np.log(2 / 6 / 0.5)], atol=1e-7)


def test_a_score_does_not_depend_on_the_other_targets() -> None:
    targets = {f"t{k}": [TARGET[k % 2], RAW[k % 4]] for k in range(7)}
    together = scores(RAW, targets)
    for name, documents in targets.items():
        np.testing.assert_array_equal(together[name], scores(RAW, {name: documents})[name])


def test_a_pool_in_shards_scores_as_at_once(tmp_path: Path) -> None:
    got = run_method("dsir", RAW, {"t": [*TARGET, "an unseen held-out text"]}, {}, tmp_path)["t"]
    fit_part = [TARGET, [TARGET[0], "an unseen held-out text"], [TARGET[1], "an unseen held-out text"]]
    alone = [scores(RAW, {"t": part})["t"] for part in fit_part]  # which one is held out is drawn by hash
    assert any(np.array_equal(got, one) for one in alone)


def test_planted_documents_win_whatever_their_length() -> None:
    rng = np.random.default_rng(0)
    good, bad = [f"alpha{i}" for i in range(50)], [f"omega{i}" for i in range(50)]

    def write(words: list[str], length: int) -> str:
        return " ".join(rng.choice(words + ["the", "of"] * 10, size=length))

    planted = [write(good, int(length)) for length in rng.integers(20, 2000, 20)]
    others = [write(bad, int(length)) for length in rng.integers(20, 2000, 80)]
    got = scores(planted + others, {"t": [write(good, 200) for _ in range(3)]})["t"]
    assert set(np.argsort(-got)[:20]) == set(range(20))


def test_documents_without_tokens_rank_last_and_stay_finite() -> None:
    got = scores([*RAW, "", " \n"], {"t": TARGET})["t"]
    assert np.all(np.isfinite(got))
    assert got[4] == got[5]
    assert np.all(got[4] <= got[:4])


@pytest.mark.parametrize("documents", [[], [""], ["  \n "]])
def test_a_target_or_pool_without_tokens_is_an_error_that_names_it(documents: list[str]) -> None:
    with pytest.raises(DataError, match="at least one token in target 'empty', found none"):
        scores(RAW, {"empty": documents})
    with pytest.raises(DataError, match="at least one token in the pool, found none"):
        scores(documents, {"t": TARGET})


def test_a_state_of_another_unicode_version_is_refused() -> None:
    dsir = DSIR(DSIRSettings())
    state = dsir.state(dsir.counts(texts(RAW)), {"t": dsir.counts(texts(TARGET))})
    state["unicode"] = np.array([1, 0, 0])
    with pytest.raises(DataError, match=r"found 1\.0\.0"):
        dsir.score_text(state, texts(RAW))


def test_state_is_plain_arrays_that_can_be_stored() -> None:
    dsir = DSIR(DSIRSettings())
    raw = dsir.counts(texts(RAW))
    state = dsir.state(raw, {"t": dsir.counts(texts(TARGET)), "ü": raw})
    assert {key: value.dtype.kind for key, value in state.items()} == {"log_ratio": "f", "unicode": "i"}
    assert dsir.score_text(state, texts(RAW)).shape == (2, 4)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.text(max_size=40), min_size=1, max_size=6),
    st.lists(st.text(max_size=40), min_size=1, max_size=3),
)
def test_default_scores_equal_the_formula_in_plain_python(raw: list[str], target: list[str]) -> None:
    raw, target = [*raw, "some words"], [*target, "more words"]
    pool_counts = Counter(fast_bucket(g, 10_000) for text in raw for g in ngrams(text, 2))
    target_counts = Counter(fast_bucket(g, 10_000) for text in target for g in ngrams(text, 2))
    n_pool, n_target = pool_counts.total(), target_counts.total()
    for text, score in zip(raw, scores(raw, {"t": target})["t"], strict=True):
        buckets = [fast_bucket(g, 10_000) for g in ngrams(text, 2)]
        if buckets:
            p_pool = [pool_counts[b] / n_pool for b in buckets]
            p_target = [
                (target_counts[b] + 1e4 * q) / (n_target + 1e4) for b, q in zip(buckets, p_pool, strict=True)
            ]
            ratios = [math.log((p + 1e-8) / (q + 1e-8)) for p, q in zip(p_target, p_pool, strict=True)]
            assert score == pytest.approx(256 * math.fsum(ratios) / len(buckets), rel=1e-9, abs=1e-9)


def test_batches_change_nothing_and_the_method_travels_to_workers() -> None:
    dsir = pickle.loads(pickle.dumps(DSIR(DSIRSettings())))
    state = dsir.state(dsir.counts(texts(RAW)), {"t": dsir.counts(texts(TARGET))})
    whole = dsir.score_text(state, texts(RAW))[0]
    parts = [dsir.score_text(state, texts([text]))[0, 0] for text in RAW]
    np.testing.assert_array_equal(parts, whole)
