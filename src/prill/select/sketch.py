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
from prill.select.frontier import Ending, Frontier, behind, digits
from prill.select.ranking import Ranked, score_key

__all__ = ["GROUPS", "MAX_STRATA", "Sketch", "sketch"]

GROUPS = ("eligible", "ineligible", "non_finite", "below_threshold")
"""Every row of the pool is in exactly one of these."""

MAX_STRATA = 4096
"""More would make a sketch, and the account of a choice, grow with the corpus."""


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


def sketch(ranked: Ranked, frontiers: dict[str, Frontier] | None = None) -> Sketch:
    """Counts one shard's rows: all of them at the first level, or those behind each stratum's frontier.

    Args:
        frontiers: for deeper levels, which may differ by stratum. Strata without one are left out.
    """
    inside = ranked.eligible if frontiers is None else behind(ranked, frontiers)
    order = np.argsort(np.array(ranked.strata, dtype=object), kind="stable")
    code = np.empty(len(order), dtype=np.int64)
    code[order] = np.arange(len(order))
    stratum = code[ranked.stratum]
    key = ranked.score_key[inside]
    bins = _grouped(stratum[inside], digits(ranked, frontiers or {})[inside], ranked.units[inside], key, key)
    part = replace(
        Sketch.empty(),
        strata=tuple(sorted(ranked.strata)),
        **bins,
        groups=np.zeros((len(ranked.strata), len(GROUPS), 3), np.int64),
    )
    return _with_totals(part, ranked, stratum) if frontiers is None else part


def _with_totals(part: Sketch, ranked: Ranked, stratum: NDArray[np.int64]) -> Sketch:
    groups = part.groups.copy()
    ineligible = ~(ranked.eligible | ranked.is_non_finite | ranked.is_below)
    for g, mask in enumerate((ranked.eligible, ineligible, ranked.is_non_finite, ranked.is_below)):
        np.add.at(groups[:, g], stratum[mask], ranked.units[mask])
    score = ranked.score[ranked.eligible]
    if not score.size:
        return replace(part, groups=groups)
    leading = (score_key(score) >> np.uint64(48)).astype(np.int64)
    spread = np.bincount(leading, minlength=1 << 16)
    return replace(part, groups=groups, spread=spread, lowest=float(score.min()), highest=float(score.max()))


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


def _check_strata(strata: tuple[str, ...]) -> None:
    if len(strata) > MAX_STRATA:
        raise RecipeError(
            f"a choice within strata allows at most {MAX_STRATA:,} of them, found at least {len(strata):,}",
            where="policy.strata",
            hint="give the documents a coarser source, or remove `strata`",
        )
