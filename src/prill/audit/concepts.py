"""How often a corpus speaks of the concepts that an evaluation asks about.

A concept is one to eight words, in a row; words match in any case and in the plural. Counts are sums over
documents, so shards merge by adding. What accuracy a frequency predicts is fitted in `concept_fit`.

Source: Udandarao et al. 2024, arXiv:2404.04125, section 2.
Differs: words must stand in a row (`together` counts them anywhere, as the paper does); forms are made by
English plural rules instead of a lemmatiser.

Legend: C concepts, D documents.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from prill.corpus.batch import text_buffers
from prill.errors import DataError, InternalError
from prill.features._matching_oracle import words_of

__all__ = [
    "ConceptCounts",
    "ConceptIndex",
    "count_concepts",
    "likely_concepts",
]

_STOP_TEXT = (
    "a about after all also am an and any are as at be because been before being best both but by can "
    "could did do does doing down each first following for from get go had has have he her here him his "
    "how i if in into is it its just like likely made make many may me more most much must my need new "
    "next no not of off on one only or other our out over s she should so some such than that the their "
    "them then there these they this those to two up us use used very want was we were what when where "
    "which while who whom whose why will with would you your "
)
_STOP_WORDS = frozenset(_STOP_TEXT.split())


@dataclass(frozen=True, kw_only=True, eq=False)
class ConceptIndex:
    """Concepts ready to be counted; made by `ConceptIndex.build`.

    Attributes:
        concepts: as given, C of them.
        arrays: of `_concept_kernel.ConceptTables`, by name.
    """

    concepts: tuple[str, ...]
    arrays: dict[str, NDArray[Any]]

    @classmethod
    def build(cls, concepts: Sequence[str], forms: Mapping[str, Sequence[str]] | None = None) -> ConceptIndex:
        """Index concepts.

        Args:
            concepts: each of one to eight words; underscores part words as spaces do.
            forms: of single words: what else counts as the word, beside its English plural or singular.
        Raises:
            DataError: a concept has no word or too many, or two are the same.
        """
        from prill.features._concept_kernel import MAX_WORDS, enter, sequence_hash

        split = [words_of(concept.replace("_", " ")) for concept in concepts]
        for concept, parts in zip(concepts, split, strict=True):
            if not 1 <= len(parts) <= MAX_WORDS:
                raise DataError(f"a concept has 1 to {MAX_WORDS} words, found {len(parts)} in {concept!r}")
        vocabulary = _Vocabulary(forms)
        numbers = [np.array([vocabulary.number(word) for word in parts], np.int32) for parts in split]
        form_words, form_numbers = list(vocabulary.forms), list(vocabulary.forms.values())
        sequences = np.array([sequence_hash(one) for one in numbers], np.uint64)
        if len(np.unique(sequences)) < len(sequences):
            doubled = Counter(sequences.tolist()).most_common(1)[0][0]
            same = [concept for concept, one in zip(concepts, sequences, strict=True) if one == doubled]
            raise DataError(f"concepts must differ, found {same[0]!r} and {same[1]!r}")
        form_keys, form_values = _table(len(form_words)), np.zeros(len(_table(len(form_words))), np.int32)
        enter(form_keys, form_values, _hashes(form_words))
        words = np.where(form_keys != 0, np.array(form_numbers or [0], np.int32)[form_values], 0)
        keys, values = _table(len(sequences)), np.zeros(len(_table(len(sequences))), np.int32)
        enter(keys, values, sequences)
        pairs = sorted({(int(word), c) for c, one in enumerate(numbers) for word in one})
        first = np.searchsorted([word for word, _ in pairs], np.arange(vocabulary.n_words + 1))
        arrays: dict[str, NDArray[Any]] = {
            "forms": form_keys,
            "words": words.astype(np.int32),
            "sequences": keys,
            "concepts": values,
            "first": first.astype(np.int64),
            "members": np.array([c for _, c in pairs], np.int32),
            "n_distinct": np.array([len(set(one.tolist())) for one in numbers], np.int32),
        }
        return cls(concepts=tuple(concepts), arrays=arrays)


@dataclass(frozen=True, kw_only=True, eq=False)
class ConceptCounts:
    """Counts of concepts in some documents; add them to merge.

    Attributes:
        documents: documents that hold the concept, int64, shape (C,).
        occurrences: how often it occurs, int64, shape (C,).
        together: documents that hold all its words, in any place, int64, shape (C,).
        n_documents, n_words: of the corpus.
    """

    documents: NDArray[np.int64]
    occurrences: NDArray[np.int64]
    together: NDArray[np.int64]
    n_documents: int
    n_words: int

    def __add__(self, other: ConceptCounts) -> ConceptCounts:
        if len(self.documents) != len(other.documents):
            raise InternalError("counts of the same concepts expected, found others")
        return ConceptCounts(
            documents=self.documents + other.documents,
            occurrences=self.occurrences + other.occurrences,
            together=self.together + other.together,
            n_documents=self.n_documents + other.n_documents,
            n_words=self.n_words + other.n_words,
        )


def count_concepts(text: pa.Array, index: ConceptIndex) -> ConceptCounts:
    """Counts of all concepts in the documents of a large_string array without nulls, any slice."""
    from prill.features import _concept_kernel
    from prill.features._matching_characters import matching_table

    offsets, data = text_buffers(text)
    counts = np.zeros((3, len(index.concepts)), np.int64)
    tables = _concept_kernel.ConceptTables(**index.arrays)
    n_words = _concept_kernel.count_concepts(
        offsets, data, matching_table(), tables, counts[0], counts[1], counts[2]
    )
    return ConceptCounts(
        documents=counts[0],
        occurrences=counts[1],
        together=counts[2],
        n_documents=len(text),
        n_words=int(n_words),
    )


def likely_concepts(texts: Iterable[str], *, n: int = 3, min_texts: int = 2, limit: int = 1_000) -> list[str]:
    """Word n-grams of task items that look like concepts: no stop word or number at either end.

    Sorted by the number of texts that hold them, longer ones first, then by name; an n-gram that only
    occurs inside a longer one is left out, and so are other forms of one listed before.

    Args:
        texts: of items.
        n: words of a concept at most.
        min_texts: texts that must hold it.
        limit: of the result.
    """
    held: Counter[tuple[str, ...]] = Counter()
    for text in texts:
        words = words_of(text)
        grams = {tuple(words[i : i + k]) for k in range(1, n + 1) for i in range(len(words) - k + 1)}
        held.update(gram for gram in grams if _can_be_concept(gram))
    common = {gram: count for gram, count in held.items() if count >= min_texts}
    inside = {
        part
        for gram, count in common.items()
        for part in (gram[1:], gram[:-1])
        if part in common and common[part] == count
    }
    kept = [gram for gram in common if gram not in inside]
    kept.sort(key=lambda gram: (-common[gram], -len(gram), gram))
    vocabulary = _Vocabulary()
    different: dict[tuple[int, ...], tuple[str, ...]] = {}
    for gram in kept:
        different.setdefault(tuple(vocabulary.number(word) for word in gram), gram)
    return [" ".join(gram) for gram in list(different.values())[:limit]]


def _can_be_concept(gram: tuple[str, ...]) -> bool:
    ends = (gram[0], gram[-1])
    return all(len(word) > 2 and word not in _STOP_WORDS and not word[0].isdigit() for word in ends)


class _Vocabulary:
    """Words by number; forms of one word share a number.

    Attributes:
        forms: number of each form seen so far.
        n_words: numbers given.
    """

    def __init__(self, forms: Mapping[str, Sequence[str]] | None = None) -> None:
        self.forms: dict[str, int] = {}
        self.n_words = 0
        self._given = forms or {}
        self._known: dict[str, int] = {}

    def number(self, word: str) -> int:
        """The number of a word; a new one, unless it is a form of a word before it."""
        if word not in self._known:
            number = self.forms.get(word, self.n_words)
            self.n_words += number == self.n_words
            given = (part for form in self._given.get(word, ()) for part in words_of(form))
            for form in (word, *_inflected(word), *given):
                self.forms.setdefault(form, number)
            self._known[word] = number
        return self._known[word]


def _inflected(word: str) -> list[str]:
    """Plural and singular by English rules; forms that do not exist do no harm."""
    if not word.isascii() or len(word) < 3:
        return []
    if word.endswith(("s", "x", "z", "ch", "sh")):
        plural = [f"{word}es"]
    elif word.endswith("y") and word[-2] not in "aeiou":
        plural = [f"{word[:-1]}ies"]
    else:
        plural = [f"{word}s"]
    singular = []
    if word.endswith("ies") and len(word) > 4:
        singular = [f"{word[:-3]}y"]
    elif word.endswith(("ses", "xes", "zes", "ches", "shes")):
        singular = [word[:-2]]
    elif word.endswith("s") and not word.endswith(("ss", "us", "is")):
        singular = [word[:-1]]
    return plural + singular


def _hashes(words: Sequence[str]) -> NDArray[np.uint64]:
    from prill.features._matching_characters import matching_table
    from prill.features._matching_kernel import hash_texts

    offsets, data = text_buffers(pa.array(words, pa.large_string()))
    _, hashes = hash_texts(offsets, data, matching_table())
    return hashes


def _table(n_keys: int) -> NDArray[np.uint64]:
    """A free table for so many keys, at most a quarter full."""
    return np.zeros(1 << max(4, (4 * n_keys).bit_length()), np.uint64)
