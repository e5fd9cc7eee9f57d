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

from prill.features._jit import kernel, load64
from prill.features._sha256_kernel import sha256_modulo
from prill.features._text_kernel import PADDING, find_tokens, normalise

__all__ = ["MEMO_WAYS", "scan"]

MEMO_WAYS = 8
"""Words of one cache line, among which the memo looks for an n-gram."""

_CHUNK_BYTES = 8192
_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)
# Odd constants of the hash: fractional bits of the golden ratio and the multipliers of SplitMix64.
_SEED = np.uint64(0x9E3779B97F4A7C15)
_LENGTH = np.uint64(0xD6E8FEB86659FD93)
_MIX_A = np.uint64(0xBF58476D1CE4E5B9)
_MIX_B = np.uint64(0x94D049BB133111EB)


@kernel
def _mix(h: np.uint64) -> np.uint64:
    h = (h ^ (h >> np.uint64(30))) * _MIX_A
    h = (h ^ (h >> np.uint64(27))) * _MIX_B
    return h ^ (h >> np.uint64(31))


@kernel
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


@kernel
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


@kernel
def _fast_buckets(
    hashes: NDArray[np.uint64], n_features: int, n_buckets: np.uint64, buckets: NDArray[np.uint32]
) -> None:
    for i in range(n_features):
        buckets[i] = ((hashes[i] >> np.uint64(32)) * n_buckets) >> np.uint64(32)


@kernel
def _join(
    low: NDArray[np.uint8],
    starts: NDArray[np.int64],
    ends: NDArray[np.int64],
    first: int,
    last: int,
    message: NDArray[np.uint8],
) -> int:
    """Tokens first..last joined by one space into `message`; the length."""
    at = 0
    for t in range(first, last + 1):
        if t > first:
            message[at] = 32
            at += 1
        for i in range(starts[t], ends[t]):
            message[at] = low[i]
            at += 1
    return at


