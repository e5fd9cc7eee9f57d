"""The fact sheet: facts of parts merge into the facts of the whole, and planted corpora are counted right."""

from collections import Counter
from itertools import permutations
from pathlib import Path

import numpy as np
import orjson
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prill.audit.categories import Categories
from prill.audit.copies import CopyCluster, exact_copies, grouped_copies
from prill.audit.distinct import Distinct
from prill.audit.lengths import EDGES
from prill.audit.statistics import CorpusFacts, FactsPlan
from prill.corpus.columns import ColumnInfo, write_columns
from prill.features.text_hash import hash_documents

PLAN = FactsPlan(
    n_tokens="n_tokens",
    lengths={"bytes": "n_bytes", "words": "n_words"},
    categories={"language": "language", "year": "year"},
)
ROW = st.tuples(
    st.integers(0, 2**40),
    st.integers(0, 9),
    st.one_of(st.none(), st.integers(0, 5_000)),
    st.sampled_from([None, "en", "de", "日本", ""]),
    st.one_of(st.none(), st.integers(1990, 2026)),
    st.integers(0, 2**64 - 1),
)
ROWS = st.lists(ROW, max_size=30)


def table_of(rows: list[tuple[object, ...]]) -> pa.Table:
    names = ("n_bytes", "n_tokens", "n_words", "language", "year", "hash_low")
    types = (pa.int64(), pa.int64(), pa.int64(), pa.string(), pa.int64(), pa.uint64())
    columns = zip(*rows, strict=True) if rows else ([] for _ in names)
    return pa.table(
        {name: pa.array(list(c), kind) for name, kind, c in zip(names, types, columns, strict=True)}
    )


def told(facts: CorpusFacts) -> bytes:
    return orjson.dumps(facts.as_json(), option=orjson.OPT_SORT_KEYS)


@given(ROWS, ROWS, ROWS)
@settings(deadline=None, max_examples=15)
def test_facts_of_parts_merge_into_facts_of_the_whole(a, b, c):
    whole = PLAN.of(table_of(a + b + c), shard=0)
    places = (0, len(a), len(a) + len(b))
    parts = [
        PLAN.of(table_of(rows), shard=0, first_row=at) for rows, at in zip((a, b, c), places, strict=True)
    ]
    for first, second, third in list(permutations(parts))[::2]:
        assert told(first.merge(second).merge(third)) == told(whole)
        assert told(first.merge(second.merge(third))) == told(whole)
    assert told(PLAN.empty().merge(whole)) == told(whole)


@given(ROWS, st.data())
@settings(deadline=None, max_examples=30)
def test_a_mask_leaves_documents_out_and_keeps_the_places_of_others(rows, data):
    chosen = np.array(data.draw(st.lists(st.booleans(), min_size=len(rows), max_size=len(rows))), bool)
    facts = PLAN.of(table_of(rows), shard=3, first_row=10, is_counted_D=chosen)
    lengths = [(row[0], 10 + i) for i, row in enumerate(rows) if chosen[i]]
    assert facts.n_documents == len(lengths)
    assert facts.n_bytes == sum(length for length, _ in lengths)
    longest = facts.lengths["bytes"].longest
    expected = min(((-length, row) for length, row in lengths), default=None)
    assert (longest is None) == (expected is None)
    if longest is not None:
        assert (longest.length, longest.shard, longest.row) == (-expected[0], 3, expected[1])


def test_a_small_corpus_by_hand():
    rows = [(10, 3, 2, "en", 2020, 1), (20, 4, 5, "en", None, 2), (10, 3, 2, None, 2020, 1)]
    facts = PLAN.of(table_of(rows), shard=0)
    assert (facts.n_documents, facts.n_bytes, facts.n_tokens) == (3, 40, 10)
    english, unknown = facts.categories["language"].rows()
    assert (english.name, english.n_documents, english.n_bytes, english.n_tokens) == ("en", 2, 30, 7)
    assert (unknown.name, unknown.n_documents) == (None, 1)
    assert facts.distinct is not None
    assert facts.distinct.estimate == 2
    words = facts.lengths["words"]
    shortest, longest = words.shortest, words.longest
    assert (words.total, shortest and shortest.row, longest and longest.row) == (9, 0, 1)
    at = int(np.searchsorted(EDGES, 10, side="right")) - 1
    assert facts.lengths["bytes"].n_documents[at] == 2
    assert facts.lengths["bytes"].n_bytes[at] == 20


def test_bins_hold_every_length_once():
    lengths = np.concatenate([np.arange(2_000), 2 ** np.arange(11, 44), 2 ** np.arange(11, 44) - 1])
    rows = [(int(length), 0, None, None, None, 0) for length in lengths]
    counts = PLAN.of(table_of(rows), shard=0).lengths["bytes"].n_documents
    for b, count in enumerate(counts[:-1]):
        assert count == int(((lengths >= EDGES[b]) & (lengths < EDGES[b + 1])).sum())


