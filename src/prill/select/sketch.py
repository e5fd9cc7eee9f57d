"""A mergeable summary of a shard's places in the total order, and the search for the cut inside it.

Places are read as digits of 16 bits: four of the score key, four of the tie key, then the shard. A sketch
counts documents, tokens and bytes for each digit of one level; adding the counts of the digits from the best
finds the one digit in which the budget ends, and only the documents behind that digit are looked at again.
Memory is bounded by the number of digits and strata, never by the corpus.

Legend: D documents, B occupied digits, S strata; a counted axis of 3 is documents, tokens, bytes.
Source: radix selection as in Knuth, The Art of Computer Programming 3, section 5.2.5; here over mergeable
counts.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prill.errors import RecipeError
from prill.select.ranking import Ranked, score_key

__all__ = [
    "GROUPS",
    "LEVELS",
    "MAX_STRATA",
    "Block",
    "Ending",
    "Frontier",
    "Sketch",
    "collect",
    "score_digits",
    "sketch",
]

LEVELS = 9
"""Digits of a place: four of the score, four of the tie, the shard."""

GROUPS = ("eligible", "ineligible", "non_finite", "below_threshold")
"""Every row of the pool is in exactly one of these."""

MAX_STRATA = 4096

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
class Sketch:
    """Counts of one level; `merge` is associative and commutative, all integers but the two extremes."""

    strata: tuple[str, ...] = ()
    """Sorted names."""
    stratum: NDArray[np.int64]
    """Index into `strata`, shape (B,)."""
    digit: NDArray[np.int64]
    """Shape (B,); rows are sorted by (stratum, digit)."""
    units: NDArray[np.int64]
    """Shape (B, 3)."""
    best: NDArray[np.uint64]
    """Smallest score key behind the digit, shape (B,)."""
    worst: NDArray[np.uint64]
    """Largest score key behind the digit, shape (B,)."""
    groups: NDArray[np.int64]
    """Shape (S, 4, 3): the groups of `GROUPS`. Zero in a sketch of deeper levels."""
    spread: NDArray[np.int64]
    """Shape (65536,): eligible documents by the leading digit of the raw score's key."""
    lowest: float = np.inf
    highest: float = -np.inf

    @staticmethod
    def empty() -> Sketch:
        """The neutral element of `merge`."""
        return Sketch(
            stratum=np.zeros(0, np.int64),
            digit=np.zeros(0, np.int64),
            units=np.zeros((0, 3), np.int64),
            best=np.zeros(0, np.uint64),
            worst=np.zeros(0, np.uint64),
            groups=np.zeros((0, len(GROUPS), 3), np.int64),
            spread=np.zeros(1 << 16, np.int64),
        )

    def merge(self, other: Sketch) -> Sketch:
        """The sketch of both sets of rows.

        Raises:
            RecipeError: there are more strata than `MAX_STRATA`.
        """
        strata = tuple(sorted({*self.strata, *other.strata}))
        _check_strata(strata)
        place = {name: i for i, name in enumerate(strata)}
        maps = [np.array([place[name] for name in s.strata], dtype=np.int64) for s in (self, other)]
        groups = np.zeros((len(strata), len(GROUPS), 3), np.int64)
        for codes, part in zip(maps, (self, other), strict=True):
            groups[codes] += part.groups
        stratum = np.concatenate([maps[0][self.stratum], maps[1][other.stratum]])
        digit = np.concatenate([self.digit, other.digit])
        columns = ("units", "best", "worst")
        both = [np.concatenate([getattr(self, name), getattr(other, name)]) for name in columns]
        bins = _grouped(stratum, digit, *both)
        return Sketch(
            strata=strata,
            **bins,
            groups=groups,
            spread=self.spread + other.spread,
            lowest=min(self.lowest, other.lowest),
            highest=max(self.highest, other.highest),
        )

    def ending(self, stratum: str, room: int, axis: int) -> Ending | None:
        """The digit of a stratum in which `room` units end; None if everything counted here fits.

        Args:
            axis: which of documents, tokens, bytes `room` counts.
        """
        if stratum not in self.strata:
            return None
        code = self.strata.index(stratum)
        first, stop = np.searchsorted(self.stratum, [code, code + 1])
        total = np.cumsum(self.units[first:stop, axis])
        i = first + int(np.searchsorted(total, room, side="right"))
        if i == stop:
            return None
        return Ending(
            digit=int(self.digit[i]),
            before=int(total[i - first] - self.units[i, axis]),
            n_documents=int(self.units[i, 0]),
            only_score=int(self.best[i]) if self.best[i] == self.worst[i] else None,
        )


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


