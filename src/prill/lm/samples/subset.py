"""Some of the documents, and documents cut into pieces.

Legend: D documents, N tokens, P pieces.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from prill.errors import DataError
from prill.lm.data import CHANNELS, TokenStream
from prill.lm.samples.transform import Documents

__all__ = ["NothingKeptError", "aligned", "cut_documents", "take_documents", "take_stream"]

Ints = NDArray[np.int64]


class NothingKeptError(DataError):
    """No document is left: an error, unless others come from elsewhere."""


def take_stream(stream: TokenStream, rows: Ints) -> TokenStream:
    """The documents with these numbers, in this order; `origins` names them.

    Raises:
        NothingKeptError: `rows` is empty.
    """
    if not len(rows):
        raise NothingKeptError("expected at least one document, found none", where=stream.name)
    lengths = np.diff(stream.doc_starts)[rows]
    starts = np.zeros(len(rows) + 1, np.int64)
    np.cumsum(lengths, out=starts[1:])
    places = np.arange(starts[-1]) + np.repeat(stream.doc_starts[rows] - starts[:-1], lengths)
    channels: dict[str, Any] = {}
    for name in CHANNELS:
        values = getattr(stream, name)
        channels[name] = None if values is None else values[places]
    return replace(
        stream,
        tokens=stream.tokens[places],
        doc_starts=starts,
        origins=rows if stream.origins is None else stream.origins[rows],
        **channels,
    )


def take_documents(documents: Documents, rows: Ints) -> Documents:
    """The documents with these numbers, columns and all; the stream's `origins` names them."""
    stream = take_stream(documents.stream, rows)
    ends = documents.ends
    if ends is not None:
        lengths = np.diff(stream.doc_starts)
        firsts = documents.stream.doc_starts[rows] - stream.doc_starts[:-1]
        ends = ends[np.arange(stream.n_tokens) + np.repeat(firsts, lengths)]
    return replace(aligned(documents, rows), stream=stream, ends=ends)


def aligned(documents: Documents, rows: Ints) -> Documents:
    """The same stream with hashes, columns and texts of these rows, for samples made of documents `rows`."""
    picked = pa.array(rows)
    return replace(
        documents,
        hashes=documents.hashes[rows],
        fields={name: column.take(picked) for name, column in documents.fields.items()},
        texts=None if documents.texts is None else documents.texts.take(picked),
    )


def cut_documents(stream: TokenStream, room_D: Ints) -> tuple[TokenStream, Ints]:
    """Documents cut into pieces of at most `room_D[d]` tokens, each closed by end-of-text.

    The end-of-text that closes a piece before the document's own end is not trained on: its weight is 0.

    Args:
        stream: D documents.
        room_D: tokens of a piece, its end-of-text included, at least 2, (D,).
    Returns:
        P pieces (the stream itself if nothing is cut), and the document of each, (P,).
    """
    lengths = np.diff(stream.doc_starts)
    n_D = np.maximum(1, -(-(lengths - 1) // (room_D - 1)))  # pieces: all but the last get an end of their own
    owner = np.repeat(np.arange(len(n_D)), n_D)
    if len(owner) == len(n_D):
        return stream, owner
    number = np.arange(len(owner)) - np.repeat(np.cumsum(n_D) - n_D, n_D)
    inner = (number + 1 < n_D[owner]).nonzero()[0]
    places = stream.doc_starts[owner[inner]] + (number[inner] + 1) * (room_D[owner[inner]] - 1)
    eos = stream.tokens[-1]

    def closed(values: NDArray[Any], end: Any) -> NDArray[Any]:
        return np.insert(values, places, end)

    weights = np.ones(stream.n_tokens, np.float32) if stream.weights is None else stream.weights
    firsts = stream.doc_starts[owner] + number * (room_D[owner] - 1)
    starts = firsts + np.searchsorted(places, firsts, side="right")
    pieces = replace(
        stream,
        tokens=closed(stream.tokens, eos),
        doc_starts=np.append(starts, stream.n_tokens + len(places)),
        weights=closed(weights, np.float32(0)),
        scores=None if stream.scores is None else closed(stream.scores, stream.scores[places - 1]),
        visible=None if stream.visible is None else closed(stream.visible, False),
        origins=owner if stream.origins is None else stream.origins[owner],
    )
    return pieces, owner
