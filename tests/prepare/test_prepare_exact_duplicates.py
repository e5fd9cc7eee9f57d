"""Exact copies and documents of one URL: first of each key stays, whatever the shards and the memory."""

import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from grouped import run_grouping
from hypothesis import given, settings
from hypothesis import strategies as st

from prill.features.normal_text import hash_normal_forms
from prill.prepare.duplicates.exact import ExactDuplicates, ExactSpec
from prill.prepare.duplicates.url import UrlCopiesSpec, UrlDuplicates


def exact(base: Path | None = None, **settings: Any) -> ExactDuplicates:
    return ExactDuplicates.of(ExactSpec.model_validate(settings), base)


@settings(max_examples=15)
@given(
    st.lists(st.lists(st.sampled_from(["a", "A ", "b", "c", "a  "]), min_size=1, max_size=6), min_size=1),
    st.sampled_from([1, 1 << 30]),
)
def test_one_of_each_text_stays(
    tmp_path_factory: pytest.TempPathFactory, shards: list[list[str]], memory_bytes: int
) -> None:
    shards = shards[:4]
    folder = tmp_path_factory.mktemp("x") / "x"
    grouped = run_grouping(exact(), shards, folder, n_workers=2, memory_bytes=memory_bytes)
    flat = [text for shard in shards for text in shard]
    assert grouped.column("exact_keep") == [text not in flat[:i] for i, text in enumerate(flat)]
    assert grouped.column("exact_size") == [flat.count(text) for text in flat]
    assert grouped.counts["n_copies"] == len(flat) - len(set(flat))


def test_a_hundred_equal_among_a_thousand(tmp_path: Path) -> None:
    texts = [f"document {k}" if k % 10 else "the same" for k in range(1000)]
    grouped = run_grouping(exact(), [texts[:400], texts[400:]], tmp_path / "x")
    assert grouped.counts["n_copies"] == 99
    assert grouped.counts["largest"] == [
        {"cluster": f"{grouped.column('exact_cluster')[0]:016x}", "size": 100}
    ]
    assert grouped.column("exact_weight")[0] == 8
    drops = [exact().drops(table)["exact copy of a kept document"].sum() for table in grouped.tables]
    assert drops == [39, 60]


def normal(text: str) -> str:
    text = unicodedata.normalize("NFC", text)
    folded = "".join(c.casefold() if len(c.casefold().encode()) <= 4 else c for c in text)
    return " ".join(folded.split())


@settings(max_examples=100)
@given(st.lists(st.text(alphabet="aA ß\u1e9eſSs\n\t\u3000éE\u0301ΣςİıǅΐﬁI.", max_size=12), max_size=8))
def test_normal_forms_are_those_of_python(texts: list[str]) -> None:
    high, low = hash_normal_forms(pa.array(texts, pa.large_string()))
    plain = pa.array([normal(text) for text in texts], pa.large_string())
    expected = hash_normal_forms(plain, unicode="none", fold_case=False, collapse_spaces=False)
    assert (high.tolist(), low.tolist()) == tuple(half.tolist() for half in expected)


def test_normal_forms_join_what_bytes_do_not(tmp_path: Path) -> None:
    texts = ["Stra\u00dfe 1", "STRASSE  1\n", "strasse 2", "cafe\u0301", "CAF\u00c9"]
    assert run_grouping(exact(), [texts], tmp_path / "a").column("exact_size") == [1] * 5
    grouped = run_grouping(exact(by="normal"), [texts[:2], texts[2:]], tmp_path / "b")
    assert grouped.column("exact_size") == [2, 2, 1, 2, 2]
    assert grouped.column("exact_keep") == [False, True, True, True, False]  # the longer one stays
    case = run_grouping(exact(by="normal", fold_case=False), [texts], tmp_path / "c")
    assert case.column("exact_size") == [1] * 5


def test_exact_copies_of_an_index(tmp_path: Path) -> None:
    wrote = run_grouping(exact(tmp_path, index="i.parquet"), [["a", "b", "a"], ["c"]], tmp_path / "a")
    assert wrote.counts["n_written_to_index"] == 3
    grouping = exact(tmp_path, against=["i.parquet"])
    grouped = run_grouping(grouping, [["b", "d"], ["d", "b"]], tmp_path / "b")
    assert grouped.column("exact_indexed") == [True, False, False, True]
    assert grouped.column("exact_size") == [1, 2, 2, 1]
    first, second = (grouping.drops(table) for table in grouped.tables)
    assert first["exact copy of an indexed document"].tolist() == [True, False]
    assert second["exact copy of a kept document"].tolist() == [True, False]


def test_documents_of_one_url(tmp_path: Path) -> None:
    urls = [["http://A.example/x?utm_source=y", None, "http://a.example/x"], [None, "http://a.example/X"]]
    texts = [["one", "two", "the longer one"], ["three", "four"]]
    grouping = UrlDuplicates.of(UrlCopiesSpec())
    grouped = run_grouping(grouping, texts, tmp_path / "x", urls=urls)
    assert grouped.column("url_copy_size") == [2, 1, 2, 1, 1]
    assert grouped.column("url_copy_keep") == [False, True, True, True, True]
    drops = [grouping.drops(table)["same URL as a kept document"].tolist() for table in grouped.tables]
    assert drops == [[True, False, False], [False, False]]
    first = run_grouping(UrlDuplicates.of(UrlCopiesSpec(keep="first")), texts, tmp_path / "y", urls=urls)
    assert first.column("url_copy_keep") == [True, True, False, True, True]


def test_clusters_of_urls_with_the_same_texts_stay_apart(tmp_path: Path) -> None:
    urls = [["http://a.example/", "http://a.example/", "http://b.example/", "http://b.example/"]]
    grouped = run_grouping(
        UrlDuplicates.of(UrlCopiesSpec()), [["t", "u", "t", "u"]], tmp_path / "x", urls=urls
    )
    ids = grouped.column("url_copy_cluster")
    assert ids[0] == ids[1] != ids[2] == ids[3]
    assert not np.isin(None, ids)