def sketch(ranked: Ranked, frontiers: dict[str, Frontier] | None = None) -> Sketch:
    """Counts one shard's rows: all of them at the first level, or those behind each stratum's frontier.

    Args:
        frontiers: for deeper levels, which may differ by stratum. Strata without one are left out.
    """
    inside = ranked.eligible if frontiers is None else _behind(ranked, frontiers)
    order = np.argsort(np.array(ranked.strata, dtype=object), kind="stable")
    code = np.empty(len(order), dtype=np.int64)
    code[order] = np.arange(len(order))
    stratum = code[ranked.stratum]
    key = ranked.score_key[inside]
    bins = _grouped(stratum[inside], _digit(ranked, frontiers or {})[inside], ranked.units[inside], key, key)
    part = replace(
        Sketch.empty(),
        strata=tuple(sorted(ranked.strata)),
        **bins,
        groups=np.zeros((len(ranked.strata), len(GROUPS), 3), np.int64),
    )
    return _with_totals(part, ranked, stratum) if frontiers is None else part


def collect(ranked: Ranked, frontiers: dict[str, Frontier]) -> dict[str, Block]:
    """The rows behind each stratum's frontier; only strata that have some."""
    inside = np.flatnonzero(_behind(ranked, frontiers))
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


def _with_totals(part: Sketch, ranked: Ranked, stratum: NDArray[np.int64]) -> Sketch:
    groups = part.groups.copy()
    ineligible = ~(ranked.eligible | ranked.is_non_finite | ranked.is_below)
    for g, mask in enumerate((ranked.eligible, ineligible, ranked.is_non_finite, ranked.is_below)):
        np.add.at(groups[:, g], stratum[mask], ranked.units[mask])
    score = ranked.score[ranked.eligible]
    if not score.size:
        return replace(part, groups=groups)
    leading = score_digits(score).astype(np.int64)
    spread = np.bincount(leading, minlength=1 << 16)
    return replace(part, groups=groups, spread=spread, lowest=float(score.min()), highest=float(score.max()))


def score_digits(score: NDArray[np.float64]) -> NDArray[np.uint64]:
    """The leading 16 bits of each score's key. Shape (D,)."""
    return score_key(score) >> np.uint64(48)


def _digit(ranked: Ranked, frontiers: dict[str, Frontier]) -> NDArray[np.int64]:
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


def _behind(ranked: Ranked, frontiers: dict[str, Frontier]) -> NDArray[np.bool_]:
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


def _grouped(
    stratum: NDArray[np.int64],
    digit: NDArray[np.int64],
    units: NDArray[np.int64],
    best: NDArray[np.uint64],
    worst: NDArray[np.uint64],
) -> dict[str, Any]:
    """The binned fields of a sketch: one bin for each distinct (stratum, digit), in sorted order."""
    label = stratum << 32 | digit
    order = np.argsort(label, kind="stable")
    label = label[order]
    starts = np.flatnonzero(np.diff(label, prepend=-1))
    is_empty = len(starts) == 0
    return {
        "stratum": label[starts] >> 32,
        "digit": label[starts] & 0xFFFFFFFF,
        "units": units[:0] if is_empty else np.add.reduceat(units[order], starts, axis=0),
        "best": best[:0] if is_empty else np.minimum.reduceat(best[order], starts),
        "worst": worst[:0] if is_empty else np.maximum.reduceat(worst[order], starts),
    }


def _top(n_digits: int) -> np.uint64:
    return np.uint64(_ALL_BITS ^ (_ALL_BITS >> (16 * n_digits)))


def _check_strata(strata: tuple[str, ...]) -> None:
    if len(strata) > MAX_STRATA:
        raise RecipeError(
            f"a choice within strata allows at most {MAX_STRATA:,} of them, found at least {len(strata):,}",
            where="policy.strata",
            hint="give the documents a coarser source, or remove `strata`",
        )
