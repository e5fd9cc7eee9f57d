"""The last pass over a choice: counts of what is kept, shard by shard, that merge in any order.

Every row of the pool is counted once, with its score and its length, in the pool and among the kept.

Legend: D documents, S strata, H bins; a counted axis of 3 is documents, tokens, bytes, one of 2 documents,
tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from prill.select.cut import Cut, Place, chosen
from prill.select.ranking import Ranked, score_of_key
from prill.select.sketch import MAX_STRATA, Sketch

__all__ = ["N_FINE", "Tally", "length_edges", "score_edges", "tally"]

N_FINE = 2048
"""Bins in which scores are counted; quantiles are read from them."""

_HUGE = float(np.finfo(np.float64).max)
_LENGTHS = np.unique(np.floor(2.0 ** (np.arange(0, 81) / 2)).astype(np.int64))


@dataclass(frozen=True, kw_only=True)
class Tally:
    """Counts of what is kept; `merge` is associative and commutative."""

    kept: dict[str, NDArray[np.int64]]
    """By stratum, shape (3,)."""
    ties: dict[str, NDArray[np.int64]]
    """By stratum, shape (2, 4): documents and tokens with the score at the end of the choice, and those of
    them kept; then the same at the beginning of a band, unless that is the same score."""
    last_in: dict[str, Place]
    scores: NDArray[np.int64]
    """Shape (2, 2, H): pool or kept, documents or tokens, bin of the score."""
    lengths: NDArray[np.int64]
    """Shape (2, 2, H): pool or kept, documents or tokens, bin of the length in tokens."""
    sources: dict[str, NDArray[np.int64]] | None
    """By source, shape (2, 2): pool or kept, documents or tokens; None above `MAX_STRATA` sources."""
    lowest_kept: float
    highest_kept: float

    @staticmethod
    def empty(n_bins: int) -> Tally:
        """The neutral element of `merge`, for this many bins of the score."""
        return Tally(
            kept={},
            ties={},
            last_in={},
            scores=np.zeros((2, 2, n_bins), np.int64),
            lengths=np.zeros((2, 2, len(_LENGTHS) - 1), np.int64),
            sources={},
            lowest_kept=np.inf,
            highest_kept=-np.inf,
        )

    def merge(self, other: Tally) -> Tally:
        """The tally of both sets of rows."""
        last_in = dict(self.last_in)
        for name, place in other.last_in.items():
            last_in[name] = max(place, last_in.get(name, place))
        return Tally(
            kept=_summed(self.kept, other.kept),
            ties=_summed(self.ties, other.ties),
            last_in=last_in,
            scores=self.scores + other.scores,
            lengths=self.lengths + other.lengths,
            sources=_merged_sources(self.sources, other.sources),
            lowest_kept=min(self.lowest_kept, other.lowest_kept),
            highest_kept=max(self.highest_kept, other.highest_kept),
        )


def score_edges(total: Sketch) -> NDArray[np.float64]:
    """Equal bins over the middle 99.8% of the scores; outliers belong to the end bins. Shape (H + 1,).

    The ends come from the leading 16 bits of the scores, so they are right to one part in sixteen.
    """
    ascending = total.spread[::-1]
    below = np.cumsum(ascending)
    if not below[-1]:
        return np.linspace(0.0, 1.0, N_FINE + 1)
    first, last = (int(np.searchsorted(below, max(1.0, q * below[-1]))) for q in (0.001, 0.999))
    low = max(total.lowest, score_of_key(((0xFFFF - first) << 48) | 0xFFFFFFFFFFFF))
    high = min(total.highest, score_of_key((0xFFFF - last) << 48))
    if high - low <= 1e-9 * max(abs(low), abs(high)) + 1e-300:  # one score, or too close to tell bins apart
        low = max(low - max(abs(low), 1.0) / 2, -_HUGE)
        high = min(high + max(abs(high), 1.0) / 2, _HUGE)
    share = np.linspace(0.0, 1.0, N_FINE + 1)
    return np.asarray(low * (1 - share) + high * share, dtype=np.float64)


def length_edges() -> NDArray[np.int64]:
    """Half octaves from 1 token: 1, 2, 4, 5, 8, 11, ... Empty documents belong to the first bin."""
    return _LENGTHS


def tally(ranked: Ranked, cuts: dict[str, Cut], edges: NDArray[np.float64], table: pa.Table) -> Tally:
    """Counts one shard with the finished cuts."""
    keep = chosen(ranked, cuts)
    fine = np.clip(np.searchsorted(edges, ranked.score, side="right") - 1, 0, len(edges) - 2)
    octave = np.clip(np.searchsorted(_LENGTHS, ranked.units[:, 1], side="right") - 1, 0, len(_LENGTHS) - 2)
    kept_score = ranked.score[keep]
    return Tally(
        kept=_kept_by_stratum(ranked, keep),
        ties=_ties(ranked, keep, cuts),
        last_in=_last_in(ranked, keep),
        scores=_histogram(fine, ranked, keep, len(edges) - 1),
        lengths=_histogram(octave, ranked, keep, len(_LENGTHS) - 1),
        sources=_sources(ranked, keep, table),
        lowest_kept=float(kept_score.min()) if kept_score.size else np.inf,
        highest_kept=float(kept_score.max()) if kept_score.size else -np.inf,
    )


def _histogram(
    bins: NDArray[np.int64], ranked: Ranked, keep: NDArray[np.bool_], n_bins: int
) -> NDArray[np.int64]:
    counts = np.zeros((2, 2, n_bins), np.int64)
    for i, mask in enumerate((ranked.eligible, keep)):
        counts[i, 0] = np.bincount(bins[mask], minlength=n_bins)
        np.add.at(counts[i, 1], bins[mask], ranked.units[mask, 1])
    return counts


def _kept_by_stratum(ranked: Ranked, keep: NDArray[np.bool_]) -> dict[str, NDArray[np.int64]]:
    sums = np.zeros((len(ranked.strata), 3), np.int64)
    np.add.at(sums, ranked.stratum[keep], ranked.units[keep])
    return {name: sums[code] for code, name in enumerate(ranked.strata)}


def _ties(ranked: Ranked, keep: NDArray[np.bool_], cuts: dict[str, Cut]) -> dict[str, NDArray[np.int64]]:
    ends = [cuts[name].first_out for name in ranked.strata]
    starts = [_other(cuts[name].first_in, end) for name, end in zip(ranked.strata, ends, strict=True)]
    both = np.stack([_ties_at(ranked, keep, places) for places in (ends, starts)], axis=1)
    return {name: both[code] for code, name in enumerate(ranked.strata)}


def _other(start: Place | None, end: Place | None) -> Place | None:
    is_same = start is not None and end is not None and start.score_key == end.score_key
    return None if is_same else start


def _ties_at(ranked: Ranked, keep: NDArray[np.bool_], places: list[Place | None]) -> NDArray[np.int64]:
    """Documents and tokens with the score of their stratum's place, and those of them kept. Shape (S, 4)."""
    sums = np.zeros((len(ranked.strata), 4), np.int64)
    key = np.array([place.score_key if place else 0 for place in places], dtype=np.uint64)
    is_cut = np.array([place is not None for place in places], dtype=np.bool_)
    tied = ranked.eligible & is_cut[ranked.stratum] & (ranked.score_key == key[ranked.stratum])
    np.add.at(sums[:, :2], ranked.stratum[tied], ranked.units[tied, :2])
    np.add.at(sums[:, 2:], ranked.stratum[tied & keep], ranked.units[tied & keep, :2])
    return sums


