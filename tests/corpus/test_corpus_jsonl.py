from __future__ import annotations

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prill.corpus import CorpusSpec
from prill.corpus import jsonl as jsonl_module
from prill.corpus import lines as lines_module
from prill.corpus.corpus import Corpus
from prill.errors import DataError

PLAIN_TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))


def opened(path: Path, **settings: object) -> Corpus:
    return Corpus.open(CorpusSpec.model_validate({"paths": [str(path)], **settings}))


def texts_of(corpus: Corpus) -> list[str]:
    return [
        text for shard in corpus.shards for batch in corpus.batches(shard) for text in batch.text.to_pylist()
    ]


def zstd(content: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(content)
    return sink.getvalue().to_pybytes()


def record(text: str, **others: object) -> bytes:
    return json.dumps({"text": text, **others}).encode()


@settings(max_examples=60, deadline=None)
@given(
    texts=st.lists(PLAIN_TEXT, min_size=1, max_size=12),
    separator=st.sampled_from([b"\n", b"\r\n", b"\n\n", b"\n  \n"]),
    tail=st.sampled_from([b"", b"\n", b"\n\n"]),
    bom=st.booleans(),
    shard_bytes=st.integers(1, 200),
    chunk=st.integers(1, 64),
)
def test_any_split_by_bytes_gives_the_same_documents(
    tmp_path_factory: pytest.TempPathFactory,
    texts: list[str],
    separator: bytes,
    tail: bytes,
    bom: bool,
    shard_bytes: int,
    chunk: int,
) -> None:
    path = tmp_path_factory.mktemp("pool") / "a.jsonl"
    raw = separator.join(json.dumps({"text": text}, ensure_ascii=False).encode() for text in texts)
    path.write_bytes((b"\xef\xbb\xbf" if bom else b"") + raw + tail)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines_module, "CHUNK_BYTES", chunk)
        assert texts_of(opened(path, shard_bytes=shard_bytes)) == texts


@settings(max_examples=60, deadline=None)
@given(
    lines=st.lists(
        st.one_of(
            PLAIN_TEXT.map(lambda text: record(text)),
            st.sampled_from(
                [b"", b" ", b"{", b"[1]", b"{}", b'{"text":null}', b'{"text":"\xff"}', b"\xff", b"7"]
            ),
        ),
        max_size=15,
    ),
    shard_bytes=st.integers(1, 100),
)
def test_every_line_is_a_document_or_a_bad_record_or_blank(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes], shard_bytes: int
) -> None:
    path = tmp_path_factory.mktemp("pool") / "a.jsonl"
    path.write_bytes(b"\n".join([record("first"), *lines]))
    corpus = opened(path, shard_bytes=shard_bytes, on_bad="quarantine")
    batches = [batch for shard in corpus.shards for batch in corpus.batches(shard)]
    n_bad = sum(len(batch.bad) for batch in batches)
    assert sum(batch.n_rows for batch in batches) == 1 + sum(1 for line in lines if line.strip())
    assert n_bad == sum(1 for line in lines if line.strip() and not line.startswith(b'{"text": "'))
    for batch in batches:
        for bad in batch.bad:
            number = int(bad.where.rpartition(":")[2])
            assert [record("first"), *lines][number - 1] == bad.raw
            assert batch.text[bad.row - batch.first_row].as_py() == ""


BAD_LINES = [
    (b'{"text": "a"', "malformed_json", "found malformed JSON at character"),
    (b'["text"]', "not_an_object", "expected an object, found an array"),
    (b"null", "not_an_object", "expected an object, found null"),
    (b'{"txt": "a"}', "missing_text", "expected a key 'text' with the text, found none"),
    (b'{"text": null}', "null_text", "'text' must be a string, found null"),
    (b'{"text": 7}', "wrong_type", "'text' must be a string, found the number 7"),
    (b'{"text": {"a": 1}}', "wrong_type", "'text' must be a string, found an object"),
    (b'{"text": "\xff"}', "invalid_utf8", "expected UTF-8, found byte 0xff at offset 10"),
    (b'{"text": "\xed\xa0\x80"}', "invalid_utf8", "expected UTF-8, found byte 0xed at offset 10"),
    (b'{"text": "\\ud800"}', "lone_surrogate", "found half of a surrogate pair"),
    (b'{"text": "a", "id": "\\udc00"}', "lone_surrogate", "found half of a surrogate pair"),
    (b'{"text": "\\u0000"}', "nul_character", "'text' must not contain NUL characters"),
    (b"\0\0\0", "malformed_json", "found malformed JSON"),
    (b"[" * 100_000, "malformed_json", "found malformed JSON"),
]


