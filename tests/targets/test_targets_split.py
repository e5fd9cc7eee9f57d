"""Targets: what methods see and what judges them never share a text."""

from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prill.errors import DataError
from prill.targets.items import item_text, read_items
from prill.targets.spec import TargetSpec
from prill.targets.target import read_target, split

TEXTS = st.lists(
    st.text(st.characters(codec="utf-8"), min_size=1, max_size=20), min_size=2, max_size=30, unique=True
)


def as_array(texts: list[str]) -> pa.Array:
    return pa.array(texts, pa.large_string())


@given(TEXTS, st.floats(0.05, 0.95), st.integers(0, 5))
def test_the_parts_are_disjoint_and_whole(texts: list[str], held_out: float, seed: int) -> None:
    target = split("t", as_array(texts + texts[:3]), held_out=held_out, seed=seed)
    fit, held = target.fit.to_pylist(), target.held_out.to_pylist()
    assert set(fit).isdisjoint(held)
    assert sorted(fit + held) == sorted(texts)
    assert fit
    assert held
    assert target.n_copies == len(texts[:3])


@given(TEXTS, st.integers(0, 5))
def test_order_and_copies_do_not_change_the_split(texts: list[str], seed: int) -> None:
    one = split("t", as_array(texts), held_out=0.5, seed=seed)
    other = split("t", as_array([*reversed(texts), texts[0]]), held_out=0.5, seed=seed)
    assert sorted(one.fit.to_pylist()) == sorted(other.fit.to_pylist())
    assert one.digest() == other.digest()


def test_the_share_is_kept_to_a_document() -> None:
    target = split("t", as_array([f"document {n}" for n in range(100)]), held_out=0.3, seed=0)
    assert len(target.held_out) == 30


@pytest.mark.parametrize("texts", [[], ["one"], ["one", "one"], ["", "one"]])
def test_fewer_than_two_documents_are_refused(texts: list[str]) -> None:
    with pytest.raises(DataError, match="at least 2 different documents"):
        split("t", as_array(texts), held_out=0.5, seed=0)


def test_items_are_read_as_prompt_and_right_answer(tmp_path: Path) -> None:
    path = tmp_path / "items.jsonl"
    path.write_text(
        '{"context": "The sky is", "choices": ["green", "blue"], "answer_index": 1}\n'
        '{"prompt": "2 + 2 =", "target": "4"}\n\n'
    )
    assert read_items(path) == ["The sky is blue", "2 + 2 = 4"]
    target = read_target("t", TargetSpec(paths=["*.jsonl"], kind="items"), seed=0, base=tmp_path)
    assert sorted(target.fit.to_pylist() + target.held_out.to_pylist()) == ["2 + 2 = 4", "The sky is blue"]


@pytest.mark.parametrize(
    "line",
    [
        "not json",
        "[]",
        '{"prompt": "x"}',
        '{"context": "x", "choices": ["a"], "answer_index": 1}',
        '{"prompt": 1, "target": 2}',
    ],
)
def test_a_bad_item_is_named_by_line(tmp_path: Path, line: str) -> None:
    path = tmp_path / "items.jsonl"
    path.write_text('{"prompt": "2 + 2 =", "target": "4"}\n' + line + "\n")
    with pytest.raises(DataError, match=r"items\.jsonl:2"):
        read_items(path)


def test_item_text_keeps_an_empty_context() -> None:
    assert item_text({"choices": ["yes", "no"], "answer_index": 0}) == "yes"
