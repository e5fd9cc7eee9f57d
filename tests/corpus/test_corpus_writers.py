from __future__ import annotations

import itertools
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prill.corpus import CorpusSpec
from prill.corpus import writers as writers_module
from prill.corpus.corpus import Corpus
from prill.corpus.writers import write_documents, write_parquet
from prill.errors import DataError, InternalError

ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "text": st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
            "id": st.one_of(st.none(), st.text(st.characters(exclude_categories=["Cs"]), max_size=3)),
        }
    ),
    min_size=1,
    max_size=12,
)
SCHEMA = pa.schema([("text", pa.large_string()), ("id", pa.large_string())])


@settings(max_examples=25, deadline=None)
@given(rows=ROWS, cuts=st.lists(st.integers(0, 12)), limit=st.integers(1, 60))
@pytest.mark.parametrize("suffix", ["parquet", "jsonl", "jsonl.zst"])
def test_documents_come_back_and_bytes_do_not_depend_on_batches(
    tmp_path_factory: pytest.TempPathFactory, suffix: str, rows: list[dict], cuts: list[int], limit: int
) -> None:
    folder = tmp_path_factory.mktemp("out")
    table = pa.Table.from_pylist(rows, SCHEMA)
    edges = [0, *sorted(min(cut, len(rows)) for cut in cuts), len(rows)]
    pieces = [table.slice(a, b - a) for a, b in itertools.pairwise(edges)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writers_module, "ROW_GROUP_BYTES", limit)
        assert write_documents(folder / f"a.{suffix}", [table]) == len(rows)
        write_documents(folder / f"b.{suffix}", iter(pieces))
    assert (folder / f"a.{suffix}").read_bytes() == (folder / f"b.{suffix}").read_bytes()
    corpus = Corpus.open(CorpusSpec(paths=[str(folder / f"a.{suffix}")]))
    batches = [batch for shard in corpus.shards for batch in corpus.batches(shard, ("text", "id"))]
    assert [text for batch in batches for text in batch.text.to_pylist()] == [row["text"] for row in rows]
    assert [i for batch in batches for i in batch.columns["id"].to_pylist()] == [row["id"] for row in rows]


def test_row_groups_are_cut_by_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writers_module, "ROW_GROUP_BYTES", 100)
    write_parquet(tmp_path / "a.parquet", pa.table({"text": ["x" * 60] * 5 + ["y" * 500]}))
    metadata = pq.ParquetFile(tmp_path / "a.parquet").metadata
    assert [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)] == [2, 2, 2]


def test_tables_of_other_types_and_of_no_rows_are_written(tmp_path: Path) -> None:
    tokens = pa.array([[1, 2], [], [3]], pa.large_list(pa.uint32()))
    table = pa.table({"row": [4, 5, 6], "tokens": tokens, "kept": [True, None, False]})
    write_parquet(tmp_path / "a.parquet", table)
    assert pq.read_table(tmp_path / "a.parquet").equals(table)
    write_parquet(tmp_path / "b.parquet", table.slice(3))
    assert pq.read_table(tmp_path / "b.parquet").schema.equals(table.schema)


def test_text_that_is_not_utf8_is_refused_and_leaves_no_file(tmp_path: Path) -> None:
    raw = pa.array([b"fine", b"\xed\xa0\x80"], pa.large_binary())
    broken = pa.Array.from_buffers(pa.large_string(), 2, raw.buffers())
    for name in ("a.parquet", "a.jsonl.zst"):
        with pytest.raises(DataError, match="`text` must be UTF-8 to be written, found other bytes"):
            write_documents(tmp_path / name, [pa.table({"text": broken})])
    assert list(tmp_path.iterdir()) == []


def test_pieces_of_other_schemas_and_unknown_names_are_our_own_fault(tmp_path: Path) -> None:
    pieces = [pa.table({"text": ["a"]}), pa.table({"txt": ["a"]})]
    with pytest.raises(InternalError, match="expected pieces of one schema"):
        write_documents(tmp_path / "a.parquet", pieces)
    with pytest.raises(InternalError, match=r"expected a name that ends in \.parquet"):
        write_documents(tmp_path / "a.csv", pieces[:1])
    with pytest.raises(InternalError, match="expected at least one table"):
        write_documents(tmp_path / "a.parquet", [])
    assert list(tmp_path.iterdir()) == []


def test_jsonl_lines_are_plain_json(tmp_path: Path) -> None:
    write_documents(tmp_path / "a.jsonl", [pa.table({"text": ["ü\n\u2028"], "n": [3]})])
    assert json.loads((tmp_path / "a.jsonl").read_text("utf-8")) == {"text": "ü\n\u2028", "n": 3}
