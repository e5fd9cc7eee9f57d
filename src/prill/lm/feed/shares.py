"""Weights by source that may change as training goes, and what becomes of them when a source runs dry.

A table of points (row, share of each source) says how rows are drawn: in `steps` a point's shares hold until
the next, in a `line` they move evenly from one to the next. Either way they end as a table of pieces with
constant shares: lines are cut into pieces of 64 rows or more with the exact mean of the line, so that the
sum over whole pieces is the line's.

A source of limited rows hands its share to the others, in proportion to theirs, from the (fractional) row at
which its share has used it up.

Axes: S sources, P pieces.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from prill.errors import Problem, RecipeError

__all__ = ["Pieces", "SharePoint", "limited", "pieces_of"]

Floats = NDArray[np.float64]

PIECE_ROWS = 64
MAX_PIECES = 4096
SUM_TOLERANCE = 1e-6


@dataclass(frozen=True, kw_only=True)
class SharePoint:
    """From base row `row` on (or at it, on a line), the share of each source in the rows."""

    row: int
    shares: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Pieces:
    """Constant shares between rows `starts[p]` and `starts[p + 1]`; the last piece has no end.

    Attributes:
        starts: first row of each piece, rising from 0, (P,); fractions where a source runs dry.
        shares: they sum to 1 in every piece, (P, S).
        end: row at which no source is left; infinite if there is always one.
    """

    starts: Floats
    shares: Floats
    end: float = math.inf

    def targets(self) -> Floats:
        """Rows due to each source before each piece, (P, S)."""
        due = np.zeros_like(self.shares)
        np.cumsum(self.shares[:-1] * np.diff(self.starts)[:, None], axis=0, out=due[1:])
        return due


def pieces_of(points: Sequence[SharePoint], *, n_sources: int, curve: Literal["steps", "line"]) -> Pieces:
    """The points as pieces.

    Raises:
        RecipeError: rows do not rise from 0; or shares are not one a source, not finite, negative, or do not
            sum to 1. All problems are told at once.
    """
    problems = [problem for point in points for problem in _problems(point, n_sources)]
    rows = [point.row for point in points]
    if not rows or rows[0] != 0 or any(b <= a for a, b in pairwise(rows)):
        problems.insert(
            0, Problem(message=f"points must rise from row 0, found rows {rows[:5]}", where="mixture weights")
        )
    if problems:
        raise RecipeError.of(problems)
    shares = np.array([point.shares for point in points], dtype=np.float64)
    shares /= shares.sum(axis=1, keepdims=True)
    if curve == "steps":
        return Pieces(starts=np.array(rows, dtype=np.float64), shares=shares)
    starts, means = [], []
    for number, (first, last) in enumerate(pairwise(rows)):
        n_pieces = min(math.ceil((last - first) / PIECE_ROWS), MAX_PIECES)
        edges = first + (last - first) * np.arange(n_pieces) // n_pieces
        ends = np.append(edges[1:], last)
        along = ((edges + ends) / 2 - first) / (last - first)
        starts.append(edges)
        means.append(shares[number] + along[:, None] * (shares[number + 1] - shares[number]))
    starts.append(np.array(rows[-1:]))
    means.append(shares[-1:])
    return Pieces(starts=np.concatenate(starts).astype(np.float64), shares=np.concatenate(means))


def limited(pieces: Pieces, n_rows: Sequence[int | None]) -> tuple[Pieces, dict[int, float]]:
    """The same shares when sources hold only so many rows, and at which row each of those runs dry.

    Args:
        pieces: shares as if there were no limits.
        n_rows: rows of each source; None: no limit.
    """
    dry: dict[int, float] = {}
    while True:
        found = [
            (_dry_at(pieces, source, limit), source)
            for source, limit in enumerate(n_rows)
            if limit is not None and source not in dry
        ]
        row, source = min(found, default=(math.inf, -1))
        if row >= pieces.end or math.isinf(row):
            return pieces, dry
        dry[source] = row
        pieces = _without(pieces, source, row)


def _dry_at(pieces: Pieces, source: int, limit: int) -> float:
    """The row at which `limit` rows are due to a source, infinite if never."""
    due, shares = pieces.targets()[:, source], pieces.shares[:, source]
    number = max(int(np.searchsorted(due, limit, side="left")) - 1, 0)
    if shares[number] == 0 and limit > due[number]:
        return math.inf  # the last piece; in others the next would be due no more than this one
    later = np.flatnonzero(shares[number:])
    if limit <= due[number]:
        return float(pieces.starts[number + later[0]]) if len(later) else math.inf
    return float(pieces.starts[number] + (limit - due[number]) / shares[number])


def _without(pieces: Pieces, source: int, row: float) -> Pieces:
    """The same pieces without a source from `row` on."""
    starts, shares = pieces.starts, pieces.shares
    number = int(np.searchsorted(starts, row, side="right"))
    if starts[number - 1] < row:
        starts = np.insert(starts, number, row)
        shares = np.insert(shares, number, shares[number - 1], axis=0)
        number += 1
    shares = shares.copy()
    shares[number - 1 :, source] = 0.0
    left = shares.sum(axis=1)
    empty = np.flatnonzero(left <= SUM_TOLERANCE)
    end = float(starts[empty[0]]) if len(empty) else math.inf
    shares = np.divide(shares, left[:, None], out=np.zeros_like(shares), where=left[:, None] > SUM_TOLERANCE)
    return Pieces(starts=starts, shares=shares, end=min(end, pieces.end))


def _problems(point: SharePoint, n_sources: int) -> list[Problem]:
    where = f"mixture weights, row {point.row}"
    if len(point.shares) != n_sources:
        message = f"expected one weight a source, {n_sources}, found {len(point.shares)}"
        return [Problem(message=message, where=where)]
    found = [
        Problem(message=f"a weight must be a number from 0 to 1, found {share}", where=where)
        for share in point.shares
        if not (math.isfinite(share) and 0 <= share <= 1 + SUM_TOLERANCE)
    ]
    total = math.fsum(point.shares)
    if not found and abs(total - 1) > SUM_TOLERANCE:
        hint = "divide each weight by their sum"
        found.append(Problem(message=f"weights must sum to 1, found {total:.9g}", where=where, hint=hint))
    return found
