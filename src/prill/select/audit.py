"""The account of a choice: what was there, what was kept, where it ends, and how scores and lengths moved.

Plain JSON values, made from the sketch of the whole pool and the merged tallies. Every row of the pool is in
one group: eligible, ineligible, without a finite score, or below the threshold.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from prill.select.cut import Cut
from prill.select.sketch import GROUPS, Sketch
from prill.select.tally import Tally, length_edges

__all__ = ["audit"]

N_SHOWN = 64
"""Bins of the score histogram."""

_QUANTILES = (0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99)
_UNITS = ("documents", "tokens", "bytes")
_TIES = ("documents", "tokens", "kept_documents", "kept_tokens")


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


def sum_of(strata: dict[str, dict[str, Any]], key: str) -> NDArray[np.int64]:
    """Documents, tokens, bytes of one group over all strata. Shape (3,)."""
    rows = [[s[key][unit] for unit in _UNITS] for s in strata.values()]
    return np.asarray(np.array(rows, dtype=np.int64).reshape(-1, 3).sum(axis=0))


def _stratum(name: str, groups: NDArray[np.int64], tallied: Tally, cut: Cut, axis: int) -> dict[str, Any]:
    kept = tallied.kept.get(name, np.zeros(3, np.int64))
    ends = tallied.ties.get(name, np.zeros((2, 4), np.int64))
    is_split = (ends[:, 2] > 0) & (ends[:, 2] < ends[:, 0])  # else the cut falls between two scores
    ties = ends[is_split].sum(axis=0)
    return {
        **{group: _units(groups[i]) for i, group in enumerate(GROUPS)},
        "candidates": _units(groups.sum(axis=0)),
        "kept": _units(kept),
        "limit": cut.limit,
        "shortfall": None if cut.limit is None else cut.limit - int(kept[axis]),
        "cut": cut.sentence,
        "first_in": cut.first_in.readable() if cut.first_in else None,
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
        "edges": [int(e) for e in length_edges()[: last + 1]],
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


def _source_rows(sources: dict[str, NDArray[np.int64]] | None) -> dict[str, Any] | None:
    if sources is None:
        return None
    return {
        name: {"all": _single(sources[name][0]), "kept": _single(sources[name][1])}
        for name in sorted(sources)
    }


def _units(counts: NDArray[np.int64]) -> dict[str, int]:
    return {unit: int(n) for unit, n in zip(_UNITS, counts, strict=True)}


def _single(counts: NDArray[np.int64]) -> dict[str, int]:
    return {"documents": int(counts[0]), "tokens": int(counts[1])}


def _pair(counts: NDArray[np.int64]) -> dict[str, list[int]]:
    return {"documents": [int(n) for n in counts[0]], "tokens": [int(n) for n in counts[1]]}
