"""Counts by hash over all shards, out of core: for each shard, what stood before it, and the totals.

A shard writes its different hashes, ascending, with their counts. A slice of the hash range is then read
from all shards at once, few enough hashes for the memory allowed, and what was learnt is written back in
place. Neither the number of slices nor of workers changes a value.

Legend: H different hashes of one shard.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from prill.engine import Engine
from prill.run.atomic import machine_errors

__all__ = ["Counted", "bounds_of", "count_before"]

_BYTES_A_HASH = 96  # hash, count, shard, order and results while a slice is worked on
_WORD = 8


@dataclass(frozen=True, kw_only=True)
class Counted:
    """One shard's hashes and counts in scratch files."""

    path: Path
    n_hashes: int

    @classmethod
    def write(cls, path: Path, hashes_H: NDArray[np.uint64], counts_H: NDArray[np.int64]) -> Counted:
        """Store ascending different hashes and their counts."""
        with machine_errors(path):
            hashes_H.astype(np.uint64, copy=False).tofile(path.with_suffix(".hashes"))
            counts_H.astype(np.int64, copy=False).tofile(path.with_suffix(".counts"))
            with path.with_suffix(".before").open("wb") as file:
                file.truncate(_WORD * hashes_H.shape[0])
        return cls(path=path, n_hashes=hashes_H.shape[0])

    @staticmethod
    def above(path: Path, n: int) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
        """The hashes that all shards together have more than n times, and how often earlier shards have."""
        with machine_errors(path):
            is_above = np.fromfile(path.with_suffix(".counts"), np.int64) > n
            hashes = np.fromfile(path.with_suffix(".hashes"), np.uint64)[is_above]
            return hashes, np.fromfile(path.with_suffix(".before"), np.int64)[is_above]


def count_before(files: Sequence[Counted], *, engine: Engine, memory_bytes: int, name: str) -> None:
    """Turn each shard's counts into the counts of all shards, and add those of the shards before it."""
    n_hashes = sum(file.n_hashes for file in files)
    n_slices = max(1, -(-n_hashes * _BYTES_A_HASH * (os.cpu_count() or 1) // max(memory_bytes, 1)))
    bounds = [bounds_of(file.path.with_suffix(".hashes"), n_slices) for file in files]

    def work(k: int) -> None:
        places = [(int(b[k]), int(b[k + 1])) for b in bounds]
        _join(files, places)

    engine.map(work, range(n_slices), kind="threads", name=f"{name}: join")


def bounds_of(path: Path, n_slices: int) -> NDArray[np.int64]:
    """Where each of n_slices equal parts of the hash range begins in a file of ascending hashes.

    Returns:
        int64, shape (n_slices + 1,).
    """
    with machine_errors(path):
        n = path.stat().st_size // _WORD
        hashes = np.memmap(path, np.uint64, mode="r", shape=(n,)) if n else np.empty(0, np.uint64)
        inner = [np.uint64(k * (1 << 64) // n_slices) for k in range(1, n_slices)]
        found = np.searchsorted(hashes, np.array(inner, np.uint64))
    return np.concatenate([[0], found, [n]]).astype(np.int64)


def _join(files: Sequence[Counted], places: Sequence[tuple[int, int]]) -> None:
    hashes = np.concatenate([_part(f, ".hashes", np.uint64, p) for f, p in zip(files, places, strict=True)])
    counts = np.concatenate([_part(f, ".counts", np.int64, p) for f, p in zip(files, places, strict=True)])
    order = np.argsort(hashes, kind="stable")
    ordered = hashes[order]
    is_first = np.ones(order.shape[0], np.bool_)
    is_first[1:] = ordered[1:] != ordered[:-1]
    group = np.cumsum(is_first) - 1
    seen = np.cumsum(counts[order])
    starts = np.flatnonzero(is_first)
    before_all = seen[starts] - counts[order][starts]
    ends = np.append(starts[1:], order.shape[0]) - 1
    before, total = np.empty_like(counts), np.empty_like(counts)
    before[order] = seen - counts[order] - before_all[group]
    total[order] = (seen[ends] - before_all)[group] if starts.shape[0] else 0
    at = 0
    for file, (first, last) in zip(files, places, strict=True):
        _put(file, ".before", first, before[at : at + last - first])
        _put(file, ".counts", first, total[at : at + last - first])
        at += last - first


def _part(file: Counted, suffix: str, kind: type, place: tuple[int, int]) -> NDArray[np.generic]:
    first, last = place
    path = file.path.with_suffix(suffix)
    with machine_errors(path):
        return np.fromfile(path, kind, count=last - first, offset=_WORD * first)


def _put(file: Counted, suffix: str, first: int, values: NDArray[np.int64]) -> None:
    path = file.path.with_suffix(suffix)
    with machine_errors(path), path.open("r+b") as handle:
        handle.seek(_WORD * first)
        values.tofile(handle)
