"""A rewriting job of a recipe: what the model says becomes a corpus, checked and paid for once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from answering import Server

from prill.pipeline.prepare import prepare_recipe

RECIPE = """\
corpus: {{paths: [pool.parquet]}}
prepare:
  language: null
  rules: null
  near: null
  rewrite:
    endpoint: {{base_url: "{url}", model: m}}
    genres: {{library: code}}
    n_parallel: 1
    max_characters: 40
output: out
"""
TEXTS = ["The Sea Was Calm.", "def f(): return 1", "A LONGER STORY that is not sent, for it costs too much."]


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


def test_rewrites_are_checked_written_and_kept(server: Server, tmp_path: Path) -> None:
    table = {"text": TEXTS, "source": ["books", "library", "books"], "id": ["a", "b", "c"]}
    pq.write_table(pa.table(table), tmp_path / "pool.parquet")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(RECIPE.format(url=server.spec().base_url))

    def run() -> list[bytes]:
        prepare_recipe(recipe, output=None, n_workers=1, is_quiet=True, accept_changes=False)
        return [path.read_bytes() for path in sorted((tmp_path / "out" / "rewritten").iterdir())]

    first = run()
    written = pq.read_table(tmp_path / "out" / "rewritten")
    assert written["id"].to_pylist() == ["a", "b"]
    assert all(text == text.lower() and text for text in written["text"].to_pylist())
    lineage = json.loads((tmp_path / "out" / "lineage.json").read_text())
    (counts,) = [step["counts"] for step in lineage["steps"] if step["step"] == "rewrites"]
    assert counts["outcomes"] == {"kept": 2, "longer than 40 characters": 1}
    assert counts["tokens_in"] == 14
    n_asked = len(server.requests)
    (tmp_path / "out" / "rewritten" / "part-00000.parquet").unlink()
    assert run() == first
    assert len(server.requests) == n_asked  # answers are kept
