"""Counts of words and of repeated n-grams, document by document, over given token boundaries.

Boundaries come from a splitter, and any splitter will do. It is called with a whole batch,

    split(offsets_D1, data) -> (tokens_D1, starts_T, ends_T)

    offsets_D1  int64, (D + 1,): document d is data[offsets_D1[d]:offsets_D1[d + 1]], UTF-8 as it stands;
    data        uint8: the bytes of the batch (`Batch.text_buffers`), with ROOM bytes behind them;
    tokens_D1   int64, (D + 1,): document d has the tokens tokens_D1[d]:tokens_D1[d + 1]; tokens_D1[0] == 0;
    starts_T, ends_T   uint32, (>= T,): first byte and byte behind of each token, counted from the first byte
                of its document; ascending, not overlapping, never empty, always between characters, without
                white space at either end (tokens that are white space alone are left out).

so that in a kernel the part for one document has the form

    n_tokens = split_document(data, start, stop, <its own tables>, starts_T, ends_T, n_held)

which writes tokens from place `n_held` on and returns their number; there is room for `stop - start` tokens
and ROOM more (memory that is never touched costs nothing). What a token is made of (symbols alone,
letters, a stop word, its characters, its hash) is found here, from the bytes.

Legend: D documents, T tokens, C counts (`WORD_COUNTS`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from prill.features._jit import fold, inlined, kernel, load64, set_bits
from prill.features._repetition_kernel import repetition

__all__ = ["MAX_REPETITION_TOKENS", "WORD_COUNTS", "count_words", "hash_bytes", "hash_tokens"]

WORD_COUNTS = (
    "n_words",
    "n_real_words",
    "real_word_characters",
    "n_alphabetic_words",
    "n_stop_words_distinct",
    "n_stop_words",
    "n_symbol_words",
    "word_characters",
    "median_word_length_doubled",
    *(f"top_{n}_gram_{what}" for n in (2, 3, 4) for what in ("count", "characters")),
    *(f"{what}_{n}_gram_characters" for n in range(5, 11) for what in ("repeated", "shared", "all")),
)
"""Columns of the counts, in order; `features/statistics.py` says what each means."""

MAX_REPETITION_TOKENS = 1 << 20
"""Repeated n-grams are looked for in so many first tokens of a document, so that memory is bounded."""

_N_WORD_COUNTS = 9  # before the n-grams
_MAX_LENGTH = 1023
_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)
# Odd constants of the hash: fractional bits of the golden ratio, and multipliers of SplitMix64.
_SEED = np.uint64(0x9E3779B97F4A7C15)
_LENGTH = np.uint64(0xD6E8FEB86659FD93)
_MIX = np.uint64(0xBF58476D1CE4E5B9)
_CONTINUED_8 = np.uint64(0x0202020202020202)
_ALPHA_8, _SYMBOL_8 = np.uint64(0x2020202020202020), np.uint64(0x1010101010101010)


@inlined
def hash_bytes(data: NDArray[np.uint8], start: int, stop: int) -> np.uint64:
    """64-bit hash of data[start:stop], eight bytes a step; eight bytes must be readable behind it."""
    s, n = start, stop - start
    h = _SEED ^ (np.uint64(n) * _LENGTH)
    while n > 8:
        h = fold(h ^ load64(data, s), _MIX)
        s += 8
        n -= 8
    last = load64(data, s) & (_ALL >> np.uint64(64 - 8 * n)) if n > 0 else np.uint64(0)
    return np.uint64(fold(h ^ last, _MIX))


@kernel
def hash_tokens(
    data: NDArray[np.uint8], starts: NDArray[np.int64], ends: NDArray[np.int64], hashes: NDArray[np.uint64]
) -> None:
    """Hash of each data[starts[i]:ends[i]]; eight bytes must be readable behind the last."""
    for i in range(starts.shape[0]):
        hashes[i] = hash_bytes(data, starts[i], ends[i])


@inlined
def _inspect(classes: NDArray[np.uint8], start: int, stop: int) -> tuple[int, np.uint64, np.uint64]:
    """Characters of a token; its class bytes joined by "or" and by "and", eight side by side."""
    some, every, n_continued = np.uint64(0), _ALL, 0
    s = start
    while s < stop:
        mask = _ALL >> np.uint64(64 - 8 * min(stop - s, 8))
        eight = load64(classes, s)
        some |= eight & mask
        every &= eight | ~mask
        n_continued += set_bits(eight & mask & _CONTINUED_8)
        s += 8
    return stop - start - n_continued, some, every


@inlined
def _has_symbol(data: NDArray[np.uint8], start: int, stop: int) -> bool:
    """Whether the token holds "#" or the character of three dots."""
    for i in range(start, stop):
        if data[i] == 0x23 or (data[i] == 0xE2 and data[i + 1] == 0x80 and data[i + 2] == 0xA6):
            return True
    return False


@inlined
def _find_stop_word(h: np.uint64, stop_table: NDArray[np.uint64]) -> int:
    """Place of a hash in the table of stop words, or -1."""
    mask = np.uint64(stop_table.shape[0] - 1)
    slot = h & mask
    while stop_table[slot] != 0:
        if stop_table[slot] == h:
            return np.int64(slot)
        slot = (slot + np.uint64(1)) & mask
    return -1


@inlined
def _doubled_median(lengths: NDArray[np.int64], n_words: int) -> int:
    """Twice the median of `n_words` lengths, given how many words have each; 0 without words."""
    low, high, seen, result = (n_words - 1) // 2, n_words // 2, 0, 0
    if n_words == 0:
        return 0
    for length in range(lengths.shape[0]):
        before = seen
        seen += lengths[length]
        result += length * (int(before <= low < seen) + int(before <= high < seen))
        if seen > high:
            break
    return result


@kernel
def count_words(
    offsets_D1: NDArray[np.int64],
    data: NDArray[np.uint8],
    classes: NDArray[np.uint8],
    tokens_D1: NDArray[np.int64],
    starts_T: NDArray[np.uint32],
    ends_T: NDArray[np.uint32],
    stop_table: NDArray[np.uint64],
    counts_DC: NDArray[np.int64],
) -> None:
    """Count the words of every document, and the characters in their repeated n-grams.

    Args:
        offsets_D1, data: the documents, ROOM bytes behind them; offsets_D1[0] == 0.
        classes: class bytes (`_classes_kernel`).
        tokens_D1, starts_T, ends_T: the words.
        stop_table: hashes of the stop words, open addressing from their low bits, zeros between them; a power
            of two of places, at least one of them free.
        counts_DC: receives the counts, int64, shape (D, C).
    """
    longest = 0
    for d in range(offsets_D1.shape[0] - 1):
        longest = max(longest, tokens_D1[d + 1] - tokens_D1[d])
    room = min(longest, MAX_REPETITION_TOKENS)
    hashes, ends_C = np.empty(room, np.uint64), np.zeros(room + 1, np.int64)
    bits = 4
    while (1 << bits) < 2 * room:
        bits += 1
    table = np.zeros(2 << bits, np.uint64)
    positions, groups = np.empty(room + 1, np.uint32), np.empty(room + 1, np.uint32)
    firsts, sizes, seen = np.empty(room, np.uint32), np.empty(room, np.uint32), np.zeros(room, np.uint64)
    stops_seen = np.full(stop_table.shape[0], -1, np.int64)
    lengths = np.zeros(_MAX_LENGTH + 1, np.int64)
    stamp = np.uint64(0)
    for d in range(offsets_D1.shape[0] - 1):
        base, first = offsets_D1[d], tokens_D1[d]
        n_words = tokens_D1[d + 1] - first
        n_real = real_characters = n_alphabetic = n_stops = n_distinct = n_symbol = characters = 0
        lengths[:] = 0
        for t in range(n_words):
            start, stop = base + np.int64(starts_T[first + t]), base + np.int64(ends_T[first + t])
            h = hash_bytes(data, start, stop)
            n_characters, some, every = _inspect(classes, start, stop)
            characters += n_characters
            lengths[min(n_characters, _MAX_LENGTH)] += 1
            if t < MAX_REPETITION_TOKENS:
                hashes[t], ends_C[t + 1] = h, characters
            is_real = int((every & _SYMBOL_8) != _SYMBOL_8)
            n_real += is_real
            real_characters += is_real * n_characters
            n_alphabetic += int((some & _ALPHA_8) != 0)
            if (some & _SYMBOL_8) != 0 and _has_symbol(data, start, stop):
                n_symbol += 1
            place = _find_stop_word(h, stop_table)
            if place >= 0:
                n_stops += 1
                n_distinct += int(stops_seen[place] != d)
                stops_seen[place] = d
        counts_C = counts_DC[d]
        counts_C[0], counts_C[1], counts_C[2] = n_words, n_real, real_characters
        counts_C[3], counts_C[4], counts_C[5] = n_alphabetic, n_distinct, n_stops
        counts_C[6], counts_C[7] = n_symbol, characters
        counts_C[8] = _doubled_median(lengths, n_words)
        stamp = repetition(
            (hashes, ends_C, min(n_words, MAX_REPETITION_TOKENS)),
            (table, positions, groups, firsts, sizes, seen),
            stamp,
            counts_C[_N_WORD_COUNTS:],
        )
