"""Methods that read losses, on real text with models trained here: what they find, what they leave out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from made_text import documents
from pool_of import run_method
from prill.errors import DataError, RecipeError
from prill.methods.registry import STRATUM

pytest.importorskip("torch")

N = 50
POOL = [*documents(N, seed=1), *documents(N, seed=2, kind="b"), *documents(20, seed=5, kind="noise")]
KINDS = np.repeat(["a", "b", "noise"], [N, N, 20])
TARGETS = {"b": documents(40, seed=3, kind="b")}
SMALL = {"tokens": 5000, "precision": "fp32"}


def best(scores: Any, n: int = 20) -> Any:
    """Kinds of the n documents with the highest scores."""
    order = np.argsort(-np.nan_to_num(scores, nan=-np.inf), kind="stable")
    return KINDS[order[:n]]


def share(scores: Any, kind: str = "b", n: int = 20) -> float:
    return float((best(scores, n) == kind).mean())


def test_color_filter_finds_the_target_and_leaves_out_what_the_prior_read(tmp_path: Path) -> None:
    found = run_method("color_filter", POOL, TARGETS, SMALL, tmp_path)["b"]
    assert share(found) == 1.0
    assert 0 < np.isnan(found).sum() <= 0.3 * len(POOL)


def test_dfn_is_ruined_by_noise_in_its_text(tmp_path: Path) -> None:
    settings = {"tokens": 4000, "epochs": 2, "precision": "fp32"}
    shares = []
    for noise in (0.0, 0.9, 0.99):
        folder = tmp_path / str(noise)
        folder.mkdir()
        found = run_method("dfn", POOL, TARGETS, {**settings, "noise": noise}, folder)["b"]
        shares.append(share(found, n=40))
    assert shares[0] > 0.9
    assert shares[0] >= shares[1] >= shares[2]
    assert shares[2] < shares[0] - 0.1
    with pytest.raises(RecipeError, match="`noise` goes into the text of a filter that is trained here"):
        run_method("dfn", POOL, TARGETS, {"noise": 0.5, "model": "x"}, tmp_path)


@pytest.mark.parametrize("score", ["mass", "logits"])
def test_dfn_scores_by_the_likeliest_tokens(tmp_path: Path, score: str) -> None:
    settings = {"tokens": 4000, "score": score, "precision": "fp32"}
    found = run_method("dfn", POOL, TARGETS, settings, tmp_path)["b"]
    assert np.isfinite(found).all()
    assert ((found > 0) & (found <= 1)).all() or score == "logits"
    assert share(found) > 0.6


def test_perplexity_prefers_its_end(tmp_path: Path) -> None:
    found = {}
    for keep in ("low", "high", "medium"):
        folder = tmp_path / keep
        folder.mkdir()
        settings = {**SMALL, "keep": keep, "buckets": keep == "medium"}
        found[keep] = run_method("perplexity", [*POOL, "two words"], TARGETS, settings, folder)
    low, high, medium = (found[keep]["b"] for keep in ("low", "high", "medium"))
    assert share(high, "noise", 15) == 1.0
    assert share(low, "noise", 40) == 0.0
    np.testing.assert_array_equal(low, -high)
    assert np.isnan(low[-1])
    assert np.nanmax(medium) > -0.02
    bucket = found["medium"][STRATUM]
    told = np.isfinite(low)
    assert set(bucket[told]) == {"head", "middle", "tail"}
    assert set(bucket[~told]) == {"all"}
    assert low[bucket == "head"].min() >= low[bucket == "middle"].max()
    assert abs((bucket == "head").sum() / told.sum() - 0.3) < 0.02


def test_miniplm_and_salt_pass_over_noise(tmp_path: Path) -> None:
    settings = {**SMALL, "teacher_size": "pico", "teacher_tokens": 15_000}
    found = run_method("miniplm", POOL, TARGETS, settings, tmp_path)["b"]
    assert share(found, "noise") == 0.0
    folder = tmp_path / "salt"
    folder.mkdir()
    salt = run_method("salt", POOL, TARGETS, {**SMALL, "k": 5}, folder)["b"]
    assert share(salt, "noise") == 0.0
    assert (salt[KINDS == "noise"][np.isfinite(salt[KINDS == "noise"])] == 0).all()


def test_faults_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"target 'b' must hold at least 512 tokens .*, found \d+"):
        run_method("color_filter", POOL, {"b": ["a few words", "and more"]}, SMALL, tmp_path)
    with pytest.raises(RecipeError, match="two folders for one target"):
        run_method("color_filter", POOL, TARGETS, {"conditional": "x"}, tmp_path / "folders")
    with pytest.raises(DataError, match="found no such folder"):
        run_method("perplexity", POOL, TARGETS, {"model": "absent"}, tmp_path / "absent")
    settings = {**SMALL, "min_tokens": 10_000, "keep": "medium"}
    with pytest.raises(DataError, match="documents of at least 10000 tokens to rank, found none"):
        run_method("perplexity", POOL, TARGETS, settings, tmp_path / "floor")


def test_preselect_needs_models_that_differ_and_documents_that_deny(tmp_path: Path) -> None:
    settings = {
        "sizes": ["pico"] * 4,
        "tokens": [600, 1500, 3000, 6000],
        "seed_documents": 70,
        "precision": "fp32",
        "lr": 1.0,
        "epochs": 20,
    }
    found = run_method("preselect", POOL, TARGETS, settings, tmp_path)["b"]
    assert ((found > 0) & (found < 1)).all()
    # Every stronger model reads kind a better; the weak ones swap places on some documents of the others.
    assert found[KINDS == "a"].mean() > found[KINDS == "b"].mean() + 0.1
    for changes, said in (
        ({"tokens": [600, 1500, 3000]}, "`sizes` and `tokens` must be as many, found 4 and 3"),
        ({"tokens": [600, 600, 600, 900]}, "needs at least 4 different models, found 2"),
    ):  # told before anything is computed
        with pytest.raises(RecipeError, match=said):
            run_method("preselect", POOL, TARGETS, {**settings, **changes}, tmp_path / "faults")
