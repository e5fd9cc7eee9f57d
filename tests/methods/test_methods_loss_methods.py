"""Methods that read losses, on real text with models trained here: what they find, what they leave out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from made_text import KINDS, documents
from pool_of import run_method, scores_of
from prill.errors import DataError, RecipeError
from prill.methods.registry import STRATUM
from prill.methods.scored import made
from prill.pipeline.features import Features

pytest.importorskip("torch")

SMALL = {"tokens": 5000, "precision": "fp32"}


def best(scores: Any, n: int = 20) -> Any:
    """Kinds of the n documents with the highest scores."""
    order = np.argsort(-np.nan_to_num(scores, nan=-np.inf), kind="stable")
    return KINDS[order[:n]]


def share(scores: Any, kind: str = "b", n: int = 20) -> float:
    return float((best(scores, n) == kind).mean())


def test_color_filter_finds_the_target_and_leaves_out_what_the_prior_read(kinds: Features) -> None:
    found = scores_of(kinds, "color_filter", SMALL, ["b"])["b"]
    assert share(found) == 1.0
    assert 0 < np.isnan(found).sum() <= 0.3 * len(KINDS)


def test_dfn_is_ruined_by_noise_in_its_text(kinds: Features) -> None:
    settings = {"tokens": 4000, "epochs": 2, "precision": "fp32"}
    shares = []
    for noise in (0.0, 0.9, 0.99):
        found = scores_of(kinds, "dfn", {**settings, "noise": noise}, ["b"])["b"]
        shares.append(share(found, n=40))
    assert shares[0] > 0.9
    assert shares[0] >= shares[1] >= shares[2]
    assert shares[2] < shares[0] - 0.1
    with pytest.raises(RecipeError, match="`noise` goes into the text of a filter that is trained here"):
        scores_of(kinds, "dfn", {"noise": 0.5, "model": "x"}, ["b"])


@pytest.mark.parametrize("score", ["mass", "logits"])
def test_dfn_scores_by_the_likeliest_tokens(kinds: Features, score: str) -> None:
    settings = {"tokens": 4000, "score": score, "precision": "fp32"}
    found = scores_of(kinds, "dfn", settings, ["b"])["b"][:-2]  # two words, and none
    assert np.isfinite(found).all()
    assert ((found > 0) & (found <= 1)).all() or score == "logits"
    assert share(found) > 0.6


def test_perplexity_prefers_its_end(kinds: Features) -> None:
    found = {}
    for keep in ("low", "high", "medium"):
        settings = {**SMALL, "keep": keep, "buckets": keep == "medium"}
        found[keep] = scores_of(kinds, "perplexity", settings, ["b"])
    low, high, medium = (found[keep]["b"] for keep in ("low", "high", "medium"))
    assert share(high, "noise", 15) == 1.0
    assert share(low, "noise", 40) == 0.0
    np.testing.assert_array_equal(low, -high)
    assert np.isnan(low[-2:]).all()  # two words, and none
    assert np.nanmax(medium) > -0.02
    bucket = found["medium"][STRATUM]
    told = np.isfinite(low)
    assert set(bucket[told]) == {"head", "middle", "tail"}
    assert set(bucket[~told]) == {"all"}
    assert low[bucket == "head"].min() >= low[bucket == "middle"].max()
    assert abs((bucket == "head").sum() / told.sum() - 0.3) < 0.02


def test_miniplm_and_salt_pass_over_noise(kinds: Features) -> None:
    settings = {**SMALL, "teacher_size": "pico", "teacher_tokens": 15_000}
    found = scores_of(kinds, "miniplm", settings, ["b"])["b"]
    assert share(found, "noise") == 0.0
    salt = scores_of(kinds, "salt", {**SMALL, "k": 5}, ["b"])["b"]
    assert share(salt, "noise") == 0.0
    assert (salt[KINDS == "noise"][np.isfinite(salt[KINDS == "noise"])] == 0).all()


def test_faults_are_named(kinds: Features, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"target 'b' must hold at least 512 tokens .*, found \d+"):
        run_method("color_filter", documents(40), {"b": ["a few words", "and more"]}, SMALL, tmp_path)
    with pytest.raises(RecipeError, match="two folders for one target"):
        scores_of(kinds, "color_filter", {"conditional": "x"}, ["b"])
    with pytest.raises(DataError, match="found no such folder"):
        scores_of(kinds, "perplexity", {"model": "absent"}, ["b"])
    settings = {**SMALL, "min_tokens": 10_000, "keep": "medium"}
    with pytest.raises(DataError, match="documents of at least 10000 tokens to rank, found none"):
        scores_of(kinds, "perplexity", settings, ["b"])


def test_preselect_needs_models_that_differ_and_documents_that_deny(tmp_path: Path) -> None:
    pool = [*documents(50, seed=1), *documents(50, seed=2, kind="b"), *documents(20, seed=5, kind="noise")]
    targets = {"b": documents(40, seed=3, kind="b")}
    settings = {
        "sizes": ["pico"] * 4,
        "tokens": [600, 1500, 3000, 6000],
        "seed_documents": 70,
        "precision": "fp32",
        "lr": 1.0,
        "epochs": 20,
    }
    found = run_method("preselect", pool, targets, settings, tmp_path)["b"]
    assert ((found > 0) & (found < 1)).all()
    # Every stronger model reads kind a better; the weak ones swap places on some documents of the others.
    assert found[:50].mean() > found[50:100].mean() + 0.1
    for changes, said in (
        ({"tokens": [600, 1500, 3000]}, "`sizes` and `tokens` must be as many, found 4 and 3"),
        ({"tokens": [600, 600, 600, 900]}, "needs at least 4 different models, found 2"),
    ):  # told before anything is computed
        with pytest.raises(RecipeError, match=said):
            made("preselect", {**settings, **changes}).needs(("b",), tmp_path)
