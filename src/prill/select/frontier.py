"""Where the search for the cut has come to: the digits fixed so far, and the rows that are behind them.

A place in the total order is read as nine digits: four of 16 bits of the score key, four of the tie key, then
the shard. Fixing one digit after the other narrows each stratum down to the rows among which its budget ends.

Legend: D documents of one shard's table.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from prill.select.ranking import Ranked

__all__ = ["LEVELS", "Block", "Ending", "Frontier", "behind", "collect", "digits"]

LEVELS = 9
"""Digits of a place: four of the score, four of the tie, the shard."""

_WORD = np.uint64(0xFFFF)
_ALL_BITS = (1 << 64) - 1


@dataclass(frozen=True, kw_only=True)
class Frontier:
    """The digits already fixed for one stratum, and what lies before them in the order."""

    level: int = 0
    score_prefix: int = 0
    tie_prefix: int = 0
    shard: int = -1
    before: int = 0
    """Documents, tokens or bytes (the budget's unit) before the fixed digits."""

    def descend(self, ending: Ending) -> Frontier:
        """One digit further, or straight to the tie if a single score is left behind the digit."""
        level, shift = self.level, 48 - 16 * (self.level % 4)
        step = replace(self, level=level + 1, before=self.before + ending.before)
        if level < 4 and ending.only_score is not None:
            return replace(step, level=4, score_prefix=ending.only_score)
        if level < 4:
            return replace(step, score_prefix=self.score_prefix | ending.digit << shift)
        if level < 8:
            return replace(step, tie_prefix=self.tie_prefix | ending.digit << shift)
        return replace(step, shard=ending.digit)


@dataclass(frozen=True, kw_only=True)
class Ending:
    """The digit of one level in which a budget ends."""

    digit: int
    before: int
    """Documents, tokens or bytes (the budget's unit) in better digits of this level."""
    n_documents: int
    """Documents behind the digit."""
    only_score: int | None
    """The score key of all of them, if they share one: integer scores are the normal case."""


@dataclass(frozen=True, kw_only=True)
class Block:
    """The places and units of the rows behind one boundary digit; every array has shape (D,)."""

    score_key: NDArray[np.uint64]
    tie_key: NDArray[np.uint64]
    shard: NDArray[np.int64]
    row: NDArray[np.int64]
    units: NDArray[np.int64]
    """Shape (D, 3)."""

    def merge(self, other: Block) -> Block:
        """Both blocks; the order of rows has no meaning."""
        pairs = {name: (getattr(self, name), getattr(other, name)) for name in self.__dataclass_fields__}
        return Block(**{name: np.concatenate(pair) for name, pair in pairs.items()})


def digits(ranked: Ranked, frontiers: dict[str, Frontier]) -> NDArray[np.int64]:
    """Each row's digit at the level that its stratum has reached. Shape (D,)."""
    level = np.array([frontiers.get(name, Frontier()).level for name in ranked.strata], dtype=np.int64)
    digit = np.zeros(len(ranked.row), dtype=np.int64)
    for reached in np.unique(level).tolist():
        rows = (level == reached)[ranked.stratum]
        digit[rows] = _digit_at(ranked, reached)[rows]
    return digit


def _digit_at(ranked: Ranked, level: int) -> NDArray[np.int64]:
    if level == LEVELS - 1:
        return np.full(len(ranked.row), ranked.shard, dtype=np.int64)
    key = ranked.score_key if level < 4 else ranked.tie_key
    return ((key >> np.uint64(48 - 16 * (level % 4))) & _WORD).astype(np.int64)


def behind(ranked: Ranked, frontiers: dict[str, Frontier]) -> NDArray[np.bool_]:
    """Which eligible rows share the digits fixed for their stratum. Shape (D,)."""
    known = [frontiers.get(name) for name in ranked.strata]
    at = [frontier or Frontier() for frontier in known]
    is_open = np.array([frontier is not None for frontier in known], dtype=np.bool_)
    score_mask = np.array([_top(min(f.level, 4)) for f in at], dtype=np.uint64)
    tie_mask = np.array([_top(max(0, min(f.level - 4, 4))) for f in at], dtype=np.uint64)
    score_prefix = np.array([f.score_prefix for f in at], dtype=np.uint64)
    tie_prefix = np.array([f.tie_prefix for f in at], dtype=np.uint64)
    shard_fits = np.array([f.shard in (-1, ranked.shard) for f in at], dtype=np.bool_)
    code = ranked.stratum
    inside = ranked.eligible & (is_open & shard_fits)[code]
    inside &= (ranked.score_key & score_mask[code]) == score_prefix[code]
    inside &= (ranked.tie_key & tie_mask[code]) == tie_prefix[code]
    return inside


def collect(ranked: Ranked, frontiers: dict[str, Frontier]) -> dict[str, Block]:
    """The rows behind each stratum's frontier; only strata that have some."""
    inside = np.flatnonzero(behind(ranked, frontiers))
    inside = inside[np.argsort(ranked.stratum[inside], kind="stable")]
    codes, starts = np.unique(ranked.stratum[inside], return_index=True)
    rows_of = zip(codes, np.split(inside, starts[1:]), strict=True) if len(codes) else ()
    return {ranked.strata[code]: _block(ranked, rows) for code, rows in rows_of}


def _block(ranked: Ranked, rows: NDArray[np.int64]) -> Block:
    return Block(
        score_key=ranked.score_key[rows],
        tie_key=ranked.tie_key[rows],
        shard=np.full(len(rows), ranked.shard, dtype=np.int64),
        row=ranked.row[rows],
        units=ranked.units[rows],
    )


def _top(n_digits: int) -> np.uint64:
    return np.uint64(_ALL_BITS ^ (_ALL_BITS >> (16 * n_digits)))
