"""Where a score lies in the pool: the share of all tokens in documents that score lower, for any pool.

Scores of different methods have no common unit, but their ranks have. A rank counts tokens, as budgets do,
and half of the tokens of the documents with the same score: it lies between 0 and 1, has mean 1/2, and any
increasing transform of the scores leaves it alone.

The pool is never sorted. A pass counts tokens by the leading 16 bits of the score's key; bins that hold more
than the resolution are opened by 8 more bits in the next pass, until every bin is small or a single score.
Within a bin documents are spread evenly over the range of its scores, so order is kept. Counts are integers
and merge in any order: the result does not depend on the shards.

Legend: D documents of a shard, C columns, B bins.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from prill.errors import DataError
from prill.stats.order_key import order_key, value_of_key

__all__ = ["RESOLUTION", "Ranks", "token_ranks"]

RESOLUTION = 2.0**-12
"""Share of the tokens above which a bin is opened: how exact a rank is. Small pools are exact."""

_FIRST_SHIFT = 48
_STEP = 8
_AT_ONCE = 128
_FIELDS = ("low", "high", "before", "share", "n_documents")

ColumnsOf = Callable[[int], tuple[NDArray[np.float64], NDArray[np.int64]]]


class ShardMap(Protocol):
    """`map` of the standard library, or anything else that applies a function to shards, in order."""

    def __call__(self, task: Callable[[int], Any], shards: Iterable[int], /) -> Iterable[Any]: ...


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """The ranks of one column; every array has shape (B,), bins in the order of the scores.

    Attributes:
        low, high: lowest and highest score of the bin.
        before: share of the tokens in lower bins.
        share: share of the tokens in the bin.
        n_documents: documents in the bin.
    """

    low: NDArray[np.float64]
    high: NDArray[np.float64]
    before: NDArray[np.float64]
    share: NDArray[np.float64]
    n_documents: NDArray[np.int64]

    def of(self, scores_D: NDArray[np.float64]) -> NDArray[np.float64]:
        """Ranks in (0, 1) of any scores, higher for higher ones; NaN for NaN. Shape (D,)."""
        score = np.asarray(scores_D, np.float64)
        i = np.clip(np.searchsorted(self.low, score, side="right") - 1, 0, len(self.low) - 1)
        width = self.high[i] / 2 - self.low[i] / 2
        offset = np.clip(score, self.low[i], self.high[i]) / 2 - self.low[i] / 2
        place = np.divide(offset, width, out=np.full(len(score), 0.5), where=width > 0)
        n = np.where(width > 0, self.n_documents[i], 1)
        found = self.before[i] + self.share[i] * (0.5 + np.where(width > 0, place, 0.0) * (n - 1)) / n
        return np.where(np.isnan(score), np.nan, found)

    def to_arrays(self, prefix: str) -> dict[str, NDArray[Any]]:
        """The arrays by name, for storing; `from_arrays` reads them back."""
        return {f"{prefix}.{name}": getattr(self, name) for name in _FIELDS}

    @staticmethod
    def from_arrays(prefix: str, arrays: dict[str, NDArray[Any]]) -> Ranks:
        """The ranks that `to_arrays` gave."""
        return Ranks(**{name: arrays[f"{prefix}.{name}"] for name in _FIELDS})


def token_ranks(
    columns: ColumnsOf,
    n_shards: int,
    n_columns: int,
    *,
    resolution: float = RESOLUTION,
    shard_map: ShardMap = map,
) -> list[Ranks]:
    """The ranks of several score columns over all shards, in a few passes.

    Args:
        columns: shard -> scores, shape (C, D), and tokens, shape (D,). A document counts in the columns in
            which its score is finite, if it has tokens. Called once a pass; must return the same each time.
        resolution: share of the tokens.
        shard_map: how a pass is applied to the shards.
    Raises:
        DataError: a column has no document that counts.
    """
    openings: list[_Opening | None] = [_Opening()] * n_columns
    done: list[list[_Bins]] = [[] for _ in range(n_columns)]
    totals = [0] * n_columns
    while any(openings):
        for c, bins in enumerate(_counted(columns, n_shards, openings, shard_map)):
            opening = openings[c]
            if opening is None:
                continue
            if opening.prefixes is None:
                totals[c] = _checked_total(bins, c)
            is_open = (bins.n_tokens > resolution * totals[c]) & (bins.low < bins.high)
            done[c].append(bins.take(~is_open))
            openings[c] = opening.deeper(bins.label[is_open]) if is_open.any() else None
    return [_finished(parts, totals[c], resolution) for c, parts in enumerate(done)]


@dataclass(frozen=True, kw_only=True)
class _Bins:
    """Counts by the leading bits of the key; every array has shape (B,)."""

    label: NDArray[np.uint64]
    n_tokens: NDArray[np.int64]
    n_documents: NDArray[np.int64]
    low: NDArray[np.uint64]
    high: NDArray[np.uint64]

    def take(self, chosen: NDArray[Any]) -> _Bins:
        return _Bins(**{name: getattr(self, name)[chosen] for name in self.__dataclass_fields__})

    def merge(self, other: _Bins) -> _Bins:
        names = ("label", "n_tokens", "n_documents", "low", "high")
        return _grouped(*(np.concatenate([getattr(self, name), getattr(other, name)]) for name in names))


@dataclass(frozen=True, kw_only=True)
class _Opening:
    """Which bins are counted next: those with these leading bits, by `_STEP` more bits; None: all."""

    shift: int = _FIRST_SHIFT
    prefixes: NDArray[np.uint64] | None = None

    def deeper(self, labels: NDArray[np.uint64]) -> _Opening:
        return _Opening(shift=self.shift - _STEP, prefixes=np.sort(labels))

    def count(self, scores_D: NDArray[np.float64], n_tokens_D: NDArray[np.int64]) -> _Bins:
        counts = np.isfinite(scores_D) & (n_tokens_D > 0)
        key, n_tokens = order_key(scores_D[counts]), n_tokens_D[counts]
        if self.prefixes is not None:
            parent = key >> np.uint64(self.shift + _STEP)
            at = np.minimum(np.searchsorted(self.prefixes, parent), len(self.prefixes) - 1)
            inside = self.prefixes[at] == parent
            key, n_tokens = key[inside], n_tokens[inside]
        ones = np.ones(len(key), np.int64)
        return _grouped(key >> np.uint64(self.shift), n_tokens.astype(np.int64), ones, key, key)


def _counted(
    columns: ColumnsOf, n_shards: int, openings: list[_Opening | None], shard_map: ShardMap
) -> list[_Bins]:
    """One pass over the shards: the bins of every column, empty for those that are finished."""

    def count(shard: int) -> list[_Bins]:
        scores_CD, n_tokens_D = columns(shard)
        return [
            _nothing() if opening is None else opening.count(scores_CD[c], n_tokens_D)
            for c, opening in enumerate(openings)
        ]

    total = [_nothing() for _ in openings]
    for first in range(0, n_shards, _AT_ONCE):
        for part in shard_map(count, range(first, min(first + _AT_ONCE, n_shards))):
            total = [mine.merge(theirs) for mine, theirs in zip(total, part, strict=True)]
    return total


def _grouped(
    label: NDArray[np.uint64],
    n_tokens: NDArray[np.int64],
    n_documents: NDArray[np.int64],
    low: NDArray[np.uint64],
    high: NDArray[np.uint64],
) -> _Bins:
    order = np.argsort(label, kind="stable")
    label = label[order]
    starts = np.flatnonzero(np.concatenate([[True], label[1:] != label[:-1]])) if len(label) else order
    return _Bins(
        label=label[starts],
        n_tokens=np.add.reduceat(n_tokens[order], starts),
        n_documents=np.add.reduceat(n_documents[order], starts),
        low=np.minimum.reduceat(low[order], starts),
        high=np.maximum.reduceat(high[order], starts),
    )


def _nothing() -> _Bins:
    keys, counts = np.zeros(0, np.uint64), np.zeros(0, np.int64)
    return _Bins(label=keys, n_tokens=counts, n_documents=counts, low=keys, high=keys)


def _checked_total(bins: _Bins, column: int) -> int:
    total = int(bins.n_tokens.sum())
    if total == 0:
        raise DataError("expected at least one document with a finite score", where=f"column {column}")
    return total


def _finished(parts: list[_Bins], total: int, resolution: float) -> Ranks:
    bins = _Bins(
        **{
            name: np.concatenate([getattr(part, name) for part in parts])
            for name in _Bins.__dataclass_fields__
        }
    )
    bins = bins.take(np.argsort(bins.low))
    if len(bins.low) > 2 / resolution:
        bins = _joined(bins, resolution * total)
    before = np.cumsum(bins.n_tokens) - bins.n_tokens
    return Ranks(
        low=value_of_key(bins.low),
        high=value_of_key(bins.high),
        before=before / total,
        share=bins.n_tokens / total,
        n_documents=bins.n_documents,
    )


def _joined(bins: _Bins, most: float) -> _Bins:
    """Neighbours put together, up to twice `most` tokens; a larger bin, which is one score, stays alone."""
    before = np.cumsum(bins.n_tokens) - bins.n_tokens
    alone = np.cumsum(bins.n_tokens > most) + np.cumsum(np.concatenate([[0], bins.n_tokens[:-1] > most]))
    group = np.floor(before / most).astype(np.uint64) + alone.astype(np.uint64)
    return _grouped(group, bins.n_tokens, bins.n_documents, bins.low, bins.high)