@given(st.lists(st.lists(st.integers(0, 40), max_size=80), min_size=1, max_size=6), st.integers(1, 10))
@settings(deadline=None, max_examples=80)
def test_crowded_categories_are_too_low_by_no_more_than_they_say(parts, n_places):
    """Misra and Gries: at most n / (places + 1) too low, never too high; exact while there is room."""
    found = Categories.empty(n_places)
    for part in parts:
        names = pa.array([str(value) for value in part], pa.string())
        zeros = np.zeros(len(part), np.int64)
        found = found.merge(Categories.of(names, zeros, zeros, n_places=n_places))
    truth = Counter(str(value) for part in parts for value in part)
    shown = {row.name: row.n_documents for row in found.rows()}
    assert len(shown) <= n_places
    assert found.n_missed <= truth.total() / (n_places + 1)
    for name, count in truth.items():
        assert count - found.n_missed <= shown.get(name, 0) <= count
    if len(truth) <= n_places:
        assert shown == truth


def test_different_texts_are_estimated_within_four_standard_errors():
    hashes = np.random.default_rng(0).integers(0, 2**64, 300_000, np.uint64)
    parts = [Distinct.of(part) for part in np.array_split(np.concatenate([hashes, hashes[:90_000]]), 7)]
    found = parts[0]
    for part in parts[1:]:
        found = found.merge(part)
    assert abs(found.estimate / 300_000 - 1) < 4 * found.standard_error
    assert found == Distinct.of(hashes)


def read_parts(folder: Path, shards: list[list[str]]) -> list[Path]:
    paths = []
    for index, documents in enumerate(shards):
        text = pa.array(documents, pa.large_string())
        high, low = hash_documents(text)
        columns = {"hash_high": high, "hash_low": low, "n_bytes": np.diff(text_of(documents))}
        paths.append(folder / f"part-{index:05d}.parquet")
        write_columns(paths[-1], columns, [ColumnInfo(name=name) for name in columns])
    return paths


def text_of(documents: list[str]) -> np.ndarray:
    return np.cumsum([0, *(len(d.encode()) for d in documents)])


@pytest.mark.parametrize("rows_at_once", [10_000, 100, 7])
def test_a_thousand_documents_of_which_a_hundred_are_one(tmp_path: Path, rows_at_once: int):
    documents = ["the same text" if i % 10 == 3 else f"text number {i}" for i in range(1_000)]
    parts = read_parts(tmp_path, [documents[:300], [], documents[300:]])
    facts = exact_copies(parts, rows_at_once=rows_at_once)
    assert (facts.n_documents, facts.n_copies, facts.n_clusters, facts.n_distinct) == (1_000, 99, 1, 901)
    assert facts.sizes == ((100, 1),)
    assert facts.n_bytes == 99 * len("the same text")
    assert facts.largest == (CopyCluster(n_documents=100, n_bytes=13, shard=0, row=3),)


@given(st.lists(st.lists(st.sampled_from("abcdefgh"), max_size=12), min_size=1, max_size=4), st.data())
@settings(deadline=None, max_examples=25)
def test_copies_are_those_of_a_plain_count(tmp_path_factory, shards, data):
    parts = read_parts(tmp_path_factory.mktemp("r"), shards)
    masks = [
        np.array(data.draw(st.lists(st.booleans(), min_size=len(s), max_size=len(s))), bool) for s in shards
    ]
    facts = exact_copies(parts, is_counted=lambda shard: masks[shard], rows_at_once=3, n_largest=2)
    truth = Counter(
        d for s, m in zip(shards, masks, strict=True) for d, is_in in zip(s, m, strict=True) if is_in
    )
    assert (facts.n_documents, facts.n_copies) == (truth.total(), truth.total() - len(truth))
    assert dict(facts.sizes) == Counter(n for n in truth.values() if n > 1)
    assert [c.n_documents for c in facts.largest] == sorted(
        (n for n in truth.values() if n > 1), reverse=True
    )[:2]


def test_copies_of_a_grouping_are_read_from_its_columns(tmp_path: Path):
    """Two clusters: {0:0, 0:2, 1:1} where 1:1 stays, and {0:3, 1:0} where 0:3 stays."""
    read = read_parts(tmp_path, [["aa", "b", "ccc", "dddd"], ["ee", "ffffff"]])
    columns = [
        {"x_cluster": [7, None, 7, 9], "x_size": [3, 1, 3, 2], "x_keep": [False, True, False, True]},
        {"x_cluster": [9, 7], "x_size": [2, 3], "x_keep": [False, True]},
    ]
    parts = [tmp_path / f"group-{i}.parquet" for i in range(2)]
    for path, table in zip(parts, columns, strict=True):
        arrays = {name: pa.array(values) for name, values in table.items()}
        write_columns(path, arrays, [ColumnInfo(name=name) for name in arrays])
    facts = grouped_copies(parts, read, "x")
    assert (facts.n_documents, facts.n_clusters, facts.n_copies) == (6, 2, 3)
    assert facts.n_bytes == 2 + 3 + 2
    assert facts.sizes == ((2, 1), (3, 1))
    assert [(c.n_documents, c.shard, c.row, c.n_bytes) for c in facts.largest] == [(3, 1, 1, 6), (2, 0, 3, 4)]
