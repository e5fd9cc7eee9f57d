"""What quality rules ask of a document, counted straight on Arrow buffers: words, n-grams, lines, C4's lines.

A batch is classed once (`ClassedText`); words are cut by any splitter (`Words`); then each family of counts
is one call that fills whole columns. Characters are Unicode code points everywhere. Nothing here knows a
threshold.

Legend: D documents, T words, S spans.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from prill.corpus.batch import text_buffers

__all__ = [
    "MEASURED_BYTES",
    "STATISTICS_VERSION",
    "C4Lines",
    "C4Reading",
    "ClassedText",
    "Counts",
    "Splitter",
    "Words",
    "count_lines",
    "count_sentences",
    "count_words",
    "judge_c4_lines",
    "split",
]

STATISTICS_VERSION: Final = 2
"""Version of all counts here; it changes whenever a count changes."""

MEASURED_BYTES: Final = 16 * 1024 * 1024
"""Only so many first bytes of a document are looked at, so that memory is bounded."""

Counts: TypeAlias = dict[str, NDArray[np.int64]]
"""Columns by name, int64, shape (D,)."""

Splitter: TypeAlias = Literal["words", "spaces", "spacy"]
"""What a word is: `words` runs of word characters and runs of symbols (`\\w+|[^\\w\\s]+`), `spaces` what
white space parts, `spacy` the English tokens of spaCy 3."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ClassedText:
    """The text of D documents with the class byte of every byte.

    Attributes:
        offsets: document d is data[offsets[d]:offsets[d + 1]]; int64, shape (D + 1,), from 0.
        data: UTF-8, with room behind it that vectors may read.
        classes: class bytes (`_character_classes`), as long.
        n_characters: code points of each document, int64, shape (D,).
    """

    offsets: NDArray[np.int64]
    data: NDArray[np.uint8]
    classes: NDArray[np.uint8]
    n_characters: NDArray[np.int64]

    @classmethod
    def of(cls, text: pa.Array) -> ClassedText:
        """The documents of a large_string array without nulls, any slice."""
        offsets, data = text_buffers(text)
        if len(text) and np.diff(offsets).max() > MEASURED_BYTES:
            offsets, data = text_buffers(_first_parts(offsets, data))
        return cls._of_bytes(offsets - offsets[0], data[offsets[0] : offsets[-1]])

    @classmethod
    def _of_bytes(cls, offsets_D1: NDArray[np.int64], data: NDArray[np.uint8]) -> ClassedText:
        from prill.features._character_classes import class_table
        from prill.features._classes_kernel import ROOM, classify

        padded = np.empty(data.shape[0] + ROOM, dtype=np.uint8)
        padded[: data.shape[0]] = data
        padded[data.shape[0] :] = 0
        classes = np.empty(padded.shape[0], dtype=np.uint8)
        characters_D = np.zeros(offsets_D1.shape[0] - 1, dtype=np.int64)
        classify(offsets_D1, padded, class_table(), classes, characters_D)
        return cls(offsets=offsets_D1, data=padded, classes=classes, n_characters=characters_D)

    @property
    def n_documents(self) -> int:
        return len(self.offsets) - 1


@dataclass(frozen=True, kw_only=True, eq=False)
class Words:
    """Words of D documents.

    Attributes:
        offsets: document d has the words offsets[d]:offsets[d + 1]; int64, shape (D + 1,).
        starts, ends: first byte and byte behind of each word, from the first byte of its document, uint32.
    """

    offsets: NDArray[np.int64]
    starts: NDArray[np.uint32]
    ends: NDArray[np.uint32]


def split(text: ClassedText, splitter: Splitter) -> Words:
    """Cut documents into words."""
    if splitter == "spacy":
        from prill.features.spacy_words import split_english

        tokens_D1, starts_T, ends_T = split_english(text.offsets, text.data)
        return Words(offsets=tokens_D1, starts=starts_T, ends=ends_T)
    from prill.features import _classes_kernel as kernels

    room = text.data.shape[0]
    tokens_D1 = np.empty(text.n_documents + 1, dtype=np.int64)
    starts_T, ends_T = np.empty(room, dtype=np.uint32), np.empty(room, dtype=np.uint32)
    cut = kernels.split_words if splitter == "words" else kernels.split_spaces
    cut(text.offsets, text.classes, tokens_D1, starts_T, ends_T)
    return Words(offsets=tokens_D1, starts=starts_T, ends=ends_T)


