"""Counting a list of concepts in documents: words looked up once, runs of known words matched as sequences.

Every word of a document asks a small table which word of the concepts it is a form of, and nearly always
none. Consecutive known words form a run; every ending of a run that is a concept counts. Beside that each
concept counts the documents that hold all its words anywhere.

Legend: D documents, C concepts, V words of concepts.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from prill.features._jit import inlined, kernel
from prill.features._matching_kernel import CHUNK_BYTES, ROOM, chunk_words, cut

__all__ = ["MAX_WORDS", "ConceptTables", "count_concepts", "enter", "sequence_hash"]

MAX_WORDS = 8
"""Words of a concept at most."""

_SPREAD = np.uint64(0xD6E8FEB86659FD93)
_BASE = np.uint64(0x9E3779B97F4A7C15)
_ONE = np.uint64(1)


class ConceptTables(NamedTuple):
    """An index of concepts as the kernel sees it.

    Attributes:
        forms: hashes of word forms in open addressing, uint64, a power of two long, 0 where free.
        words: the word that each form belongs to, int32, as `forms`.
        sequences, concepts: hashes of concepts as sequences of words, and which concept, as the two above.
        first: concepts of word v are members[first[v]:first[v + 1]], int64, shape (V + 1,).
        members: int32.
        n_distinct: different words of each concept, int32, shape (C,).
    """

    forms: NDArray[np.uint64]
    words: NDArray[np.int32]
    sequences: NDArray[np.uint64]
    concepts: NDArray[np.int32]
    first: NDArray[np.int64]
    members: NDArray[np.int32]
    n_distinct: NDArray[np.int32]


@inlined
def _slot(keys: NDArray[np.uint64], key: np.uint64) -> int:
    """Slot of a key, or the free one where it would be."""
    mask = np.uint64(keys.shape[0] - 1)
    spread = key * _SPREAD
    slot = (spread ^ (spread >> np.uint64(32))) & mask
    while keys[slot] != 0 and keys[slot] != key:
        slot = (slot + _ONE) & mask
    return int(slot)


@kernel
def enter(keys: NDArray[np.uint64], values: NDArray[np.int32], new: NDArray[np.uint64]) -> None:
    """Enter distinct keys in order; the value of new[k] becomes k. Of equal keys the first counts."""
    for k in range(new.shape[0]):
        slot = _slot(keys, max(new[k], _ONE))
        if keys[slot] == 0:
            keys[slot], values[slot] = max(new[k], _ONE), k


@kernel
def sequence_hash(words: NDArray[np.int32]) -> np.uint64:
    """Hash of a sequence of words, by their numbers."""
    h = np.uint64(0)
    for word in words:
        h = (h ^ np.uint64(word + 1)) * _BASE
        h ^= h >> np.uint64(29)
    return np.uint64(max(h, _ONE))


@kernel
def count_concepts(
    offsets: NDArray[np.int64],
    data: NDArray[np.uint8],
    characters: NDArray[np.uint64],
    tables: ConceptTables,
    documents: NDArray[np.int64],
    occurrences: NDArray[np.int64],
    together: NDArray[np.int64],
) -> int:
    """Add documents data[offsets[d]:offsets[d + 1]] to three counts of each concept, int64, shape (C,).

    Args:
        documents: documents that hold the concept's words in order.
        occurrences: how often.
        together: documents that hold all of the concept's words anywhere.
    Returns:
        The number of words.
    """
    low, classes = np.empty(ROOM, np.uint8), np.empty(ROOM, np.uint8)
    starts, ends = np.empty(ROOM, np.uint32), np.empty(ROOM, np.uint32)
    words = np.empty(CHUNK_BYTES + 1, np.uint64)
    n_concepts, n_vocabulary = tables.n_distinct.shape[0], tables.first.shape[0] - 1
    seen = np.full(n_concepts, -1, np.int64)  # last document that holds it
    met = np.full(n_vocabulary, -1, np.int64)  # last document that holds the word
    started, n_met = np.full(n_concepts, -1, np.int64), np.zeros(n_concepts, np.int32)
    run = np.empty(MAX_WORDS, np.int32)  # the last known words, newest last
    total = 0
    for d in range(offsets.shape[0] - 1):
        at, stop = offsets[d], offsets[d + 1]
        state = (0, np.uint64(0), np.uint64(0))
        n_run = 0
        while at < stop:
            end = cut(data, at, stop)
            n_words, state = chunk_words(
                data, at, end, stop, characters, low, classes, starts, ends, state, words, 0
            )
            at = end
            total += n_words
            for t in range(n_words):
                slot = _slot(tables.forms, max(words[t], _ONE))
                if tables.forms[slot] == 0:
                    n_run = 0
                    continue
                word = tables.words[slot]
                if met[word] != d:
                    met[word] = d
                    for m in range(tables.first[word], tables.first[word + 1]):
                        c = tables.members[m]
                        if started[c] != d:
                            started[c], n_met[c] = d, 0
                        n_met[c] += 1
                        if n_met[c] == tables.n_distinct[c]:
                            together[c] += 1
                if n_run == MAX_WORDS:
                    run[:-1] = run[1:].copy()
                    n_run -= 1
                run[n_run] = word
                n_run += 1
                for first in range(n_run):
                    place = _slot(tables.sequences, sequence_hash(run[first:n_run]))
                    if tables.sequences[place] != 0:
                        c = tables.concepts[place]
                        occurrences[c] += 1
                        if seen[c] != d:
                            seen[c] = d
                            documents[c] += 1
    return total
