"""Texts with byte ranges cut out or replaced."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from prill.corpus.batch import text_buffers
from prill.errors import InternalError

__all__ = ["splice"]


def splice(
    text: pa.Array,
    documents: NDArray[np.int64],
    starts: NDArray[np.int64],
    stops: NDArray[np.int64],
    kinds: NDArray[np.int32],
    replacements: Sequence[str],
) -> pa.Array:
    """Take the ranges' union out of every document; at each hole stands its first range's replacement.

    The first range of a hole is the one that starts first, then the longest, then the lowest kind.

    Args:
        text: large_string without nulls, D documents, any slice.
        documents: of each range, 0..D-1, shape (S,), in any order.
        starts, stops: bytes from the start of the document, between characters, shape (S,).
        kinds: index into `replacements`, shape (S,).
    Returns:
        large_string, D documents.
    Raises:
        InternalError: a range lies outside its document.
    """
    from prill.features._splice_kernel import copy_spliced, spliced_sizes

    offsets, data = text_buffers(text)
    lengths = np.diff(offsets)
    if np.any((starts < 0) | (starts > stops) | (stops > lengths[documents])):
        raise InternalError("expected ranges inside their documents, found one outside")
    order = np.lexsort((kinds, -stops, starts, documents))
    range_offsets = np.searchsorted(documents[order], np.arange(len(text) + 1)).astype(np.int64)
    encoded = [replacement.encode() for replacement in replacements]
    new_offsets = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
    new_data = np.frombuffer(b"".join(encoded), np.uint8)
    ranges = (range_offsets, starts[order], stops[order], kinds[order].astype(np.int32))
    sizes = np.empty(len(text), np.int64)
    spliced_sizes(offsets, *ranges, new_offsets, sizes)
    out_offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)])
    out = np.empty(int(out_offsets[-1]), np.uint8)
    copy_spliced(offsets, data, *ranges, new_offsets, new_data, out)
    buffers = [None, pa.py_buffer(out_offsets), pa.py_buffer(out)]
    return pa.Array.from_buffers(pa.large_string(), len(text), buffers)
