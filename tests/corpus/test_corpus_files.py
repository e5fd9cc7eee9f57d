from __future__ import annotations

import hashlib
import os
import pickle
import sys
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from prill.corpus import CorpusSpec
from prill.corpus._url import has_credentials, scrub, shown
from prill.corpus.corpus import Corpus
from prill.errors import DataError, RecipeError, ResourceError


def opened(*paths: str, base: Path | None = None, **settings: object) -> Corpus:
    return Corpus.open(CorpusSpec.model_validate({"paths": list(paths), **settings}), base)


def texts_of(corpus: Corpus) -> list[str]:
    return [
        text for shard in corpus.shards for batch in corpus.batches(shard) for text in batch.text.to_pylist()
    ]


def names_of(corpus: Corpus) -> list[str]:
    return [file.name for file in corpus.files]


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    for name in ("b.jsonl", "a/z.jsonl", "a/c.jsonl", "_SUCCESS.jsonl", ".hidden.jsonl", "a/.git/x.jsonl"):
        path = tmp_path / "pool" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f'{{"text": "{name}"}}\n')
    (tmp_path / "pool" / "README.md").write_text("about the pool")
    return tmp_path / "pool"


def test_folders_are_searched_in_depth_in_order_without_hidden_names(pool: Path) -> None:
    assert texts_of(opened(str(pool))) == ["a/c.jsonl", "a/z.jsonl", "b.jsonl"]


def test_paths_are_relative_to_the_base_and_each_file_counts_once(pool: Path) -> None:
    corpus = opened(
        "pool/*.jsonl", "pool/a/**/*.jsonl", "pool/b.jsonl", "./pool/../pool/b.jsonl", base=pool.parent
    )
    assert names_of(corpus) == ["_SUCCESS.jsonl", "a/c.jsonl", "a/z.jsonl", "b.jsonl"]


def test_moving_the_folder_changes_neither_order_nor_identity(pool: Path, tmp_path: Path) -> None:
    before = opened(str(pool))
    pool.rename(tmp_path / "elsewhere")
    after = opened(str(tmp_path / "elsewhere"))
    assert before.identity != after.identity
    assert names_of(before) == names_of(after)
    assert [shard.n_bytes for shard in before.shards] == [shard.n_bytes for shard in after.shards]


def test_identity_is_size_and_hash(pool: Path) -> None:
    content = (pool / "a/c.jsonl").read_bytes()
    assert opened(str(pool)).identity()[0] == {
        "path": "a/c.jsonl",
        "size": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    assert opened(str(pool), identity="size").identity()[0] == {"path": "a/c.jsonl", "size": len(content)}


def test_names_with_glob_characters_are_found_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "odd[1]").mkdir()
    (tmp_path / "odd[1]" / "a*.jsonl").write_text('{"text": "x"}')
    assert texts_of(opened("odd[1]/a*.jsonl", base=tmp_path)) == ["x"]
    assert texts_of(opened("*.jsonl", base=tmp_path / "odd[1]")) == ["x"]