def count_words(text: ClassedText, words: Words, stop_words: Sequence[str]) -> Counts:
    """Counts of words, and of the characters in their repeated n-grams.

    Args:
        stop_words: words to count, as they stand in the text, upper and lower case apart.
    Returns:
        `n_words`; `n_real_words`, those with a character that is no symbol, and `real_word_characters`;
        `n_alphabetic_words`, with a letter; `n_stop_words`, and `n_stop_words_distinct`; `n_symbol_words`,
        with "#" or the character of three dots; `word_characters`; `median_word_length_doubled` (lengths
        beyond 1023 count as 1023). For n = 2..4 `top_{n}_gram_count` and `top_{n}_gram_characters` of the
        most frequent n-gram, the earliest of several, characters without the spaces between words. For
        n = 5..10 `repeated_{n}_gram_characters`: read from left to right, an n-gram met before adds its
        characters and skips its words; `shared_{n}_gram_characters`: of all n-grams that occur twice, each
        time they do; `all_{n}_gram_characters`: of all n-grams. The first 2^20 words are looked at.
    Source: Rae et al. 2021, arXiv:2112.11446, table A1; `repeated` and `top` as in datatrove, `shared` and
    `all` as in Dolma (Soldaini et al. 2024, arXiv:2402.00159). Differs: two n-grams are equal when their
    words are; datatrove's repeated n-grams are equal when their characters are, wherever words end.
    """
    from prill.features._statistics_kernel import WORD_COUNTS
    from prill.features._statistics_kernel import count_words as kernel

    counts_DC = np.zeros((text.n_documents, len(WORD_COUNTS)), dtype=np.int64)
    kernel(
        text.offsets,
        text.data,
        text.classes,
        words.offsets,
        words.starts,
        words.ends,
        _stop_table(tuple(stop_words)),
        counts_DC,
    )
    return _columns(WORD_COUNTS, counts_DC)


def count_lines(text: ClassedText, *, short_characters: int = 30) -> Counts:
    """Counts of lines and paragraphs, in the readings of the public rules.

    Args:
        short_characters: a line of at most so many characters is short.
    Returns:
        In the text: `n_hashes` ("#"), `n_ellipses` ("..." and its character), `n_newlines`.
        Of the lines of `str.splitlines`: `n_lines`, `n_bullet_lines`, `n_ellipsis_lines`.
        Of the pieces between runs of newlines: `n_runs`; `n_repeated_runs`, from the second time on, and
        `repeated_run_characters`; `n_shared_runs`, every one that has its like, and `shared_run_characters`;
        `n_dash_runs` that begin with "*" or "-", `n_dotted_runs` that end with the character of three dots.
        Of the pieces between two and more newlines: `n_paragraphs`, `n_repeated_paragraphs`,
        `repeated_paragraph_characters`. Of the lines between newlines that are not blank: `n_content_lines`,
        `n_terminal_lines` that end with an end mark, `n_short_lines`, `repeated_line_characters`; and
        `third_longest_line` in characters, of all. The first 2^20 lines are looked at for repetition.
    Source: as `count_words`; Penedo et al. 2024, arXiv:2406.17557; Xue et al. 2021, arXiv:2010.11934.
    Differs: none.
    """
    from prill.features._lines_kernel import LINE_COUNTS
    from prill.features._lines_kernel import count_lines as kernel

    counts_DC = np.zeros((text.n_documents, len(LINE_COUNTS)), dtype=np.int64)
    kernel(text.offsets, text.data, text.classes, short_characters, counts_DC)
    return _columns(LINE_COUNTS, counts_DC)


@dataclass(frozen=True, kw_only=True)
class C4Reading:
    """Which line rules of C4 hold, and in which reading.

    Attributes:
        max_word_characters: a line with a longer word goes; None for no limit.
        cites_removed: whether [1], [edit] and [citation needed] are taken out.
        ends_required: whether a line must end with . ? ! or a straight quote.
        min_words: a line with fewer words goes, at least 1.
        phrases: which of `lorem ipsum`, `javascript`, `{` and `policy` are looked for.
        is_published: as in the published filters: words are counted before citations go, and nothing is
            stripped afterwards. Else running twice is running once.
    """

    max_word_characters: int | None = 1000
    cites_removed: bool = True
    ends_required: bool = True
    min_words: int = 3
    phrases: tuple[str, ...] = ("lorem ipsum", "javascript", "{", "policy")
    is_published: bool = False


@dataclass(frozen=True, kw_only=True, eq=False)
class C4Lines:
    """What C4's line rules take out of D documents, and what is left.

    Attributes:
        counts: `n_sentences` and `n_kept_lines` left; `has_lorem_ipsum`, `has_curly_bracket` in a line left;
            `n_lines_word_too_long` and so on, lines gone by reason.
        offsets: document d has the spans offsets[d]:offsets[d + 1]; int64, shape (D + 1,).
        starts, stops: bytes from the start of the document, int64, shape (S,).
        kinds: index into `names`, int32, shape (S,).
        names: why a line goes, or what is cut inside one; "line break" is to be replaced by a newline.
        left: the text that is left, when it was asked for.
    """

    counts: Counts
    offsets: NDArray[np.int64]
    starts: NDArray[np.int64]
    stops: NDArray[np.int64]
    kinds: NDArray[np.int32]
    names: tuple[str, ...]
    left: ClassedText | None


