"""FineWeb-Edu's method: grades learnt from a rater, rounding, spans, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pytest
from pydantic import ValidationError

from pool_of import computing, opened, recipe_of, table_of
from prill.corpus.columns import read_infos
from prill.errors import DataError, RecipeError
from prill.features.agreement import rounded_grade
from prill.features.rated import rubric_of
from prill.features.rater.rubric import Scale
from prill.features.rater.rules import RulesRater
from prill.methods.registry import describe, get_method
from prill.methods.scored import made, scored
from prill.pipeline.features import Features
from prill.select.decide import decide
from prill.select.policy import Policy

LESSON = (
    "Chapter {n}. In this lesson students learn the definition of a concept. For example, the theory "
    "explains how a process is described, because the principle is known. Therefore the exercise asks a "
    "question, and the student can study the answer and the theorem before the next section in school. "
)
NEWS = (
    "The minister went to the city on day {n} and met some people there who were not pleased with it at all. "
    "They had come by train and had been waiting for hours in the rain, and one of them threw an egg. "
)
MENU = "menu login click cookie subscribe cart checkout {n} facebook twitter newsletter "


def documents(n: int = 40) -> list[str]:
    """Lessons, news and menus in turn, then a text of nothing."""
    kinds = (LESSON * 2, NEWS * 2, MENU * 3)
    return [kinds[i % 3].format(n=i) for i in range(3 * n)] + [""]


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Features]:
    folder = tmp_path_factory.mktemp("pool")
    with opened(recipe_of(folder, documents()), folder) as features:
        yield features


def columns(pool: Features, folder: Path, **settings: Any) -> pa.Table:
    feature = scored("fineweb_edu", {"n_documents": 90, **settings}, ("t", "u"), folder)
    with computing(pool, folder / "computed") as features:
        return table_of(features, feature)


def infos(pool: Features, folder: Path, **settings: Any) -> Any:
    feature = scored("fineweb_edu", {"n_documents": 90, **settings}, ("t",), folder)
    with computing(pool, folder / "computed") as features:
        features.resolve([feature])
        return read_infos(features.done[feature].parts[0])


def test_rounding_is_the_references() -> None:
    # The card's oracle.
    raw = np.array([2.49, 2.5, 2.51, 3.5, -0.3, 5.7, 0.5, 1.5])
    found = rounded_grade(raw, Scale(name="edu_score", low=0, high=5))
    assert found.tolist() == [2, 2, 3, 4, 0, 5, 0, 2]
    assert not np.signbit(found).any()
    assert np.isnan(rounded_grade(np.array([np.nan]), Scale(name="edu_score", low=0, high=5))[0])


def test_lessons_win_and_a_document_without_text_has_no_grade(pool: Features, tmp_path: Path) -> None:
    table = columns(pool, tmp_path)
    found = table["t"].to_numpy()
    np.testing.assert_array_equal(found, table["u"].to_numpy())  # the grade asks for no target
    assert np.isnan(found[-1])
    assert found[:-1][0::3].min() > max(found[:-1][1::3].max(), found[:-1][2::3].max())
    said = RulesRater(rubric_of("fineweb_edu", tmp_path)).rate(documents()[:-1])
    right = np.array([rating.scores[0] for rating in said if rating.scores]) == np.rint(found[:-1])
    assert right.mean() > 0.95  # the student says what the rater said


def test_integer_grades_are_the_raw_ones_rounded(pool: Features, tmp_path: Path) -> None:
    raw = columns(pool, tmp_path / "a")["t"].to_numpy()
    whole = columns(pool, tmp_path / "b", grades="integer")["t"].to_numpy()
    np.testing.assert_array_equal(whole, np.rint(np.clip(raw, 0, 5)))


def test_what_stands_behind_the_head_changes_nothing(pool: Features, tmp_path: Path) -> None:
    docs = documents()
    head = " ".join(f"word{i}" for i in range(3_000))
    # Labels from a file, so that the sample does not depend on the documents that differ.
    rows = [{"text": text, "edu_score": 4 - 2 * (i % 3)} for i, text in enumerate(docs[:-1])]
    (tmp_path / "labels.jsonl").write_bytes(b"\n".join(orjson.dumps(row) for row in rows))
    spec = {"rater": {"kind": "labels", "path": str(tmp_path / "labels.jsonl")}}
    found = []
    for name, end in (("shorter", ""), ("longer", " quite another end of it")):
        folder = tmp_path / name
        with opened(recipe_of(folder, [*docs[:-1], head + end]), folder) as features:
            found.append(columns(features, folder, **spec)["t"].to_numpy())
            whole = columns(features, folder, window="three", **spec)["t"].to_numpy()
    np.testing.assert_array_equal(found[0], found[1])
    assert whole[-1] != found[1][-1]


def test_the_span_and_the_rater_stand_in_the_column(pool: Features, tmp_path: Path) -> None:
    info = infos(pool, tmp_path)["t"]
    assert info.span == "first 512 tokens"
    assert "stand-in" in info.summary
    assert "not the published annotator" in info.summary
    other = infos(pool, tmp_path / "linear", student="linear")["t"]
    assert other.span == "whole document"


def test_a_higher_threshold_keeps_a_part_of_what_a_lower_one_keeps() -> None:
    scores = np.random.default_rng(0).normal(2.5, 1.0, 200)
    keys = np.random.default_rng(1).integers(0, 2**63, 200, dtype=np.uint64)
    table = pa.table(
        {
            "row": np.arange(200),
            "score": scores,
            "n_tokens": np.full(200, 10),
            "n_bytes": np.full(200, 40),
            "key": keys,
            "eligible": np.full(200, True),
        }
    )
    kept = []
    for threshold in (1.5, 2.5, 3.5):
        policy = Policy(kind="threshold", threshold=threshold)
        found = decide(lambda shard: table, 1, budget=None, policy=policy, seed=0)
        kept.append(found.audit["kept"]["documents"])
        assert kept[-1] == int((scores >= threshold).sum())
    assert kept == sorted(kept, reverse=True)


def test_a_rubric_of_ones_own_is_learnt_from_labels(pool: Features, tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(
        "name: own\nsystem: How dry is it?\nscales:\n- {name: wet}\n- {name: dry, low: 0, high: 9}\n"
    )
    rows = [{"text": t, "dry": 8 - 4 * (i % 3), "wet": 1 + i % 3} for i, t in enumerate(documents()[:-1])]
    (tmp_path / "labels.jsonl").write_bytes(b"\n".join(orjson.dumps(row) for row in rows))
    spec = {"rater": {"kind": "labels", "path": "labels.jsonl"}, "rubric": "own.yaml"}
    for student in ("head", "linear"):
        found = columns(pool, tmp_path, student=student, **spec)["t"].to_numpy()[:-1]
        assert found[0::3].min() > found[1::3].max() > found[2::3].max()
    with pytest.raises(RecipeError, match="did you mean 'wet'"):
        columns(pool, tmp_path, scale="wett", **spec)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"rater": None}, "expected a rater for fineweb_edu, found null"),
        ({"rubric": "none.yaml"}, "none.yaml"),
        ({"rater": {"kind": "rules"}, "rubric": "own.yaml"}, "rules, which know only"),
    ],
)
def test_what_is_missing_is_told_before_anything_runs(
    tmp_path: Path, settings: dict[str, Any], told: str
) -> None:
    (tmp_path / "own.yaml").write_text("name: own\nsystem: x\nscales: [{name: a}]\n")
    with pytest.raises(RecipeError) as found:
        made("fineweb_edu", settings).needs(("t",), tmp_path)
    assert told in str(found.value)
    if told.endswith("null"):
        for kind in ("endpoint", "model", "labels", "rules"):
            assert f"kind: {kind}" in str(found.value)


@pytest.mark.parametrize(
    "settings",
    [
        {"rater": {"kind": "oracle"}},
        {"rater": {"kind": "endpoint", "endpoint": {"base_url": "http://u:p@h/v1", "model": "m"}}},
        {"rater": {"kind": "endpoint", "endpoint": {"base_url": "http://h/v1", "model": "m", "key": "k"}}},
        {"embedding": "encoder"},
        {"n_documents": 3},
    ],
)
def test_settings_are_checked(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        get_method("fineweb_edu").Settings.model_validate(settings)


def test_a_model_folder_that_is_not_there_is_told_before_the_run(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected a model"):
        made("fineweb_edu", {"rater": {"kind": "model", "folder": "none"}}).needs(("t",), tmp_path)


def test_the_page_says_who_the_default_rater_is() -> None:
    page = describe("fineweb_edu")
    assert "stand-in" in page
    assert "2406.17557" in page


def test_the_sample_can_be_picked_in_rounds(pool: Features, tmp_path: Path) -> None:
    for student in ("head", "linear"):
        settings = {"picker": "balanced", "n_rounds": 2, "n_documents": 80, "student": student}
        found = columns(pool, tmp_path / student, **settings)["t"].to_numpy()[:-1]
        assert found[0::3].mean() > max(found[1::3].mean(), found[2::3].mean())
