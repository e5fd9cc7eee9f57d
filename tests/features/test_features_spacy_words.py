"""English words as spaCy splits them: behaviours seen in spaCy, and the kernel against plain Python."""

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prill.demo.machine_text import reference_topics
from prill.features import _spacy_oracle as oracle
from prill.features import _spacy_tables as tables
from prill.features import statistics
from prill.features.spacy_words import split_english

SIGNS = (
    *"….,:;!?()[]{}<>_#*&'\"’‘“”-–—~+=/@$€%°§^|\\`。，؟",
    "..",
    "--",
    "n't",
    "'s",
    "’s",
    "km",
    "5",
    "10",
    "²",
)
WORDS = (
    "a",
    "b",
    "S",
    "word",
    "The",
    "I",
    "é",
    "Ä",
    "ß",
    "жук",
    "ЖУК",
    "中文",
    "כן",
    "كم",
    "😀",
    "👍🏽",
    "١٢",
)
URLS = ("www.x.org", "http://", "a@b.co", "8.8.8.8", "172.16.1.1", ":80", "/p?q", "x_.com", "Foo.Bar", "U.S.")
SPACES = (" ", " ", "  ", "\n", "\n\n", "\t", " \n", "\u00a0", "\u3000", "\u2028", "\x1c")
TEXTS = st.lists(
    st.one_of(
        st.sampled_from((*SIGNS, *WORDS, *URLS)),
        st.sampled_from(sorted(tables.exceptions())),
        st.sampled_from(SPACES),
        st.text(max_size=3),
    ),
    max_size=20,
).map("".join)


def words(*texts: str) -> list[list[str]]:
    """The kernel's words of each text."""
    encoded = [text.encode() for text in texts]
    offsets = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
    tokens, starts, ends = split_english(offsets, np.frombuffer(b"".join(encoded), np.uint8))
    bounds = list(zip(starts.tolist(), ends.tolist(), strict=True))
    return [
        [text[start:end].decode() for start, end in bounds[first:stop]]
        for text, first, stop in zip(encoded, tokens[:-1], tokens[1:], strict=True)
    ]


def sentences(*texts: str) -> list[int]:
    classed = statistics.ClassedText.of(pa.array(texts, pa.large_string()))
    return statistics.count_sentences(classed, statistics.split(classed, "spacy")).tolist()


# Seen in spaCy 3.8 (`spacy.blank("en")`) as datatrove 0.10 calls it; words are parted by blanks here.
SEEN = [
    # Contractions are exceptions only in the forms listed: "don’t" is, "we're" is, "they" with "d" too.
    ("I can't go, he's 5km away.", "I ca n't go , he 's 5 km away ."),
    ("don’t we're cannot gonna", "do n’t we 're can not gon na"),
    # Words that a contraction without its apostrophe would make are left alone.
    ("ill well were Ill its", "ill well were Ill its"),
    # A period stays with listed abbreviations, single small letters and initials; else it goes off.
    ("Mr. Smith of the U.S. left.", "Mr. Smith of the U.S. left ."),
    ("The end. a. z.", "The end . a. z."),
    # URLs and mail addresses are found after affixes went; private addresses are none, so "/" cuts them.
    (
        "see www.example.com/a?b=c, or (http://x.org:8080).",
        "see www.example.com/a?b=c , or ( http://x.org:8080 ) .",
    ),
    ("8.8.8.8 192.168.0.1 10.0.0.1/x", "8.8.8.8 192.168.0.1 10.0.0.1 / x"),
    # Up to three hyphens cut between letters, four do not, and one before a word does not.
    ("well-known a--b a----b -x", "well - known a -- b a----b -x"),
    # Signs of arithmetic cut between digits only; a period cuts between small and capital letter.
    ("1-2 3*4 a*b", "1 - 2 3 * 4 a*b"),
    ("foo.Bar foo.bar a,b 1,000", "foo . Bar foo.bar a , b 1,000"),
    # Units and currencies go off behind a digit; US$ goes before $.
    ("5$ US$5 100m² 5%", "5 $ US$ 5 100 m² 5 %"),
    ("the 10pm 10km/h +5 a+", "the 10 pm 10 km/h +5 a+"),
    # A smiley that affixes broke up is put together again, ...
    ("smile x:) :-)", "smile x :) :-)"),
    # ... but not when a longer one reaches over a blank: ":) )" would be ":))".
    ("y:) )", "y : ) )"),
    ("C++ C# x_y __init__", "C++ C # x_y _ _ init _ _"),
    ("😀😀a™", "😀 😀 a ™"),
    ("'tis rock'n'roll 'quoted'", "' tis rock'n'roll ' quoted '"),
    # The unit lists of spaCy miss a blank between "тб" and "كم": only both together are a unit.
    ("5тб 5тбكم", "5тб 5 тбكم"),
]


