"""The measure of URLs and its lists."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from prill.corpus.batch import Batch
from prill.corpus.columns import write_columns
from prill.errors import DataError, RecipeError
from prill.prepare._url_lists import read_list
from prill.prepare.urls import UrlListSpec, Urls, UrlSpec

URLS = [
    "https://www.bad.example.org/x",
    "http://notbad.example.com/spam/offer",
    "HTTP://A.org:80/Page#here",
    None,
    "https://casino-win.co.uk/best.html?utm_source=1",
]


def _batch(urls: list[str | None] | None) -> Batch:
    n = 3 if urls is None else len(urls)
    columns = {"text": pa.array(["text"] * n, pa.large_string())}
    if urls is not None:
        columns["url"] = pa.array(urls, pa.large_string())
    return Batch(shard=0, first_row=0, columns=columns)


def _lists(folder: Path, **content: str) -> None:
    for name, text in content.items():
        (folder / f"{name}.txt").write_text(text, encoding="utf-8")


def _spec(*lists: tuple[str, str, int]) -> UrlSpec:
    return UrlSpec(
        lists=tuple(
            UrlListSpec(name=name, path=f"{name}.txt", kind=kind, min_hits=hits)  # type: ignore[arg-type]
            for name, kind, hits in lists
        )
    )


def test_each_kind_of_list_finds_what_it_names(tmp_path: Path) -> None:
    _lists(
        tmp_path,
        domains="# mine\nEXAMPLE.org\n\nhttps://other.net/\n",
        pages="http://a.org/Page\n",
        words="spam\noffer\ncasino\n",
        parts="winco\n",
    )
    spec = _spec(("domains", "domain", 1), ("pages", "url", 1), ("words", "word", 2), ("parts", "part", 1))
    measure = Urls.of(spec, tmp_path)
    columns = measure(_batch(URLS))
    drops = measure.drops(pa.table(columns))
    assert {reason: np.flatnonzero(found).tolist() for reason, found in drops.items()} == {
        "url: domain on the list domains": [0],
        "url: address on the list pages": [2],
        "url: words of the list words": [1],
        "url: parts of the list parts": [4],
    }


def test_columns_say_what_the_address_says(tmp_path: Path) -> None:
    measure = Urls.of(UrlSpec())
    columns = measure(_batch(URLS))
    assert pa.array(columns["url_domain"]).to_pylist() == [
        "example.org",
        "example.com",
        "a.org",
        None,
        "casino-win.co.uk",
    ]
    assert pa.array(columns["url_tld"]).to_pylist() == ["org", "com", "org", None, "uk"]
    assert pa.array(columns["url_path_depth"]).to_pylist() == [1, 2, 1, None, 1]
    assert pa.array(columns["url_keys"]).to_pylist() == [0, 0, 0, None, 0]
    assert measure.drops(pa.table(columns)) == {}
    write_columns(tmp_path / "part.parquet", columns, measure.columns)


def test_one_page_written_two_ways_has_one_key() -> None:
    measure = Urls.of(UrlSpec())
    keys = pa.array(
        measure(_batch(["http://A.org/x#1", "http://a.org:80/x?utm_id=9", "http://a.org/X"]))["url_key"]
    )
    assert keys[0] == keys[1] != keys[2]


def test_a_corpus_without_urls_has_null_columns() -> None:
    columns = Urls.of(UrlSpec())(_batch(None))
    assert all(pa.array(column).null_count == 3 for column in columns.values())


@pytest.mark.parametrize(
    ("content", "kind", "said"),
    [
        ("", "domain", "at least one entry"),
        ("a b", "word", "expected a word"),
        ("# x\n", "url", "at least one"),
    ],
)
def test_lists_that_find_nothing_are_refused(tmp_path: Path, content: str, kind: str, said: str) -> None:
    _lists(tmp_path, some=content)
    with pytest.raises(DataError, match=said):
        Urls.of(_spec(("some", kind, 1)), tmp_path)


def test_missing_list_and_double_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected the list gone"):
        Urls.of(_spec(("gone", "domain", 1)), tmp_path)
    _lists(tmp_path, some="a.org")
    with pytest.raises(RecipeError, match="twice"):
        Urls.of(_spec(("some", "domain", 1), ("some", "url", 1)), tmp_path)


def test_thresholds_are_policy_and_lists_are_settings(tmp_path: Path) -> None:
    _lists(tmp_path, some="a.org")
    one, two = (Urls.of(_spec(("some", "domain", hits)), tmp_path) for hits in (1, 2))
    assert one.settings == two.settings
    assert one.policy != two.policy
    _lists(tmp_path, some="b.org")
    assert Urls.of(_spec(("some", "domain", 1)), tmp_path).settings != one.settings
    assert pickle.loads(pickle.dumps(one)) == one
    read_list.cache_clear()
    with pytest.raises(DataError, match="as it was when the run began"):
        read_list(one.files[0])
