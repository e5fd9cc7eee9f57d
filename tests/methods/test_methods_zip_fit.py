"""ZIP-FIT in a run: the card's scores, what screening keeps, planted documents, bad input."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pool_of import run_method
from prill.errors import DataError, RecipeError
from prill.features import compression_calibration
from prill.methods.registry import describe, get_method
from prill.methods.zip_fit import BELOW, ZipFit, ZipFitSettings

SOURCES = [
    "the cat sat on the mat",
    "buy cheap pills online now",
    "We prove the theorem by induction on n.",
    "click here to win a free phone",
]
TARGETS = ["The proof follows by induction.", "We prove a lemma on the theorem."]
WORDS = {
    kind: ["".join(rng.choice(list(letters), rng.integers(2, 9))) for _ in range(250)]
    for kind, letters, rng in (
        ("a", "abcdefghijkl", np.random.default_rng(1)),
        ("b", "ghijklmnopqrst", np.random.default_rng(2)),
    )
}


def made(kind: str, n: int, seed: int, size: int = 120) -> list[str]:
    rng = np.random.default_rng(seed)
    weights = 1 / np.arange(1, 251)
    draw = rng.choice(250, (n, size), p=weights / weights.sum())
    return [" ".join(WORDS[kind][i] for i in row) for row in draw]


def of_pool(settings: dict[str, Any], pool: list[str], target: list[str], folder: Path) -> Any:
    # pool_of holds one text of a target out; a copy of an empty text costs nothing.
    return run_method("zip_fit", pool, {"t": target}, settings, folder)["t"]


def test_the_scores_of_the_card_whichever_text_is_held_out(tmp_path: Path) -> None:
    """One of the two texts is held out: scores are those with the other, from the card's joint sizes."""
    joint = np.array([[69, 63], [74, 74], [71, 69], [77, 76]])
    source, target = np.array([39, 46, 54, 50]), np.array([51, 49])
    each = 1 - (joint - np.minimum(source[:, None], target)) / np.maximum(source[:, None], target)
    assert each[2, 0] == pytest.approx(1 - (71 - 51) / 54)
    found = of_pool({"level": 9}, SOURCES, TARGETS, tmp_path)
    assert any(np.allclose(found, each[:, j], rtol=1e-12) for j in (0, 1))


def test_planted_documents_come_first_and_screening_keeps_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compression_calibration, "N_ANYWHERE", 32)
    monkeypatch.setattr(compression_calibration, "N_NEAR", 32)
    pool = [*made("a", 330, 3), *made("b", 40, 4), ""]
    target = made("b", 25, 5)
    exact = of_pool({"mode": "exact"}, pool, target, tmp_path / "exact")
    screened = of_pool({"shortlist": 0.1, "screen_texts": 2}, pool, target, tmp_path / "screened")
    best = np.argsort(-np.nan_to_num(exact, nan=-9), kind="stable")[:37]
    assert set(best.tolist()) <= set(range(330, 370))
    assert np.array_equal(screened[best], exact[best])
    assert np.isnan(exact[-1])
    assert np.isnan(screened[-1])
    is_exact = screened > -BELOW / 2
    assert is_exact.sum() < 300  # some left the race
    assert np.array_equal(screened[is_exact], exact[is_exact])
    assert (screened[:-1][~is_exact[:-1]] < -BELOW + 1.01).all()


def test_a_small_pool_is_compared_whole(tmp_path: Path) -> None:
    pool, target = [*made("a", 12, 3), *made("b", 4, 4)], made("b", 12, 5)
    exact = of_pool({"mode": "exact"}, pool, target, tmp_path / "exact")
    assert np.array_equal(of_pool({}, pool, target, tmp_path / "screened"), exact)


def test_long_documents_can_be_seen_in_part(tmp_path: Path) -> None:
    pool = made("b", 3, 4)
    longer = [pool[0] + made("a", 1, 6, 9000)[0], *pool[1:]]
    target = made("b", 3, 5)
    head = {"max_bytes": len(pool[0].encode()), "mode": "exact"}
    cut = of_pool(head, longer, target, tmp_path / "cut")
    assert cut[0] == of_pool(head, pool, target, tmp_path / "short")[0]
    assert of_pool({"mode": "exact"}, longer, target, tmp_path / "whole")[0] < cut[0]


def test_level_0_must_be_asked_for() -> None:
    with pytest.raises(RecipeError, match="compat: true"):
        ZipFit(ZipFitSettings(level=0)).needs(("t",), Path())
    needs = ZipFit(ZipFitSettings(level=0, compat=True)).needs(("t",), Path())
    assert needs["lengths"].compressor.level == 0


def test_settings_reach_the_features_and_lengths_are_shared() -> None:
    one = ZipFit(ZipFitSettings()).needs(("t",), Path())
    other = ZipFit(ZipFitSettings(mode="exact", max_targets=7)).needs(("t",), Path())
    assert one["lengths"] == other["lengths"]
    assert (one["similarity"].first, other["similarity"].first) == (4, 7)
    with pytest.raises(RecipeError, match="from 0 to 16, found 20"):
        ZipFit(ZipFitSettings(codec="lz4", level=20)).needs(("t",), Path())


def test_a_target_of_empty_texts_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected, found 0 among 3"):
        of_pool({}, SOURCES, ["", "", ""], tmp_path)


def test_what_was_seen_and_how_it_differs_is_told() -> None:
    (column,) = get_method("zip_fit")(ZipFitSettings()).columns(["t"])
    assert "the last 32 KiB" in column.span
    assert "stores" in describe("zip_fit")


@pytest.mark.skipif("PRILL_SHARED_DATA" not in os.environ, reason="needs the shared data")
def test_python_is_found_in_the_shared_pool(tmp_path: Path) -> None:
    import json

    import pyarrow.parquet as pq

    root = Path(os.environ["PRILL_SHARED_DATA"])
    members = set(json.loads((root / "targets/python_code.members.json").read_text()))
    rows = [
        (row["id"] in members, row["text"])
        for source in ("code", "news")
        for row in pq.read_table(
            root / f"corpus/{source}-00000-of-00003.parquet", columns=["id", "text"]
        ).to_pylist()
    ][::4]
    lines = (root / "targets/python_code.jsonl").read_text().splitlines()
    target = [json.loads(line)["text"] for line in lines[:17]]
    scores = of_pool({}, [text for _, text in rows], target, tmp_path)
    is_member = np.array([member for member, _ in rows])
    n = int(is_member.sum())
    if n:
        assert is_member[np.argsort(-scores)[:n]].mean() > 2 * is_member.mean()
