"""Rows dealt to sources so that each has had its share, to less than a row, after any number of rows.

With w_i(r) the share of source i at row r and W_i(n) the sum over the first n rows, the j-th row of a source
(from 0) may be dealt as soon as W_i reaches j + d, and must be dealt by the time it reaches j + 1 - d, with
d = 1 / (2 S - 2). Rows go to the source whose time is up first. Then every source has had C_i(n) rows with

    |C_i(n) - W_i(n)| <= 1 - 1 / (2 S - 2)        for all n, whatever the shares do,

and no rule does better. What comes next depends on n and C alone, so counts are kept every 1,024 rows and a
stretch in between is dealt again when asked for: a pure function of the row.

Source: Tijdeman 1980, The chairman assignment problem, Discrete Mathematics 32 (theorem 1 and its rule).
Differs: deadlines from pieces of constant share in floating point; ties go by a keyed order of the sources.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from prill.lm.feed.shares import Pieces

__all__ = ["Apportionment"]

Ints = NDArray[np.int64]

BLOCK_ROWS = 1024


@dataclass(frozen=True, kw_only=True)
class Apportionment:
    """Which source each row comes from.

    Args:
        pieces: shares over rows, S sources.
        order: the sources in the order that decides ties, a permutation of 0..S-1.
        n_rows: rows of the plan; more are not dealt.
    """

    pieces: Pieces
    order: tuple[int, ...]
    n_rows: int

    def counts(self, n_rows: int) -> Ints:
        """Rows each source has had after `n_rows` rows, (S,)."""
        return self._at(n_rows)[np.argsort(self.order)]

    def sources(self, first: int, count: int) -> Ints:
        """The source of rows `first` to `first + count`."""
        dealt = np.empty(count, np.int64)
        self._walk(self._at(first), first, dealt)
        return np.array(self.order, np.int64)[dealt]

    def row_of(self, source: int, number: int) -> int | None:
        """The row that is a source's `number`-th, counted from 0; None: not within the plan."""
        column = self._blocks[:, self.order.index(source)]
        block = int(np.searchsorted(column, number, side="right")) - 1
        first = block * BLOCK_ROWS
        here = np.flatnonzero(self.sources(first, min(BLOCK_ROWS, self.n_rows - first)) == source)
        wanted = number - int(column[block])
        return first + int(here[wanted]) if wanted < len(here) else None

    def _at(self, n_rows: int) -> Ints:
        """Counts after `n_rows` rows, sources in `order`; the caller may change them."""
        counts: Ints = self._blocks[n_rows // BLOCK_ROWS].copy()
        self._walk(counts, n_rows - n_rows % BLOCK_ROWS, np.empty(n_rows % BLOCK_ROWS, np.int64))
        return counts

    def _walk(self, counts: Ints, first: int, dealt: Ints) -> None:
        from prill.lm.feed._walk import walk

        starts, shares, due = self._tables
        walk(starts, shares, due, counts, first, dealt)

    @cached_property
    def _tables(self) -> tuple[NDArray[np.float64], ...]:
        order = np.array(self.order)
        pieces = Pieces(starts=self.pieces.starts, shares=self.pieces.shares[:, order])
        return pieces.starts, np.ascontiguousarray(pieces.shares), np.ascontiguousarray(pieces.targets())

    @cached_property
    def _blocks(self) -> Ints:
        """Counts before each block of rows, sources in `order`, (blocks, S)."""
        n_blocks = self.n_rows // BLOCK_ROWS + 1
        blocks = np.zeros((n_blocks, len(self.order)), np.int64)
        counts, dealt = np.zeros(len(self.order), np.int64), np.empty(BLOCK_ROWS, np.int64)
        for block in range(n_blocks - 1):
            self._walk(counts, block * BLOCK_ROWS, dealt)
            blocks[block + 1] = counts
        return blocks