@pytest.mark.parametrize(("line", "reason", "message"), BAD_LINES)
def test_a_bad_line_is_named_with_its_bytes(tmp_path: Path, line: bytes, reason: str, message: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\n".join([record("one"), b"", line, record("two")]))
    (batch,) = (corpus := opened(path, on_bad="quarantine")).batches(corpus.shards[0])
    (bad,) = batch.bad
    assert batch.text.to_pylist() == ["one", "", "two"]
    assert (bad.row, bad.reason, bad.raw, bad.where) == (1, reason, line, f"{path}:3")
    assert message in bad.message
    with pytest.raises(DataError) as caught:
        texts_of(opened(path))
    assert f"{path}:3: " in str(caught.value)
    assert "on_bad: quarantine" in str(caught.value)


def test_fields_are_mapped_and_become_strings(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    line = {"body": {"raw": "text"}, "id": 7, "meta": {"b": 1, "a": [True]}, "timestamp": "2020", "url": None}
    path.write_text(json.dumps(line) + "\n" + json.dumps({"body": {"raw": ""}, "id": 1.5}))
    corpus = opened(path, fields={"text": "body.raw", "license": ""}, source="web")
    (batch,) = corpus.batches(corpus.shards[0], corpus.fields)
    assert {name: column.to_pylist() for name, column in batch.columns.items()} == {
        "text": ["text", ""],
        "id": ["7", "1.5"],
        "source": ["web", "web"],
        "url": [None, None],
        "timestamp": ["2020", None],
        "meta": ['{"a":[true],"b":1}', None],
    }
    with pytest.raises(DataError, match="the corpus has no field 'license'"):
        list(corpus.batches(corpus.shards[0], ("license",)))


def test_a_missing_text_key_is_told_with_the_near_name(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"content": "a"}\n')
    with pytest.raises(DataError, match="expected a key 'text' that holds the text, found none") as caught:
        opened(tmp_path)
    assert "did you mean 'content'?" in str(caught.value)


def test_a_json_array_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps([{"text": "a"}], indent=1))
    with pytest.raises(DataError, match="expected one JSON object a line, found none"):
        opened(tmp_path)


@pytest.mark.parametrize(("suffix", "pack"), [(".gz", gzip.compress), (".zst", zstd)])
def test_compressed_files_of_one_and_many_streams_are_read(tmp_path: Path, suffix: str, pack: object) -> None:
    assert callable(pack)
    path = tmp_path / f"a.jsonl{suffix}"
    path.write_bytes(
        pack(record("one") + b"\n" + record("tw")[:5]) + pack(record("tw")[5:] + b"\n") + pack(b"")
    )
    assert texts_of(opened(path)) == ["one", "tw"]
    unnamed = tmp_path / "b.jsonl"
    unnamed.write_bytes(path.read_bytes())
    assert texts_of(opened(unnamed)) == ["one", "tw"]


@pytest.mark.parametrize(("suffix", "pack"), [(".gz", gzip.compress), (".zst", zstd)])
def test_a_stream_cut_anywhere_never_looks_like_its_end(tmp_path: Path, suffix: str, pack: object) -> None:
    assert callable(pack)
    first = pack(b"".join(record(f"document {i}") + b"\n" for i in range(20)))
    second = pack(b"".join(record(f"another {i}") + b"\n" for i in range(20)))
    path = tmp_path / f"a.jsonl{suffix}"
    for length in range(len(first) + len(second)):
        path.write_bytes((first + second)[:length])
        if length == len(first):  # a whole file of one stream: only the content hash can tell
            assert len(texts_of(opened(path))) == 20
            continue
        with pytest.raises(DataError, match=r"cut|empty|gzip or zstd|one JSON object a line"):
            texts_of(opened(path, on_bad="quarantine"))


@pytest.mark.parametrize(("suffix", "pack"), [(".gz", gzip.compress), (".zst", zstd)])
def test_bytes_after_the_last_stream_are_damage(tmp_path: Path, suffix: str, pack: object) -> None:
    assert callable(pack)
    path = tmp_path / f"a.jsonl{suffix}"
    path.write_bytes(pack(record("one") + b"\n") + b"garbage after the end")
    with pytest.raises(DataError, match="found damage"):
        texts_of(opened(path))


@pytest.mark.parametrize(("suffix", "pack"), [(".gz", gzip.compress), (".zst", zstd)])
def test_bombs_are_refused(tmp_path: Path, suffix: str, pack: object) -> None:
    assert callable(pack)
    path = tmp_path / f"a.jsonl{suffix}"
    zeros = pack(b"0" * 40_000_000)
    path.write_bytes(pack(record("one") + b"\n") + zeros * 8)
    with pytest.raises(DataError, match="decompression bomb"):
        texts_of(opened(path, on_bad="quarantine"))


def test_a_line_above_the_limit_is_a_bad_record_wherever_chunks_fall(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\n".join([record("one"), record("x" * 500), record("two"), record("y" * 400)]))

    def split(chunks: object) -> object:
        return lines_split(chunks, limit=300)

    lines_split = jsonl_module.split_lines
    monkeypatch.setattr(jsonl_module, "split_lines", split)
    monkeypatch.setattr(lines_module, "_KEPT_BYTES", 20)
    for chunk in (1, 7, 50, 10_000):
        monkeypatch.setattr(lines_module, "CHUNK_BYTES", chunk)
        corpus = opened(path, on_bad="quarantine")
        (batch,) = corpus.batches(corpus.shards[0])
        assert batch.text.to_pylist() == ["one", "", "two", ""]
        assert [(bad.reason, bad.row, len(bad.raw), bad.where) for bad in batch.bad] == [
            ("too_long", 1, 20, f"{path}:2"),
            ("too_long", 3, 20, f"{path}:4"),
        ]
        assert "found 512" in batch.bad[0].message


def test_utf16_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes('{"text": "a"}'.encode("utf-16"))
    with pytest.raises(DataError, match="found a UTF-16 byte order mark"):
        opened(tmp_path)
