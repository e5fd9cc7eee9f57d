from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prill.corpus import CorpusSpec
from prill.corpus.corpus import Corpus
from prill.errors import DataError

TEXTS = ["plain", "", "two\nlines", "grüße 東京 🙂", "tab\tand \r", " "]
STRING_TYPES = [
    pa.string(),
    pa.large_string(),
    pa.string_view(),
    pa.binary(),
    pa.large_binary(),
    pa.binary_view(),
    pa.dictionary(pa.int32(), pa.string()),
    pa.dictionary(pa.int8(), pa.large_string()),
]


def texts_of(corpus: Corpus) -> list[str]:
    return [
        text for shard in corpus.shards for batch in corpus.batches(shard) for text in batch.text.to_pylist()
    ]


def opened(path: Path, **settings: object) -> Corpus:
    return Corpus.open(CorpusSpec.model_validate({"paths": [str(path)], **settings}))


@pytest.mark.parametrize("kind", STRING_TYPES, ids=str)
def test_every_arrow_string_type_is_read(tmp_path: Path, kind: pa.DataType) -> None:
    pq.write_table(pa.table({"text": pa.array(TEXTS).cast(kind)}), tmp_path / "a.parquet")
    corpus = opened(tmp_path)
    assert texts_of(corpus) == TEXTS
    (batch,) = corpus.batches(corpus.shards[0])
    assert batch.text.type == pa.large_string()
    assert batch.bad == ()


@settings(max_examples=25, deadline=None)
@given(
    texts=st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")), min_size=1),
    rows=st.integers(1, 5),
    shard_bytes=st.integers(1, 2_000),
)
def test_any_split_by_row_group_gives_the_same_documents(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], rows: int, shard_bytes: int
) -> None:
    path = tmp_path_factory.mktemp("pool") / "a.parquet"
    pq.write_table(pa.table({"text": texts}), path, row_group_size=rows)
    corpus = opened(path, shard_bytes=shard_bytes)
    assert texts_of(corpus) == texts
    assert sum(shard.n_rows or 0 for shard in corpus.shards) == len(texts)


def test_text_buffers_are_views_that_hold_the_documents(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": TEXTS}), tmp_path / "a.parquet")
    corpus = opened(tmp_path)
    (batch,) = corpus.batches(corpus.shards[0])
    offsets, data = batch.text_buffers()
    read = [bytes(data[offsets[i] : offsets[i + 1]]).decode() for i in range(batch.n_rows)]
    assert (offsets.dtype, data.dtype) == (np.dtype("int64"), np.dtype("uint8"))
    assert read == TEXTS
    assert data.ctypes.data == batch.text.buffers()[2].address


def test_bad_records_keep_their_rows(tmp_path: Path) -> None:
    values = [b"good", b"\xff\xfe", None, b"a\0b", b"good too"]
    pq.write_table(
        pa.table({"text": pa.array(values, pa.binary()), "id": list("abcde")}), tmp_path / "a.parquet"
    )
    corpus = opened(tmp_path, on_bad="quarantine")
    (batch,) = corpus.batches(corpus.shards[0], ("text", "id"))
    assert batch.text.to_pylist() == ["good", "", "", "", "good too"]
    assert batch.columns["id"].to_pylist() == ["a", None, None, None, "e"]
    assert [(bad.row, bad.reason, bad.raw) for bad in batch.bad] == [
        (1, "invalid_utf8", b"\xff\xfe"),
        (2, "null_text", b""),
        (3, "nul_character", b"a\0b"),
    ]
    assert batch.bad[0].where == f"{tmp_path}/a.parquet, row 1"
    assert batch.good_rows().tolist() == [True, False, False, False, True]


def test_the_first_bad_record_stops_by_default(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["a", None]}), tmp_path / "a.parquet")
    corpus = opened(tmp_path)
    with pytest.raises(
        DataError, match=r"a\.parquet, row 1: `text` must be a string, found null\nhint: repair"
    ):
        list(corpus.batches(corpus.shards[0]))


def test_rows_of_bad_records_count_from_the_shard_and_are_named_by_the_file(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["a", "b", None, None]}), tmp_path / "a.parquet", row_group_size=2)
    corpus = opened(tmp_path, shard_bytes=1, on_bad="quarantine")
    (batch,) = corpus.batches(corpus.shards[1])
    assert [(bad.row, bad.where.rpartition(" ")[2]) for bad in batch.bad] == [(0, "2"), (1, "3")]


def test_mapped_columns_are_found_and_nested_ones_too(tmp_path: Path) -> None:
    table = pa.table({"body": ["a"], "info": [{"where": "http://x", "n": 3}], "n.b": [1.5]})
    pq.write_table(table, tmp_path / "a.parquet")
    corpus = opened(
        tmp_path,
        fields={"text": "body", "url": "info.where", "id": "info.n", "license": "n.b", "meta": "info"},
        source="web",
    )
    (batch,) = corpus.batches(corpus.shards[0], corpus.fields)
    assert {name: column.to_pylist() for name, column in batch.columns.items()} == {
        "text": ["a"],
        "url": ["http://x"],
        "id": ["3"],
        "license": ["1.5"],
        "meta": ['{"n":3,"where":"http://x"}'],
        "source": ["web"],
    }