def _last_in(ranked: Ranked, keep: NDArray[np.bool_]) -> dict[str, Place]:
    rows = np.flatnonzero(keep)
    code = ranked.stratum[rows]
    order = np.lexsort((ranked.row[rows], ranked.tie_key[rows], ranked.score_key[rows], code))
    ends = np.flatnonzero(np.diff(code[order], append=-1))
    return {
        ranked.strata[ranked.stratum[i]]: Place(
            score_key=int(ranked.score_key[i]),
            tie_key=int(ranked.tie_key[i]),
            shard=ranked.shard,
            row=int(ranked.row[i]),
        )
        for i in rows[order[ends]]
    }


def _sources(ranked: Ranked, keep: NDArray[np.bool_], table: pa.Table) -> dict[str, NDArray[np.int64]] | None:
    if "source" not in table.column_names:
        return {}
    column = table["source"].combine_chunks().cast(pa.large_string()).fill_null("(none)").dictionary_encode()
    names, codes = column.dictionary.to_pylist(), column.indices.to_numpy(zero_copy_only=False)
    sums = np.zeros((len(names), 2, 2), np.int64)
    np.add.at(sums[:, 0], codes, ranked.units[:, :2])
    np.add.at(sums[:, 1], codes[keep], ranked.units[keep, :2])
    return dict(zip(names, sums, strict=True)) if len(names) <= MAX_STRATA else None


def _merged_sources(
    a: dict[str, NDArray[np.int64]] | None, b: dict[str, NDArray[np.int64]] | None
) -> dict[str, NDArray[np.int64]] | None:
    if a is None or b is None:
        return None
    merged = _summed(a, b)
    return merged if len(merged) <= MAX_STRATA else None


def _summed(a: dict[str, NDArray[np.int64]], b: dict[str, NDArray[np.int64]]) -> dict[str, NDArray[np.int64]]:
    merged = dict(a)
    for name, value in b.items():
        merged[name] = merged[name] + value if name in merged else value
    return merged
