"""Texts with byte ranges cut out or replaced."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from prill.corpus.batch import text_buffers
from prill.errors import InternalError

__all__ = ["splice", "spliced_lengths"]


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
    from prill.features._splice_kernel import copy_spliced

    offsets, data = text_buffers(text)
    ranges = _sorted(np.diff(offsets), documents, starts, stops, kinds)
    encoded = [replacement.encode() for replacement in replacements]
    new_offsets = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
    sizes, _ = _sizes(offsets, ranges, new_offsets)
    out_offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)])
    out = np.empty(int(out_offsets[-1]), np.uint8)
    copy_spliced(offsets, data, *ranges, new_offsets, np.frombuffer(b"".join(encoded), np.uint8), out)
    buffers = [None, pa.py_buffer(out_offsets), pa.py_buffer(out)]
    return pa.Array.from_buffers(pa.large_string(), len(text), buffers)


def spliced_lengths(
    n_bytes: NDArray[np.int64],
    documents: NDArray[np.int64],
    starts: NDArray[np.int64],
    stops: NDArray[np.int64],
    kinds: NDArray[np.int32],
    replacements: Sequence[str],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Bytes that `splice` leaves of documents of `n_bytes`, and that it takes out, without reading them.

    Returns:
        Lengths afterwards, replacements included, and bytes taken out, both int64, shape (D,).
    """
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(n_bytes)])
    ranges = _sorted(n_bytes, documents, starts, stops, kinds)
    new_offsets = np.cumsum([0, *(len(text.encode()) for text in replacements)], dtype=np.int64)
    return _sizes(offsets, ranges, new_offsets)


_Ranges: TypeAlias = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int32]]


def _sorted(
    n_bytes: NDArray[np.int64],
    documents: NDArray[np.int64],
    starts: NDArray[np.int64],
    stops: NDArray[np.int64],
    kinds: NDArray[np.int32],
) -> _Ranges:
    """Where each document's ranges begin, and the ranges in order."""
    if np.any((starts < 0) | (starts > stops) | (stops > n_bytes[documents])):
        raise InternalError("expected ranges inside their documents, found one outside")
    order = _order((np.cumsum(n_bytes + 1) - n_bytes)[documents] + starts, stops, kinds)
    range_offsets = np.cumsum(np.append(0, np.bincount(documents, minlength=len(n_bytes))), dtype=np.int64)
    return range_offsets, starts[order], stops[order], kinds[order].astype(np.int32)


def _order(
    places: NDArray[np.int64], stops: NDArray[np.int64], kinds: NDArray[np.int32]
) -> NDArray[np.int64]:
    """Ranges by place in the whole text, of one place the longest first, then by kind.

    They come in sorted runs, one a judge, which a stable sort merges; equal places are few.
    """
    order = np.argsort(places, kind="stable")
    is_equal = np.diff(places[order]) == 0
    tied = np.flatnonzero(np.append(is_equal, False) | np.append(False, is_equal))
    if len(tied):
        some = order[tied]
        order[tied] = some[np.lexsort((kinds[some], -stops[some], places[some]))]
    return order


def _sizes(
    offsets: NDArray[np.int64], ranges: _Ranges, new_offsets: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    from prill.features._splice_kernel import spliced_sizes

    sizes, taken = np.empty(len(offsets) - 1, np.int64), np.empty(len(offsets) - 1, np.int64)
    spliced_sizes(offsets, *ranges, new_offsets, sizes, taken)
    return sizes, taken
