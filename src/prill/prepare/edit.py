"""Applying edits: the text that is left when every judge's spans are taken out or replaced."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from prill.features.splice import splice, spliced_lengths
from prill.prepare.spans import Edits

__all__ = ["edited", "edited_lengths"]


def edited(text: pa.Array, edits: Sequence[Edits]) -> pa.Array:
    """The texts after all edits together.

    The union of overlapping spans is taken out. At each hole stands the replacement of its first span: the
    one that starts first, then the longest; of equal spans, the earlier in `edits`.

    Args:
        text: large_string without nulls, D documents.
        edits: each of the same D documents.
    """
    ranges, replacements = _all_ranges(edits)
    return splice(text, *ranges, replacements) if len(ranges[0]) else text


def edited_lengths(
    n_bytes: NDArray[np.int64], edits: Sequence[Edits]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Bytes that `edited` leaves of each document, and bytes that it takes out, without reading the text.

    Returns:
        Lengths afterwards, replacements included, and bytes taken out, both int64, shape (D,).
    """
    ranges, replacements = _all_ranges(edits)
    if not len(ranges[0]):
        return n_bytes, np.zeros_like(n_bytes)
    return spliced_lengths(n_bytes, *ranges, replacements)


_Ranges: TypeAlias = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int32]]


def _all_ranges(edits: Sequence[Edits]) -> tuple[_Ranges, list[str]]:
    """Document, start, stop and replacement number of every span, and the replacements."""
    documents, starts, stops = ([np.empty(0, np.int64)] for _ in range(3))
    kinds = [np.empty(0, np.int32)]
    replacements: list[str] = []
    for edit in edits:
        spans = edit.spans
        lengths = np.diff(spans.offsets)
        documents.append(np.repeat(np.arange(len(lengths), dtype=np.int64), lengths))
        starts.append(spans.starts)
        stops.append(spans.stops)
        kinds.append((spans.kinds + len(replacements)).astype(np.int32))
        replacements += [edit.replacements.get(name, "") for name in spans.names]
    found = (np.concatenate(documents), np.concatenate(starts), np.concatenate(stops), np.concatenate(kinds))
    return found, replacements
