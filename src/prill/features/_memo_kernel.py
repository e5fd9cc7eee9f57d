"""The reference's buckets through a memo: sha256(n-gram) mod n_buckets, each n-gram hashed about once.

The memo is a table of 64-bit words in sets of one cache line. A word is the n-gram's own 64-bit hash with its
low bits replaced by bucket + 1; those low bits choose the place, so the whole hash is compared (with up to
thirty thousand buckets; ten bits less at sixteen million). Before it lies a front of the words that a thread
met of late, one word a place, because lines of the memo are far away and hold eight n-grams that are mostly
rare. Look-ups take no branch that depends on what they find. Two n-grams with one 64-bit hash would share a
bucket: expect that of one n-gram in 10^12 when the memo is full. Threads may race: a word is right by itself.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from prill.features._jit import copy_block, inlined, load64, match_line, prefetch, store64, trailing_zeros
from prill.features._sha256_kernel import (
    LANE_BYTES,
    LANES,
    SHORT_BYTES,
    compress_lanes,
    compress_long,
    fill_lane,
    lane_modulo,
    start_lanes,
)

__all__ = ["MEMO_WAYS", "reference_buckets"]

MEMO_WAYS = 8
"""Words of one cache line, among which an n-gram is looked for."""

_WAYS, _AHEAD, _ONE = np.uint64(MEMO_WAYS), np.uint64(32), np.uint64(1)


@inlined
def _look_up(memo: NDArray[np.uint64], h: np.uint64, sets: np.uint64, low_bits: np.uint64) -> np.uint64:
    """bucket + 1, or 0 when the memo does not know the n-gram.

    The word is read again and compared whole, for another thread may have replaced it since the match.
    """
    home = (h & sets) * _WAYS
    way = np.uint64(trailing_zeros(match_line(memo, home, h, low_bits))) & (_WAYS - _ONE)
    word = memo[home + way]
    return np.uint64((word & low_bits) * np.uint64((word ^ h) <= low_bits))


@inlined
def _look_up_front(
    hashes: NDArray[np.uint64],
    n_features: int,
    front: NDArray[np.uint64],
    low_bits: np.uint64,
    buckets: NDArray[np.uint32],
    missed: NDArray[np.int64],
) -> int:
    """Buckets of n-grams that `front` knows; the others into `missed`; their number. No branch to miss."""
    homes, n_missed = np.uint64(front.shape[0] - 1), np.uint64(0)
    for i in range(np.uint64(n_features)):
        h = hashes[i]
        word = front[h & homes]
        found = np.uint64((word & low_bits) * np.uint64((word ^ h) <= low_bits))
        buckets[i] = np.uint32(found - _ONE)
        missed[n_missed] = i
        n_missed += np.uint64(found == 0)
    return int(np.int64(n_missed))


@inlined
def _look_up_rest(
    hashes: NDArray[np.uint64],
    n_asked: int,
    memo: NDArray[np.uint64],
    front: NDArray[np.uint64],
    sets: np.uint64,
    low_bits: np.uint64,
    buckets: NDArray[np.uint32],
    missed: NDArray[np.int64],
) -> int:
    """Buckets of the first `n_asked` n-grams in `missed` from the memo, which come into `front`.

    Those that the memo does not know stay in `missed`; their number.
    """
    homes, n_missed = np.uint64(front.shape[0] - 1), np.uint64(0)
    for j in range(np.uint64(n_asked)):
        prefetch(memo, (hashes[missed[min(j + _AHEAD, np.uint64(n_asked) - _ONE)]] & sets) * _WAYS)
        i = np.uint64(missed[j])
        h = hashes[i]
        found = _look_up(memo, h, sets, low_bits)
        buckets[i] = np.uint32(found - _ONE)
        front[h & homes] = (h & ~low_bits) | found
        missed[n_missed] = i
        n_missed += np.uint64(found == 0)
    return int(np.int64(n_missed))


@inlined
def _place(i: int, first: int, n: int) -> tuple[int, int]:
    """Last token and number of further tokens of feature i, when features begin at token `first`."""
    t = first
    while t < n - 1:
        if i <= t:
            return t, i
        i -= t + 1
        t += 1
    if n == 2:
        return t + (i >> 1), i & 1
    return t + i // n, i % n


@inlined
def _learn(
    memo: NDArray[np.uint64], h: np.uint64, sets: np.uint64, low_bits: np.uint64, bucket: np.uint64
) -> None:
    """Store a bucket in a free word of its set, or in place of one that the hash picks."""
    home = np.int64(h & sets) * MEMO_WAYS
    way = np.int64(h >> np.uint64(61))
    for i in range(MEMO_WAYS):
        if memo[home + i] == 0:
            way = np.int64(i)
            break
    memo[home + way] = (h & ~low_bits) | (bucket + np.uint64(1))


@inlined
def _join(
    low: NDArray[np.uint8],
    starts: NDArray[np.uint32],
    ends: NDArray[np.uint32],
    first: int,
    last: int,
    message: NDArray[np.uint8],
) -> int:
    """Tokens first..last joined by one space into `message`, which has eight bytes to spare; the length."""
    at = 0
    for t in range(first, last + 1):
        if t > first:
            message[at] = 32
            at += 1
        start = int(np.int64(starts[t]))
        n_bytes = int(np.int64(ends[t])) - start
        for i in range(0, n_bytes, 8):
            store64(message, at + i, load64(low, start + i))
        at += n_bytes
    return at


@inlined
def _join_short(
    low: NDArray[np.uint8],
    starts: NDArray[np.uint32],
    ends: NDArray[np.uint32],
    first: int,
    last: int,
    message: NDArray[np.uint8],
) -> int:
    """As `_join` for at most LANE_BYTES, with 136 bytes to spare: whole blocks, no loop over a length."""
    at = 0
    for t in range(first, last + 1):
        start = int(np.int64(starts[t]))
        copy_block(low, start, message, at)
        at += int(np.int64(ends[t])) - start
        message[at] = 32
        at += 1
    return at - 1


@inlined
def reference_buckets(
    hashes: NDArray[np.uint64],
    n_features: int,
    bounds: tuple[NDArray[np.uint8], NDArray[np.uint32], NDArray[np.uint32], int, int],
    n_buckets: np.uint64,
    memo: NDArray[np.uint64],
    front: NDArray[np.uint64],
    missed: NDArray[np.int64],
    buckets: NDArray[np.uint32],
) -> None:
    """Buckets of n-grams in the order of `hashes`; `missed` is room for as many.

    `bounds` = text, starts and ends of the tokens, first token that ends an n-gram, n.
    """
    low_bits = np.uint64(1)
    while low_bits <= n_buckets:
        low_bits <<= np.uint64(1)
    low_bits -= np.uint64(1)
    sets = np.uint64(memo.shape[0] // MEMO_WAYS - 1)
    n_missed = _look_up_front(hashes, n_features, front, low_bits, buckets, missed)
    n_missed = _look_up_rest(hashes, n_missed, memo, front, sets, low_bits, buckets, missed)
    if n_missed > 0:
        _hash_missed(hashes, missed[:n_missed], bounds, n_buckets, memo, sets, low_bits, buckets)


@inlined
def _hash_missed(
    hashes: NDArray[np.uint64],
    missed: NDArray[np.int64],
    bounds: tuple[NDArray[np.uint8], NDArray[np.uint32], NDArray[np.uint32], int, int],
    n_buckets: np.uint64,
    memo: NDArray[np.uint64],
    sets: np.uint64,
    low_bits: np.uint64,
    buckets: NDArray[np.uint32],
) -> None:
    """Hash the missed n-grams, short ones LANES at a time, and let the memo learn them."""
    low, starts, ends, first, n = bounds
    powers = np.empty(8, dtype=np.uint64)
    powers[7] = np.uint64(1) % n_buckets
    for i in range(6, -1, -1):
        powers[i] = (powers[i + 1] << np.uint64(32)) % n_buckets
    blocks, states = np.empty((16, LANES), dtype=np.uint32), np.empty((8, LANES), dtype=np.uint32)
    long_block = np.zeros((16, LANES), dtype=np.uint32)
    waiting, n_waiting = np.empty(LANES, dtype=np.int64), 0
    short, zeros = np.empty(SHORT_BYTES, dtype=np.uint8), np.zeros(64, dtype=np.uint8)
    for j in range(missed.shape[0]):
        i = int(missed[j])
        found = _look_up(memo, hashes[i], sets, low_bits)  # learned since, when a text repeats it
        if found != 0:
            buckets[i] = np.uint32(found - _ONE)
        else:
            t, k = _place(i, first, n)
            n_bytes = int(np.int64(ends[t]) - np.int64(starts[t - k])) + k
            if n_bytes <= LANE_BYTES:
                n_bytes = _join_short(low, starts, ends, t - k, t, short)
                fill_lane(short, n_bytes, zeros, n_waiting, blocks)
                waiting[n_waiting] = i
                n_waiting += 1
            else:
                message = np.empty(n_bytes + 80, dtype=np.uint8)
                compress_long(message, _join(low, starts, ends, t - k, t, message), long_block, states)
                bucket = lane_modulo(states, 0, powers, n_buckets)
                _learn(memo, hashes[i], sets, low_bits, bucket)
                buckets[i] = bucket
        if n_waiting == LANES or (n_waiting > 0 and j == missed.shape[0] - 1):
            start_lanes(states)
            compress_lanes(blocks, states)
            for lane in range(n_waiting):
                bucket = lane_modulo(states, lane, powers, n_buckets)
                _learn(memo, hashes[waiting[lane]], sets, low_bits, bucket)
                buckets[waiting[lane]] = bucket
            n_waiting = 0
