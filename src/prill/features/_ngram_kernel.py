"""Hash, bucket, and count or sum the n-grams of many documents in one pass over an Arrow text column.

A document is cut into chunks of a few kilobytes that stay in the first-level cache through all passes:
lower and classify, find tokens, hash tokens, hash n-grams, look buckets up, add. The last n-1 tokens and an
unfinished token are carried into the next chunk, so chunk borders change nothing, and a huge document needs
no more memory than its n longest tokens.

Order: features are added in the order of their last token, then by length 1..n. Sums in float64 follow that
order, so they depend on the document alone, never on the batch.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from prill.features._characters import is_special
from prill.features._jit import fold, inlined, kernel, load64
from prill.features._memo_kernel import reference_buckets
from prill.features._text_kernel import PADDING, SPACE, class_at, find_tokens, normalise

__all__ = ["CHUNK_BYTES", "carry", "chunk_end", "grown", "hash_token", "scan"]

CHUNK_BYTES = 4096
_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)
# Odd constants of the hash: fractional bits of the golden ratio, and the multipliers of SplitMix64.
_SEED = np.uint64(0x9E3779B97F4A7C15)
_LENGTH = np.uint64(0xD6E8FEB86659FD93)
_MIX_A = np.uint64(0xBF58476D1CE4E5B9)
_MIX_B = np.uint64(0x94D049BB133111EB)


@inlined
def hash_token(low: NDArray[np.uint8], start: np.uint32, end: np.uint32) -> np.uint64:
    """64-bit hash of low[start:end]: eight bytes a step, the last step padded with zeros.

    Tokens of up to sixteen bytes take both steps, and a mask says whether the first counts: how long the
    next word is cannot be foreseen, and a missed branch costs more than a multiplication.
    """
    s = np.int64(start)
    n = np.int64(end) - s
    h = _SEED ^ (np.uint64(n) * _LENGTH)
    while n > 16:
        h = fold(h ^ load64(low, s), _MIX_A)
        s += 8
        n -= 8
    two = np.uint64(np.int64(8 - n) >> 63)
    h ^= two & (h ^ fold(h ^ load64(low, s), _MIX_A))
    step = np.int64(two & np.uint64(8))
    n -= step
    return np.uint64(fold(h ^ (load64(low, s + step) & (_ALL >> np.uint64(64 - 8 * n))), _MIX_A))


@inlined
def _hash_tokens(
    low: NDArray[np.uint8],
    starts: NDArray[np.uint32],
    ends: NDArray[np.uint32],
    first: int,
    n_tokens: int,
    hashes: NDArray[np.uint64],
) -> None:
    for t in range(first, n_tokens):
        hashes[t] = hash_token(low, starts[t], ends[t])


@inlined
def _hash_ngrams(
    tokens: NDArray[np.uint64],
    first: int,
    n_tokens: int,
    n: int,
    window: NDArray[np.uint64],
    hashes: NDArray[np.uint64],
) -> int:
    """Hashes of all 1..n-grams that end at tokens first..n_tokens-1, in the fixed order; their number.

    A k-gram's hash folds the hash of its first k-1 tokens with that of its last. `window[k-1]` keeps the
    k-gram that ends at the token before.
    """
    at = 0
    if n == 2:  # the usual case, without a loop inside the loop
        for t in range(n_tokens):
            token = tokens[t]
            if t >= first:
                hashes[at] = token
                at += 1
                if t > 0:
                    hashes[at] = fold(tokens[t - 1] ^ _LENGTH, token ^ _MIX_B)
                    at += 1
        return at
    for t in range(n_tokens):
        token = tokens[t]
        for k in range(min(n, t + 1), 1, -1):
            window[k - 1] = fold(window[k - 2] ^ _LENGTH, token ^ _MIX_B)
        window[0] = token
        if t >= first:
            for k in range(min(n, t + 1)):
                hashes[at] = window[k]
                at += 1
    return at


@inlined
def _fast_bucket(h: np.uint64, n_buckets: np.uint64) -> np.uint64:
    return ((h >> np.uint64(32)) * n_buckets) >> np.uint64(32)


@inlined
def _fast_buckets(
    hashes: NDArray[np.uint64], n_features: int, n_buckets: np.uint64, buckets: NDArray[np.uint32]
) -> None:
    for i in range(n_features):
        buckets[i] = _fast_bucket(hashes[i], n_buckets)


@inlined
def _count_pairs(
    low: NDArray[np.uint8],
    starts: NDArray[np.uint32],
    ends: NDArray[np.uint32],
    first: int,
    n_tokens: int,
    tokens: NDArray[np.uint64],
    counts_B: NDArray[np.int64],
) -> None:
    """Hash, bucket and count the 1- and 2-grams of the fast family, the usual case, in one loop."""
    n_buckets = np.uint64(counts_B.shape[0])
    before = tokens[max(first - 1, 0)]
    for t in range(np.uint64(first), np.uint64(n_tokens)):  # unsigned: no code for negative indices
        token = hash_token(low, starts[t], ends[t])
        tokens[t] = token
        counts_B[_fast_bucket(token, n_buckets)] += 1
        if t > 0:
            counts_B[_fast_bucket(fold(before ^ _LENGTH, token ^ _MIX_B), n_buckets)] += 1
        before = token


@inlined
def _sum_pairs(
    low: NDArray[np.uint8],
    starts: NDArray[np.uint32],
    ends: NDArray[np.uint32],
    first: int,
    n_tokens: int,
    tokens: NDArray[np.uint64],
    table_BK: NDArray[np.float64],
    total: float,
) -> float:
    """As `_count_pairs`, adding the values of one target: additions wait for one another beside hashing."""
    n_buckets = np.uint64(table_BK.shape[0])
    before = tokens[max(first - 1, 0)]
    for t in range(np.uint64(first), np.uint64(n_tokens)):
        token = hash_token(low, starts[t], ends[t])
        tokens[t] = token
        total += table_BK[_fast_bucket(token, n_buckets), 0]
        if t > 0:
            total += table_BK[_fast_bucket(fold(before ^ _LENGTH, token ^ _MIX_B), n_buckets), 0]
        before = token
    return total


@inlined
def carry(
    low: NDArray[np.uint8],
    starts: NDArray[np.uint32],
    ends: NDArray[np.uint32],
    tokens: NDArray[np.uint64],
    first: int,
    n_tokens: int,
) -> int:
    """Move tokens first..n_tokens-1, their bounds and hashes to the front; the end of their bytes in `low`.

    Bytes that are in place already are not touched, so a token of many chunks is not copied with each.
    """
    at = 0
    for t in range(first, n_tokens):
        start = int(np.int64(starts[t]))
        n_bytes = int(np.int64(ends[t])) - start
        if start != at:
            for i in range(n_bytes):
                low[at + i] = low[start + i]
        starts[t - first], ends[t - first] = np.uint32(at), np.uint32(at + n_bytes)
        tokens[t - first] = tokens[t]
        at += n_bytes
    return at


@inlined
def _add_rows(
    buckets: NDArray[np.uint32],
    n_features: int,
    table_BK: NDArray[np.float64],
    sums_DK: NDArray[np.float64],
    d: int,
) -> None:
    """Add the table rows of all buckets to sums_DK[d], in order."""
    n_targets = table_BK.shape[1]
    if n_targets == 1:
        total = sums_DK[d, 0]
        for i in range(n_features):
            total += table_BK[buckets[i], 0]
        sums_DK[d, 0] = total
        return
    sums_K = sums_DK[d]
    n_fours = n_features // 4 * 4
    for i in range(0, n_fours, 4):  # four rows a step keep the sums in registers; the order stays
        a, b = table_BK[buckets[i]], table_BK[buckets[i + 1]]
        c, e = table_BK[buckets[i + 2]], table_BK[buckets[i + 3]]
        for j in range(n_targets):
            sums_K[j] = (((sums_K[j] + a[j]) + b[j]) + c[j]) + e[j]
    for i in range(n_fours, n_features):
        row_K = table_BK[buckets[i]]
        for j in range(n_targets):
            sums_K[j] += row_K[j]


@inlined
def chunk_end(data: NDArray[np.uint8], start: int, stop: int) -> int:
    """End of the chunk that begins at `start`: between two code points, at most CHUNK_BYTES on."""
    cut = min(start + CHUNK_BYTES, stop)
    while cut < stop and cut > start + 4 and (data[cut] & 0xC0) == 0x80:
        cut -= 1
    return cut


@inlined
def grown(array: NDArray[np.uint8], n_kept: int, capacity: int) -> NDArray[np.uint8]:
    """A larger array that begins with the first `n_kept` bytes of `array`."""
    larger = np.empty(capacity, np.uint8)
    for i in range(n_kept):
        larger[i] = array[i]
    return larger


@kernel
def scan(
    offsets: NDArray[np.int64],
    data: NDArray[np.uint8],
    rows: NDArray[np.int64],
    characters: NDArray[np.uint64],
    n: int,
    n_buckets: int,
    memo: NDArray[np.uint64],
    front: NDArray[np.uint64],
    counts_B: NDArray[np.int64],
    table_BK: NDArray[np.float64],
    sums_DK: NDArray[np.float64],
    n_features_D: NDArray[np.int64],
    special_D: NDArray[np.bool_],
) -> None:
    """One pass over documents data[offsets[p]:offsets[p + 1]].

    Args:
        rows: the row of the results that each document goes to.
        characters: lower case and class of every code point (`_characters`).
        memo: sha256 buckets seen so far (`_memo_kernel`); empty for the fast family.
        front: the same for the n-grams of late, small enough to stay near, of this thread alone.
        counts_B: bucket counts to add to; empty: do not count.
        table_BK: values to sum for K targets, row by bucket; no rows: do not sum.
        sums_DK, n_features_D: results, zero on entry.
        special_D: becomes true for documents that were passed over, because Python must lower them.
    """
    room = 2 * CHUNK_BYTES + n + PADDING
    low, classes = np.empty(2 * room, np.uint8), np.empty(room, np.uint8)
    starts, ends = np.empty(room, np.uint32), np.empty(room, np.uint32)
    tokens, hashes = np.empty(room, np.uint64), np.empty(room * n, np.uint64)
    buckets, missed = np.empty(room * n, np.uint32), np.empty(room * n, np.int64)
    window = np.zeros(n, np.uint64)
    is_usual = n == 2 and memo.shape[0] == 0  # then one loop hashes and adds
    counts_pairs = is_usual and counts_B.shape[0] > 0 and table_BK.shape[0] == 0
    sums_pairs = is_usual and counts_B.shape[0] == 0 and table_BK.shape[1] == 1
    for p in range(rows.shape[0]):
        d, i, stop = rows[p], offsets[p], offsets[p + 1]
        special_D[d] = is_special(data, i, stop)
        if special_D[d]:
            continue
        n_held, n_context, n_unfinished, last = 0, 0, 0, SPACE
        while i < stop:
            cut = chunk_end(data, i, stop)
            if n_held + room > low.shape[0]:
                low = grown(low, n_held, 2 * (n_held + room))
            n_new = normalise(data, i, cut, characters, low, n_held, classes)
            i = cut
            n_tokens = find_tokens(low, n_new, last, n_held, classes, starts, ends, n_context, n_unfinished)
            last = class_at(low, n_held, classes, n_new - 1)
            n_unfinished = 1 if i < stop and last != SPACE else 0
            n_whole = n_tokens - n_unfinished
            if counts_pairs:
                _count_pairs(low, starts, ends, n_context, n_whole, tokens, counts_B)
            elif sums_pairs:
                sums_DK[d, 0] = _sum_pairs(
                    low, starts, ends, n_context, n_whole, tokens, table_BK, sums_DK[d, 0]
                )
            else:
                _hash_tokens(low, starts, ends, n_context, n_whole, tokens)
                n_features = _hash_ngrams(tokens, n_context, n_whole, n, window, hashes)
                if memo.shape[0] == 0:
                    _fast_buckets(hashes, n_features, np.uint64(n_buckets), buckets)
                else:
                    bounds = (low, starts, ends, n_context, n)
                    reference_buckets(
                        hashes, n_features, bounds, np.uint64(n_buckets), memo, front, missed, buckets
                    )
                if counts_B.shape[0] > 0:
                    for j in range(n_features):
                        counts_B[buckets[j]] += 1
                if table_BK.shape[0] > 0:
                    _add_rows(buckets, n_features, table_BK, sums_DK, d)
            for k in range(n):
                n_features_D[d] += max(n_whole, k) - max(n_context, k)
            if i < stop:
                n_context = min(n - 1, n_whole)
                n_held = carry(low, starts, ends, tokens, n_whole - n_context, n_tokens)
