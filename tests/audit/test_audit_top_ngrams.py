"""The most repeated lines and n-grams: exact, the same for any sharding, never too low."""

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from prill.audit import top_ngrams
from prill.audit.top_ngrams import TopList, TopSpec, top_repeats
from prill.corpus.batch import text_buffers
from prill.corpus.corpus import Corpus
from prill.corpus.spec import CorpusSpec
from prill.engine.local import LocalEngine
from prill.features._characters import character_table
from prill.features._ngram_oracle import tokens
from prill.features._top_ngrams_kernel import collect_ngrams, count_lines, count_ngrams

SIZES = (1, 2, 3, 10)
TRICKY = st.text(alphabet="aA zZ09_.,\n\t\x1c\x85\xa0'ΣσςİſKȺßé́\u200b\u2028中文Жx🙂𐐀", max_size=60)
ANY = st.one_of(st.text(max_size=80), TRICKY, st.text(st.characters(max_codepoint=127), max_size=200))
RSS = "You can follow any responses to this entry through the RSS 2.0 feed"


def grams(documents: Sequence[str], n: int) -> Counter[str]:
    found: Counter[str] = Counter()
    for document in documents:
        words = tokens(document)
        found.update(" ".join(words[i : i + n]) for i in range(len(words) - n + 1))
    return found


def lines(documents: Sequence[str], n_least: int) -> Counter[str]:
    stripped = [line.rstrip(" \t\r").lstrip(" \t") for text in documents for line in text.split("\n")]
    return Counter(line for line in stripped if len(line.encode()) >= n_least)


def corpus_of(folder: Path, shards: Sequence[Sequence[str]]) -> Corpus:
    folder.mkdir(parents=True, exist_ok=True)
    for i, documents in enumerate(shards):
        pq.write_table(pa.table({"text": pa.array(documents, pa.string())}), folder / f"p-{i:02d}.parquet")
    return Corpus.open(CorpusSpec(paths=[str(folder / "*.parquet")]), folder)


def counted(corpus: Corpus, *, n_workers: int = 1, **settings: int) -> tuple[TopList, ...]:
    spec = TopSpec(**{"n_cells": 1 << 16, **settings})  # type: ignore[arg-type]
    return top_repeats(corpus, LocalEngine(n_workers), spec=spec, n_bytes=10_000)


def as_pairs(found: TopList) -> list[tuple[str, int]]:
    return [(row.text, row.count) for row in found.rows]


@given(st.lists(ANY, max_size=5))
@example(["x" * 9_000 + " b", "a " * 5_000])
@example(["é" * 3_000 + "," * 5_000 + "中 " * 3_000])
@settings(deadline=None, max_examples=60)
def test_cells_hold_the_counts_of_plain_python(documents: list[str]):
    """Cells never hold less than a count; with one n-gram a cell their sum is the number of n-grams."""
    column = pa.array([d.lower() if "Σ" in d or "İ" in d else d for d in documents], pa.large_string())
    cells = np.zeros((len(SIZES), 1 << 14), np.uint32)
    special = np.zeros(len(column), np.bool_)
    n = count_ngrams(*text_buffers(column), character_table(), np.array(SIZES), cells, special)
    assert n == sum(len(tokens(d)) for d in documents)
    for k, size in enumerate(SIZES):
        truth = grams(documents, size)
        assert cells[k].sum() == truth.total()
        assert cells[k].max(initial=0) >= max(truth.values(), default=0)


@given(st.lists(ANY, max_size=5))
@settings(deadline=None, max_examples=60)
def test_collected_counts_are_exact_when_every_cell_is_hot(documents: list[str]):
    column = pa.array([d.lower() if "Σ" in d or "İ" in d else d for d in documents], pa.large_string())
    hot = np.full((len(SIZES), 4), np.uint64(2**64 - 1))
    keys = np.zeros((len(SIZES), 1 << 12), np.uint64)
    found = np.zeros((len(SIZES), (1 << 12) + 1, 4), np.int64)
    used, special = np.zeros(len(SIZES), np.int64), np.zeros(len(column), np.bool_)
    rows = np.arange(len(column))
    collect_ngrams(
        *text_buffers(column), rows, character_table(), np.array(SIZES), hot, keys, found, used, special
    )
    for k, n in enumerate(SIZES):
        slots = np.flatnonzero(keys[k])
        shown = {}
        for count, row, first, length in found[k][slots]:
            shown[" ".join(tokens(documents[row])[first : first + length])] = int(count)
            assert length == n
        assert shown == grams(documents, n)
        assert used[k] == len(shown)


@given(st.lists(ANY, max_size=4), st.integers(1, 6))
@settings(deadline=None, max_examples=40)
def test_lines_are_counted_without_their_blanks(documents: list[str], n_least: int):
    cells = np.zeros(1 << 12, np.uint32)
    column = pa.array(documents, pa.large_string())
    assert count_lines(*text_buffers(column), n_least, cells) == lines(documents, n_least).total()


