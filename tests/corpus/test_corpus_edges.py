from __future__ import annotations

import datetime
import doctest
import importlib
import pkgutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import prill.corpus
from prill.corpus import CorpusSpec
from prill.corpus import batch as batch_module
from prill.corpus._row_group import GroupShape, dictionary_page_bytes, group_shape, with_longest_value
from prill.corpus.batch import BadRow, Piece, regroup, text_buffers
from prill.corpus.corpus import Corpus
from prill.corpus.expansion import FREE_BYTES, MAX_EXPANSION, ExpansionGuard
from prill.corpus.strings import as_strings, checked_text
from prill.errors import DataError


def opened(path: Path, **settings: object) -> Corpus:
    return Corpus.open(CorpusSpec.model_validate({"paths": [str(path)], **settings}))


def test_examples_in_docstrings_hold() -> None:
    n_tried = 0
    for module in pkgutil.iter_modules(prill.corpus.__path__, "prill.corpus."):
        result = doctest.testmod(importlib.import_module(module.name))
        assert result.failed == 0
        n_tried += result.attempted
    assert n_tried >= 3


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.lists(st.integers(0, 30), max_size=6), max_size=6),
    limit=st.integers(1, 50),
    bad=st.sets(st.integers(0, 35)),
)
def test_regrouping_keeps_every_row_and_every_bad_row(
    lengths: list[list[int]], limit: int, bad: set[int]
) -> None:
    pieces, rows = [], []
    for group in lengths:
        texts = [chr(97 + (len(rows) + i) % 26) * n for i, n in enumerate(group)]
        wrong = tuple(
            BadRow(row=row, reason="null_text", message="", where="", raw=b"")
            for row in range(len(rows), len(rows) + len(texts))
            if row in bad
        )
        pieces.append(Piece(columns={"text": pa.array(texts, pa.large_string())}, bad=wrong))
        rows.extend(texts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batch_module, "BATCH_BYTES", limit)
        batches = list(regroup(pieces, 7))
    assert [text for batch in batches for text in batch.text.to_pylist()] == rows
    assert [batch.first_row for batch in batches] == np.cumsum([0, *[b.n_rows for b in batches]])[
        :-1
    ].tolist()
    assert [row.row for batch in batches for row in batch.bad] == sorted(
        row for row in bad if row < len(rows)
    )
    for batch in batches:
        offsets, _ = text_buffers(batch.text)
        assert batch.n_rows == 1 or offsets[-1] - offsets[0] <= limit
        good = np.flatnonzero(~batch.good_rows()) + batch.first_row
        assert good.tolist() == [row.row for row in batch.bad]


def test_columns_of_other_types_become_strings(tmp_path: Path) -> None:
    when = datetime.datetime(2024, 5, 6, 7, 8, 9)
    table = pa.table(
        {
            "text": ["a", "b"],
            "id": pa.array([7, None], pa.int64()),
            "timestamp": pa.array([when, None], pa.timestamp("s")),
            "license": pa.array([b"MIT", None], pa.binary()),
            "meta": pa.array([[("k", 1)], None], pa.map_(pa.string(), pa.int64())),
            "source": pa.nulls(2),
        }
    )
    pq.write_table(table, tmp_path / "a.parquet")
    corpus = opened(tmp_path, source="web")
    (batch,) = corpus.batches(corpus.shards[0], corpus.fields)
    assert {name: column.to_pylist() for name, column in batch.columns.items()} == {
        "text": ["a", "b"],
        "id": ["7", None],
        "timestamp": ["2024-05-06 07:08:09.000", None],
        "license": ["MIT", None],
        "meta": ['[["k",1]]', None],
        "source": ["web", "web"],
    }
    assert all(column.type == pa.large_string() for column in batch.columns.values())


def test_metadata_that_is_no_text_is_an_error_that_says_how_to_leave_it_out(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["a"], "url": pa.array([b"\xff"], pa.binary())}), tmp_path / "a.parquet")
    corpus = opened(tmp_path)
    assert len(list(corpus.batches(corpus.shards[0]))) == 1
    with pytest.raises(
        DataError, match=r"`url` cannot be read as a string: .*\nhint: .*`fields: \{url: ''\}`"
    ):
        list(corpus.batches(corpus.shards[0], ("url",)))