@kernel
def _reference_buckets(
    hashes: NDArray[np.uint64],
    low: NDArray[np.uint8],
    starts: NDArray[np.int64],
    ends: NDArray[np.int64],
    first: int,
    n_tokens: int,
    n: int,
    n_buckets: np.uint64,
    memo: NDArray[np.uint64],
    buckets: NDArray[np.uint32],
) -> None:
    """sha256 buckets through the memo: a word is the n-gram's hash with its low bits replaced by bucket + 1.

    The low bits choose the set of words, so the whole hash is compared. Racing threads write whole words,
    each right by itself.
    """
    low_bits = np.uint64(1)
    while low_bits <= n_buckets:
        low_bits <<= np.uint64(1)
    low_bits -= np.uint64(1)
    sets = np.uint64(memo.shape[0] // MEMO_WAYS - 1)
    message = np.empty(1024, dtype=np.uint8)
    state, schedule = np.empty(8, dtype=np.uint32), np.empty(64, dtype=np.uint32)
    i = 0
    for t in range(first, n_tokens):
        for k in range(min(n, t + 1)):
            h = hashes[i]
            home = np.int64(h & sets) * MEMO_WAYS
            found, free = np.uint64(0), np.int64(h >> np.uint64(61))
            for way in range(MEMO_WAYS):
                word = memo[home + way]
                if (word ^ h) & ~low_bits == 0 and word & low_bits != 0:
                    found = word & low_bits
                    break
                if word == 0:
                    free = np.int64(way)
                    break
            if found == 0:
                n_bytes = ends[t] - starts[t - k] + k + 1
                if n_bytes + 72 > message.shape[0]:
                    message = np.empty(2 * n_bytes + 72, dtype=np.uint8)
                n_bytes = _join(low, starts, ends, t - k, t, message)
                found = sha256_modulo(message, n_bytes, n_buckets, state, schedule) + np.uint64(1)
                memo[home + free] = (h & ~low_bits) | found
            buckets[i] = found - np.uint64(1)
            i += 1


@kernel
def _carry(
    low: NDArray[np.uint8],
    starts: NDArray[np.int64],
    ends: NDArray[np.int64],
    first: int,
    n_tokens: int,
    n_bytes: int,
    to: NDArray[np.uint8],
) -> int:
    """Copy tokens first..n_tokens-1 into `to`, one space where there was a gap; the new end.

    A gap behind the last token (it ends before n_bytes) is kept as one space too.
    """
    at = 0
    for t in range(first, n_tokens):
        if t > first and starts[t] > ends[t - 1]:
            to[at] = 32
            at += 1
        for i in range(starts[t], ends[t]):
            to[at] = low[i]
            at += 1
    if n_tokens > first and ends[n_tokens - 1] < n_bytes:
        to[at] = 32
        at += 1
    return at


@kernel
def _add_row(
    buckets: NDArray[np.uint32], n_features: int, table_BK: NDArray[np.float64], sums_K: NDArray[np.float64]
) -> None:
    """Add the table rows of all buckets to sums_K, in order."""
    n_targets = table_BK.shape[1]
    if n_targets == 1:
        total = sums_K[0]
        for i in range(n_features):
            total += table_BK[buckets[i], 0]
        sums_K[0] = total
    else:
        for i in range(n_features):
            row = table_BK[buckets[i]]
            for j in range(n_targets):
                sums_K[j] += row[j]


@kernel
def scan(
    offsets: NDArray[np.int64],
    data: NDArray[np.uint8],
    characters: NDArray[np.int32],
    n: int,
    n_buckets: int,
    memo: NDArray[np.uint64],
    counts_B: NDArray[np.int64],
    table_BK: NDArray[np.float64],
    sums_DK: NDArray[np.float64],
    n_features_D: NDArray[np.int64],
) -> None:
    """One pass over documents data[offsets[d]:offsets[d + 1]].

    Args:
        characters: lower case and class of every code point (`_characters`).
        memo: sha256 buckets seen so far, words in sets of MEMO_WAYS; empty for the fast family.
        counts_B: bucket counts to add to; empty: do not count.
        table_BK: values to sum for K targets, row by bucket; no rows: do not sum.
        sums_DK, n_features_D: results, zero on entry.
    """
    capacity = 3 * _CHUNK_BYTES
    low, cls = np.empty(capacity, np.uint8), np.empty(capacity, np.uint8)
    starts, ends = np.empty(capacity, np.int64), np.empty(capacity, np.int64)
    tokens, hashes = np.empty(capacity, np.uint64), np.empty(capacity * n, np.uint64)
    buckets, held = np.empty(capacity * n, np.uint32), np.empty(capacity, np.uint8)
    window = np.zeros(n, np.uint64)
    for d in range(offsets.shape[0] - 1):
        i, stop = offsets[d], offsets[d + 1]
        n_held, n_context = 0, 0
        while i < stop:
            cut = min(i + max(_CHUNK_BYTES, n_held), stop)
            while cut < stop and cut > i + 4 and (data[cut] & 0xC0) == 0x80:
                cut -= 1
            needed = 3 * n_held + 2 * (cut - i) + PADDING + 8
            if needed > capacity:
                capacity = 2 * needed
                low, cls = np.empty(capacity, np.uint8), np.empty(capacity, np.uint8)
                starts, ends = np.empty(capacity, np.int64), np.empty(capacity, np.int64)
                tokens, hashes = np.empty(capacity, np.uint64), np.empty(capacity * n, np.uint64)
                buckets = np.empty(capacity * n, np.uint32)
                grown = np.empty(capacity, np.uint8)
                grown[:n_held] = held[:n_held]
                held = grown
            end = normalise(held, 0, n_held, characters, low, cls, 0)
            end = normalise(data, i, cut, characters, low, cls, end)
            i = cut
            n_tokens = find_tokens(cls, end, starts, ends)
            n_whole = n_tokens
            if i < stop and n_tokens > 0 and ends[n_tokens - 1] == end:
                n_whole -= 1
            _hash_tokens(low, starts, ends, n_whole, tokens)
            n_features = _hash_ngrams(tokens, n_context, n_whole, n, window, hashes)
            if memo.shape[0] > 0:
                _reference_buckets(
                    hashes, low, starts, ends, n_context, n_whole, n, np.uint64(n_buckets), memo, buckets
                )
            else:
                _fast_buckets(hashes, n_features, np.uint64(n_buckets), buckets)
            n_features_D[d] += n_features
            if counts_B.shape[0] > 0:
                for j in range(n_features):
                    counts_B[buckets[j]] += 1
            if table_BK.shape[0] > 0:
                _add_row(buckets, n_features, table_BK, sums_DK[d])
            if i < stop:
                n_context = min(n - 1, n_whole)
                n_held = _carry(low, starts, ends, n_whole - n_context, n_tokens, end, held)
