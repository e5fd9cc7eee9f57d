"""Hashed word n-grams of a text column: counts, and sums of a value per bucket for many targets at once.

A token is a match of `\\w+|[^\\w\\s]+` in `text.lower()`, an n-gram the tokens joined by one space; all 1..n
are features. Two families say which bucket an n-gram falls into:

- `reference`: int(sha256(ngram).hexdigest(), 16) % n_buckets, the rule of the published DSIR package;
- `fast`: Prill's own 64-bit hash, several times cheaper and as good; `FAST_VERSION` names it.

Legend: D documents, K targets, B buckets.
"""

from __future__ import annotations

import functools
import threading
from typing import Literal, TypeAlias, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from prill.corpus.batch import text_buffers
from prill.errors import InternalError
from prill.features.text_hash import hash_documents

__all__ = ["FAST_VERSION", "Family", "compile_kernels", "count_ngrams", "hash_documents", "score_ngrams"]

Family: TypeAlias = Literal["fast", "reference"]

FAST_VERSION = 1
"""Version of the fast family's hash and bucket rule; it changes whenever a bucket changes."""

_MEMO_WORDS = 1 << 23
_FRONT_WORDS = 1 << 15
_MAX_BUCKETS = 1 << 24
_MAX_DOCUMENT_BYTES = 1 << 31  # positions are uint32, and lower case may be longer

_threads = threading.local()


def count_ngrams(
    text: pa.Array, *, n: int = 2, n_buckets: int = 10_000, family: Family = "fast"
) -> tuple[NDArray[np.int64], int]:
    """Bucket counts of all 1..n-grams of all documents.

    Args:
        text: large_string array without nulls, any slice.
        n: longest n-gram, tokens, at least 1.
        n_buckets: number of buckets, 1 to 2^24.
        family: which bucket rule.
    Returns:
        Counts, int64, shape (B,), and their sum.
    Source: Xie et al. 2023, arXiv:2302.03169, section 3. Differs: none for `reference`.
    """
    counts_B = np.zeros(n_buckets, dtype=np.int64)
    nothing_BK = np.empty((0, 1), dtype=np.float64)
    _scan(text, n=n, family=family, counts_B=counts_B, table_BK=nothing_BK)
    return counts_B, int(counts_B.sum())


def score_ngrams(
    text: pa.Array, log_ratio: NDArray[np.float64], *, n: int = 2, family: Family = "fast"
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Sum of log_ratio[k, bucket] over all 1..n-grams of each document, for every target k, in one pass.

    The sum runs in the order of the text, in float64, so it is the same for any batch and any K.

    Args:
        text: large_string array without nulls, D documents, any slice.
        log_ratio: float64, shape (K, B), nats a feature.
        n: longest n-gram, tokens, at least 1.
        family: which bucket rule; must be the one that log_ratio was fitted with.
    Returns:
        Sums, float64, shape (K, D), and the number of features, int64, shape (D,).
    Source: Xie et al. 2023, arXiv:2302.03169, section 3. Differs: none for `reference`.
    """
    table_BK = np.ascontiguousarray(np.asarray(log_ratio, dtype=np.float64).T)
    no_counts = np.empty(0, dtype=np.int64)
    sums_DK, n_features_D = _scan(text, n=n, family=family, counts_B=no_counts, table_BK=table_BK)
    return np.ascontiguousarray(sums_DK.T), n_features_D


def compile_kernels() -> None:
    """Compile every kernel of this room, or load it from disk, so that workers started later only load.

    Takes about 8 s of processor time on a fresh machine, and 1 s afterwards.
    """
    text = pa.array(["a"], pa.large_string())
    count_ngrams(text)
    hash_documents(text)


def _scan(
    text: pa.Array,
    *,
    n: int,
    family: Family,
    counts_B: NDArray[np.int64],
    table_BK: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    from prill.features._characters import character_table
    from prill.features._ngram_kernel import scan

    n_buckets = max(counts_B.shape[0], table_BK.shape[0])
    if n < 1 or not 1 <= n_buckets <= _MAX_BUCKETS:
        raise InternalError(
            f"n must be at least 1 and buckets 1 to {_MAX_BUCKETS}, found n={n}, {n_buckets} buckets"
        )
    nothing = np.empty(0, dtype=np.uint64)
    memo, front = (_memo(n_buckets), _front(n_buckets)) if family == "reference" else (nothing, nothing)
    sums_DK = np.zeros((len(text), table_BK.shape[1]), dtype=np.float64)
    n_features_D = np.zeros(len(text), dtype=np.int64)
    special_D = np.zeros(len(text), dtype=np.bool_)

    def run(column: pa.Array, rows: NDArray[np.int64]) -> None:
        offsets, data = text_buffers(column)
        if offsets[-1] - offsets[0] > _MAX_DOCUMENT_BYTES and np.diff(offsets).max() > _MAX_DOCUMENT_BYTES:
            raise InternalError(f"a document must have at most {_MAX_DOCUMENT_BYTES} bytes")
        scan(
            offsets,
            data,
            rows,
            character_table(),
            n,
            n_buckets,
            memo,
            front,
            counts_B,
            table_BK,
            sums_DK,
            n_features_D,
            special_D,
        )

    run(text, np.arange(len(text), dtype=np.int64))
    if special_D.any():
        lowered = [document.lower() for document in text.filter(pa.array(special_D)).to_pylist()]
        run(pa.array(lowered, pa.large_string()), np.flatnonzero(special_D))
    return sums_DK, n_features_D


@functools.lru_cache(maxsize=4)
def _memo(n_buckets: int) -> NDArray[np.uint64]:
    """sha256 buckets already computed in this process, 64 MiB, bounded; a pure cache that threads share."""
    words = np.zeros(_MEMO_WORDS + 8, dtype=np.uint64)
    first = -(words.ctypes.data // 8) % 8  # sets begin at cache lines
    return words[first : first + _MEMO_WORDS]


def _front(n_buckets: int) -> NDArray[np.uint64]:
    """The words of the memo that this thread met of late, 256 KiB, so that they stay in its core's cache."""
    memo = _memo(n_buckets)
    if getattr(_threads, "memo", None) is not memo:
        _threads.memo, _threads.front = memo, np.zeros(_FRONT_WORDS, dtype=np.uint64)
    return cast("NDArray[np.uint64]", _threads.front)
