"""The account of a choice: what was there, what was kept, where it ends, and how scores and lengths moved.

`tally` counts one shard with the finished cuts; tallies merge in any order; `audit` writes the sum as plain
JSON values. Every row of the pool is counted once: eligible, ineligible, without a finite score, or below the
threshold.

Legend: D documents, S strata, H bins; a counted axis of 3 is documents, tokens, bytes, one of 2 documents,
tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from prill.select.cut import Cut, Place, chosen
from prill.select.ranking import Ranked, score_of_key
from prill.select.sketch import GROUPS, MAX_STRATA, Sketch

__all__ = ["Tally", "audit", "length_edges", "score_edges", "tally"]

N_FINE = 2048
"""Bins in which scores are counted; quantiles are read from them."""
N_SHOWN = 64
_QUANTILES = (0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99)
_HUGE = float(np.finfo(np.float64).max)
_UNITS = ("documents", "tokens", "bytes")
_LENGTHS = np.unique(np.floor(2.0 ** (np.arange(0, 81) / 2)).astype(np.int64))


@dataclass(frozen=True, kw_only=True)
class Tally:
    """Counts of what is kept; `merge` is associative and commutative."""

    kept: dict[str, NDArray[np.int64]]
    """By stratum, shape (3,)."""
    ties: dict[str, NDArray[np.int64]]
    """By stratum, shape (4,): documents and tokens with the score at the cut, and those of them kept."""
    last_in: dict[str, Place]
    scores: NDArray[np.int64]
    """Shape (2, 2, H): pool or kept, documents or tokens, bin of the score."""
    lengths: NDArray[np.int64]
    """Shape (2, 2, H): pool or kept, documents or tokens, bin of the length in tokens."""
    sources: dict[str, NDArray[np.int64]] | None
    """By source, shape (2, 2): pool or kept, documents or tokens; None above `MAX_STRATA` sources."""
    lowest_kept: float
    highest_kept: float

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


def audit(
    total: Sketch, tallied: Tally, cuts: dict[str, Cut], edges: NDArray[np.float64], axis: int
) -> dict[str, Any]:
    """The account as plain JSON values.

    Args:
        total: the sketch of the whole pool.
        axis: which of documents, tokens, bytes the budget counts.
    """
    strata = {
        name: _stratum(name, total.groups[code], tallied, cuts[name], axis)
        for code, name in enumerate(total.strata)
    }
    sums = {key: _units(sum_of(strata, key)) for key in (*GROUPS, "candidates", "kept")}
    shortfall = sum(s["shortfall"] for s in strata.values() if s["shortfall"] is not None)
    ties = {key: sum(s["ties"][key] for s in strata.values()) for key in _TIES}
    return {
        **sums,
        "unit": _UNITS[axis],
        "limit": sum(cut.limit or 0 for cut in cuts.values())
        if all(c.limit is not None for c in cuts.values())
        else None,
        "shortfall": shortfall,
        "ties": ties,
        "strata": strata,
        "scores": _scores(total, tallied, edges),
        "lengths": _lengths(tallied),
        "sources": _source_rows(tallied.sources),
        "warnings": _warnings(sums, shortfall, _UNITS[axis]),
    }


_TIES = ("documents", "tokens", "kept_documents", "kept_tokens")


def sum_of(strata: dict[str, dict[str, Any]], key: str) -> NDArray[np.int64]:
    """Documents, tokens, bytes of one group over all strata. Shape (3,)."""
    rows = [[s[key][unit] for unit in _UNITS] for s in strata.values()]
    return np.asarray(np.array(rows, dtype=np.int64).reshape(-1, 3).sum(axis=0))


def _stratum(name: str, groups: NDArray[np.int64], tallied: Tally, cut: Cut, axis: int) -> dict[str, Any]:
    kept = tallied.kept.get(name, np.zeros(3, np.int64))
    ties = tallied.ties.get(name, np.zeros(4, np.int64))
    if ties[2] in (0, ties[0]):  # the cut falls between two scores: no tie was split
        ties = np.zeros(4, np.int64)
    return {
        **{group: _units(groups[i]) for i, group in enumerate(GROUPS)},
        "candidates": _units(groups.sum(axis=0)),
        "kept": _units(kept),
        "limit": cut.limit,
        "shortfall": None if cut.limit is None else cut.limit - int(kept[axis]),
        "cut": cut.sentence,
        "last_in": cut.last_in.readable() if cut.last_in else None,
        "first_out": cut.first_out.readable() if cut.first_out else None,
        "ties": {key: int(n) for key, n in zip(_TIES, ties, strict=True)},
    }


def _scores(total: Sketch, tallied: Tally, edges: NDArray[np.float64]) -> dict[str, Any]:
    shown = tallied.scores.reshape(2, 2, N_SHOWN, -1).sum(axis=-1)
    ends = ((total.lowest, total.highest), (tallied.lowest_kept, tallied.highest_kept))
    step = len(edges) // N_SHOWN
    return {
        "edges": [float(e) for e in edges[::step]],
        "all": _pair(shown[0]),
        "kept": _pair(shown[1]),
        "quantiles": {
            name: _quantiles(tallied.scores[i, 0], edges, ends[i]) for i, name in enumerate(("all", "kept"))
        },
        "resolution": float(edges[1] - edges[0]),
    }


def _lengths(tallied: Tally) -> dict[str, Any]:
    last = int(np.flatnonzero(tallied.lengths.sum(axis=(0, 1)))[-1]) + 1 if tallied.lengths.any() else 1
    counts = tallied.lengths[:, :, :last]
    return {
        "edges": [int(e) for e in _LENGTHS[: last + 1]],
        "all": _pair(counts[0]),
        "kept": _pair(counts[1]),
    }


def _quantiles(
    counts: NDArray[np.int64], edges: NDArray[np.float64], ends: tuple[float, float]
) -> dict[str, float]:
    """Read at the middle of the bin that holds each quantile, never outside the extremes."""
    if not counts.sum():
        return {}
    below = np.cumsum(counts)
    found = {"0": ends[0]}
    for q in _QUANTILES:
        i = int(np.searchsorted(below, q * below[-1]))
        found[f"{q:g}"] = float(min(max(edges[i] / 2 + edges[i + 1] / 2, ends[0]), ends[1]))
    return found | {"1": ends[1]}


def _warnings(sums: dict[str, dict[str, int]], shortfall: int, unit: str) -> list[str]:
    kept, eligible = sums["kept"]["documents"], sums["eligible"]["documents"]
    said = []
    if kept == 0:
        said.append("Nothing was chosen: the best document is larger than the budget.")
    elif kept == eligible:
        said.append("Every eligible document was chosen, so nothing was decided.")
    if shortfall and kept == eligible:
        said.append(f"The pool ran short of the budget by {shortfall:,} {unit}.")
    if sums["non_finite"]["documents"]:
        said.append(f"{sums['non_finite']['documents']:,} documents without a finite score were left out.")
    return said


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
    outs = [cuts[name].first_out for name in ranked.strata]
    key = np.array([out.score_key if out else 0 for out in outs], dtype=np.uint64)
    is_cut = np.array([out is not None for out in outs], dtype=np.bool_)
    tied = ranked.eligible & is_cut[ranked.stratum] & (ranked.score_key == key[ranked.stratum])
    sums = np.zeros((len(ranked.strata), 4), np.int64)
    np.add.at(sums[:, :2], ranked.stratum[tied], ranked.units[tied, :2])
    np.add.at(sums[:, 2:], ranked.stratum[tied & keep], ranked.units[tied & keep, :2])
    return {name: sums[code] for code, name in enumerate(ranked.strata)}


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


def _source_rows(sources: dict[str, NDArray[np.int64]] | None) -> dict[str, Any] | None:
    if sources is None:
        return None
    return {
        name: {"all": _single(sources[name][0]), "kept": _single(sources[name][1])}
        for name in sorted(sources)
    }


def _summed(a: dict[str, NDArray[np.int64]], b: dict[str, NDArray[np.int64]]) -> dict[str, NDArray[np.int64]]:
    merged = dict(a)
    for name, value in b.items():
        merged[name] = merged[name] + value if name in merged else value
    return merged


def _units(counts: NDArray[np.int64]) -> dict[str, int]:
    return {unit: int(n) for unit, n in zip(_UNITS, counts, strict=True)}


def _single(counts: NDArray[np.int64]) -> dict[str, int]:
    return {"documents": int(counts[0]), "tokens": int(counts[1])}


def _pair(counts: NDArray[np.int64]) -> dict[str, list[int]]:
    return {"documents": [int(n) for n in counts[0]], "tokens": [int(n) for n in counts[1]]}
