"""Documents as chunks in packed rows: the pieces whose gradients are taken.

A chunk is a run of at most T target tokens; its first input is the token before it, or end-of-text, so every
token is predicted once. Chunks of several documents share rows; attention never crosses one.

Axes: B rows of T tokens, N = B T, C chunks, D documents.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prill.lm.data import Ints, Rows, positions_of
from prill.lm.scoring.packing import best_fit

__all__ = ["Chunk", "ChunkRows", "Chunking", "cut"]

MOST_IN_A_ROW = 64


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """Tokens `start` to `stop` of document `document`."""

    document: int
    start: int
    stop: int


@dataclass(frozen=True, kw_only=True)
class Chunking:
    """How documents are cut.

    Attributes:
        length: tokens of a chunk, T.
        smallest: shorter rests are dropped; 1 drops nothing.
        most_tokens: of a document; what lies behind is not seen.
    """

    length: int
    smallest: int = 1
    most_tokens: int = 20_480

    def chunks(self, lengths: Sequence[int]) -> list[Chunk]:
        """The chunks of documents of so many tokens, in order."""
        return [
            Chunk(document=number, start=start, stop=min(start + self.length, n_tokens))
            for number, n_tokens in enumerate(min(n, self.most_tokens) for n in lengths)
            for start in range(0, n_tokens, self.length)
            if min(start + self.length, n_tokens) - start >= self.smallest
        ]


@dataclass(frozen=True, kw_only=True)
class ChunkRows:
    """Some packed rows.

    Attributes:
        rows: of one model, (1, B, T); targets behind the last chunk of a row weigh 0.
        owner: the chunk that each token belongs to, int64, (N,); -1: none.
    """

    rows: Rows
    owner: Ints


def cut(
    docs: Sequence[NDArray[Any]], chunks: Sequence[Chunk], *, length: int, prefix: int, n_rows: int
) -> Iterator[ChunkRows]:
    """Packed rows of all chunks.

    Args:
        docs: token ids of each document, without end-of-text.
        chunks: of them; each has at least one token.
        length: T, at least the longest chunk.
        prefix: the input from which a document's first token is predicted.
        n_rows: B, at most.
    """
    packed = best_fit([chunk.stop - chunk.start for chunk in chunks], length, most=MOST_IN_A_ROW)
    for first in range(0, len(packed), n_rows):
        yield _filled(docs, chunks, packed[first : first + n_rows], length, prefix)


def _filled(
    docs: Sequence[NDArray[Any]], chunks: Sequence[Chunk], packed: list[list[int]], length: int, prefix: int
) -> ChunkRows:
    shape = (len(packed), length)
    inputs, targets = (np.full(shape, prefix, np.int64) for _ in range(2))
    owner = np.full(shape, -1, np.int64)
    for row, numbers in enumerate(packed):
        at = 0
        for number in numbers:
            chunk, doc = chunks[number], docs[chunks[number].document]
            end = at + chunk.stop - chunk.start
            targets[row, at:end] = doc[chunk.start : chunk.stop]
            inputs[row, at] = doc[chunk.start - 1] if chunk.start else prefix
            inputs[row, at + 1 : end] = targets[row, at : end - 1]
            owner[row, at:end] = number
            at = end
    opens = np.diff(owner, axis=1, prepend=owner[:, :1]) != 0
    segments = np.cumsum(opens, axis=1)
    rows = Rows(
        inputs=inputs[None],
        targets=targets[None],
        positions=positions_of(segments)[None],
        segments=segments[None],
        weights=(owner >= 0)[None].astype(np.float32),
    )
    return ChunkRows(rows=rows, owner=owner.reshape(-1))