def test_two_columns_of_one_name_are_told(tmp_path: Path) -> None:
    table = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["text", "text"])
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(DataError, match="expected one column 'text', found 2"):
        opened(tmp_path)


def test_a_source_for_all_makes_a_missing_source_no_difference(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["a"], "source": ["books"]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"text": ["b"]}), tmp_path / "b.parquet")
    corpus = opened(tmp_path, source="web")
    sources = [
        batch.columns["source"].to_pylist()
        for shard in corpus.shards
        for batch in corpus.batches(shard, ("source",))
    ]
    assert sources == [["books"], ["web"]]


@settings(max_examples=80, deadline=None)
@given(
    values=st.lists(
        st.one_of(
            st.none(),
            st.binary(max_size=6),
            st.text(max_size=4).map(lambda t: t.encode("utf-8", "surrogatepass")),
        )
    )
)
def test_bytes_are_text_exactly_when_python_decodes_them(values: list[bytes | None]) -> None:
    for offset in (0, min(2, len(values))):
        array = pa.array(values, pa.binary()).slice(offset)
        text, bad = checked_text(array)
        expected = []
        for value in values[offset:]:
            try:
                expected.append(value.decode() if value is not None and b"\0" not in value else None)
            except UnicodeDecodeError:
                expected.append(None)
        assert text.to_pylist() == [value or "" for value in expected]
        assert [item.position for item in bad] == [i for i, value in enumerate(expected) if value is None]
        text.validate(full=True)


def test_views_of_slices_read_the_right_bytes() -> None:
    array = pa.array(["one", "two", "three", "four"], pa.large_string()).slice(1, 2)
    offsets, data = text_buffers(array)
    assert [bytes(data[offsets[i] : offsets[i + 1]]) for i in range(2)] == [b"two", b"three"]
    assert text_buffers(array.slice(2))[0].tolist() == [0]
    assert as_strings(pa.array([None, "x"]).slice(1)).to_pylist() == ["x"]


def test_the_size_of_a_dictionary_page_is_read_from_its_header(tmp_path: Path) -> None:
    """PageHeader in compact Thrift: 0x15 type, 0x15 size; zigzag 4 is 2, zigzag 0xC801 is 100."""
    assert dictionary_page_bytes(b"\x15\x04\x15\xc8\x01\x15\x00") == 100
    assert dictionary_page_bytes(b"\x15\x00\x15\xc8\x01") == 0
    assert dictionary_page_bytes(b"\x18\x04") is None
    assert dictionary_page_bytes(b"") is None
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": ["x" * 1_000, "y"] * 50}), path)
    with pa.OSFile(str(path)) as handle:
        parquet = pq.ParquetFile(path)
        shape = with_longest_value(group_shape(parquet, 0), parquet, 0, {"text"}, handle)
    assert shape.longest == 1_000 + 1 + 2 * 4  # both values and their 4-byte lengths
    assert shape.n_rows == 100


def test_rows_decoded_at_once_fall_with_the_longest_value() -> None:
    many = GroupShape(n_rows=10**6, n_bytes=10**7, longest=0)
    assert many.rows_at_once == 16_384
    assert replace(many, longest=64 * 1024 * 1024).rows_at_once == 4
    assert replace(many, longest=2**40).rows_at_once == 1


def test_row_groups_of_many_rows_are_read_in_larger_batches(tmp_path: Path) -> None:
    texts = [f"document {i % 50}" for i in range(5_000)]
    pq.write_table(pa.table({"text": texts}), tmp_path / "a.parquet")
    corpus = opened(tmp_path)
    assert [text for batch in corpus.batches(corpus.shards[0]) for text in batch.text.to_pylist()] == texts


def test_expansion_is_free_up_to_the_allowance_and_real_ratios_pass() -> None:
    ExpansionGuard(path="a", n_in=1).add(FREE_BYTES)
    ExpansionGuard(path="a", n_in=10**7).add(300 * 10**7)
    with pytest.raises(
        DataError, match=rf"a: expected data that grows at most {MAX_EXPANSION} times, found 1 "
    ):
        ExpansionGuard(path="a", n_in=1).add(FREE_BYTES + 1)
