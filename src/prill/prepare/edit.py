"""Applying edits: the text that is left when every judge's spans are taken out or replaced."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from prill.features.splice import splice
from prill.prepare.spans import Edits

__all__ = ["edited"]


def edited(text: pa.Array, edits: Sequence[Edits]) -> pa.Array:
    """The texts after all edits together.

    The union of overlapping spans is taken out. At each hole stands the replacement of its first span: the
    one that starts first, then the longest; of equal spans, the earlier in `edits`.

    Args:
        text: large_string without nulls, D documents.
        edits: each of the same D documents.
    """
    documents, starts, stops, kinds = [], [], [], []
    replacements: list[str] = []
    for edit in edits:
        spans = edit.spans
        documents.append(np.repeat(np.arange(len(text), dtype=np.int64), np.diff(spans.offsets)))
        starts.append(spans.starts)
        stops.append(spans.stops)
        kinds.append(spans.kinds + np.int32(len(replacements)))
        replacements += [edit.replacements.get(name, "") for name in spans.names]
    if not any(len(part) for part in documents):
        return text
    return splice(
        text,
        np.concatenate(documents),
        np.concatenate(starts),
        np.concatenate(stops),
        np.concatenate(kinds),
        replacements,
    )
