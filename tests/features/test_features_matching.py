"""Words for comparing texts: every script, chunk borders, invisible characters, positions in the original."""

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from prill.corpus.batch import text_buffers
from prill.features._matching_characters import matching_table
from prill.features._matching_kernel import hash_texts, locate
from prill.features._matching_oracle import spans_of_words, words_of

ALPHABET = st.one_of(
    st.sampled_from(
        list("aB9_ .,-\n'") + list("éİΣςσßﬁ文字ひカไทยमि\u0301\u200b\u200d\ufe0f\u00ad😀\x00\x1c\u2028K")
    ),
    st.characters(exclude_categories=["Cs"]),
)
TEXTS = st.lists(
    st.one_of(st.text(ALPHABET, max_size=60), st.text(ALPHABET, max_size=3).map(lambda s: s * 1500)),
    max_size=5,
)


def words(texts: list[str]) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
    offsets, data = text_buffers(pa.array(texts, pa.large_string()))
    bounds, hashes = hash_texts(offsets, data, matching_table())
    return bounds, hashes


@settings(max_examples=150, deadline=None)
@given(TEXTS)
def test_words_and_their_places_are_the_oracles(texts: list[str]) -> None:
    bounds, hashes = words(texts)
    expected = [words_of(text) for text in texts]
    assert np.diff(bounds).tolist() == [len(found) for found in expected]
    flat = [word.encode()[:256] for found in expected for word in found]
    by_word = dict(zip(flat, hashes.tolist(), strict=True))
    assert [by_word[word] for word in flat] == hashes.tolist()  # equal words, equal hashes
    assert len(set(by_word.values())) == len(by_word)  # different words, different hashes

    documents = np.repeat(np.arange(len(texts)), np.diff(bounds))
    ordinals = np.arange(len(hashes)) - np.repeat(bounds[:-1], np.diff(bounds))
    starts, stops = np.full(len(hashes), -1), np.full(len(hashes), -1)
    offsets, data = text_buffers(pa.array(texts, pa.large_string()))
    locate(offsets, data, matching_table(), documents, ordinals, starts, stops)
    spans = [span for text in texts for span in spans_of_words(text)]
    assert list(zip(starts.tolist(), stops.tolist(), strict=True)) == spans


def test_case_punctuation_and_invisible_characters_make_no_difference() -> None:
    a = "The QUICK, brown—fox: ‘jumps’ ΟΔΟΣ İstanbul"
    b = "the quick brown fox jumps\u200d οδος is\u00adtanbul"
    assert words_of(a) == words_of(b)
    _, hashes = words([a, b])
    assert hashes[: len(hashes) // 2].tolist() == hashes[len(hashes) // 2 :].tolist()


def test_scripts_without_spaces_are_cut_by_character() -> None:
    assert words_of("日本語の本 abc中d") == ["日", "本", "語", "の", "本", "abc", "中", "d"]
    assert words_of("हिन्दी भाषा") == ["हिन्दी", "भाषा"]  # marks belong to their word


def test_of_a_huge_word_the_first_bytes_count() -> None:
    bounds, hashes = words(["x" * 5_000_000 + " y", "x" * 256 + " y", "x" * 255 + " y"])
    assert np.diff(bounds).tolist() == [2, 2, 2]
    assert hashes[0] == hashes[2] != hashes[4]
    assert hashes[1] == hashes[3] == hashes[5]
