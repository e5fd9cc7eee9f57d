from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prill.corpus.columns import (
    ColumnInfo,
    Columns,
    StoredColumns,
    read_columns,
    read_infos,
    write_columns,
)
from prill.errors import DataError, InternalError

INFOS = (
    ColumnInfo(
        name="score", unit="nats", direction=1, state="abc", version=3, summary="log importance weight"
    ),
    ColumnInfo(name="n_tokens", unit="tokens"),
    ColumnInfo(name="source", unit="name", summary="größe"),
)


def columns(n_rows: int) -> dict[str, pa.Array | np.ndarray]:
    return {
        "score": np.linspace(-1, 1, n_rows),
        "n_tokens": np.arange(n_rows, dtype=np.int64),
        "source": pa.array([["web", "books", None][i % 3] for i in range(n_rows)], pa.large_string()),
    }


@settings(max_examples=30, deadline=None)
@given(
    score=st.lists(st.floats(width=64), max_size=20),
    names=st.lists(st.one_of(st.none(), st.text(st.characters(exclude_categories=["Cs"]))), max_size=20),
)
def test_what_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, score: list[float], names: list[str | None]
) -> None:
    n_rows = min(len(score), len(names))
    given_ones = {
        "score": np.array(score[:n_rows], dtype=np.float64),
        "name": pa.chunked_array([pa.array(names[:n_rows], pa.string())]),
    }
    path = tmp_path_factory.mktemp("columns") / "a.parquet"
    write_columns(path, given_ones, (ColumnInfo(name="name"), ColumnInfo(name="score")))
    table = read_columns(path)
    assert table.column_names == ["score", "name"]
    np.testing.assert_array_equal(table["score"].to_numpy(), given_ones["score"])
    assert table["name"].to_pylist() == names[:n_rows]


SPANS = pa.list_(pa.struct([("start", pa.int64()), ("kind", pa.string()), ("keys", pa.list_(pa.uint64()))]))
PLACES = st.integers(-(1 << 63), (1 << 63) - 1)
SPAN = st.fixed_dictionaries(
    {
        "start": st.one_of(st.none(), PLACES),
        "kind": st.sampled_from(["email", "secret", "", None]),
        "keys": st.lists(st.integers(0, (1 << 64) - 1), max_size=3),
    }
)


@settings(max_examples=30, deadline=None)
@given(spans=st.lists(st.one_of(st.none(), st.lists(SPAN, max_size=4)), max_size=9))
def test_lists_of_numbers_and_names_are_read_as_written(
    tmp_path_factory: pytest.TempPathFactory, spans: list[object]
) -> None:
    path = tmp_path_factory.mktemp("columns") / "a.parquet"
    write_columns(path, {"spans": pa.array(spans, SPANS)}, [ColumnInfo(name="spans")])
    table = read_columns(path)
    assert table.schema.field("spans").type == SPANS
    assert table["spans"].to_pylist() == spans


def test_a_stored_table_reads_only_what_it_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    write_columns(path, columns(4), INFOS)
    stored = StoredColumns(path)
    assert (stored.num_rows, stored.column_names) == (4, ["score", "n_tokens", "source"])
    assert stored["source"].to_pylist() == ["web", "books", None, "web"]
    (start,) = (
        pq.ParquetFile(path).metadata.row_group(0).column(i).data_page_offset
        for i in range(3)
        if pq.ParquetFile(path).schema.column(i).path == "score"
    )
    content = bytearray(path.read_bytes())
    content[start : start + 40] = bytes(40)
    path.write_bytes(content)
    broken = StoredColumns(path)
    assert broken["n_tokens"].to_pylist() == [0, 1, 2, 3]
    with pytest.raises(DataError, match="damage"):
        broken["score"]
    with pytest.raises(DataError, match="found none"):
        broken["scores"]


def test_infos_come_back_and_stand_in_the_file_as_json(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    write_columns(path, columns(4), INFOS)
    assert read_infos(path) == {info.name: info for info in INFOS}
    said = json.loads(pq.ParquetFile(path).metadata.metadata[b"prill.columns"])
    assert said[0]["summary"] == "log importance weight"


def test_every_common_tool_reads_the_file(tmp_path: Path) -> None:
    duckdb = pytest.importorskip("duckdb")
    pandas = pytest.importorskip("pandas")
    polars = pytest.importorskip("polars")
    path = tmp_path / "a.parquet"
    write_columns(path, columns(7), INFOS)
    expected = pq.read_table(path)["n_tokens"].to_pylist()
    assert polars.read_parquet(path)["n_tokens"].to_list() == expected
    assert pandas.read_parquet(path)["n_tokens"].tolist() == expected
    assert duckdb.sql(f"select sum(n_tokens), count(source) from '{path}'").fetchall() == [(21, 5)]


def test_the_same_columns_give_the_same_bytes_with_checksums(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_columns(tmp_path / name, columns(1_000), INFOS)
    whole = (tmp_path / "a").read_bytes()
    assert whole == (tmp_path / "b").read_bytes()


def test_a_flipped_bit_in_any_page_is_found(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    write_columns(path, columns(500), INFOS)
    whole = path.read_bytes()
    group = pq.ParquetFile(path).metadata.row_group(0)
    for i, name in enumerate(["score", "n_tokens", "source"]):
        column = group.column(i)
        start = min(offset for offset in (column.dictionary_page_offset, column.data_page_offset) if offset)
        place = start + column.total_compressed_size - 3  # in the body of the last page
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(DataError, match=r"a\.parquet: expected a whole file of columns, found damage"):
            read_columns(path, [name])
    path.write_bytes(whole[:-30])
    with pytest.raises(DataError, match="found damage"):
        read_columns(path)


def test_a_missing_column_is_told_with_the_near_name(tmp_path: Path) -> None:
    write_columns(tmp_path / "a.parquet", columns(2), INFOS)
    with pytest.raises(
        DataError, match="expected a column 'n_token', found none\nhint: did you mean 'n_tokens'"
    ):
        read_columns(tmp_path / "a.parquet", ["n_token"])


def test_parts_are_aligned_and_missing_ones_are_told(tmp_path: Path) -> None:
    for index in range(3):
        write_columns(tmp_path / f"part-{index:05d}.parquet", columns(index), INFOS)
    parts = Columns(tmp_path, 3)
    assert parts.part(2, ["n_tokens"], n_rows=2)["n_tokens"].to_pylist() == [0, 1]
    assert parts.part(0, n_rows=0).num_rows == 0
    with pytest.raises(DataError, match="expected 5 rows, as in the shard, found 2"):
        parts.part(2, n_rows=5)
    with pytest.raises(DataError, match=r"expected columns of 9 shards, found none of part-00003\.parquet"):
        Columns(tmp_path, 9)


def test_wrong_columns_are_our_own_fault(tmp_path: Path) -> None:
    with pytest.raises(InternalError, match="expected columns of one length"):
        write_columns(tmp_path / "a", {**columns(2), "n_tokens": np.arange(3)}, INFOS)
    with pytest.raises(InternalError, match="expected infos of"):
        write_columns(tmp_path / "a", columns(2), INFOS[:2])
    assert list(tmp_path.iterdir()) == []
