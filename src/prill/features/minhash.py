"""Word n-grams of documents as MinHash signatures, band keys and sets: who may be a near copy of whom.

Two families. `fast` is Prill's own: words of all scripts (`_matching_characters`: case folded, punctuation
parts words, every character is a word in scripts without spaces) and a similarity sketch that costs little
more than one multiplication a shingle. `reference` is datatrove's: its normal form, xxHash64, and the
permutations of RandomState(seed). Both have P(one row equal) = Jaccard similarity, so the S-curve of bands
and rows is the same.

Legend: D documents, B bands, K = bands x rows.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from prill.corpus.batch import text_buffers
from prill.errors import InternalError

__all__ = [
    "MINHASH_VERSION",
    "MinHashFamily",
    "ShingleSets",
    "Signatures",
    "collision_probability",
    "half_way",
    "reference_numbers",
    "shingle_sets",
    "sign_documents",
]

MinHashFamily: TypeAlias = Literal["fast", "reference"]

MINHASH_VERSION: Final = 1
"""Version of words, shingles, sketches, keys and sets; it changes whenever one of them changes."""

SET_LIMIT: Final = 1 << 16
"""Shingles up to which a set is whole; of more, those with the smallest hashes stand for it."""

_PRIME: Final = (1 << 61) - 1
_NUMBER: Final = re.compile("\\d+([.,\u060c\u066b\u2396\u2397\u2398]\\d+)?")
_SPACES: Final = re.compile(r"\s+")


@dataclass(frozen=True, kw_only=True, eq=False)
class Signatures:
    """What `sign_documents` knows of D documents.

    Attributes:
        keys: a key a band, uint64, shape (D, B); documents with an equal key share all rows of that band.
        n_shingles: int64, shape (D,), repeats counted; 0 for documents that have no signature.
        alone_bytes: bytes of characters that are words by themselves, int64, shape (D,); 0 in `reference`.
        values: the rows themselves, uint64, shape (D, K), or None when not asked for.
    """

    keys: NDArray[np.uint64]
    n_shingles: NDArray[np.int64]
    alone_bytes: NDArray[np.int64]
    values: NDArray[np.uint64] | None


@dataclass(frozen=True, kw_only=True, eq=False)
class ShingleSets:
    """Sets of 32-bit shingle hashes, one behind the other, each in ascending order.

    Attributes:
        lengths: int64, one a document; `SET_LIMIT` at most (or the limit asked for).
        values: uint32.
    """

    lengths: NDArray[np.int64]
    values: NDArray[np.uint32]


def sign_documents(
    text: pa.Array,
    *,
    n: int = 5,
    bands: int = 14,
    rows: int = 8,
    family: MinHashFamily = "fast",
    seed: int = 1,
    values: bool = False,
) -> Signatures:
    """Band keys of every document.

    In `fast`, a document of 1 to n-1 words has one shingle, all its words, so that it matches exactly its
    copies; one without words has no signature. In `reference`, fewer than n words give no signature.

    Args:
        text: large_string array without nulls, D documents, any slice.
        n: words of a shingle.
        bands, rows: K = bands x rows values are compared, `rows` at a time.
        family: whose words and hashes.
        seed: of the permutations; only for `reference`.
        values: also give the rows themselves.
    Source: Penedo et al. 2024, arXiv:2406.17557, appendix E.1 (14 bands of 8, 5-grams); Dahlgaard et al.
        2017, arXiv:1704.04370 (`fast`).
    Differs: `reference` parts words at white space, where datatrove's English tokenizer splits further ones
        such as "cannot"; `fast` folds no numbers.
    """
    if n < 1 or n > 64 or bands < 1 or rows < 1:
        raise InternalError(f"expected 1 <= n <= 64, bands and rows >= 1, found {n}, {bands}, {rows}")
    if family == "reference":
        return _sign_reference(text, n=n, bands=bands, rows=rows, seed=seed, values=values)
    from prill.features._matching_characters import matching_table
    from prill.features._minhash_kernel import sign

    offsets, data = text_buffers(text)
    keys_DB = np.empty((len(text), bands), np.uint64)
    values_DK = np.empty((len(text) if values else 0, bands * rows), np.uint64)
    n_shingles_D, alone_D = np.empty(len(text), np.int64), np.empty(len(text), np.int64)
    sign(offsets, data, matching_table(), n, rows, keys_DB, values_DK, n_shingles_D, alone_D)
    return Signatures(
        keys=keys_DB,
        n_shingles=n_shingles_D,
        alone_bytes=alone_D,
        values=values_DK if values else None,
    )


def shingle_sets(
    text: pa.Array, rows: NDArray[np.int64] | None = None, *, n: int = 5, limit: int = SET_LIMIT
) -> ShingleSets:
    """The different shingles of documents, as the `fast` family cuts them, to compute Jaccard similarity.

    Hashes have 32 bits: among sets of m shingles, about m^2 / 2^32 are taken for equal that are not.

    Args:
        text: large_string array without nulls, any slice.
        rows: which documents, in any order; default: all.
        n: words of a shingle.
        limit: hashes a document keeps, the smallest ones (a bottom-k sketch); sets below it are whole.
    """
    from prill.features._matching_characters import matching_table
    from prill.features._minhash_kernel import shingle_sets as run

    offsets, data = text_buffers(text)
    chosen = np.arange(len(text), dtype=np.int64) if rows is None else np.ascontiguousarray(rows, np.int64)
    lengths = np.zeros(len(chosen), np.int64)
    values = run(offsets, data, chosen, matching_table(), n, limit, lengths)
    return ShingleSets(lengths=lengths, values=values)


def collision_probability(similarity: float, *, bands: int = 14, rows: int = 8) -> float:
    """Probability that two documents share at least one band: 1 - (1 - s^rows)^bands.

    >>> round(collision_probability(0.8), 4)
    0.9235

    Source: Leskovec, Rajaraman, Ullman, Mining of Massive Datasets, section 3.4.
    """
    return float(1.0 - (1.0 - similarity**rows) ** bands)


def half_way(*, bands: int = 14, rows: int = 8) -> float:
    """Similarity at which a pair is found as often as not, in closed form.

    >>> round(half_way(), 3)
    0.685
    """
    return float((1.0 - 0.5 ** (1.0 / bands)) ** (1.0 / rows))


@functools.cache
def reference_numbers(seed: int, count: int) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """The numbers a and b of `count` permutations, from MT19937 as datatrove draws them."""
    generator = np.random.RandomState(seed)
    a = generator.randint(1, _PRIME, dtype=np.uint64, size=count)
    return a, generator.randint(0, _PRIME, dtype=np.uint64, size=count)


def _sign_reference(text: pa.Array, *, n: int, bands: int, rows: int, seed: int, values: bool) -> Signatures:
    from prill.corpus.strings import text_array
    from prill.features._minhash_reference_kernel import sign_reference

    normal = [_normal_form(document).encode() for document in text.to_pylist()]
    offsets, _ = text_buffers(text_array(normal))
    data = np.frombuffer(b"".join(normal) + bytes(8), np.uint8)
    a_K, b_K = reference_numbers(seed, bands * rows)
    values_DK = np.empty((len(text), bands * rows), np.uint64)
    n_shingles_D = np.zeros(len(text), np.int64)
    sign_reference(offsets, data, n, a_K, b_K, values_DK, n_shingles_D)
    return Signatures(
        keys=_band_keys(values_DK, n_shingles_D, bands, rows),
        n_shingles=n_shingles_D,
        alone_bytes=np.zeros(len(text), np.int64),
        values=values_DK if values else None,
    )


def _band_keys(
    values_DK: NDArray[np.uint64], n_shingles_D: NDArray[np.int64], bands: int, rows: int
) -> NDArray[np.uint64]:
    from prill.features._minhash_kernel import put_keys

    keys_DB = np.empty((len(values_DK), bands), np.uint64)
    put_keys(values_DK, rows, keys_DB)
    keys_DB[n_shingles_D == 0] = 0
    return keys_DB


def _normal_form(text: str) -> str:
    """datatrove's `simplify_text` with its defaults."""
    text = _NUMBER.sub("0", text.lower()).translate(_punctuation())
    text = _SPACES.sub(" ", text.strip())
    if not text.isascii():
        text = unicodedata.normalize("NFD", text)
        text = "".join(c for c in text if unicodedata.category(c) != "Mn")
    return text.strip()


@functools.cache
def _punctuation() -> dict[int, str]:
    """The characters that datatrove turns into spaces."""
    controls = [*range(9), *range(11, 13), *range(13, 32), *range(127, 160)]
    return {ord(c): " " for c in _MARKS} | dict.fromkeys(controls, " ")


_MARKS: Final = (
    "!/\u2014\u201d:\uff05\uff11\u3008&(\u3001\u2501\\\u3010#%\u300c\u300d\uff0c\u3011\uff1b+^]~\u201c\u300a\u201e';"
    "\u2019{|\u2236\u00b4[=-`*\uff0e\uff08\u2013\uff1f\uff01\uff1a$\uff5e\u00ab\u3009,><\u300b)?\uff09\u3002\u2026"
    '@_."}\u25ba\u00bb'
)