def test_a_missing_text_column_is_told_with_the_near_name(tmp_path: Path) -> None:
    pq.write_table(pa.table({"content": ["a"], "n": [1]}), tmp_path / "a.parquet")
    with pytest.raises(
        DataError, match=r"expected a column 'text' .* found none\nhint: did you mean 'content'\?"
    ):
        opened(tmp_path)


def test_all_problems_of_all_files_are_told_at_once(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": [1]}), tmp_path / "a.parquet")
    (tmp_path / "b.parquet").write_bytes(b"PAR1 not really")
    pq.write_table(pa.table({"txt": ["x"]}), tmp_path / "c.parquet")
    with pytest.raises(DataError) as caught:
        opened(tmp_path, fields={"url": "link"})
    told = str(caught.value)
    assert len(caught.value.problems) == 5
    assert "`text` must be a string column, found int64" in told
    assert "b.parquet: expected a Parquet file, found none that can be read" in told
    assert "did you mean 'txt'?" in told
    assert "`fields.url` names the column 'link', found no such column" in told


def test_files_with_other_columns_are_told_by_name(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["a"], "url": ["u"]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"text": ["b"]}), tmp_path / "b.parquet")
    with pytest.raises(DataError, match=r"b\.parquet: the shards differ: a\.parquet has the column `url`"):
        opened(tmp_path)
    assert texts_of(opened(tmp_path, fields={"url": ""})) == ["a", "b"]


def test_other_string_types_in_other_files_are_no_difference(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"text": pa.array(["b"]).dictionary_encode()}), tmp_path / "b.parquet")
    assert texts_of(opened(tmp_path)) == ["a", "b"]


@pytest.mark.parametrize("with_checksums", [True, False])
def test_a_flipped_byte_is_never_read_as_other_text(tmp_path: Path, with_checksums: bool) -> None:
    texts = [f"document {i} says {i * 7}" for i in range(200)]
    path = tmp_path / "a.parquet"
    pq.write_table(
        pa.table({"text": texts}),
        path,
        compression="zstd" if with_checksums else "gzip",
        write_page_checksum=with_checksums,
        row_group_size=100,
    )
    whole = path.read_bytes()
    column = pq.ParquetFile(path).metadata.row_group(1).column(0)
    start = column.dictionary_page_offset
    for place in range(start + 40, start + column.total_compressed_size, 97):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :])
        with pytest.raises(DataError, match=r"a\.parquet, row group 1: a page cannot be read"):
            texts_of(opened(path))


def test_a_truncated_file_is_never_read_as_a_whole_one(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": ["a", "b"] * 50}), path)
    whole = path.read_bytes()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"a\.parquet"):
            opened(path)


def test_a_file_that_changes_after_opening_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": ["a"]}), path)
    corpus = opened(path)
    pq.write_table(pa.table({"text": ["a", "longer"]}), path)
    with pytest.raises(DataError, match="the file has changed"):
        texts_of(corpus)


def test_large_documents_make_batches_of_their_own(tmp_path: Path) -> None:
    texts = ["x" * 3_000_000, "y" * 20_000_000, "z", "w" * 3_000_000]
    pq.write_table(pa.table({"text": texts}), tmp_path / "a.parquet")
    corpus = opened(tmp_path)
    batches = list(corpus.batches(corpus.shards[0]))
    assert [batch.n_rows for batch in batches] == [1, 1, 2]
    assert [batch.first_row for batch in batches] == [0, 1, 2]
    assert texts_of(corpus) == texts


def test_a_dictionary_that_stands_for_far_more_text_is_refused(
    tmp_path: Path,
) -> None:
    long = "long text " * 100_000
    values = pa.DictionaryArray.from_arrays(pa.array(np.zeros(3_000, np.int32)), pa.array([long]))
    pq.write_table(pa.table({"text": values}), tmp_path / "a.parquet", compression="zstd")
    corpus = opened(tmp_path)
    with pytest.raises(DataError, match="decompression bomb"):
        list(corpus.batches(corpus.shards[0]))


def test_empty_files_hold_no_documents(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match="found only empty files"):
        opened(tmp_path)
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "b.parquet")
    assert texts_of(opened(tmp_path)) == ["a"]


def test_no_flipped_bit_of_the_footer_ends_the_process_or_loses_a_row_silently(tmp_path: Path) -> None:
    """pyarrow ends the process when asked for the metadata of some damaged column chunks."""
    texts = [f"document {i}" for i in range(2_500)]
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": texts, "n": texts}), path, write_page_checksum=True)
    whole = path.read_bytes()
    n_footer = int.from_bytes(whole[-8:-4], "little") + 8
    n_errors = 0
    for place in range(len(whole) - n_footer, len(whole), 3):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << place % 8]) + whole[place + 1 :])
        try:
            assert len(texts_of(opened(path))) == len(texts)
        except DataError:
            n_errors += 1
    assert n_errors > 50
