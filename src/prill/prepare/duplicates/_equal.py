"""Documents with equal 128-bit keys, over all shards, in bounded memory.

The 64-bit half of a key brings documents together (`_records`); the other half then parts those that only
share the first. Memory holds about 80 bytes a document that has a copy, and a byte a document.

Legend: D documents, M documents that share a key.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from prill.prepare.duplicates._records import PairCounts, Records, Rows, pairs_of
from prill.prepare.measure import GroupingInputs

__all__ = ["KeyReader", "ShardKeys", "equal_documents", "keys_in_index"]

ShardKeys: TypeAlias = tuple[NDArray[np.uint64], NDArray[np.uint64], NDArray[np.bool_]]
"""Both halves of each document's key, and which documents have one."""

KeyReader: TypeAlias = Callable[[int], ShardKeys]
"""The keys of a shard's documents, by its index."""


def equal_documents(
    name: str, inputs: GroupingInputs, rows: Rows, read: KeyReader, left_out: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.uint64]]:
    """Ascending places of the documents that share a key with another; a number for each one's key, and
    the low half of that key.

    Args:
        name: of the grouping, for messages.
        left_out: places that take no part beside those that are not kept, ascending.
    """
    records = Records(
        inputs.scratch / name, n_expected=rows.n_documents, memory_bytes=inputs.memory_bytes // 2
    )

    def put(shard: int) -> None:
        _, low, takes_part = read(shard)
        takes_part = takes_part & inputs.is_kept(shard)
        takes_part[left_out[rows.within(shard, left_out)] - rows.starts[shard]] = False
        at = np.flatnonzero(takes_part)
        records.add(low[at], at + rows.starts[shard])

    shards = list(range(len(inputs.parts)))
    inputs.engine.map(put, shards, kind="threads", name=f"{name} duplicates: read keys")
    is_member = np.zeros(rows.n_documents, np.bool_)
    for keys_N, places_N in records.parts():
        same = pairs_of(keys_N, places_N, leaders=1, n_documents=rows.n_documents, counts=PairCounts())
        is_member[same.ravel()] = True
    places_M = np.flatnonzero(is_member)
    high_M, low_M = _keys_at(places_M, rows, read)
    return _with_partners(places_M, high_M, low_M)


def keys_in_index(
    keys_I2: NDArray[np.uint64], inputs: GroupingInputs, rows: Rows, read: KeyReader
) -> NDArray[np.int64]:
    """Ascending places of the documents whose key stands in an index.

    Args:
        keys_I2: high and low half of some of the index's keys, uint64, shape (I, 2).
    """
    pair = np.dtype([("low", np.uint64), ("high", np.uint64)])
    known = np.empty(len(keys_I2), pair)
    known["high"], known["low"] = keys_I2[:, 0], keys_I2[:, 1]
    found = [np.empty(0, np.int64)]
    for shard in range(len(inputs.parts)):
        high, low, takes_part = read(shard)
        at = np.flatnonzero(takes_part & inputs.is_kept(shard) & np.isin(low, known["low"]))
        keys = np.empty(len(at), pair)
        keys["high"], keys["low"] = high[at], low[at]
        found.append(at[np.isin(keys, known)] + rows.starts[shard])
    return np.concatenate(found)


def _keys_at(
    places_M: NDArray[np.int64], rows: Rows, read: KeyReader
) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    high_M, low_M = np.empty(len(places_M), np.uint64), np.empty(len(places_M), np.uint64)
    for shard in range(len(rows.starts) - 1):
        part = rows.within(shard, places_M)
        if part.stop > part.start:
            high, low, _ = read(shard)
            at = places_M[part] - rows.starts[shard]
            high_M[part], low_M[part] = high[at], low[at]
    return high_M, low_M


def _with_partners(
    places_M: NDArray[np.int64], high_M: NDArray[np.uint64], low_M: NDArray[np.uint64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.uint64]]:
    """Number the whole keys, and leave out documents that share only half of one."""
    order = np.lexsort((high_M, low_M))
    high, low = high_M[order], low_M[order]
    begins = np.ones(len(order), np.bool_)
    begins[1:] = (high[1:] != high[:-1]) | (low[1:] != low[:-1])
    labels = np.empty(len(order), np.int64)
    labels[order] = np.cumsum(begins) - 1
    shared = np.bincount(labels)[labels] > 1 if len(labels) else np.empty(0, np.bool_)
    return places_M[shared], labels[shared], low_M[shared]
