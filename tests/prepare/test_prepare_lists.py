"""Lists of the user: what they mark, what their actions do, and what is refused."""

import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from prill.corpus.batch import Batch
from prill.errors import DataError, PrillError, RecipeError
from prill.prepare.edit import edited
from prill.prepare.lists import Lists, ListsSpec
from prill.prepare.spans import Spans

DOCUMENTS = ["A Bad day, very BAD.", "badly", "no news", "bad", "", "Straße und Ärger — bad_word"]


def made(tmp_path: Path, content: str = "bad\nvery bad\n# a comment\n\nÄRGER\n", **settings: object) -> Lists:
    (tmp_path / "list.txt").write_text(content, encoding="utf-8")
    spec = {"lists": [{"name": "mine", "paths": "list.txt", **settings}]}
    return Lists.of(ListsSpec.model_validate(spec), tmp_path)


def table(lists: Lists, documents: list[str]) -> pa.Table:
    batch = Batch(shard=0, first_row=0, columns={"text": pa.array(documents, pa.large_string())})
    columns = lists(batch)
    assert set(columns) == {info.name for info in lists.columns}
    return pa.table({name: pa.array(column) for name, column in columns.items()})


def test_columns_say_what_was_found(tmp_path: Path) -> None:
    found = table(made(tmp_path), DOCUMENTS)
    assert found["list_mine_hits"].to_pylist() == [2, 0, 0, 1, 0, 1]
    assert found["list_mine_share"].to_pylist() == pytest.approx([11 / 20, 0, 0, 1, 0, 6 / 31], abs=1e-6)
    spans = Spans.of_column(found["list_mine_spans"])
    assert (spans.starts[:2].tolist(), spans.stops[:2].tolist()) == ([2, 11], [5, 19])
    assert spans.names == ["on the list mine"]


def test_drop_goes_by_number_and_share(tmp_path: Path) -> None:
    for settings, expected in (
        ({}, [True, False, False, True, False, True]),
        ({"at_least": 2}, [True, False, False, False, False, False]),
        ({"at_share": 0.5}, [True, False, False, True, False, False]),
    ):
        lists = made(tmp_path, action="drop", **settings)
        (verdict,) = lists.drops(table(lists, DOCUMENTS)).values()
        assert verdict.tolist() == expected
    assert made(tmp_path).drops(table(lists, DOCUMENTS)) == {}


def test_the_keep_share_is_kept_by_the_text_alone(tmp_path: Path) -> None:
    documents = [f"bad {i}" for i in range(4000)]
    lists = made(tmp_path, action="drop", keep_share=0.2)
    (verdict,) = lists.drops(table(lists, documents)).values()
    assert abs(1 - verdict.mean() - 0.2) < 4 * np.sqrt(0.2 * 0.8 / 4000)
    (other,) = lists.drops(table(lists, documents[::-1])).values()
    assert other[::-1].tolist() == verdict.tolist()


def test_cut_and_replace_edit_what_is_listed(tmp_path: Path) -> None:
    (tmp_path / "b.txt").write_text("day,\nvery")
    (tmp_path / "a.txt").write_text("bad")
    spec = ListsSpec.model_validate(
        {
            "lists": [
                {"name": "a", "paths": ["a.txt"], "action": "replace", "replacement": "***"},
                {"name": "b", "paths": ["b.txt"], "action": "cut"},
            ]
        }
    )
    lists = Lists.of(spec, tmp_path)
    edits = lists.edits(table(lists, DOCUMENTS))
    assert edits is not None
    assert edited(pa.array(DOCUMENTS, pa.large_string()), [edits]).to_pylist()[:4] == [
        "A ***   ***.",
        "badly",
        "no news",
        "***",
    ]
    assert made(tmp_path).edits(table(made(tmp_path), DOCUMENTS)) is None


def test_thresholds_are_policy_and_the_order_of_a_list_is_nothing(tmp_path: Path) -> None:
    lists = made(tmp_path)
    assert lists.settings == made(tmp_path, action="drop", at_least=3).settings
    assert lists.settings == made(tmp_path, "Very  bad\nÄrger\nbad\nBAD").settings
    assert lists.settings != made(tmp_path, "bad").settings
    assert pickle.loads(pickle.dumps(lists)) == lists


@pytest.mark.parametrize(
    ("content", "settings", "said"),
    [
        ("# nothing\n\n", {}, "expected at least one pattern, found none"),
        ("ok\nx" + "y" * 300, {}, "list.txt:2: expected a pattern of at most 256 bytes"),
        ("two words\n", {"mode": "token"}, "list.txt:1: expected one word, found 2 in 'two words'"),
        ("a\0b", {}, "list.txt:1: expected text, found a NUL character"),
    ],
)
def test_lists_that_cannot_work_are_refused_by_name(
    tmp_path: Path, content: str, settings: dict[str, object], said: str
) -> None:
    with pytest.raises(DataError) as caught:
        made(tmp_path, content, **settings)
    assert said in str(caught.value)


def test_files_and_names_are_checked(tmp_path: Path) -> None:
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    for path, said in (
        ("latin.txt", "found other bytes at 3"),
        ("none.txt", "found none"),
        (".", "found none"),
    ):
        with pytest.raises(DataError, match=said):
            Lists.of(ListsSpec.model_validate({"lists": [{"name": "x", "paths": path}]}), tmp_path)
    (tmp_path / "list.txt").write_text("bad")
    twice = {"lists": [{"name": "x", "paths": "list.txt"}] * 2}
    with pytest.raises(RecipeError, match="found 'x' twice"):
        Lists.of(ListsSpec.model_validate(twice), tmp_path)
    with pytest.raises(PrillError, match="action: replace"):
        made(tmp_path, replacement="*")


def test_a_list_never_is_an_expression(tmp_path: Path) -> None:
    lists = made(tmp_path, "(a+)+$\n.*\n[x]\n\\#tag\n")
    assert table(lists, ["aaaa", "any .* (A+)+$ [x] #tag", "x"])["list_mine_hits"].to_pylist() == [0, 4, 0]
