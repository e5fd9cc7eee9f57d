"""From facts to parts of the corpus report: sums stay, what is not known is not told."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prill.audit.copies import CopyCluster, CopyFacts
from prill.audit.statistics import CorpusFacts, FactsPlan
from prill.audit.top_ngrams import TopSpec, top_repeats
from prill.corpus.corpus import Corpus
from prill.corpus.spec import CorpusSpec
from prill.engine.local import LocalEngine
from prill.report.corpus_evidence import (
    amount_of,
    breakdown_of,
    concept_report,
    exact_copy_report,
    length_histogram,
    repeat_lists,
    size_counts,
)
from prill.report.corpus_model import SizeCount

PLAN = FactsPlan(n_tokens="n_tokens", categories={"language": "language"}, key=None)


def facts(languages: Sequence[str | None], plan: FactsPlan = PLAN) -> CorpusFacts:
    n = len(languages)
    table = {"n_bytes": range(10, 10 + n), "n_tokens": [2] * n, "language": pa.array(languages, pa.string())}
    return plan.of(pa.table(table), shard=0)


def corpus_of(folder: Path, documents: Sequence[str]) -> Corpus:
    folder.mkdir()
    pq.write_table(pa.table({"text": list(documents)}), folder / "p.parquet")
    return Corpus.open(CorpusSpec(paths=[str(folder / "p.parquet")]), folder)


@pytest.mark.parametrize("n_most", [1, 2, 9])
def test_a_breakdown_sums_to_the_whole_however_much_it_shows(n_most: int):
    before, after = facts(["en"] * 5 + ["de"] * 3 + [None]), facts(["en"] * 4 + ["fr"])
    rows = breakdown_of("language", before, after, n_most=n_most).rows
    assert rows[0].name == "en"
    assert (rows[0].before.n_documents, rows[0].after.n_documents) == (5, 4)
    for part, whole in (("before", before), ("after", after)):
        amounts = [getattr(row, part) for row in rows]
        assert sum(a.n_documents for a in amounts) == amount_of(whole).n_documents
        assert sum(a.n_bytes for a in amounts) == whole.n_bytes
        assert sum(a.n_tokens or 0 for a in amounts) == whole.n_tokens


def test_a_breakdown_with_too_many_values_says_how_far_it_may_be_off():
    crowded = facts(
        [str(i) for i in range(30)] + ["x"] * 9,
        FactsPlan(n_tokens="n_tokens", categories={"language": "language"}, key=None, n_places=4),
    )
    breakdown = breakdown_of("language", crowded, crowded)
    assert breakdown.rows[0].name == "x"
    assert "at most 1 documents too low" in breakdown.note


def test_ordered_values_stay_in_their_order():
    years = facts(["2001", "1999", "2001", None])
    names = [row.name for row in breakdown_of("language", years, years, is_ordered=True).rows]
    assert names == ["1999", "2001", None]


def test_a_histogram_holds_every_document_with_a_length():
    lengths = np.array([0, 1, 5, 5, 900, 70_000, 10**9])
    table = pa.table({"n_bytes": lengths, "n_tokens": lengths, "language": pa.nulls(7, pa.string())})
    old = PLAN.of(table, shard=0).lengths["bytes"]
    new = PLAN.of(table.slice(0, 4), shard=0).lengths["bytes"]
    bins = length_histogram(old, new, unit="bytes a document")
    assert bins is not None
    assert (sum(bins.pool), sum(bins.kept)) == (6, 3)
    assert bins.edges[0] <= 1
    assert bins.edges[-1] > 10**9
    assert len(bins.pool) <= 48
    assert length_histogram(PLAN.empty().lengths["bytes"], new, unit="bytes") is not None
    assert length_histogram(PLAN.empty().lengths["bytes"], PLAN.empty().lengths["bytes"], unit="b") is None


def test_sizes_of_groups_are_told_in_powers_of_two():
    assert size_counts([(2, 5), (3, 2), (4, 1), (5, 1), (100, 1)]) == (
        SizeCount(size="2", n_clusters=5, n_documents=10),
        SizeCount(size="3 to 4", n_clusters=3, n_documents=10),
        SizeCount(size="5 to 8", n_clusters=1, n_documents=5),
        SizeCount(size="65 to 128", n_clusters=1, n_documents=100),
    )


def test_exact_copies_show_the_first_of_the_largest_groups():
    largest = (CopyCluster(n_documents=100, n_bytes=13, shard=2, row=3),)
    found = CopyFacts(
        n_documents=1_000, n_clusters=1, n_copies=99, n_bytes=1_287, sizes=((100, 1),), largest=largest
    )
    report = exact_copy_report(found, {(2, 3): "the same text"}, {2: "web.parquet"})
    assert report.largest[0].text == "the same text"
    assert report.largest[0].place == "web.parquet, row 3"
    assert (report.n_copies, report.sizes[0].size) == (99, "65 to 128")


def test_repeats_show_before_and_after_and_no_guess(tmp_path: Path):
    old = corpus_of(tmp_path / "old", ["Home | Log in\ngood words"] * 3 + ["good words"] * 2)
    new = corpus_of(tmp_path / "new", ["good words"] * 5)
    spec = TopSpec(sizes=(1, 2), n_cells=1 << 10)
    before = top_repeats(old, LocalEngine(1), spec=spec, n_bytes=1)
    after = top_repeats(new, LocalEngine(1), spec=spec, n_bytes=1, also=before)
    lines, pairs, words = repeat_lists(before, after)
    assert [(r.text, r.n_before, r.n_after) for r in lines.rows] == [
        ("good words", 5, 5),
        ("Home | Log in", 3, 0),
    ]
    assert (lines.title, pairs.title, words.title) == ("Lines", "2 words in a row", "Single words")
    assert ("good words", 5, 5) in [(r.text, r.n_before, r.n_after) for r in pairs.rows]
    assert lines.note == "Counted in all documents."


def test_concepts_list_the_rarest_and_count_the_absent():
    report = concept_report(
        "t", ["a", "b", "c", "d"], np.array([9, 1, 0, 50]), np.array([5, 0, 0, 49]), n_rows=3
    )
    assert [row.name for row in report.rows] == ["c", "b", "a"]
    assert (report.n_concepts, report.n_absent) == (4, 2)
    assert report.tail is not None
    assert (sum(report.tail.pool), sum(report.tail.kept)) == (3, 2)
    assert concept_report("t", ["a"], np.zeros(1, np.int64), np.zeros(1, np.int64)).tail is None
