"""The 128-bit hash of a document's bytes: the key of exact copies and of all randomness.

MurmurHash3 (x64, 128 bits, seed 0): public, with published test vectors, several gigabytes a second. It is
not a cryptographic hash: who controls the text can make two documents collide, and then shares one random
draw between them, nothing worse.

Legend: D documents.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from prill.corpus.batch import text_buffers

__all__ = ["TEXT_HASH_VERSION", "hash_documents"]

TEXT_HASH_VERSION = 1
"""Version of the document hash. It never changes: selections of old runs are keyed by it."""


def hash_documents(text: pa.Array) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """MurmurHash3 x64 128 of the UTF-8 bytes of every document.

    Args:
        text: large_string array without nulls, D documents, any slice.
    Returns:
        (hi, lo), each uint64, shape (D,): the second and the first word of the hash. `lo` keys the draws.
    Source: Appleby, MurmurHash3, smhasher, public domain.
    """
    from prill.features._text_hash_kernel import murmur128

    offsets, data = text_buffers(text)
    hi_D, lo_D = np.empty(len(text), dtype=np.uint64), np.empty(len(text), dtype=np.uint64)
    murmur128(offsets, data, hi_D, lo_D)
    return hi_D, lo_D