def test_links_are_followed_once(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.jsonl").write_text('{"text": "x"}')
    (tmp_path / "pool").mkdir()
    (tmp_path / "pool" / "link").symlink_to(tmp_path / "real", target_is_directory=True)
    (tmp_path / "real" / "loop").symlink_to(tmp_path / "real", target_is_directory=True)
    (tmp_path / "pool" / "file.jsonl").symlink_to(tmp_path / "real" / "a.jsonl")
    assert names_of(opened(str(tmp_path / "pool"))) == ["file.jsonl", "link/a.jsonl"]


def test_a_link_that_leads_nowhere_is_told(pool: Path) -> None:
    (pool / "gone.jsonl").symlink_to(pool / "nothing.jsonl")
    with pytest.raises(DataError, match=r"gone\.jsonl: expected a file, found a link that leads nowhere"):
        opened(str(pool))


def test_names_that_are_not_utf8_or_hold_control_characters_are_read_and_shown_escaped(
    tmp_path: Path,
) -> None:
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.txt")).write_text("one")
    (tmp_path / "red\x1b[31m.txt").write_text("two")
    corpus = opened(str(tmp_path))
    (batch,) = corpus.batches(corpus.shards[0], ("id",))
    assert batch.text.to_pylist() == ["one", "two"]
    assert batch.columns["id"].to_pylist() == ["caf\\xe9.txt", "red\\x1b[31m.txt"]
    assert [entry["path"] for entry in corpus.identity()] == ["caf\\xe9.txt", "red\\x1b[31m.txt"]


def test_the_home_folder_may_hold_the_corpus(pool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(pool.parent))
    assert texts_of(opened("~/pool/b.json*")) == ["b.jsonl"]
    assert len(texts_of(opened("~/pool"))) == 3


def test_pipes_are_refused_rather_than_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.jsonl")
    with pytest.raises(DataError, match="expected a regular file, found a device, pipe or socket"):
        opened(str(tmp_path / "a.jsonl"))


def test_all_paths_that_name_nothing_are_told_at_once(pool: Path) -> None:
    (pool.parent / "empty").mkdir()
    (pool.parent / "a.csv").write_text("text\nx")
    with pytest.raises(DataError) as caught:
        opened("nothing", "pool/*.parquet", "empty", "a.csv", "ftp://host/x", base=pool.parent)
    assert [problem.message for problem in caught.value.problems] == [
        "expected a file, a folder or a glob that matches, found none",
        "expected a file, a folder or a glob that matches, found none",
        "expected a folder with files, found none",
        "expected Parquet, JSONL or text files, found .csv",
        "expected a local path or a URL of a known scheme, found 'ftp'",
    ]


def test_text_files_are_documents_with_their_path_as_id(tmp_path: Path) -> None:
    for name, content in [
        ("b.txt", b"two"),
        ("a/x.txt", b"\xef\xbb\xbfone"),
        ("c.md", b""),
        ("d.txt", b"bad \xff"),
    ]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    corpus = opened(str(tmp_path), source="notes", on_bad="quarantine")
    assert corpus.fields == ("text", "id", "source")
    assert len(corpus.shards) == 1
    (batch,) = corpus.batches(corpus.shards[0], corpus.fields)
    assert batch.text.to_pylist() == ["one", "two", "", ""]
    assert batch.columns["id"].to_pylist() == ["a/x.txt", "b.txt", "c.md", None]
    assert batch.columns["source"].to_pylist() == ["notes"] * 4
    assert [(bad.row, bad.reason, bad.where) for bad in batch.bad] == [
        (3, "invalid_utf8", f"{tmp_path}/d.txt")
    ]
    with pytest.raises(DataError, match=r"d\.txt: `text` must be UTF-8, found byte 0xff at offset 4"):
        texts_of(opened(str(tmp_path)))


def test_text_shards_gather_files_up_to_the_size(tmp_path: Path) -> None:
    for i in range(10):
        (tmp_path / f"{i}.txt").write_text("x" * 10)
    corpus = opened(str(tmp_path), shard_bytes=35)
    assert [(shard.start, shard.stop, shard.n_rows) for shard in corpus.shards] == [
        (0, 3, 3),
        (3, 6, 3),
        (6, 9, 3),
        (9, 10, 1),
    ]
    assert texts_of(corpus) == ["x" * 10] * 10


def test_every_file_is_text_if_the_recipe_says_so(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("print()")
    (tmp_path / "b.jsonl").write_text("{}")
    assert texts_of(opened(str(tmp_path), format="text")) == ["print()", "{}"]


def test_formats_can_be_mixed(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["p"], "url": ["u"]}), tmp_path / "a.parquet")
    (tmp_path / "b.jsonl").write_text('{"text": "j", "license": "MIT"}')
    corpus = opened(str(tmp_path))
    assert texts_of(corpus) == ["p", "j"]
    assert corpus.schema_summary()["formats"] == ["jsonl", "parquet"]
    rows = [batch.columns for shard in corpus.shards for batch in corpus.batches(shard, ("license", "url"))]
    assert [row["license"].to_pylist() for row in rows] == [[None], ["MIT"]]


def test_a_corpus_crosses_to_another_process(pool: Path) -> None:
    corpus = opened(str(pool))
    again = pickle.loads(pickle.dumps(corpus))
    assert again == corpus
    assert texts_of(again) == texts_of(corpus)


