"""Segments of documents, sentences or lines, with scores, and the tokens that belong to them.

A token belongs to the segment of its last byte: the space before a word belongs to the word's sentence
whichever side of the cut it lies on. Text between two segments belongs to the second, text behind the last
one, end-of-text included, to the last.

Legend: D documents, N tokens, S segments.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from prill.corpus.batch import text_buffers
from prill.errors import DataError
from prill.lm.samples.columns import Segments
from prill.lm.samples.transform import Documents

__all__ = ["Scorer", "Unit", "cut_texts", "mean_values", "score_column", "segments_of_tokens"]

Unit: TypeAlias = Literal["sentence", "line", "document"]

Scorer: TypeAlias = Callable[[pa.Array], NDArray[np.float64]]
"""Texts of segments, large_string, (S,) -> how bad each is, at least 0, (S,)."""

_ENDS = np.isin(np.arange(256), list(b".!?"))
_SPACES = np.isin(np.arange(256), list(b" \t\n\r\v\f"))
_NEWLINE = ord("\n")


def cut_texts(texts: pa.Array, unit: Unit) -> Segments:
    """Texts cut into segments without a gap; their values are NaN.

    Args:
        texts: large_string without nulls, (D,).
        unit: `line`: through its line feed; `sentence`: through `.`, `!` or `?` before white space, or
            through the last of several line feeds, and none of nothing but white space unless the text is;
            `document`: all of it. A text of 0 bytes has none.
    """
    offsets, data = text_buffers(texts)
    data = data[offsets[0] : offsets[-1]]
    edges = offsets - offsets[0]
    is_last = np.zeros(len(data), np.bool_)
    if unit != "document" and len(data):
        follows = np.append(data[1:], np.uint8(_NEWLINE))
        is_line = data == _NEWLINE
        is_last = is_line if unit == "line" else _ENDS[data] & _SPACES[follows]
        if unit == "sentence":
            is_last |= is_line & (np.append(np.uint8(0), data[:-1]) == _NEWLINE) & (follows != _NEWLINE)
    is_last[edges[1:][np.diff(edges) > 0] - 1] = True
    stops = np.flatnonzero(is_last) + 1
    if unit == "sentence":
        stops = _without_blanks(data, stops, edges)
    starts = np.concatenate([np.zeros(min(1, len(stops)), np.int64), stops[:-1]])
    owners = np.searchsorted(edges, starts, side="right") - 1
    counts = np.bincount(owners, minlength=len(texts))
    return Segments(
        offsets=np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)]),
        starts=starts - edges[owners],
        stops=stops - edges[owners],
        values=np.full(len(stops), np.nan),
    )


def score_column(texts: pa.Array, unit: Unit, scorer: Scorer) -> pa.Array:
    """A column of scored segments for preference conditioning: list of {start, stop, score} a document.

    Args:
        texts: large_string without nulls, (D,).
        unit: what a segment is.
        scorer: called once with the texts of all segments.
    Raises:
        DataError: a score is negative or not finite, or there are not as many as segments.
    """
    cut = cut_texts(texts, unit)
    offsets, data = text_buffers(texts)
    base = np.asarray(offsets[:-1], np.int64)[cut.owners]
    inner = np.append(np.asarray(offsets[:1], np.int64), base + cut.stops)
    pieces = pa.LargeStringArray.from_buffers(len(base), pa.py_buffer(inner), pa.py_buffer(data))
    scores = np.asarray(scorer(pieces), np.float64)
    if scores.shape != (len(base),) or not np.isfinite(scores).all() or (scores < 0).any():
        raise DataError(
            f"a scorer must give one finite number of at least 0 a segment, found {scores.shape} "
            f"for {len(base)} segments" + (f", least {scores.min()}" if scores.size else "")
        )
    struct = pa.StructArray.from_arrays(
        [pa.array(cut.starts), pa.array(cut.stops), pa.array(scores)], ["start", "stop", "score"]
    )
    return pa.LargeListArray.from_arrays(pa.array(cut.offsets), struct)


def segments_of_tokens(documents: Documents, segments: Segments) -> NDArray[np.int64]:
    """The segment of each token, int64, (N,); -1 in documents that have none.

    Raises:
        DataError: segments of a document overlap, or nothing is known of where tokens end.
    """
    ends = documents.ends
    if ends is None or documents.texts is None:
        raise DataError(
            "segments need the texts and the token ends, found none",
            where=documents.stream.name,
            hint="put this transform before those that change the tokens",
        )
    owners = segments.owners
    overlap = (owners[1:] == owners[:-1]) & (segments.starts[1:] < segments.stops[:-1])
    if overlap.any():
        raise DataError(
            "segments must not overlap, found two that do",
            where=f"{documents.stream.name}, document {int(owners[int(np.argmax(overlap))])}",
        )
    n_bytes_D = np.asarray(pc.binary_length(documents.texts), np.int64)
    base_D = np.cumsum(n_bytes_D) - n_bytes_D
    document_N = np.repeat(np.arange(len(base_D)), np.diff(documents.stream.doc_starts))
    last_N = base_D[document_N] + ends - 1
    found = np.searchsorted(base_D[owners] + segments.stops, last_N, side="right")
    first, behind = segments.offsets[document_N], segments.offsets[document_N + 1]
    return np.asarray(np.where(first == behind, -1, np.clip(found, first, behind - 1)))


def _without_blanks(
    data: NDArray[np.uint8], stops: NDArray[np.int64], edges: NDArray[np.int64]
) -> NDArray[np.int64]:
    """The stops without those that only white space lies before, which goes to its neighbour in the text."""
    words = np.concatenate([np.zeros(1, np.int64), np.cumsum(~_SPACES[data])])
    is_end = np.isin(stops, edges)
    is_blank = np.diff(words[stops], prepend=0) == 0
    kept = stops[is_end | ~is_blank]
    ends = np.isin(kept, edges)
    # behind a text's last word only white space is left: the stop before the text's end goes
    is_last = np.append(ends[1:] & (words[kept[1:]] == words[kept[:-1]]), False) & ~ends
    return np.asarray(kept[~is_last])


def mean_values(segments: Segments, n_documents: int) -> NDArray[np.float64]:
    """Mean value of each document's segments, (D,); NaN without any."""
    total = np.bincount(segments.owners, weights=segments.values, minlength=n_documents)
    counts = np.diff(segments.offsets)
    means = np.full(n_documents, np.nan)
    np.divide(total, counts, out=means, where=counts > 0)
    return means
