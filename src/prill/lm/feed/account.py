"""What training reads: exact tokens by source and document, before or after the fact.

Rows are pure functions of their numbers, so what the rows of a plan hold can be counted without making them:
from where the rows lie in their streams, by sorting and prefix sums. Counts are whole numbers, and those of
all sources together are rows times T to the token.

A nominal single pass hides repeats where one source is weighted up; passes are therefore given by source and
document. With the number of tokens that deduplication would leave, `effective_epochs` gives what the passes
amount to.

Source: Komatsuzaki 2019, arXiv:1906.06669 (one epoch). Axes: D documents of a source.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from prill.errors import DataError, InternalError
from prill.lm.data import Ints, TokenStream
from prill.lm.feed.feed import Feed
from prill.lm.feed.stream import StreamFeed

__all__ = ["Account", "Accountable", "Used", "Wrapping", "account", "trained_between", "used_by"]

ROWS_AT_ONCE = 1 << 20
TOKENS_AT_ONCE = 1 << 22


@dataclass(frozen=True, kw_only=True)
class Used:
    """What some rows hold of one source.

    Attributes:
        source: its name.
        stream: where its documents lie.
        n_tokens: tokens read of each document, int64, (D,).
        n_trained: those of them whose weight is not 0, (D,).
        n_padding: tokens of the rows that belong to no document.
    """

    source: str
    stream: TokenStream
    n_tokens: Ints
    n_trained: Ints
    n_padding: int = 0

    def renamed(self, source: str) -> Used:
        """The same under another name; what has a longer name keeps the end of it."""
        rest = self.source.partition("/")[2]
        return replace(self, source=f"{source}/{rest}" if rest else source)


@runtime_checkable
class Accountable(Protocol):
    """A feed that knows what its rows hold."""

    def used(self, first: int, count: int) -> list[Used]:
        """What base rows `first` to `first + count` hold, one entry a source or more."""
        ...


@runtime_checkable
class Wrapping(Protocol):
    """A feed that changes the rows of another, of the same documents.

    Counts of trained tokens are the other feed's: a wrapper may weigh tokens anew (token swaps do).
    """

    @property
    def feed(self) -> Feed: ...


@dataclass(frozen=True, kw_only=True)
class Account:
    """What rows hold.

    Attributes:
        sources: source, n_tokens, n_trained_tokens, n_padding_tokens, n_documents, n_documents_read,
            passes (tokens over the source's tokens), max_document_passes, effective_epochs (null unless
            unique tokens were given).
        documents: source, document (its number in the stream), origin (the document of the corpus it was
            made of), n_tokens, n_trained_tokens, passes; every document of every source.
    """

    sources: pa.Table
    documents: pa.Table


def account(
    feed: Feed,
    n_rows: int,
    *,
    row_tokens: int,
    first: int = 0,
    n_unique_tokens: Mapping[str, int] | None = None,
) -> Account:
    """Count what base rows `first` to `first + n_rows` hold.

    Args:
        feed: any feed of this package; others need a method `used`, or wrap such a feed as `feed`.
        n_rows: rows to count.
        row_tokens: T.
        first: the first of them.
        n_unique_tokens: tokens of each source once near-duplicates are taken out.
    Raises:
        DataError: the feed does not know what it holds.
        InternalError: counts do not add up to `n_rows` T.
    """
    parts = _together(used_by(feed, first, n_rows))
    total = sum(int(part.n_tokens.sum()) + part.n_padding for part in parts)
    if total != n_rows * row_tokens:
        raise InternalError(
            f"expected {n_rows * row_tokens} tokens in {n_rows} rows, counted {total}", where=feed.name
        )
    unique = n_unique_tokens or {}
    return Account(
        sources=pa.Table.from_pylist([_source_row(part, unique) for part in parts], schema=_SOURCES),
        documents=pa.concat_tables([_document_table(part) for part in parts]),
    )


def used_by(feed: Feed, first: int, count: int) -> list[Used]:
    """What base rows `first` to `first + count` of a feed hold.

    Raises:
        DataError: the feed does not know.
    """
    if isinstance(feed, Accountable):
        return feed.used(first, count)
    if isinstance(feed, StreamFeed):
        return [_used_of_stream(feed, first, count)]
    if isinstance(feed, Wrapping):
        return used_by(feed.feed, first, count)
    raise DataError("a feed that tells what it holds is needed, found none", where=feed.name)


def trained_between(stream: TokenStream, starts: Ints, stops: Ints) -> Ints:
    """Tokens whose weight is not 0 in each range `starts` to `stops` of a stream."""
    if stream.weights is None:
        return stops - starts
    points = np.unique(np.concatenate([starts, stops]))
    before = _trained_before(stream.weights, points)
    return np.asarray(before[np.searchsorted(points, stops)] - before[np.searchsorted(points, starts)])


def _used_of_stream(feed: StreamFeed, first: int, count: int) -> Used:
    stream = feed.stream
    n_tokens = np.zeros(stream.n_documents, np.int64)
    n_trained = np.zeros(stream.n_documents, np.int64)
    for start in range(first, first + count, ROWS_AT_ONCE):
        numbers = feed.numbers(start, min(ROWS_AT_ONCE, first + count - start))
        starts = np.sort(numbers * feed.row_tokens % stream.n_tokens)
        stops = starts + feed.row_tokens
        over = stops[stops > stream.n_tokens] - stream.n_tokens  # rows that go on at the stream's beginning
        starts = np.concatenate([np.zeros(len(over), np.int64), starts])
        stops = np.sort(np.concatenate([over, np.minimum(stops, stream.n_tokens)]))
        n_tokens += np.diff(_covered(stream.doc_starts, starts, stops))
        if stream.weights is not None:
            points = np.unique(np.concatenate([stream.doc_starts, starts, stops]))
            before = _trained_before(stream.weights, points)
            edges, begins, ends = (
                before[np.searchsorted(points, found)] for found in (stream.doc_starts, starts, stops)
            )
            n_trained += np.diff(_covered(edges, begins, ends))
    if stream.weights is None:
        n_trained = n_tokens
    return Used(source=feed.name, stream=stream, n_tokens=n_tokens, n_trained=n_trained)


def _covered(points: Ints, starts: Ints, stops: Ints) -> Ints:
    """How much of the ranges `starts` to `stops` (both sorted) lies before each point."""
    found = np.zeros(len(points), np.int64)
    for edges, sign in ((starts, 1), (stops, -1)):
        sums = np.concatenate([[0], np.cumsum(edges)])
        before = np.searchsorted(edges, points, side="left")
        found += sign * (before * points - sums[before])
    return found


def _trained_before(weights: NDArray[np.float32], points: Ints) -> Ints:
    """Tokens whose weight is not 0 before each of the rising points."""
    found = np.zeros(len(points), np.int64)
    total = 0
    for start in range(0, len(weights), TOKENS_AT_ONCE):
        sums = np.concatenate([[0], np.cumsum(weights[start : start + TOKENS_AT_ONCE] != 0)])
        low, high = np.searchsorted(points, [start, start + TOKENS_AT_ONCE], side="left")
        found[low:high] = total + sums[points[low:high] - start]
        total += int(sums[-1])
    found[np.searchsorted(points, len(weights), side="left") :] = total
    return found


def _together(parts: list[Used]) -> list[Used]:
    """One entry a stream: a source that several phases read is counted once."""
    found: dict[int, Used] = {}
    for part in parts:
        key = id(part.stream)
        if key in found:
            other = found[key]
            part = replace(
                other,
                n_tokens=other.n_tokens + part.n_tokens,
                n_trained=other.n_trained + part.n_trained,
                n_padding=other.n_padding + part.n_padding,
            )
        found[key] = part
    return list(found.values())


_SOURCES = pa.schema(
    [
        ("source", pa.string()),
        ("n_tokens", pa.int64()),
        ("n_trained_tokens", pa.int64()),
        ("n_padding_tokens", pa.int64()),
        ("n_documents", pa.int64()),
        ("n_documents_read", pa.int64()),
        ("passes", pa.float64()),
        ("max_document_passes", pa.float64()),
        ("effective_epochs", pa.float64()),
    ]
)


def _source_row(part: Used, n_unique: Mapping[str, int]) -> dict[str, Any]:
    n_tokens = int(part.n_tokens.sum())
    unique = n_unique.get(part.source)
    return {
        "source": part.source,
        "n_tokens": n_tokens,
        "n_trained_tokens": int(part.n_trained.sum()),
        "n_padding_tokens": part.n_padding,
        "n_documents": part.stream.n_documents,
        "n_documents_read": int(np.count_nonzero(part.n_tokens)),
        "passes": n_tokens / part.stream.n_tokens,
        "max_document_passes": float((part.n_tokens / np.diff(part.stream.doc_starts)).max()),
        "effective_epochs": n_tokens / unique if unique else None,
    }


def _document_table(part: Used) -> pa.Table:
    stream = part.stream
    numbers = np.arange(stream.n_documents, dtype=np.int64)
    return pa.table(
        {
            "source": pa.array([part.source], pa.string()).take(pa.array(np.zeros(len(numbers), np.int64))),
            "document": numbers,
            "origin": numbers if stream.origins is None else stream.origins,
            "n_tokens": part.n_tokens,
            "n_trained_tokens": part.n_trained,
            "passes": part.n_tokens / np.diff(stream.doc_starts),
        }
    )