def test_remote_files_are_read_like_local_ones() -> None:
    memory = fsspec.filesystem("memory")
    texts = [f"document {i}" for i in range(100)]
    with memory.open("/bucket/pool/a.parquet", "wb") as file:
        pq.write_table(pa.table({"text": texts}), file, row_group_size=10)
    with memory.open("/bucket/pool/b.jsonl", "wb") as file:
        file.write(b'{"text": "line one"}\n{"text": "line two"}\n')
    with memory.open("/bucket/pool/_meta/c.jsonl", "wb") as file:
        file.write(b"{}")
    try:
        for path in ("memory://bucket/pool", "memory://bucket/pool/", "memory://bucket/pool/[ab].*"):
            corpus = opened(path, shard_bytes=30)
            assert texts_of(corpus) == [*texts, "line one", "line two"]
        assert [entry["path"] for entry in corpus.identity()] == ["a.parquet", "b.jsonl"]
        assert corpus.shards[0].path == "memory:///bucket/pool/a.parquet"
        with pytest.raises(DataError, match="memory://bucket/none: expected a file, a folder or a glob"):
            opened("memory://bucket/none")
    finally:
        memory.rm("/bucket", recursive=True)


@pytest.mark.parametrize(
    ("url", "module", "extra"),
    [
        ("s3://bucket/a.parquet", "s3fs", "s3"),
        ("gs://bucket/a", "gcsfs", "gcs"),
        ("hf://datasets/a/b", "huggingface_hub", "hub"),
    ],
)
def test_a_missing_package_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, url: str, module: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ResourceError) as caught:
        opened(url)
    assert f"prill[{extra}]" in str(caught.value)


SECRET = "hunter2hunter2"


@pytest.mark.parametrize(
    "url",
    [
        f"https://user:{SECRET}@host/a.parquet",
        f"s3://AKIA:{SECRET}@bucket/a.parquet",
        f"https://{SECRET}@host/a.parquet",
        f"https://host/a.parquet?X-Amz-Signature={SECRET}&x=1",
        f"https://host/a.parquet?access_token={SECRET}",
        f"simplecache::https://user:{SECRET}@host/a.parquet",
    ],
)
def test_urls_with_credentials_are_refused_without_repeating_them(url: str) -> None:
    assert has_credentials(url)
    with pytest.raises(RecipeError) as caught:
        CorpusSpec(paths=[url])
    assert "must not hold credentials" in str(caught.value)
    assert SECRET not in str(caught.value) + repr(caught.value) + shown(url) + scrub(f"GET {url} failed")


def test_urls_without_credentials_and_local_names_are_left_alone() -> None:
    for url in (
        "s3://bucket/a@b/part-?.parquet",
        "hf://datasets/owner/name@main/data/*.parquet",
        "pool/key=1/token@2.parquet",
        "https://host/a.parquet?version=3",
    ):
        assert not has_credentials(url)
        assert CorpusSpec(paths=[url]).paths == [url]
    assert shown("s3://bucket/part-?.parquet") == "s3://bucket/part-?.parquet"


def test_the_description_is_validated() -> None:
    assert CorpusSpec.model_validate({"paths": "pool"}).paths == ["pool"]
    for wrong in (
        {"paths": []},
        {"paths": [""]},
        {"paths": ["a"], "formt": "jsonl"},
        {"paths": ["a"], "fields": {"txt": "body"}},
        {"paths": ["a"], "fields": {"text": ""}},
        {"paths": ["a"], "shard_bytes": 0},
        {"paths": ["a\0b"]},
    ):
        with pytest.raises(ValidationError):
            CorpusSpec.model_validate(wrong)
    with pytest.raises(ValidationError, match="did you mean 'text'"):
        CorpusSpec.model_validate({"paths": ["a"], "fields": {"txt": "body"}})


def test_describing_a_corpus_imports_nothing_heavy() -> None:
    import subprocess

    heavy = ("pyarrow", "numpy", "fsspec", "tokenizers")
    check = f"import sys, prill.corpus; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
