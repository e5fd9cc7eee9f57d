"""The demonstration's corpus: real, the same each time, and cut without loss."""

from pathlib import Path

import orjson
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prill.demo.build import build_demo, ensure_demo
from prill.demo.machine_text import commented_share, documents, sections
from prill.recipe import load_recipe

SMALL = 300_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    recipe = build_demo(tmp_path_factory.mktemp("demo"), source_bytes=SMALL)
    return recipe.parent


def test_it_has_sources_and_unique_ids() -> None:
    found = documents(SMALL)
    assert {"library", "reference", "licences", "descriptions", "packages"} <= {d.source for d in found}
    assert len({d.id for d in found}) == len(found)
    assert found == documents(SMALL)


def test_targets_and_pool_never_share_a_document(folder: Path) -> None:
    pool = {
        row["text"]
        for path in (folder / "corpus").glob("*.parquet")
        for row in pq.read_table(path).to_pylist()
    }
    for path in (folder / "targets").glob("*.jsonl"):
        sample = {orjson.loads(line)["text"] for line in path.read_bytes().splitlines()}
        assert len(sample) >= 8
        assert sample.isdisjoint(pool)


def test_its_recipe_is_valid_and_a_second_call_keeps_it(folder: Path) -> None:
    recipe = folder / "recipe.yaml"
    assert load_recipe(recipe).trials is not None
    recipe.write_text(recipe.read_text() + "# mine\n")
    assert ensure_demo(folder) == recipe
    assert recipe.read_text().endswith("# mine\n")


@given(st.text(st.sampled_from("ab\n"), max_size=400))
def test_sections_lose_only_blank_lines(text: str) -> None:
    assert "".join(sections(text, limit=30)).replace("\n", "") == text.replace("\n", "")


def test_comments_and_docstrings_are_counted() -> None:
    assert commented_share('"""one\ntwo"""\n') > 0.9
    assert commented_share("x = 1\n") == 0
    assert commented_share("x = (\n# half a file") > 0.5
