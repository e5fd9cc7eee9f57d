"""The controls of length and of page rules: by hand, in a run, and on empty documents."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pool_of import run_method
from prill.errors import DataError
from prill.methods.heuristics import RULES, passed_rules

PROSE = (
    "The committee met on Monday to consider the report that had been sent to every member of the board. "
    "Most of them agreed with its findings, and the chair asked whether anyone wished to speak against it. "
    "Nobody did, so the vote was taken at once. A copy of this decision will be kept with the minutes, and "
    "those who could not attend have until Friday to say what they think of the matter."
)
POOL = ["a", "ab" * 10, "abc" * 100, ""]


def scored(
    name: str, settings: dict[str, object], folder: Path, target: list[str] | None = None
) -> list[float]:
    target = ["x" * 20, "y" * 20, "z" * 20] if target is None else target
    return run_method(name, POOL, {"t": target}, settings, folder)["t"].tolist()


def test_length_by_hand(tmp_path: Path) -> None:
    nan = float("nan")
    near = scored("length", {}, tmp_path / "near")
    np.testing.assert_allclose(near, [-np.log(20), 0, -np.log(15), nan], atol=1e-12)
    long = scored("length", {"prefer": "long"}, tmp_path / "long")
    np.testing.assert_allclose(long, [0, np.log(20), np.log(300), nan])
    short = scored("length", {"prefer": "short"}, tmp_path / "short")
    np.testing.assert_allclose(short, [0, -np.log(20), -np.log(300), nan])


def test_length_of_a_target_of_empty_texts(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected, found 0 among 3"):
        scored("length", {}, tmp_path / "near", ["", "", ""])


def test_rules_by_hand() -> None:
    names = list(RULES)
    passed = passed_rules(pa.array([PROSE, "# spam " * 30, "spam " * 80, "Hello there."], pa.large_string()))
    assert passed.shape == (21, 4)
    assert passed[:, 0].all()
    failed = [{name for name, ok in zip(names, column, strict=True) if not ok} for column in passed.T]
    assert {"gopher_n_words", "gopher_n_stop_words", "gopher_hash_ratio"} <= failed[1]
    assert {
        "gopher_n_stop_words",
        "top_2_gram_share",
        "repeated_5_gram_share",
        "repeated_10_gram_share",
    } <= failed[2]
    assert "gopher_n_words" not in failed[2]
    assert failed[3] == {
        "gopher_n_words",
        "gopher_n_stop_words",
        "top_2_gram_share",
        "top_3_gram_share",
    }  # "Hello there." is its own n-gram


def test_thresholds_are_included() -> None:
    fifty = " ".join(["the", "and", *(f"word{chr(97 + i % 26)}{chr(97 + i // 26)}" for i in range(48))])
    passed = passed_rules(pa.array([fifty, fifty.rsplit(" ", 1)[0]], pa.large_string()))
    assert passed[list(RULES).index("gopher_n_words")].tolist() == [True, False]


def test_rules_are_one_score_for_all_targets(tmp_path: Path) -> None:
    pool = [PROSE, "# " * 60, ""]
    found = run_method("heuristics", pool, {"a": ["x", "y"], "b": ["z", "w"]}, {}, tmp_path)
    np.testing.assert_array_equal(found["a"], found["b"])
    assert found["a"][0] == 1
    assert found["a"][1] < 1
    assert np.isnan(found["a"][2])