def test_lists_equal_a_plain_count_for_any_sharding_and_workers(tmp_path: Path):
    """Text of seven words drawn at random; a Counter is the truth."""
    rng = np.random.default_rng(5)
    words = ["the", "cat", "Sat", "ON", "mat", "Σας", "..."]
    documents = [" ".join(rng.choice(words, 40)) + f"\n  {RSS}  \nid {i}" for i in range(60)]
    whole = counted(corpus_of(tmp_path / "one", [documents]))
    for k, n in enumerate(SIZES):
        truth = grams(documents, n)
        assert [c for _, c in as_pairs(whole[k])] == [c for _, c in truth.most_common(20) if c > 1]
        assert all(truth[text] == count for text, count in as_pairs(whole[k]))
    assert as_pairs(whole[4]) == [(RSS, 60)]
    parts = counted(
        corpus_of(tmp_path / "many", [documents[40:], documents[:7], documents[7:40]]), n_workers=3
    )
    assert [as_pairs(found) for found in parts] == [as_pairs(found) for found in whole]


def test_a_large_sample_is_read_again_instead_of_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    corpus = corpus_of(tmp_path / "c", [["ß says ΣΑΣ", "one\tline "] * 9, ["one\tline"] * 3])
    held = counted(corpus)
    monkeypatch.setattr(top_ngrams, "_HELD_BYTES", 0)
    assert [as_pairs(found) for found in counted(corpus)] == [as_pairs(found) for found in held]
    assert as_pairs(held[4]) == [("ß says ΣΑΣ", 9), ("one\tline", 12)][::-1]


def test_the_card_sentence_has_fifteen_of_our_words():
    """13 pieces by UAX 29, where `2.0` is one; ours are `2`, `.` and `0`."""
    assert len(tokens(RSS)) == 15


def test_a_small_table_lists_only_what_it_can_be_sure_of(tmp_path: Path):
    documents = [f"word{i % 500} filler{i} common phrase here" for i in range(3_000)]
    found = counted(corpus_of(tmp_path / "c", [documents]), n_cells=64, n_hot=8)
    truth = grams(documents, 1)
    assert all(truth[text] == count for text, count in as_pairs(found[0]))
    assert all(count > found[0].floor for _, count in as_pairs(found[0]))
    left_out = set(truth) - {text for text, _ in as_pairs(found[0])}
    assert all(truth[text] <= max(found[0].floor, min(c for _, c in as_pairs(found[0]))) for text in left_out)


def test_a_second_corpus_is_counted_for_the_first_ones_rows(tmp_path: Path):
    before = corpus_of(tmp_path / "b", [["menu menu menu", "good text", "good text"]])
    after = corpus_of(tmp_path / "a", [["good text", "good text", "menu"]])
    first = counted(before)
    second = top_repeats(after, LocalEngine(1), spec=TopSpec(n_cells=1 << 16), n_bytes=99, also=first)
    menu = next(row for row in first[0].rows if row.text == "menu")
    assert (menu.count, second[0].known.count_of(menu.key)) == (3, 1)


def test_a_sample_depends_on_the_text_alone(tmp_path: Path):
    documents = [f"document {i} says the same" for i in range(400)]
    found = [
        counted(corpus_of(tmp_path / name, shards), sample_bytes=2_500)
        for name, shards in {"a": [documents], "b": [documents[::-1][:100], documents[:300]]}.items()
    ]
    assert found[0][0].sample_share == 0.25
    assert 50 < found[0][0].rows[0].count < 150
    assert [as_pairs(f) for f in found[0]] == [as_pairs(f) for f in found[1]]


def test_masked_documents_are_not_counted(tmp_path: Path):
    corpus = corpus_of(tmp_path / "c", [["a a a", "b b b b"]])
    masked = top_repeats(
        corpus,
        LocalEngine(1),
        spec=TopSpec(n_cells=1 << 10),
        n_bytes=9,
        is_counted=lambda shard: np.array([True, False]),
    )
    assert as_pairs(masked[0]) == [("a", 3)]


@pytest.mark.parametrize("wrong", [{"sizes": [0]}, {"sizes": [2, 2]}, {"n_cells": 1_000}, {"sizes": []}])
def test_a_spec_that_makes_no_sense_is_refused(wrong: dict[str, object]):
    with pytest.raises(ValidationError):
        TopSpec(**wrong)


@pytest.mark.skipif("PRILL_SHARED_DATA" not in os.environ, reason="needs the shared corpus")
def test_real_text_is_counted_as_plain_python_counts_it(tmp_path: Path):
    folder = Path(os.environ["PRILL_SHARED_DATA"]) / "corpus"
    documents = [
        text
        for path in sorted(folder.glob("*-00000-*.parquet"))
        for text in pq.read_table(path, columns=["text"])["text"].slice(0, 25).to_pylist()
    ]
    found = counted(corpus_of(tmp_path / "real", [documents[::2], documents[1::2]]), n_cells=1 << 20)
    for k, n in enumerate(SIZES):
        truth = grams(documents, n)
        assert all(truth[text] == count for text, count in as_pairs(found[k]))
        assert [c for _, c in as_pairs(found[k])] == [c for _, c in truth.most_common(len(found[k].rows))]
    truth = lines(documents, 8)
    assert dict(as_pairs(found[4])) == {text: truth[text] for text, _ in as_pairs(found[4])}
