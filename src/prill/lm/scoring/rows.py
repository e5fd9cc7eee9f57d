"""From documents to packed rows, and from rows back to documents.

A flush of documents is cut into windows, the windows are packed, and each packed row says for every
place which token of the flush it scores. Since every token is scored exactly once, putting values back is one
assignment a row, and neither packing nor the order of rows can change what belongs to whom.

Axes: D documents, N tokens of a row, S tokens of all documents of the flush.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from prill.lm.scoring.packing import best_fit
from prill.lm.scoring.windows import Window, windows

if TYPE_CHECKING:
    from prill.lm.attention import Segments

__all__ = ["Layout", "ScoringRow", "packed_rows"]

Ints = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How documents are laid out; recorded with every result, because rounding depends on it.

    Attributes:
        row_tokens: places of a row.
        max_len: longest window, m.
        context: c of the rolling windows.
        most_windows: windows of a row at most.
        row_step: rows are filled up with tokens that nobody reads to a multiple of this, or to their end, so
            that products come in few shapes; libraries keep something for every shape they have met.
    """

    row_tokens: int
    max_len: int
    context: int
    most_windows: int
    row_step: int = 1


@dataclass(frozen=True, kw_only=True)
class ScoringRow:
    """One packed row.

    Attributes:
        inputs: token ids that go in, int64, (N,).
        targets: token ids to predict, int64, (N,).
        lengths: of its windows, in order, then of what fills the row up, if anything; they sum to N.
        scores: the token of the flush that each place scores, int64, (N,); -1: context only.
    """

    inputs: Ints
    targets: Ints
    lengths: tuple[int, ...]
    scores: Ints

    @property
    def n_tokens(self) -> int:
        """N."""
        return len(self.inputs)

    @cached_property
    def segments(self) -> Segments:
        """The row's division, for attention."""
        from prill.lm.attention import Segments

        return Segments(self.lengths)

    @cached_property
    def positions(self) -> Ints:
        """Place of each token in its window, from 0, int64, (N,)."""
        starts = np.repeat(np.cumsum((0, *self.lengths[:-1])), self.lengths)
        return np.asarray(np.arange(self.n_tokens) - starts, dtype=np.int64)


def packed_rows(
    docs: Sequence[NDArray[Any]], starts: Ints, layout: Layout, *, prefix: int
) -> Iterator[ScoringRow]:
    """The rows of a flush.

    Args:
        docs: token ids of each document, without end-of-text; may be empty.
        starts: where each begins among the tokens of the flush, (D,).
        layout: of the rows.
        prefix: the token from which the first token of a document is predicted.
    """
    cut = [
        (index, window)
        for index, doc in enumerate(docs)
        for window in windows(len(doc), layout.max_len, context=layout.context)
    ]
    lengths = [window.length for _, window in cut]
    for row in best_fit(lengths, layout.row_tokens, most=layout.most_windows):
        parts = [(docs[i], int(starts[i]), window) for i, window in (cut[n] for n in row)]
        n_tokens = sum(lengths[n] for n in row)
        n_filled = min(layout.row_tokens, n_tokens + -n_tokens % layout.row_step)
        whole, rest = divmod(n_filled - n_tokens, layout.max_len)
        yield _filled(parts, (layout.max_len,) * whole + ((rest,) if rest else ()), prefix)


def _filled(
    parts: list[tuple[NDArray[Any], int, Window]], fillers: tuple[int, ...], prefix: int
) -> ScoringRow:
    lengths = (*(window.length for _, _, window in parts), *fillers)
    bounds = list(itertools.accumulate(lengths, initial=0))
    inputs, targets = (np.full(bounds[-1], prefix, dtype=np.int64) for _ in range(2))
    scores = np.full(bounds[-1], -1, dtype=np.int64)
    for (doc, start, window), at, end in zip(parts, bounds, bounds[1:], strict=False):
        first, scored, stop = window
        targets[at:end] = doc[first:stop]
        inputs[at] = doc[first - 1] if first else prefix
        inputs[at + 1 : end] = targets[at : end - 1]
        scores[at:end] = np.arange(start + first, start + stop)
        scores[at : at + scored - first] = -1
    return ScoringRow(inputs=inputs, targets=targets, lengths=lengths, scores=scores)
