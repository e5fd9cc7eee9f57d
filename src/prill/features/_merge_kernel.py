"""Byte-level BPE of one word: the table of merges, and merging by the textbook rule.

The pair of the lowest rank merges first, the leftmost of equals. Up to 64 symbols are scanned each step;
above that a heap of waiting merges keeps a word of a megabyte at n log n steps.

Source: Sennrich et al. 2016, arXiv:1508.07909, section 3.2. Differs: nothing in the result.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from prill.features._jit import fold, inlined, kernel, load64

__all__ = [
    "MOST_SCANNED",
    "fill_merges",
    "hash_bytes",
    "load_bytes",
    "merge_heap",
    "merge_scan",
    "whole_word",
    "word_hash",
]

MOST_SCANNED = 64

_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)
_MIX_A = np.uint64(0x9E3779B97F4A7C15)
_MIX_B = np.uint64(0xD6E8FEB86659FD93)


@inlined
def load_bytes(data: NDArray[np.uint8], at: int, n: int) -> np.uint64:
    """The first n (at most 8) bytes from `at`, zeros above them."""
    if n <= 0:
        return np.uint64(0)
    if at + 8 <= data.shape[0]:
        word = load64(data, at)
        return word if n >= 8 else word & (_ALL >> np.uint64(64 - 8 * n))
    word = np.uint64(0)
    for i in range(min(n, 8)):
        word |= np.uint64(data[at + i]) << np.uint64(8 * i)
    return word


@inlined
def hash_bytes(data: NDArray[np.uint8], at: int, n: int) -> np.uint64:
    h = np.uint64(n) * _MIX_B
    for i in range(0, n, 8):
        h = fold(h ^ load_bytes(data, at + i, n - i) ^ _MIX_A, _MIX_B)
    return h


@kernel
def word_hash(data: NDArray[np.uint8], at: int, n: int) -> int:
    """Hash of data[at:at + n] by which the table of whole words is addressed."""
    return np.int64(hash_bytes(data, at, n) >> np.uint64(1))


@inlined
def _slot(key: np.uint64, n_slots: int) -> np.int64:
    return np.int64(fold(key ^ _MIX_A, _MIX_B) & np.uint64(n_slots - 1))


@kernel
def fill_merges(keys: NDArray[np.uint64], values: NDArray[np.uint64], table: NDArray[np.uint64]) -> None:
    """Fill the table of merges: table[2 s] the pair (left << 32 | right), table[2 s + 1] rank << 32 | new id.

    Args:
        table: all bits set on entry, twice a power of two long, more than half of its slots to stay free.
    """
    n_slots = table.shape[0] // 2
    for k in range(keys.shape[0]):
        s = _slot(keys[k], n_slots)
        while table[2 * s] != _ALL and table[2 * s] != keys[k]:
            s = (s + 1) & (n_slots - 1)
        table[2 * s], table[2 * s + 1] = keys[k], values[k]


@inlined
def _merge_of(table: NDArray[np.uint64], left: np.uint32, right: np.uint32) -> np.uint64:
    """rank << 32 | new id of a pair; all bits set when the pair is not merged."""
    n_slots = table.shape[0] // 2
    key = (np.uint64(left) << np.uint64(32)) | np.uint64(right)
    s = _slot(key, n_slots)
    while True:
        found = table[2 * s]
        if found == key:
            return table[2 * s + 1]
        if found == _ALL:
            return _ALL
        s = (s + 1) & (n_slots - 1)


@inlined
def merge_scan(table: NDArray[np.uint64], ids: NDArray[np.uint32], n: int, ranks: NDArray[np.uint64]) -> int:
    """Merge ids[:n] in place, looking at all pairs a step; the number of tokens left."""
    for i in range(n - 1):
        ranks[i] = _merge_of(table, ids[i], ids[i + 1])
    while n > 1:
        best, at = _ALL, 0
        for i in range(n - 1):
            if ranks[i] < best:
                best, at = ranks[i], i
        if best == _ALL:
            break
        ids[at] = np.uint32(best & np.uint64(0xFFFFFFFF))
        n -= 1
        for i in range(at + 1, n):
            ids[i] = ids[i + 1]
            ranks[i - 1] = ranks[i]
        if at > 0:
            ranks[at - 1] = _merge_of(table, ids[at - 1], ids[at])
        if at < n - 1:
            ranks[at] = _merge_of(table, ids[at], ids[at + 1])
    return n


@inlined
def _sift_up(heap: NDArray[np.uint64], n: int, value: np.uint64) -> int:
    i = n
    while i > 0 and heap[(i - 1) >> 1] > value:
        heap[i] = heap[(i - 1) >> 1]
        i = (i - 1) >> 1
    heap[i] = value
    return n + 1


@inlined
def _pop(heap: NDArray[np.uint64], n: int) -> int:
    """Drop the smallest of heap[:n]; n - 1."""
    n -= 1
    value, i = heap[n], 0
    while 2 * i + 1 < n:
        child = 2 * i + 1
        if child + 1 < n and heap[child + 1] < heap[child]:
            child += 1
        if heap[child] >= value:
            break
        heap[i] = heap[child]
        i = child
    heap[i] = value
    return n


@inlined
def merge_heap(table: NDArray[np.uint64], ids: NDArray[np.uint32], n: int) -> int:
    """As `merge_scan` for long words: a heap of waiting merges by (rank, place), symbols as a linked list."""
    heap = np.empty(3 * n, np.uint64)
    following, before = np.empty(n, np.int32), np.empty(n, np.int32)
    n_heap = 0
    for i in range(n):
        following[i], before[i] = i + 1, i - 1
        if i + 1 < n:
            merge = _merge_of(table, ids[i], ids[i + 1])
            if merge != _ALL:
                n_heap = _sift_up(heap, n_heap, (merge & ~np.uint64(0xFFFFFFFF)) | np.uint64(i))
    while n_heap > 0:
        rank, i = heap[0] >> np.uint64(32), np.int64(heap[0] & np.uint64(0xFFFFFFFF))
        n_heap = _pop(heap, n_heap)
        j = following[i]
        if j < 0 or j >= n:
            continue
        merge = _merge_of(table, ids[i], ids[j])
        if merge == _ALL or merge >> np.uint64(32) != rank:
            continue  # one of the two was merged since
        ids[i] = np.uint32(merge & np.uint64(0xFFFFFFFF))
        k = following[j]
        following[i], following[j] = k, -1
        if k < n:
            before[k] = i
            merge = _merge_of(table, ids[i], ids[k])
            if merge != _ALL:
                n_heap = _sift_up(heap, n_heap, (merge & ~np.uint64(0xFFFFFFFF)) | np.uint64(i))
        h = before[i]
        if h >= 0:
            merge = _merge_of(table, ids[h], ids[i])
            if merge != _ALL:
                n_heap = _sift_up(heap, n_heap, (merge & ~np.uint64(0xFFFFFFFF)) | np.uint64(h))
    i, m = 0, 0
    while i < n:
        ids[m] = ids[i]
        m += 1
        i = np.int64(following[i])
    return m


@inlined
def whole_word(
    data: NDArray[np.uint8],
    at: int,
    n: int,
    word_slots: NDArray[np.int32],
    word_offsets: NDArray[np.int64],
    words: NDArray[np.uint8],
) -> np.int64:
    """The id of a word that is a token as it stands, else -1. No slots: none is looked up."""
    n_slots = word_slots.shape[0]
    if n_slots == 0:
        return np.int64(-1)
    s = np.int64(hash_bytes(data, at, n) >> np.uint64(1)) & (n_slots - 1)
    while word_slots[s] >= 0:
        token = np.int64(word_slots[s])
        first = word_offsets[token]
        if word_offsets[token + 1] - first == n:
            same = 0
            while same < n and words[first + same] == data[at + same]:
                same += 1
            if same == n:
                return token
        s = (s + 1) & (n_slots - 1)
    return np.int64(-1)
