"""Hash, bucket, and count or sum the n-grams of many documents in one pass over an Arrow text column.

A document is cut into chunks of a few kilobytes that stay in the first-level cache through all passes:
lower and classify, find tokens, hash tokens, hash n-grams, look buckets up, add. The last n-1 tokens and an
unfinished token are carried into the next chunk, so chunk borders change nothing, and one huge document
needs no more memory than its longest tokens.

Order: features are added in the order of their last token, then by length 1..n. Sums in float64 follow that
order, so they depend on the document alone, never on the batch.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from prill.features._jit import inlined, kernel, load64
from prill.features._memo_kernel import reference_buckets
from prill.features._text_kernel import PADDING, SPACE, find_tokens, normalise

__all__ = ["scan"]

_CHUNK_BYTES = 8192
_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)
# Odd constants of the hash: fractional bits of the golden ratio and the multipliers of SplitMix64.
_SEED = np.uint64(0x9E3779B97F4A7C15)
_LENGTH = np.uint64(0xD6E8FEB86659FD93)
_MIX_A = np.uint64(0xBF58476D1CE4E5B9)
_MIX_B = np.uint64(0x94D049BB133111EB)


@inlined
def _mix(h: np.uint64) -> np.uint64:
    h = (h ^ (h >> np.uint64(30))) * _MIX_A
    h = (h ^ (h >> np.uint64(27))) * _MIX_B
    return h ^ (h >> np.uint64(31))


@inlined
def _hash_tokens(
    low: NDArray[np.uint8],
    starts: NDArray[np.int64],
    ends: NDArray[np.int64],
    n_tokens: int,
    hashes: NDArray[np.uint64],
) -> None:
    """64-bit hash of the bytes of every token: eight bytes a step, the last step padded with zeros."""
    for t in range(n_tokens):
        s, n = starts[t], ends[t] - starts[t]
        h = _SEED ^ (np.uint64(n) * _LENGTH)
        while n > 8:
            h = (h ^ load64(low, s)) * _MIX_A
            h ^= h >> np.uint64(32)
            s += 8
            n -= 8
        h = (h ^ (load64(low, s) & (_ALL >> np.uint64(64 - 8 * n)))) * _MIX_A
        hashes[t] = h ^ (h >> np.uint64(32))


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

    `window[k-1]` keeps the k-gram that ends at the token before: a k-gram is its first k-1 tokens' hash
    times a constant plus the hash of the last token, mixed.
    """
    at = 0
    for t in range(n_tokens):
        token = tokens[t]
        for k in range(min(n, t + 1), 1, -1):
            window[k - 1] = _mix(window[k - 2] * _LENGTH + token)
        window[0] = _mix(token)
        if t >= first:
            for k in range(min(n, t + 1)):
                hashes[at] = window[k]
                at += 1
    return at


@inlined
def _fast_buckets(
    hashes: NDArray[np.uint64], n_features: int, n_buckets: np.uint64, buckets: NDArray[np.uint32]
) -> None:
    for i in range(n_features):
        buckets[i] = ((hashes[i] >> np.uint64(32)) * n_buckets) >> np.uint64(32)


@inlined
def _carry(
    low: NDArray[np.uint8],
    cls: NDArray[np.uint8],
    starts: NDArray[np.int64],
    ends: NDArray[np.int64],
    first: int,
    n_tokens: int,
    n_bytes: int,
) -> int:
    """Move tokens first..n_tokens-1 to the front of `low` and `cls`; the new end.

    A gap between two tokens, or behind the last one (it ends before n_bytes), shrinks to one space.
    """
    at = 0
    for t in range(first, n_tokens):
        if t > first and starts[t] > ends[t - 1]:
            low[at], cls[at] = 32, SPACE
            at += 1
        for i in range(starts[t], ends[t]):
            low[at], cls[at] = low[i], cls[i]
            at += 1
    if n_tokens > first and ends[n_tokens - 1] < n_bytes:
        low[at], cls[at] = 32, SPACE
        at += 1
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
    else:
        for i in range(n_features):
            for j in range(n_targets):
                sums_DK[d, j] += table_BK[buckets[i], j]