def judge_c4_lines(text: ClassedText, reading: C4Reading, *, keeps_text: bool = False) -> C4Lines:
    """Judge the lines of every document as C4 does.

    Args:
        keeps_text: whether the text that is left is wanted.
    Source: Raffel et al. 2020, arXiv:1910.10683, section 2.2. Differs: sentences are counted by end marks
    followed by white space, not by a trained splitter; see `C4Reading` for citations.
    """
    from prill.features._c4_kernel import C4_COUNTS, C4_KINDS, judge_lines
    from prill.features._c4_phrases_kernel import phrase_table
    from prill.features._citations_kernel import citation_words

    phrases = ("lorem ipsum", "javascript", "{", "policy")
    rules = [
        -1 if reading.max_word_characters is None else reading.max_word_characters,
        reading.cites_removed,
        reading.ends_required,
        reading.min_words,
        sum(1 << phrases.index(phrase) for phrase in reading.phrases),
        not reading.is_published,
    ]
    counts_DC = np.zeros((text.n_documents, len(C4_COUNTS)), dtype=np.int64)
    spans_D1 = np.zeros(text.n_documents + 1, dtype=np.int64)
    left_D1 = np.zeros(text.n_documents + 1, dtype=np.int64)
    left = np.empty(text.data.shape[0] if keeps_text else 0, dtype=np.uint8)
    spans = judge_lines(
        text.offsets,
        text.data,
        text.classes,
        np.array(rules, dtype=np.int64),
        phrase_table(),
        citation_words(),
        _decimal_zeros(),
        counts_DC,
        spans_D1,
        left,
        left_D1,
    )
    return C4Lines(
        counts=_columns(C4_COUNTS, counts_DC),
        offsets=spans_D1,
        starts=np.ascontiguousarray(spans[:, 0]),
        stops=np.ascontiguousarray(spans[:, 1]),
        kinds=spans[:, 2].astype(np.int32),
        names=C4_KINDS,
        left=ClassedText._of_bytes(left_D1, left[: left_D1[-1]]) if keeps_text else None,
    )


def count_sentences(text: ClassedText, words: Words) -> NDArray[np.int64]:
    """Sentences of each document, the sum over its lines, as spaCy's rule finds them in the words given.

    Source: spaCy 3, Sentencizer. Differs: none.
    """
    from prill.features._character_classes import late_terminals
    from prill.features._sentences_kernel import count_sentences as kernel

    sentences_D = np.zeros(text.n_documents, dtype=np.int64)
    kernel(
        text.offsets,
        text.data,
        text.classes,
        words.offsets,
        words.starts,
        words.ends,
        late_terminals(),
        sentences_D,
    )
    return sentences_D


def _columns(names: Sequence[str], counts_DC: NDArray[np.int64]) -> Counts:
    return {name: np.ascontiguousarray(counts_DC[:, i]) for i, name in enumerate(names)}


def _first_parts(offsets: NDArray[np.int64], data: NDArray[np.uint8]) -> pa.Array:
    """The documents, each cut between characters to at most MEASURED_BYTES."""
    parts = []
    for start, stop in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True):
        cut = min(stop, start + MEASURED_BYTES)
        while start < cut < stop and data[cut] & 0xC0 == 0x80:
            cut -= 1
        parts.append(data[start:cut].tobytes())
    return pa.array(parts, pa.large_binary())


@functools.lru_cache(maxsize=16)
def _stop_table(stop_words: tuple[str, ...]) -> NDArray[np.uint64]:
    """Hashes of the words, by their low bits, zeros between them."""
    from prill.features._statistics_kernel import hash_tokens

    encoded = [word.encode() for word in sorted(set(stop_words))]
    ends = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
    data = np.frombuffer(b"".join(encoded) + bytes(8), dtype=np.uint8)
    hashes = np.empty(len(encoded), dtype=np.uint64)
    hash_tokens(data, ends[:-1], ends[1:], hashes)
    table = np.zeros(1 << max(4, (32 * len(encoded)).bit_length()), dtype=np.uint64)
    for h in hashes.tolist():
        slot = h % table.shape[0]
        while table[slot]:
            slot = (slot + 1) % table.shape[0]
        table[slot] = h
    table.setflags(write=False)
    return table


@functools.cache
def _decimal_zeros() -> NDArray[np.int64]:
    """The zeros of all decimal digits, sorted code points; nine more digits follow each."""
    zeros = [code for code in range(0x20000) if chr(code).isdecimal() and int(chr(code)) == 0]
    return np.array(zeros, dtype=np.int64)
