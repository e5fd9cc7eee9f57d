"""Samples that no row cuts: packed whole into rows, memory-mapped streams included.

The plain stream cuts documents wherever a row ends. Samples whose parts answer one another (a prefix and its
continuation, a corrupted text and its targets, metadata and its document) lose their meaning there, so they
are laid into rows whole. What is left of a row is filled with end-of-text of weight 0 in a segment of its
own. Samples that are longer than a row are truncated or split; or, as in MeCo's loader, rows are filled in
order and what crosses the end of a row is thrown away. What is thrown away is counted.

With shorter rows in the plan, rows are packed in cells as long as the shortest one, so that cutting a base
row never cuts a sample.

Source: Gao et al. 2025, arXiv:2501.01956, and its released loader (`row_end`); packing:
`prill.lm.samples.whole_rows`. D documents; a piece is a sample, or what is kept of one.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prill.errors import RecipeError
from prill.lm.data import Ints, Rows, TokenStream, positions_of
from prill.lm.feed.account import Used, trained_between
from prill.lm.feed.layout import Layout, Overlong, lay_out, ranges
from prill.lm.feed.stream import Shuffle, visits

__all__ = ["WholeFeed"]


@dataclass(frozen=True, kw_only=True)
class WholeFeed:
    """A stream of samples repeated without end, none of them across the end of a row.

    Args:
        stream: samples in order.
        row_tokens: T.
        seed: of the order of rows.
        overlong: a sample longer than a cell is cut off (`truncate`) or goes on in cells of its own, each
            with one token of context (`split`); `row_end` fills cells in order and throws away what of a
            sample crosses the end of one.
        cell_tokens: the shortest row of the plan; divides T; None: T.
        shuffle, n_rows: as in `prill.lm.feed.stream.StreamFeed`; `stream` shuffles the rows of each pass.
    Raises:
        RecipeError: a cell does not divide a row; `block` without `n_rows`.
    """

    stream: TokenStream
    row_tokens: int
    seed: int
    overlong: Overlong = "truncate"
    cell_tokens: int | None = None
    shuffle: Shuffle = "stream"
    n_rows: int | None = None

    def __post_init__(self) -> None:
        if self.shuffle == "block" and self.n_rows is None:
            raise RecipeError("a shuffle within blocks needs the rows of the plan, found none", where="feed")
        if self.cell < 1 or self.row_tokens % self.cell:
            raise RecipeError(
                f"cells must divide rows of {self.row_tokens} tokens, found {self.cell}", where="feed"
            )

    @property
    def name(self) -> str:
        return self.stream.name

    @property
    def cell(self) -> int:
        """Tokens that no sample crosses a multiple of."""
        return self.row_tokens if self.cell_tokens is None else self.cell_tokens

    @property
    def pass_rows(self) -> int:
        """Base rows of one pass over all samples."""
        return self._layout.n_rows

    @property
    def n_tokens(self) -> int:
        """Tokens of the rows of one pass, padding included."""
        return self.pass_rows * self.row_tokens

    @property
    def n_discarded(self) -> int:
        """Tokens of the stream that no row holds."""
        return self.stream.n_tokens - int(self._layout.sizes.sum())

    @property
    def n_padding(self) -> int:
        """Tokens of one pass that belong to no sample."""
        return self.n_tokens - int(self._layout.sizes.sum())

    @property
    def highest_id(self) -> int:
        return self.stream.highest_id

    def rows(self, first: int, count: int) -> Rows:
        layout, length = self._layout, self.row_tokens
        numbers = self._visits(first, count) % self.pass_rows
        begins, ends = layout.firsts[numbers], layout.firsts[numbers + 1]
        pieces = ranges(begins, ends - begins)
        sizes, sources = layout.sizes[pieces], layout.sources[pieces]
        row = np.repeat(np.arange(count), ends - begins)
        to_places = layout.places[pieces] + (row - numbers[row]) * length
        taken, into = ranges(sources, sizes), ranges(to_places, sizes)
        opens = np.zeros(len(taken), np.bool_)
        opens[np.cumsum(sizes) - sizes] = True

        def laid(values: NDArray[Any], blank: float, dtype: Any) -> NDArray[Any]:
            found: NDArray[Any] = np.full(count * length, blank, dtype)
            found[into] = values
            return found.reshape(count, length)

        stream, eos = self.stream, int(self.stream.tokens[-1])
        padding = len(layout.sizes) + np.arange(length // self.cell)  # numbers of its own, one a cell
        segments = np.tile(np.repeat(padding, self.cell), count)
        segments[into] = np.repeat(pieces, sizes)
        segments_BT = segments.reshape(count, length)
        visible = stream.visible
        if visible is not None:
            visible = laid(np.where(opens, visible[taken], visible[taken - 1]), 0, np.bool_)
        weights = np.ones(1, np.float32) if stream.weights is None else stream.weights[taken]
        return Rows(
            inputs=laid(stream.tokens[taken - 1], eos, np.int64),
            targets=laid(stream.tokens[taken], eos, np.int64),
            positions=positions_of(segments_BT),
            segments=segments_BT,
            weights=laid(weights, 0.0, np.float32),
            scores=None if stream.scores is None else laid(stream.scores[taken], 0.0, np.float32),
            visible=visible,
        )

    def documents(self, first: int, count: int) -> list[str]:
        numbers = self._visits(first, count) % self.pass_rows
        begins, ends = self._layout.firsts[numbers], self._layout.firsts[numbers + 1]
        owners = self._layout.owners[ranges(begins, ends - begins)]
        origins = self.stream.origins
        found = np.unique(owners if origins is None else origins[owners])
        return [f"{self.name}, document {number}" for number in found.tolist()]

    def digest(self) -> str:
        plan = self.n_rows if self.shuffle == "block" else None
        text = f"{self.stream.digest()}|{self.row_tokens}|{self.seed}|{self.shuffle}|{plan}"
        text += f"|whole-1|{self.overlong}|{self.cell}"
        return hashlib.sha256(text.encode()).hexdigest()

    def used(self, first: int, count: int) -> list[Used]:
        """What rows `first` to `first + count` hold: see `prill.lm.feed.account`."""
        layout = self._layout
        numbers = self._visits(first, count) % self.pass_rows
        n_visits = np.bincount(numbers, minlength=self.pass_rows)
        times = np.repeat(n_visits, np.diff(layout.firsts))
        trained = trained_between(self.stream, layout.sources, layout.sources + layout.sizes)
        n_tokens, n_trained = np.zeros((2, self.stream.n_documents), np.int64)
        np.add.at(n_tokens, layout.owners, times * layout.sizes)
        np.add.at(n_trained, layout.owners, times * trained)
        n_padding = count * self.row_tokens - int(n_tokens.sum())
        return [
            Used(
                source=self.name,
                stream=self.stream,
                n_tokens=n_tokens,
                n_trained=n_trained,
                n_padding=n_padding,
            )
        ]

    def _visits(self, first: int, count: int) -> Ints:
        return visits(
            first, count, seed=self.seed, shuffle=self.shuffle, pass_rows=self.pass_rows, n_rows=self.n_rows
        )

    @cached_property
    def _layout(self) -> Layout:
        return lay_out(
            self.stream.doc_starts, row_tokens=self.row_tokens, cell_tokens=self.cell, overlong=self.overlong
        )
