"""Tokens put into a stream: before documents, or anywhere within them.

What is inserted belongs to the document that it stands in; its channels are given here, and those of the
other tokens stay. With nothing to insert the stream itself comes back.

Legend: D documents, N tokens, M inserted tokens, U different prefixes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prill.errors import DataError
from prill.lm.data import TokenStream

__all__ = ["insert_tokens", "prefix_documents"]

Ints = NDArray[np.int64]


def insert_tokens(
    stream: TokenStream,
    places: Ints,
    ids: Ints,
    *,
    weight: float,
    scores: NDArray[np.float32] | None = None,
) -> TokenStream:
    """The stream with token `ids[m]` inserted before its token `places[m]`.

    Args:
        stream: N tokens.
        places: rising (equal ones keep their order), in 0..N - 1, (M,).
        ids: token ids, (M,).
        weight: of predicting an inserted token; 0 masks it.
        scores: of the inserted tokens, (M,); None: that of the token they stand before.
    """
    if not len(places):
        return stream
    highest = max(int(ids.max()), int(np.iinfo(stream.tokens.dtype).max))
    tokens = np.asarray(stream.tokens)
    wide = tokens.astype(np.uint32 if highest >= 1 << 16 else np.uint16, copy=False)
    weights = stream.weights
    if weights is None and weight != 1:
        weights = np.ones(stream.n_tokens, np.float32)
    marks, visible = stream.scores, stream.visible
    if marks is not None:
        marks = np.insert(marks, places, marks[places] if scores is None else scores)
    starts = stream.doc_starts
    return replace(
        stream,
        tokens=np.insert(wide, places, ids),
        doc_starts=starts + np.searchsorted(places, starts, side="left"),
        weights=None if weights is None else np.insert(weights, places, np.float32(weight)),
        scores=marks,
        visible=None if visible is None else np.insert(visible, places, visible[places]),
    )


def prefix_documents(
    stream: TokenStream, prefixes: Sequence[NDArray[Any]], which_D: Ints, *, weight: float = 0.0
) -> TokenStream:
    """The stream with a prefix before each document.

    Args:
        stream: D documents.
        prefixes: token ids of the U different prefixes; one may be empty.
        which_D: number of each document's prefix; -1: none.
        weight: of predicting a token of a prefix; 0 masks it.
    Raises:
        DataError: `which_D` has another length than the stream has documents.
    """
    if len(which_D) != stream.n_documents:
        raise DataError(
            f"prefixes need one number a document, found {len(which_D)} for {stream.n_documents} documents",
            where=stream.name,
        )
    table = [np.asarray(prefix, np.int64) for prefix in prefixes] + [np.empty(0, np.int64)]
    lengths = np.array([len(prefix) for prefix in table], np.int64)
    first = np.cumsum(lengths) - lengths
    n_D = lengths[which_D]
    offsets = np.cumsum(n_D) - n_D
    source = np.arange(n_D.sum(), dtype=np.int64) + np.repeat(first[which_D] - offsets, n_D)
    places = np.repeat(np.asarray(stream.doc_starts[:-1], np.int64), n_D)
    return insert_tokens(stream, places, np.concatenate(table)[source], weight=weight)
