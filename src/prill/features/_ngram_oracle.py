"""The n-gram features in plain Python, to be read and to test the kernels against. Slow."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator

__all__ = ["fast_bucket", "ngrams", "reference_bucket", "tokens"]

_TOKEN = re.compile(r"\w+|[^\w\s]+")
_MASK = (1 << 64) - 1
_SEED = 0x9E3779B97F4A7C15
_LENGTH = 0xD6E8FEB86659FD93
_MIX_A = 0xBF58476D1CE4E5B9
_MIX_B = 0x94D049BB133111EB


def tokens(text: str) -> list[str]:
    """Tokens of a document, as NLTK's WordPunctTokenizer cuts the lowered text."""
    return _TOKEN.findall(text.lower())


def ngrams(text: str, n: int) -> Iterator[tuple[str, ...]]:
    """All 1..n-grams in the order in which kernels add them: by last token, then by length."""
    words = tokens(text)
    for t in range(len(words)):
        for k in range(1, min(n, t + 1) + 1):
            yield tuple(words[t - k + 1 : t + 1])


def reference_bucket(ngram: tuple[str, ...], n_buckets: int) -> int:
    """The published package's rule."""
    return int(hashlib.sha256(" ".join(ngram).encode("utf-8")).hexdigest(), 16) % n_buckets


def fast_bucket(ngram: tuple[str, ...], n_buckets: int) -> int:
    """The upper half of the n-gram's 64-bit hash, scaled to the number of buckets."""
    return ((_ngram_hash(ngram) >> 32) * n_buckets) >> 32


def _ngram_hash(ngram: tuple[str, ...]) -> int:
    h = _token_hash(ngram[0])
    for token in ngram[1:]:
        h = _fold(h ^ _LENGTH, _token_hash(token) ^ _MIX_B)
    return h


def _token_hash(token: str) -> int:
    data = token.encode("utf-8")
    h = _SEED ^ ((len(data) * _LENGTH) & _MASK)
    for i in range(0, len(data), 8):
        h = _fold(h ^ int.from_bytes(data[i : i + 8], "little"), _MIX_A)
    return h


def _fold(a: int, b: int) -> int:
    return ((a * b) & _MASK) ^ ((a * b) >> 64)
