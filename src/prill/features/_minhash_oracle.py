"""MinHash in plain Python, to be read and to test the kernels against. Slow."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from prill.features._matching_oracle import words_of

__all__ = ["jaccard", "keys_of", "reference_shingles", "shingle_words", "simplified", "sketch_of"]

_MASK = (1 << 64) - 1
_LOW = 0xFFFFFFFF
_SALT = 0x9E3779B97F4A7C15
_MIX_A = 0xBF58476D1CE4E5B9
_MIX_B = 0x94D049BB133111EB
_NUMBER = re.compile("\\d+([.,\u060c\u066b\u2396\u2397\u2398]\\d+)?")


def shingle_words(text: str, n: int) -> list[tuple[str, ...]]:
    """The word n-grams of a text, or all its words as one where there are fewer than n."""
    words = words_of(text)
    return [tuple(words[i : i + n]) for i in range(len(words) - n + 1)] or ([tuple(words)] if words else [])


def jaccard(a: str, b: str, n: int) -> float:
    """Share of the different shingles of two texts that both have."""
    first, second = set(shingle_words(a, n)), set(shingle_words(b, n))
    return len(first & second) / len(first | second) if first or second else 0.0


def sketch_of(shingles: Sequence[int], n_bins: int) -> list[int]:
    """Similarity sketch of 64-bit shingle hashes: all 2K rounds over all shingles, without shortcuts."""
    sketch = [_MASK] * n_bins
    for r in range(2 * n_bins):
        salt = (_SALT * (2 * r + 1)) & _MASK
        for x in set(shingles):
            y = _fold(x ^ salt, _MIX_A)
            k = ((y >> 32) * n_bins) >> 32 if r < n_bins else r - n_bins
            sketch[k] = min(sketch[k], (r << 32) | (y & _LOW))
    return sketch


def keys_of(sketch: Sequence[int], n_rows: int) -> list[int]:
    """Band keys of a sketch."""
    keys = []
    for b in range(len(sketch) // n_rows):
        h = ((b + 1) * _SALT) & _MASK
        for value in sketch[b * n_rows : (b + 1) * n_rows]:
            h = _fold(h ^ value, _MIX_B)
        keys.append(h)
    return keys


def simplified(text: str, punctuation: str) -> str:
    """datatrove's normal form: lower case, numbers 0, no punctuation, single spaces, no accents."""
    text = _NUMBER.sub("0", text.lower()).translate(str.maketrans(punctuation, " " * len(punctuation)))
    text = re.sub(r"\s+", " ", text.strip())
    marked = unicodedata.normalize("NFD", text)
    return "".join(c for c in marked if unicodedata.category(c) != "Mn").strip()


def reference_shingles(normal: str, n: int) -> list[str]:
    """The n-grams of a normal form, words joined by one space."""
    words = normal.split(" ") if normal else []
    return [" ".join(words[i : i + n]) for i in range(len(words) - n + 1)]


def _fold(a: int, b: int) -> int:
    return ((a * b) & _MASK) ^ ((a * b) >> 64)
