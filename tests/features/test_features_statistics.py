"""Statistics kernels against plain Python on any Unicode text, and C4's cuts against the text they leave."""

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from prill.demo import machine_text
from prill.features import statistics as stats
from prill.features._statistics_oracle import c4_lines, line_counts, word_counts, words_of

STOP_WORDS = ("the", "be", "to", "of", "and", "that", "have", "with", "été", "internationalisation")
# Few pieces, so that words, lines and n-grams repeat, and the characters that rules look for.
PIECES = st.sampled_from(
    [
        *(
            "the",
            "be",
            "of",
            "été",
            "a",
            "b",
            "cc",
            "x9",
            "中文",
            "Я",
            "🙂",
            "...",
            "…",
            "#",
            "•",
            "- ",
            "* ",
        ),
        *(".", "? ", "!", '"', "'", ")", "。", " ", "  ", "\n", "\n\n", "\r\n", "\r", "\v", "\x1c", "\x85"),
        *("\u2028", "\u3000", "\xa0", "\t", "[1]", "[", "]", "1", "١", "[edit]", "[citation needed]", "{"),
        *("Lorem Ipsum", "JavaScript", "use coo\u212aies", "Terms of Use", "privacy policy", "½", "\x00"),
        *("\u1b7d", "\U00010f86", "\U0001f1e6", "n\u0303", "İ"),
    ]
)
PIECED = st.lists(PIECES, max_size=60).map("".join)
LINES = st.lists(st.sampled_from(["one.", "Two words.", "", "- item", "a b c d e.", "…"]), max_size=30).map(
    "\n".join
)
ANY = st.one_of(PIECED, LINES, st.text(max_size=80), st.text(st.characters(max_codepoint=127), max_size=200))
READINGS = st.builds(
    stats.C4Reading,
    max_word_characters=st.sampled_from([None, 2, 5, 1000]),
    cites_removed=st.booleans(),
    ends_required=st.booleans(),
    min_words=st.integers(1, 3),
    phrases=st.sets(st.sampled_from(["lorem ipsum", "javascript", "{", "policy"])).map(
        lambda s: tuple(sorted(s))
    ),
    is_published=st.booleans(),
)


def classed(documents: list[str]) -> stats.ClassedText:
    return stats.ClassedText.of(pa.array(documents, pa.large_string()))


def rows(counts: stats.Counts) -> list[dict[str, int]]:
    n = len(next(iter(counts.values())))
    return [{name: int(column[d]) for name, column in counts.items()} for d in range(n)]


def cut(document: str, lines: stats.C4Lines, d: int) -> str:
    """What is left when the spans of document d are cut, and line breaks replaced."""
    data, at, out = document.encode(), 0, b""
    for k in range(lines.offsets[d], lines.offsets[d + 1]):
        start, stop = int(lines.starts[k]), int(lines.stops[k])
        assert at <= start < stop <= len(data), "spans must be sorted and apart"
        out += data[at:start] + (b"\n" if lines.names[lines.kinds[k]] == "line break" else b"")
        at = stop
    return (out + data[at:]).decode()


@settings(max_examples=150)
@given(st.lists(ANY, max_size=5), st.sampled_from(["words", "spaces"]))
@example(["a " * 40, "the be the be the be the be the be the be", ""], "words")
def test_words_and_ngrams_equal_plain_python(documents: list[str], splitter: stats.Splitter) -> None:
    text = classed(documents)
    words = stats.split(text, splitter)
    found = rows(stats.count_words(text, words, STOP_WORDS))
    assert found == [word_counts(words_of(document, splitter), STOP_WORDS) for document in documents]
    assert text.n_characters.tolist() == [len(document) for document in documents]


@settings(max_examples=150)
@given(st.lists(ANY, max_size=5), st.integers(0, 40))
@example(["\n\n", "\na\n", "\r\n\r\na\r\r\nb", " \n\n \n\nx\n\nx\n\n\nx "], 30)
def test_lines_equal_plain_python(documents: list[str], short: int) -> None:
    found = rows(stats.count_lines(classed(documents), short_characters=short))
    assert found == [line_counts(document, short) for document in documents]


@settings(max_examples=300)
@given(st.lists(ANY, max_size=4), READINGS)
@example(["one two [1[2]3] three.[edit]\r\n [1] a b c.  \x85x\n\n"], stats.C4Reading())
def test_c4_lines_equal_plain_python(documents: list[str], reading: stats.C4Reading) -> None:
    lines = stats.judge_c4_lines(classed(documents), reading, keeps_text=True)
    assert lines.left is not None
    for d, (document, counts) in enumerate(zip(documents, rows(lines.counts), strict=True)):
        left, expected = c4_lines(document, reading)
        assert counts == {name: expected[name] for name in counts}
        a, b = lines.left.offsets[d], lines.left.offsets[d + 1]
        assert lines.left.data[a:b].tobytes().decode() == left
        assert cut(document, lines, d) == left


@settings(max_examples=200)
@given(PIECED)
def test_c4_twice_is_c4_once(document: str) -> None:
    reading = stats.C4Reading()
    once = stats.judge_c4_lines(classed([document]), reading)
    left = cut(document, once, 0)
    twice = stats.judge_c4_lines(classed([left]), reading)
    assert cut(left, twice, 0) == left
    assert twice.offsets.tolist() == [0, 0]


@pytest.mark.parametrize(
    "document",
    [
        "x" * 300_000,
        "a." * 60_000,
        "\n" * 200_000,
        "[1" * 50_000 + "]" * 50_000,
        "[[1]]" * 40_000,
        '."' * 90_000,
    ],
)
def test_monstrous_documents_take_moments(document: str) -> None:
    text = classed([document])
    found = rows(stats.count_words(text, stats.split(text, "words"), STOP_WORDS))[0]
    assert found["word_characters"] == len(document.strip())
    assert rows(stats.count_lines(text))[0]["n_newlines"] == document.count("\n")
    lines = stats.judge_c4_lines(text, stats.C4Reading(), keeps_text=True)
    assert cut(document, lines, 0) == c4_lines(document[:0], stats.C4Reading())[0]


def test_only_the_first_bytes_of_a_huge_document_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stats, "MEASURED_BYTES", 10)
    text = classed(["short", "é" * 4 + "a" + "中" * 5, "tail"])
    assert text.n_characters.tolist() == [5, 5, 4]  # 9 bytes: the next character would end at 12


def test_real_text_equals_plain_python() -> None:
    shared = os.environ.get("PRILL_SHARED_DATA")
    if shared:
        paths = sorted(Path(shared, "corpus").glob("*.parquet"))
        documents = [
            t for path in paths for t in pq.read_table(path, columns=["text"])["text"].to_pylist()[:3]
        ]
    else:
        documents = list(machine_text.reference_topics().values())[:30]
    text = classed(documents)
    found = rows(stats.count_words(text, stats.split(text, "words"), STOP_WORDS))
    assert found == [word_counts(words_of(document, "words"), STOP_WORDS) for document in documents]
    assert rows(stats.count_lines(text)) == [line_counts(document, 30) for document in documents]
    lines = stats.judge_c4_lines(text, stats.C4Reading())
    for d, document in enumerate(documents):
        assert cut(document, lines, d) == c4_lines(document, stats.C4Reading())[0]
