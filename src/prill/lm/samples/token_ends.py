"""Where each token of a stream ends in its document's text, so that spans of bytes become spans of tokens.

A byte-level tokenizer needs no second look at the text: its tokens are runs of the text's bytes, and their
lengths add up. Any other tokenizer encodes the texts again, with offsets.

Legend: D documents, N tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from prill.errors import DataError
from prill.lm.data import TokenStream

__all__ = ["token_ends"]

BATCH_DOCUMENTS = 1024


class Ends(Protocol):
    """What a tokenizer must offer; `prill.corpus.tokenizer.TextTokenizer` does."""

    def token_bytes(self) -> NDArray[np.int64] | None: ...

    def end_batch(self, texts: Sequence[str]) -> list[NDArray[np.int64]]: ...


def token_ends(tokenizer: Ends, stream: TokenStream, texts: pa.Array) -> NDArray[np.int64]:
    """The end of each token, bytes from the start of its document; end-of-text ends with the text.

    Args:
        tokenizer: the one that made the stream.
        stream: N tokens of D documents.
        texts: the documents, large_string, (D,).
    Returns:
        int64, (N,), rising within each document.
    Raises:
        DataError: texts and tokens are not of the same documents.
    """
    starts = stream.doc_starts
    if len(texts) != stream.n_documents:
        raise DataError(
            f"expected one text a document, found {len(texts)} for {stream.n_documents} documents",
            where=stream.name,
        )
    n_bytes_D = np.asarray(pc.binary_length(texts), np.int64)
    lengths = tokenizer.token_bytes()
    if lengths is None:
        ends = _from_offsets(tokenizer, stream, texts)
    else:
        sizes = lengths[np.asarray(stream.tokens)]
        sizes[starts[1:] - 1] = 0
        total = np.cumsum(sizes)
        ends = total - np.repeat(total[starts[:-1]] - sizes[starts[:-1]], np.diff(starts))
    reached = ends[starts[1:] - 1]
    wrong = reached != n_bytes_D
    if wrong.any():
        document = int(np.argmax(wrong))
        raise DataError(
            f"tokens must be those of the text of {n_bytes_D[document]} bytes, "
            f"found tokens of {reached[document]} bytes",
            where=f"{stream.name}, document {document}",
            hint="give the tokenizer and the texts that the stream was made of",
        )
    return np.asarray(ends, np.int64)


def _from_offsets(tokenizer: Ends, stream: TokenStream, texts: pa.Array) -> NDArray[np.int64]:
    ends = np.empty(stream.n_tokens, np.int64)
    for first in range(0, len(texts), BATCH_DOCUMENTS):
        here = texts.slice(first, BATCH_DOCUMENTS).to_pylist()
        for document, (text, found) in enumerate(zip(here, tokenizer.end_batch(here), strict=True), first):
            start, stop = (int(place) for place in stream.doc_starts[document : document + 2])
            if len(found) != stop - start - 1:
                raise DataError(
                    f"expected the text of {stop - start - 1} tokens, found one of {len(found)}",
                    where=f"{stream.name}, document {document}",
                    hint="give the tokenizer and the texts that the stream was made of",
                )
            bytes_before = _bytes_before(text)
            ends[start : stop - 1] = bytes_before[np.maximum.accumulate(found)]
            ends[stop - 1] = bytes_before[-1]
    return ends


def _bytes_before(text: str) -> NDArray[Any]:
    """UTF-8 bytes before each character of a text, and of all of it."""
    points = np.frombuffer(text.encode("utf-32-le"), np.uint32)
    widths = 1 + (points >= 0x80).astype(np.int64) + (points >= 0x800) + (points >= 0x10000)
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(widths)])
