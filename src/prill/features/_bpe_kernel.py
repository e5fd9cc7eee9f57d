"""Byte-level BPE of words, with a memo of the words met before.

A word of up to 15 bytes, its length and its number of tokens fit two 64-bit words, so the memo holds the word
itself and a hit is never a mistake: four such entries share a cache line. Words of 16 to 64 bytes have a
second memo with their bytes; longer ones are merged each time. Merging is the textbook rule (the pair of the
lowest rank first, the leftmost of equals), by scanning up to 64 symbols and with a heap above, so that a word
of a megabyte takes n log n steps. A memo belongs to one thread; what it holds changes time, never results.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from prill.features._jit import fold, inlined, kernel, load64, prefetch
from prill.features._merge_kernel import (
    MOST_SCANNED,
    hash_bytes,
    load_bytes,
    merge_heap,
    merge_scan,
    whole_word,
)
from prill.features._pretoken_kernel import split_text

__all__ = ["INLINE_IDS", "LONG_BYTES", "SHORT_BYTES", "count_tokens"]

SHORT_BYTES = 15
LONG_BYTES = MOST_SCANNED
INLINE_IDS = 4
"""Token ids that a memo entry holds; a word of more is merged again when ids are wanted."""

_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)
_MIX_A = np.uint64(0x9E3779B97F4A7C15)
_MIX_B = np.uint64(0xD6E8FEB86659FD93)
_COUNT = np.uint64(60)
_KEY = np.uint64((1 << 60) - 1)
_BLOCK = 256

_Rules = tuple[
    NDArray[np.uint32], NDArray[np.uint64], NDArray[np.int32], NDArray[np.int64], NDArray[np.uint8]
]
_Short = tuple[NDArray[np.uint64], NDArray[np.uint32]]
_Long = tuple[NDArray[np.uint8], NDArray[np.uint16], NDArray[np.uint32]]


@inlined
def _masks() -> NDArray[np.uint64]:
    """Which bytes of two words belong to a word of n bytes: [2 n] and [2 n + 1], n = 0..16."""
    masks = np.zeros(34, np.uint64)
    for n in range(1, 17):
        masks[2 * n] = _ALL if n >= 8 else _ALL >> np.uint64(64 - 8 * n)
        masks[2 * n + 1] = np.uint64(0) if n <= 8 else _ALL >> np.uint64(128 - 8 * n)
    return masks


@inlined
def _find_keys(
    data: NDArray[np.uint8],
    at: int,
    ends: NDArray[np.int64],
    first: int,
    masks: NDArray[np.uint64],
    memo: NDArray[np.uint64],
    keys: NDArray[np.uint64],
    sets: NDArray[np.int64],
) -> None:
    """Memo keys and sets of the words that begin at `at` and end at ends[first:first + len(sets)].

    Words above SHORT_BYTES get a key that is not used. The sets are asked for from memory at once, so that
    the look-ups behind do not wait for one another.
    """
    last_set = np.uint64(memo.shape[0] // 8 - 1)
    for e in range(sets.shape[0]):
        n = ends[first + e] - at
        if at + 16 <= data.shape[0]:
            m = 2 * min(n, 16)
            low, high = load64(data, at) & masks[m], load64(data, at + 8) & masks[m + 1]
        else:
            low, high = load_bytes(data, at, min(n, 8)), load_bytes(data, at + 8, min(n - 8, 8))
        high |= np.uint64(n) << np.uint64(56)
        s = (fold(low ^ _MIX_A, high ^ _MIX_B) & last_set) * np.uint64(8)
        prefetch(memo, s)
        keys[2 * e], keys[2 * e + 1], sets[e] = low, high, np.int64(s)
        at = ends[first + e]


@kernel
def count_tokens(
    offsets: NDArray[np.int64],
    data: NDArray[np.uint8],
    skip_D: NDArray[np.bool_],
    stages: NDArray[np.int64],
    entries: NDArray[np.uint32],
    classes: NDArray[np.uint8],
    ascii_classes: NDArray[np.uint8],
    byte_ids: NDArray[np.uint32],
    merges: NDArray[np.uint64],
    word_slots: NDArray[np.int32],
    word_offsets: NDArray[np.int64],
    words: NDArray[np.uint8],
    memo: NDArray[np.uint64],
    memo_ids: NDArray[np.uint32],
    long_memo: NDArray[np.uint8],
    long_sizes: NDArray[np.uint16],
    long_ids: NDArray[np.uint32],
    counts_D: NDArray[np.int64],
    ids: NDArray[np.uint32],
) -> None:
    """Tokens of documents data[offsets[d]:offsets[d + 1]], and their ids when `ids` has room.

    Args:
        skip_D: documents to pass over; becomes true for documents that the tables cannot decide.
        stages: a row a pattern: where its entries begin, its number of classes, whether gaps are undecided;
            no rows: a document is one word. `classes` and `ascii_classes` have a row a pattern.
        byte_ids: token of each byte, shape (256,).
        merges: the table of `fill_merges`.
        word_slots, word_offsets, words: table of whole words by `word_hash`; empty: none.
        memo: 8 words a set; memo_ids: INLINE_IDS an entry, or empty when ids are not wanted.
        long_memo: LONG_BYTES a row; long_sizes: length << 8 | count; long_ids as memo_ids.
        counts_D: results.
        ids: room for a token a byte and INLINE_IDS more, or empty.
    """
    longest = 0
    for d in range(counts_D.shape[0]):
        longest = max(longest, offsets[d + 1] - offsets[d])
    ends, spare = np.empty(longest + 2, np.int64), np.empty(longest + 2, np.int64)
    rules = (byte_ids, merges, word_slots, word_offsets, words)
    short, long = (memo, memo_ids), (long_memo, long_sizes, long_ids)
    keys, sets, masks = np.empty(2 * _BLOCK, np.uint64), np.empty(_BLOCK, np.int64), _masks()
    word_ids, ranks = np.empty(LONG_BYTES, np.uint32), np.empty(LONG_BYTES, np.uint64)
    wants_ids, n_out = ids.shape[0] > 0, 0
    for d in range(counts_D.shape[0]):
        at, stop = offsets[d], offsets[d + 1]
        if skip_D[d] or at == stop:
            continue
        ends[0] = stop
        n_ends = 1
        for k in range(stages.shape[0]):
            n_new, n_gaps, begin = 0, 0, at
            split = (entries[stages[k, 0] :], classes[k], ascii_classes[k], stages[k, 1])
            for e in range(n_ends):
                n_new, gaps = split_text(data, begin, ends[e], split, spare, n_new)
                n_gaps += gaps
                begin = ends[e]
            ends, spare, n_ends = spare, ends, n_new
            skip_D[d] |= n_gaps > 0 and stages[k, 2] != 0
        if skip_D[d]:
            continue
        n_before, total = n_out, 0
        for first in range(0, n_ends, _BLOCK):
            n_words = min(_BLOCK, n_ends - first)
            _find_keys(data, at, ends, first, masks, memo, keys, sets[:n_words])
            for e in range(n_words):
                n = ends[first + e] - at
                low, high, s = keys[2 * e], keys[2 * e + 1], sets[e]
                found, way = np.uint64(0), s
                for w in range(s, s + 8, 2):
                    same = memo[w] == low and (memo[w + 1] & _KEY) == high
                    found = memo[w + 1] if same else found
                    way = w if same else way
                n_tokens = np.int64(found >> _COUNT)
                is_found = found != 0 and n <= SHORT_BYTES
                if not wants_ids:
                    if not is_found:
                        n_tokens = _count_word(data, at, n, s, low, high, rules, memo, long, word_ids, ranks)
                    total += n_tokens
                elif is_found and n_tokens <= INLINE_IDS:
                    for i in range(INLINE_IDS):
                        ids[n_out + i] = memo_ids[2 * way + i]
                    n_out += n_tokens
                else:
                    n_out = _put_word(
                        data, at, n, s, low, high, rules, short, long, word_ids, ranks, ids, n_out
                    )
                at = ends[first + e]
        counts_D[d] = total + n_out - n_before


@inlined
def _way(s: int, low: np.uint64, high: np.uint64) -> int:
    """The entry of set `s` that a new word takes."""
    return int(s + 2 * np.int64(((low ^ high) * _MIX_A) >> np.uint64(62)))


@inlined
def _count_word(
    data: NDArray[np.uint8],
    at: int,
    n: int,
    s: int,
    low: np.uint64,
    high: np.uint64,
    rules: _Rules,
    memo: NDArray[np.uint64],
    long: _Long,
    word_ids: NDArray[np.uint32],
    ranks: NDArray[np.uint64],
) -> int:
    """Tokens of a word that the memo of short words does not hold; it is remembered."""
    if n <= SHORT_BYTES:
        n_tokens = _tokens_of(data, at, n, rules, word_ids, ranks)
        way = _way(s, low, high)
        memo[way], memo[way + 1] = low, high | (np.uint64(n_tokens) << _COUNT)
        return n_tokens
    if n > LONG_BYTES:
        return _tokens_of(data, at, n, rules, np.empty(n, np.uint32), ranks)
    row = _long_row(data, at, n, long)
    if row < 0:
        row = ~row
        _remember(data, at, n, row, long, _tokens_of(data, at, n, rules, word_ids, ranks))
    return int(long[1][row] & np.uint16(255))


@inlined
def _put_word(
    data: NDArray[np.uint8],
    at: int,
    n: int,
    s: int,
    low: np.uint64,
    high: np.uint64,
    rules: _Rules,
    short: _Short,
    long: _Long,
    word_ids: NDArray[np.uint32],
    ranks: NDArray[np.uint64],
    ids: NDArray[np.uint32],
    n_out: int,
) -> int:
    """Write the ids of a word that the memo does not hold whole from ids[n_out] on; the place behind them."""
    memo, memo_ids = short
    _, sizes, long_ids = long
    if n > LONG_BYTES:
        return int(n_out + _tokens_of(data, at, n, rules, ids[n_out : n_out + n], ranks))
    row = _long_row(data, at, n, long) if n > SHORT_BYTES else 0
    if n > SHORT_BYTES and row >= 0 and np.int64(sizes[row] & np.uint16(255)) <= INLINE_IDS:
        n_tokens = np.int64(sizes[row] & np.uint16(255))
        for i in range(n_tokens):
            ids[n_out + i] = long_ids[INLINE_IDS * row + i]
        return int(n_out + n_tokens)
    n_tokens = _tokens_of(data, at, n, rules, word_ids, ranks)
    for i in range(n_tokens):
        ids[n_out + i] = word_ids[i]
    if n <= SHORT_BYTES:
        way = _way(s, low, high)
        memo[way], memo[way + 1] = low, high | (np.uint64(n_tokens) << _COUNT)
        for i in range(min(n_tokens, INLINE_IDS)):
            memo_ids[2 * way + i] = word_ids[i]
    elif row < 0:
        _remember(data, at, n, ~row, long, n_tokens)
        for i in range(min(n_tokens, INLINE_IDS)):
            long_ids[INLINE_IDS * ~row + i] = word_ids[i]
    return int(n_out + n_tokens)


@inlined
def _long_row(data: NDArray[np.uint8], at: int, n: int, long: _Long) -> int:
    """The row that holds a word of 16 to 64 bytes; ~row when it holds another."""
    words, sizes, _ = long
    row = np.int64(hash_bytes(data, at, n) & np.uint64(sizes.shape[0] - 1))
    same = 0
    if np.int64(sizes[row] >> np.uint16(8)) == n:
        while same < n and words[row, same] == data[at + same]:
            same += 1
    return int(row) if same == n else int(~row)


@inlined
def _remember(data: NDArray[np.uint8], at: int, n: int, row: int, long: _Long, n_tokens: int) -> None:
    words, sizes, _ = long
    for i in range(n):
        words[row, i] = data[at + i]
    sizes[row] = np.uint16((n << 8) | n_tokens)


@inlined
def _tokens_of(
    data: NDArray[np.uint8],
    at: int,
    n: int,
    rules: _Rules,
    ids: NDArray[np.uint32],
    ranks: NDArray[np.uint64],
) -> int:
    """Write the tokens of data[at:at + n] to `ids`, room for n; their number."""
    byte_ids, merges, word_slots, word_offsets, words = rules
    whole = whole_word(data, at, n, word_slots, word_offsets, words)
    if whole >= 0:
        ids[0] = np.uint32(whole)
        return 1
    for i in range(n):
        ids[i] = byte_ids[data[at + i]]
    return merge_scan(merges, ids, n, ranks) if n <= LONG_BYTES else merge_heap(merges, ids, n)
