"""Where a choice begins and ends in the total order, for each stratum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prill.select.ranking import Ranked, score_of_key, tie_of_key

__all__ = ["Cut", "Place", "chosen"]


@dataclass(frozen=True, kw_only=True, order=True)
class Place:
    """One document's place in the total order; a smaller place is better."""

    score_key: int
    tie_key: int
    shard: int
    row: int

    @property
    def score(self) -> float:
        """The score (with its noise, for kind gumbel) at this place."""
        return score_of_key(self.score_key)

    @property
    def tie(self) -> float:
        """The keyed tie hash at this place, between 0 and 1; smaller is better."""
        return tie_of_key(self.tie_key)

    def readable(self) -> dict[str, Any]:
        """The place as values to read; the keys follow from them."""
        return {"score": self.score, "tie_hash": self.tie, "shard": self.shard, "row": self.row}


_LAST = (1 << 64) - 1
_START = Place(score_key=0, tie_key=0, shard=-1, row=-1)
_END = Place(score_key=_LAST, tie_key=_LAST, shard=1 << 62, row=0)


@dataclass(frozen=True, kw_only=True)
class Cut:
    """The end of the choice within one stratum.

    Args:
        limit: the most that may be chosen, in the budget's unit; None without a budget.
        first_out: the best place behind the choice; None when it goes to the end.
        first_in: the best place of a band, everything before it is left out; None when the choice begins
            with the best document.
        last_in: the last place that is chosen; None when nothing is.
    """

    limit: int | None
    first_out: Place | None
    last_in: Place | None = None
    first_in: Place | None = None
    with_noise: bool = False

    def to_json(self) -> dict[str, Any]:
        """Every field, exactly; `Cut.from_json` reads it back."""
        return {
            "limit": self.limit,
            "first_out": None if self.first_out is None else dict(vars(self.first_out)),
            "last_in": None if self.last_in is None else dict(vars(self.last_in)),
            "first_in": None if self.first_in is None else dict(vars(self.first_in)),
            "with_noise": self.with_noise,
        }

    @staticmethod
    def from_json(stored: dict[str, Any]) -> Cut:
        """The cut that `to_json` wrote."""
        names = ("first_out", "last_in", "first_in")
        places = {name: Place(**stored[name]) if stored.get(name) else None for name in names}
        return Cut(limit=stored["limit"], with_noise=stored["with_noise"], **places)

    @property
    def sentence(self) -> str:
        """The cut as a threshold: `score >= 0.25`, with the tie hash when it runs through a tie."""
        if self.first_in is None or self.last_in is None:
            return self._end
        first = self.first_in
        return f"{self._end}, and score <= {first.score!r} (there tie hash >= {first.tie!r})"

    @property
    def _end(self) -> str:
        what = "score / temperature + noise" if self.with_noise else "score"
        if self.last_in is None:
            return "nothing is chosen"
        text = f"{what} >= {self.last_in.score!r}"
        if self.first_out is None or self.first_out.score_key != self.last_in.score_key:
            return text
        text += f", tie hash <= {self.last_in.tie!r}"
        if self.first_out.tie_key != self.last_in.tie_key:
            return text
        return f"{text}, exact copies up to shard {self.last_in.shard}, row {self.last_in.row}"


def chosen(ranked: Ranked, cuts: dict[str, Cut]) -> NDArray[np.bool_]:
    """Which rows lie between the beginning and the end of their stratum's cut. Shape (D,)."""
    ends = [cuts[name].first_out or _END if name in cuts else _START for name in ranked.strata]
    starts = [cuts[name].first_in or _START if name in cuts else _START for name in ranked.strata]
    kept = ranked.eligible & _before(ranked, ends)
    if any(start is not _START for start in starts):
        kept &= ~_before(ranked, starts)
    return np.asarray(kept, dtype=np.bool_)


def _before(ranked: Ranked, at: list[Place]) -> NDArray[np.bool_]:
    """Which rows come before the place of their stratum. Shape (D,)."""
    score = np.array([p.score_key for p in at], dtype=np.uint64)[ranked.stratum]
    tie = np.array([p.tie_key for p in at], dtype=np.uint64)[ranked.stratum]
    copy = [(p.shard > ranked.shard, p.shard == ranked.shard, p.row) for p in at]
    whole = np.array([c[0] for c in copy], dtype=np.bool_)[ranked.stratum]
    here = np.array([c[1] for c in copy], dtype=np.bool_)[ranked.stratum]
    row = np.array([c[2] for c in copy], dtype=np.int64)[ranked.stratum]
    is_copy = (ranked.score_key == score) & (ranked.tie_key == tie) & (whole | (here & (ranked.row < row)))
    is_better = (ranked.score_key < score) | ((ranked.score_key == score) & (ranked.tie_key < tie))
    return np.asarray(is_better | is_copy, dtype=np.bool_)
