"""One stream of documents, its rows visited in a keyed order."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

import numpy as np

from prill.errors import RecipeError
from prill.lm.data import Ints, Rows, TokenStream, batch, row_order, rows_of

__all__ = ["Shuffle", "StreamFeed", "visits"]

Shuffle = Literal["stream", "block", "none"]
BLOCK_ROWS = 1024


@dataclass(frozen=True, kw_only=True)
class StreamFeed:
    """A stream repeated without end.

    Args:
        stream: documents in order.
        row_tokens: T.
        seed: of the order.
        shuffle: rows are visited in an order keyed by the seed: over the whole `stream` (each epoch anew),
            within each `block` of 1,024 rows, so that the coarse order stays and a plan of one epoch
            visits exactly the stream's first rows, or as they come (`none`).
        n_rows: base rows of the whole plan; `block` needs it to end its last block there.
    Raises:
        RecipeError: `block` without `n_rows`.
        DataError: the stream is shorter than one row.
    """

    stream: TokenStream
    row_tokens: int
    seed: int
    shuffle: Shuffle = "stream"
    n_rows: int | None = None

    def __post_init__(self) -> None:
        if self.shuffle == "block" and self.n_rows is None:
            raise RecipeError("a shuffle within blocks needs the rows of the plan, found none", where="feed")
        batch(self.stream, np.zeros(1, np.int64), seq_len=self.row_tokens)

    @property
    def name(self) -> str:
        return self.stream.name

    @property
    def n_tokens(self) -> int:
        return self.stream.n_tokens

    @property
    def highest_id(self) -> int:
        return self.stream.highest_id

    def rows(self, first: int, count: int) -> Rows:
        return rows_of(self.stream, self.numbers(first, count), seq_len=self.row_tokens)

    def documents(self, first: int, count: int) -> list[str]:
        starts = self.numbers(first, count) * self.row_tokens % self.stream.n_tokens
        found: set[int] = set()
        for start in starts.tolist():
            places = (start + np.arange(self.row_tokens)) % self.stream.n_tokens
            numbers = np.searchsorted(self.stream.doc_starts, places, side="right") - 1
            origins = self.stream.origins
            found |= set((numbers if origins is None else origins[numbers]).tolist())
        return [f"{self.name}, document {number}" for number in sorted(found)]

    def digest(self) -> str:
        plan = self.n_rows if self.shuffle == "block" else None
        text = f"{self.stream.digest()}|{self.row_tokens}|{self.seed}|{self.shuffle}|{plan}"
        return hashlib.sha256(text.encode()).hexdigest()

    def numbers(self, first: int, count: int) -> Ints:
        """The rows of the stream, by their place in it, that base rows `first` to `first + count` are."""
        pass_rows = max(1, self.stream.n_tokens // self.row_tokens)
        return visits(
            first, count, seed=self.seed, shuffle=self.shuffle, pass_rows=pass_rows, n_rows=self.n_rows
        )


def visits(
    first: int, count: int, *, seed: int, shuffle: Shuffle, pass_rows: int, n_rows: int | None
) -> Ints:
    """Numbers of the rows that are visited `first` to `first + count`.

    Args:
        first, count: of the plan.
        seed: of the order.
        shuffle: see `StreamFeed`.
        pass_rows: rows of one pass, which `stream` shuffles together.
        n_rows: rows of the plan, at which the last `block` ends.
    """
    block, total = 1, 0
    if shuffle == "stream":
        block, total = pass_rows, first + count + pass_rows  # no last block
    elif shuffle == "block":
        block, total = BLOCK_ROWS, n_rows or 0
    return row_order(first, count, seed=seed, block=block, total=total)