@pytest.mark.parametrize(("text", "expected"), SEEN)
def test_words_are_those_of_spacy(text: str, expected: str) -> None:
    assert words(text) == [expected.split(" ")]
    assert oracle.split_words(text) == expected.split(" ")


@settings(max_examples=300, deadline=None)
@given(st.lists(TEXTS, min_size=1, max_size=6))
def test_kernel_splits_as_the_plain_reference(texts: list[str]) -> None:
    found = words(*texts)
    assert found == [oracle.split_words(text) for text in texts]
    assert ["".join(parts) for parts in found] == ["".join(text.split()) for text in texts]


def test_kernel_splits_every_exception_alone_and_with_affixes() -> None:
    texts = [
        f"{before}{word}{behind}"
        for word in tables.exceptions()
        for before, behind in (("", ""), ("(", ".)"))
    ]
    assert words(*texts) == [oracle.split_words(text) for text in texts]


def test_kernel_splits_real_text_as_the_plain_reference() -> None:
    texts = _real_texts()
    assert words(*texts) == [oracle.split_words(text) for text in texts]


@pytest.mark.parametrize(
    "text", ["", " ", "\n\u2003", "a" * 100_000, ")" * 100_000, "-" * 100_000, "." * 100_000]
)
def test_empty_and_endless_pieces(text: str) -> None:
    expected = [text] if text[:1] in ("a", "-", ".") else list(text.strip())
    assert words(text) == [expected]


def test_a_document_splits_alike_wherever_it_stands() -> None:
    text = b"skipped He said (twice): don't."
    offsets = np.array([8, 16, 31])
    tokens, starts, _ = split_english(offsets, np.frombuffer(text, np.uint8))
    assert tokens.tolist() == [0, 2, 8]  # He said | ( twice ): do n't .  with a smiley that no one meant
    assert starts[tokens[1]] == 0


# Seen in spaCy 3.8 with its rule-based `sentencizer`.
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two. Three", 3),
        ("Wait... what? No!", 2),  # three dots are one word, which is no end mark
        ("Mr. X came.", 1),  # the period is part of the word
        ("Hi.) There", 2),  # punctuation behind the mark belongs to the sentence
        ("One.Two", 2),  # cut at the period between small and capital letter
        ("he saw.  it.", 2),  # the second blank is a word, and begins the second sentence
        ("he saw.  ", 2),
        ("   ", 1),
    ],
)
def test_sentences_are_those_of_spacy(text: str, expected: int) -> None:
    assert oracle.count_sentences(text) == expected
    assert sentences(text) == [expected]


@settings(max_examples=200, deadline=None)
@given(st.lists(TEXTS, min_size=1, max_size=4))
def test_sentences_of_lines_are_those_of_the_plain_reference(texts: list[str]) -> None:
    expected = [sum(map(oracle.count_sentences, text.split("\n"))) if text else 0 for text in texts]
    assert sentences(*texts) == expected


def _real_texts() -> list[str]:
    """Documents of many kinds; the machine's own text where there are none."""
    folder = os.environ.get("PRILL_SHARED_DATA")
    if not folder:
        return list(reference_topics().values())[:40]
    files = sorted((Path(folder) / "corpus").glob("*-00000-*.parquet"))
    return [text for file in files for text in pq.read_table(file, columns=["text"])["text"].to_pylist()[:4]]