@inlined
def _grown(array: NDArray[np.uint8], n_kept: int, capacity: int) -> NDArray[np.uint8]:
    grown = np.empty(capacity, np.uint8)
    for i in range(n_kept):
        grown[i] = array[i]
    return grown


@kernel
def scan(
    offsets: NDArray[np.int64],
    data: NDArray[np.uint8],
    places: NDArray[np.int64],
    rows: NDArray[np.int64],
    characters: NDArray[np.int32],
    n: int,
    n_buckets: int,
    memo: NDArray[np.uint64],
    counts_B: NDArray[np.int64],
    table_BK: NDArray[np.float64],
    sums_DK: NDArray[np.float64],
    n_features_D: NDArray[np.int64],
) -> None:
    """One pass over documents data[offsets[p]:offsets[p + 1]] for p in `places`.

    Args:
        places, rows: which documents to read, and the row of the results that each one goes to.
        characters: lower case and class of every code point (`_characters`).
        memo: sha256 buckets seen so far (`_memo_kernel`); empty for the fast family.
        counts_B: bucket counts to add to; empty: do not count.
        table_BK: values to sum for K targets, row by bucket; no rows: do not sum.
        sums_DK, n_features_D: results, zero on entry.
    """
    capacity = 3 * _CHUNK_BYTES
    low, cls = np.empty(capacity, np.uint8), np.empty(capacity, np.uint8)
    starts, ends = np.empty(capacity, np.int64), np.empty(capacity, np.int64)
    tokens, hashes = np.empty(capacity, np.uint64), np.empty(capacity * n, np.uint64)
    buckets, window = np.empty(capacity * n, np.uint32), np.zeros(n, np.uint64)
    for place in range(places.shape[0]):
        d = rows[place]
        i, stop = offsets[places[place]], offsets[places[place] + 1]
        n_held, n_context = 0, 0
        while i < stop:
            cut = min(i + max(_CHUNK_BYTES, n_held), stop)
            while cut < stop and cut > i + 4 and (data[cut] & 0xC0) == 0x80:
                cut -= 1
            needed = n_held + 2 * (cut - i) + PADDING + 8
            if needed > capacity:
                capacity = 2 * needed
                low, cls = _grown(low, n_held, capacity), _grown(cls, n_held, capacity)
                starts, ends = np.empty(capacity, np.int64), np.empty(capacity, np.int64)
                tokens, hashes = np.empty(capacity, np.uint64), np.empty(capacity * n, np.uint64)
                buckets = np.empty(capacity * n, np.uint32)
            end = normalise(data, i, cut, characters, low, cls, n_held)
            i = cut
            n_tokens = find_tokens(cls, end, starts, ends)
            n_whole = n_tokens
            if i < stop and n_tokens > 0 and ends[n_tokens - 1] == end:
                n_whole -= 1
            _hash_tokens(low, starts, ends, n_whole, tokens)
            n_features = _hash_ngrams(tokens, n_context, n_whole, n, window, hashes)
            if memo.shape[0] > 0:
                reference_buckets(
                    hashes,
                    n_features,
                    low,
                    starts,
                    ends,
                    n_context,
                    n_whole,
                    n,
                    np.uint64(n_buckets),
                    memo,
                    buckets,
                )
            else:
                _fast_buckets(hashes, n_features, np.uint64(n_buckets), buckets)
            n_features_D[d] += n_features
            if counts_B.shape[0] > 0:
                for j in range(n_features):
                    counts_B[buckets[j]] += 1
            if table_BK.shape[0] > 0:
                _add_rows(buckets, n_features, table_BK, sums_DK, d)
            if i < stop:
                n_context = min(n - 1, n_whole)
                n_held = _carry(low, cls, starts, ends, n_whole - n_context, n_tokens, end)
