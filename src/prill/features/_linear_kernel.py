"""A linear model of words and hashed n-grams: its table of words, features of documents, and their sums.

The words of a model lie in sets of eight, a cache line each: upper half of a fingerprint and 32 bits that
belong to the word, its row or, in a model of two labels, the value itself. One vector comparison finds a
word; a set that is full leads on to the next.

Legend: D documents, F features (words, then buckets), C columns of values, L labels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from prill.features._jit import fold, inlined, kernel, match_line, prefetch, trailing_zeros
from prill.features._word_hash_kernel import next_words, room_for_words

__all__ = [
    "WAYS",
    "count_prints",
    "dictionary_entries",
    "feature_ids",
    "move_prints",
    "put_words",
    "sum_rows",
    "sum_values",
    "word_prints",
]

WAYS = 8

_NGRAM = np.uint64(116049371)
_PAYLOAD = np.uint64(0xFFFFFFFF)
_HALF, _ONE = np.uint64(32), np.uint64(1)
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_AHEAD = 16


@inlined
def _home(fingerprint: np.uint64, n_sets: np.uint64) -> np.uint64:
    """First place of the set of a word."""
    return np.uint64((((fingerprint & _PAYLOAD) * n_sets) >> _HALF) * np.uint64(WAYS))


@inlined
def _tag(fingerprint: np.uint64) -> np.uint64:
    """Upper half of a place: never zero, which marks a free one."""
    return np.uint64((fingerprint | (_ONE << _HALF)) & ~_PAYLOAD)


@inlined
def _place(table: NDArray[np.uint64], home: np.uint64, tag: np.uint64) -> tuple[np.uint64, np.uint64]:
    """Where a word is and 1, or somewhere and 0. Hardly ever a branch that is not foreseen."""
    same = match_line(table, home, tag, _PAYLOAD)
    if (same == 0) & (table[home + np.uint64(WAYS - 1)] != 0):
        n = np.uint64(table.shape[0])
        while same == 0 and table[home + np.uint64(WAYS - 1)] != 0:
            home = home + np.uint64(WAYS) if home + np.uint64(WAYS) < n else np.uint64(0)
            same = match_line(table, home, tag, _PAYLOAD)
    way = np.uint64(trailing_zeros(same)) & np.uint64(WAYS - 1)
    return home + way, np.uint64(same != 0)


@kernel
def put_words(table: NDArray[np.uint64], prints: NDArray[np.uint64], payloads: NDArray[np.uint32]) -> None:
    """Enter words that are not there yet into a table with enough room, in order."""
    n_sets = np.uint64(table.shape[0] // WAYS)
    for i in range(prints.shape[0]):
        home, tag = _home(prints[i], n_sets), _tag(prints[i])
        _, is_there = _place(table, home, tag)
        if is_there:
            continue
        while table[home] != 0:
            home += _ONE
            if home == np.uint64(table.shape[0]):
                home = np.uint64(0)
        table[home] = tag | np.uint64(payloads[i])


@kernel
def word_prints(
    offsets: NDArray[np.int64], data: NDArray[np.uint8], out: NDArray[np.uint64], n_words_D: NDArray[np.int64]
) -> int:
    """Fingerprints of all words of all documents, `</s>` behind each; their number, and of each document."""
    words, n_out = room_for_words(), 0
    for d in range(offsets.shape[0] - 1):
        at, n_open, is_over, n_before = offsets[d], 0, 0, n_out
        while is_over == 0:
            at, n_open, n, is_over = next_words(data, offsets[d], at, offsets[d + 1], n_open, words)
            out[n_out : n_out + n] = words[6][:n]
            n_out += n
        n_words_D[d] = n_out - n_before
    return n_out


@kernel
def count_prints(
    prints: NDArray[np.uint64], first: int, keys: NDArray[np.uint64], counts: NDArray[np.int64], n_keys: int
) -> tuple[int, int]:
    """Count fingerprints from `first` on until the table of keys is half full; how far it came, and the keys.

    A fingerprint of 0 counts as 1. keys.shape[0] is a power of two.
    """
    mask = np.uint64(keys.shape[0] - 1)
    for i in range(first, prints.shape[0]):
        if 2 * n_keys >= keys.shape[0]:
            return i, n_keys
        key = max(prints[i], _ONE)
        prefetch(keys, (prints[min(i + _AHEAD, prints.shape[0] - 1)] * _GOLDEN) >> np.uint64(20) & mask)
        slot = (key * _GOLDEN) >> np.uint64(20) & mask
        while keys[slot] != 0 and keys[slot] != key:
            slot = (slot + _ONE) & mask
        n_keys += keys[slot] == 0
        keys[slot] = key
        counts[slot] += 1
    return prints.shape[0], n_keys


@kernel
def move_prints(
    keys: NDArray[np.uint64],
    counts: NDArray[np.int64],
    new_keys: NDArray[np.uint64],
    new_counts: NDArray[np.int64],
) -> int:
    """Enter counted fingerprints into a larger table that is empty; their number."""
    mask, n = np.uint64(new_keys.shape[0] - 1), 0
    for i in range(keys.shape[0]):
        if keys[i] != 0:
            slot = (keys[i] * _GOLDEN) >> np.uint64(20) & mask
            while new_keys[slot] != 0:
                slot = (slot + _ONE) & mask
            new_keys[slot], new_counts[slot] = keys[i], counts[i]
            n += 1
    return n


@inlined
def _modulo(h: np.uint64, n: np.uint64, inverse: np.uint64) -> np.uint64:
    """h modulo n with inverse = floor((2^64 - 1) / n): the upper half of h * inverse is at most one short."""
    quotient = fold(h, inverse) ^ (h * inverse)
    rest = h - quotient * n
    return np.uint64(rest - n if rest >= n else rest)


@inlined
def _ngram_buckets(
    hashes: NDArray[np.int64],
    n_before: int,
    n: int,
    n_words: int,
    n_buckets: np.uint64,
    inverse: np.uint64,
    buckets: NDArray[np.uint64],
) -> int:
    """Buckets of all 2..n_words-grams that end at the last `n` of hashes[:n_before + n]; their number."""
    n_out = 0
    if n_words == 2:
        for t in range(np.uint64(max(n_before, 1)), np.uint64(n_before + n)):
            h = np.uint64(hashes[t - _ONE]) * _NGRAM + np.uint64(hashes[t])
            buckets[n_out] = _modulo(h, n_buckets, inverse)
            n_out += 1
        return n_out
    for t in range(n_before, n_before + n):
        for k in range(2, min(n_words, t + 1) + 1):
            h = np.uint64(hashes[t - k + 1])
            for i in range(t - k + 2, t + 1):
                h = h * _NGRAM + np.uint64(hashes[i])
            buckets[n_out] = _modulo(h, n_buckets, inverse)
            n_out += 1
    return n_out


@inlined
def _keep_last(held: NDArray[np.int64], n_before: int, n: int, n_words: int) -> int:
    """Move the last n_words - 1 hashes to the front; their number."""
    n_kept = min(n_words - 1, n_before + n)
    for i in range(n_kept):
        held[i] = held[n_before + n - n_kept + i]
    return n_kept


@kernel
def sum_values(
    offsets: NDArray[np.int64],
    data: NDArray[np.uint8],
    n_words: int,
    table: NDArray[np.uint64],
    floats: NDArray[np.float32],
    values_B: NDArray[np.float32],
    sums_D: NDArray[np.float64],
    n_features_D: NDArray[np.int64],
) -> None:
    """Sum of one value a feature over each document, in float64: words in order, then n-grams, by stretches.

    Args:
        n_words: longest n-gram.
        table: of words; `floats` is the same memory, whose lower halves are the values.
        values_B: of the buckets; empty for models of single words.
        sums_D, n_features_D: results.
    """
    words = room_for_words()
    room = words[5].shape[0]
    held, buckets = np.empty(room + n_words, np.int64), np.empty(room * n_words, np.uint64)
    homes = np.empty(room, np.uint64)
    n_sets, n_buckets = np.uint64(table.shape[0] // WAYS), np.uint64(max(values_B.shape[0], 1))
    inverse = ~np.uint64(0) // n_buckets
    longest = n_words if values_B.shape[0] > 0 else 1
    for d in range(sums_D.shape[0]):
        begin, stop = offsets[d], offsets[d + 1]
        at, n_open, is_over, n_before = begin, 0, 0, 0
        total, n_features = 0.0, np.uint64(0)
        while is_over == 0:
            at, n_open, n, is_over = next_words(data, begin, at, stop, n_open, words)
            prints = words[6]
            for t in range(np.uint64(n)):
                homes[t] = _home(prints[t], n_sets)
                prefetch(table, homes[t])
            if longest > 1:
                held[n_before : n_before + n] = words[5][:n]
                n_ngrams = _ngram_buckets(held, n_before, n, longest, n_buckets, inverse, buckets)
                for i in range(np.uint64(n_ngrams)):
                    prefetch(values_B, buckets[i])
                n_before = _keep_last(held, n_before, n, longest)
            else:
                n_ngrams = 0
            for t in range(np.uint64(n)):
                place, is_there = _place(table, homes[t], _tag(prints[t]))
                total += np.float64(floats[np.uint64(2) * place]) if is_there else 0.0
                n_features += is_there
            for i in range(np.uint64(n_ngrams)):
                total += np.float64(values_B[buckets[i]])
            n_features += np.uint64(n_ngrams)
        sums_D[d], n_features_D[d] = total, np.int64(n_features)


@kernel
def feature_ids(
    offsets: NDArray[np.int64],
    data: NDArray[np.uint8],
    n_words: int,
    n_buckets: int,
    table: NDArray[np.uint64],
    n_rows: int,
    ids: NDArray[np.uint32],
    ends_D: NDArray[np.int64],
) -> int:
    """Features of each document as rows: of words, then n_rows + bucket; their number.

    Args:
        table: of words, with rows as payload.
        ids: room for (n_words + 1) a byte of text and as many a document.
        ends_D: where the features of each document end.
    """
    words = room_for_words()
    room = words[5].shape[0]
    held, buckets = np.empty(room + n_words, np.int64), np.empty(room * n_words, np.uint64)
    n_sets = np.uint64(table.shape[0] // WAYS)
    inverse = ~np.uint64(0) // np.uint64(max(n_buckets, 1))
    longest = n_words if n_buckets > 0 else 1
    n_out = 0
    for d in range(ends_D.shape[0]):
        at, n_open, is_over, n_before = offsets[d], 0, 0, 0
        while is_over == 0:
            at, n_open, n, is_over = next_words(data, offsets[d], at, offsets[d + 1], n_open, words)
            prints = words[6]
            for t in range(n):
                prefetch(table, _home(prints[t], n_sets))
            for t in range(n):
                place, is_there = _place(table, _home(prints[t], n_sets), _tag(prints[t]))
                ids[n_out] = np.uint32(table[place] & _PAYLOAD)
                n_out += int(np.int64(is_there))
            if longest > 1:
                held[n_before : n_before + n] = words[5][:n]
                n_ngrams = _ngram_buckets(held, n_before, n, longest, np.uint64(n_buckets), inverse, buckets)
                for i in range(n_ngrams):
                    ids[n_out + i] = np.uint32(np.uint64(n_rows) + buckets[i])
                n_out += n_ngrams
                n_before = _keep_last(held, n_before, n, longest)
        ends_D[d] = n_out
    return n_out


@kernel
def sum_rows(
    ids: NDArray[np.uint32],
    ends_D: NDArray[np.int64],
    values_WC: NDArray[np.float32],
    values_BC: NDArray[np.float32],
    sums_DC: NDArray[np.float64],
) -> None:
    """Sum of the rows of values of each document's features: of words, then of buckets."""
    n_rows, n_columns = np.int64(values_WC.shape[0]), values_WC.shape[1]
    words, buckets = values_WC.reshape(-1), values_BC.reshape(-1)
    sums_C = np.empty(n_columns, np.float64)
    first = 0
    for d in range(ends_D.shape[0]):
        sums_C[:] = 0.0
        for i in range(first, ends_D[d]):
            ahead = np.int64(ids[min(i + _AHEAD, ids.shape[0] - 1)]) - n_rows
            if ahead >= 0:
                prefetch(buckets, np.uint64(ahead * n_columns))
                prefetch(buckets, np.uint64(ahead * n_columns + n_columns - 1))
            at = np.int64(ids[i]) * n_columns
            if np.int64(ids[i]) < n_rows:
                for c in range(n_columns):
                    sums_C[c] += np.float64(words[at + c])
            else:
                for c in range(n_columns):
                    sums_C[c] += np.float64(buckets[at - n_rows * n_columns + c])
        sums_DC[d] = sums_C
        first = ends_D[d]


@kernel
def dictionary_entries(
    data: NDArray[np.uint8],
    first: int,
    prints: NDArray[np.uint64],
    kinds: NDArray[np.int8],
    starts: NDArray[np.int64],
) -> int:
    """Each entry of a fastText dictionary at data[first:]: print, kind and place; the byte behind, or -1.

    An entry is a word, a zero byte, eight bytes of count, and one byte: 0 for a word, 1 for a label. Labels
    and words that white space would cut get the fingerprint of nothing, 0.
    """
    words, at = room_for_words(), first
    for e in range(prints.shape[0]):
        stop = at
        while stop < data.shape[0] and data[stop] != 0:
            stop += 1
        if stop + 10 > data.shape[0]:
            return -1
        _, n_open, n, is_over = next_words(data, at, at, stop, 0, words)
        is_end = stop - at == 4 and n == 1
        prints[e] = words[6][0] if is_over and n_open == 0 and (n == 2 or is_end) else np.uint64(0)
        kinds[e], starts[e] = np.int8(data[stop + 9]), at
        at = stop + 10
    return at
