"""A few documents of the pool: drawn exactly and once a text, and read where they lie.

Legend: N documents.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from prill.features.keyed import keyed_uniform
from prill.features.pool import PoolView

__all__ = ["choose_documents", "texts_at"]

_AT_ONCE: Final = 256
_AT_ONCE_CHARACTERS: Final = 1 << 24


def choose_documents(pool: PoolView, n: int, seed: int) -> NDArray[np.int64]:
    """Exactly n eligible documents with text, or all if there are fewer or n is 0; each text once.

    Args:
        seed: of the draws, which belong to the texts.
    Returns:
        (shard, row), int64, shape (N, 2), in the order of the pool.
    """
    best: list[NDArray[np.void]] = []
    kind = np.dtype([("draw", "f8"), ("key", "u8"), ("shard", "i8"), ("row", "i8")])
    for shard in range(pool.n_shards):
        rows = np.flatnonzero(pool.is_eligible(shard) & (pool.document_bytes(shard) > 0))
        found = np.empty(len(rows), kind)
        found["key"] = pool.keys(shard)[rows]
        found["draw"] = keyed_uniform(seed, found["key"])
        found["shard"], found["row"] = shard, rows
        best = [_smallest(np.concatenate([*best, found]), n)]
    chosen = best[0] if best else np.empty(0, kind)
    place = np.stack([chosen["shard"], chosen["row"]], axis=1)
    return place[np.lexsort((place[:, 1], place[:, 0]))]


def texts_at(pool: PoolView, place: NDArray[np.int64]) -> Iterator[list[str]]:
    """The texts at (shard, row), which must be in order, in pieces of bounded size."""
    waiting: list[str] = []
    n_characters = 0
    for shard in np.unique(place[:, 0]).tolist():
        rows = place[place[:, 0] == shard, 1]
        for batch in pool.batches(shard):
            here = rows[(rows >= batch.first_row) & (rows < batch.first_row + batch.n_rows)]
            for text in batch.text.take(pa.array(here - batch.first_row)):
                waiting.append(text.as_py())
                n_characters += len(waiting[-1])
                if len(waiting) >= _AT_ONCE or n_characters >= _AT_ONCE_CHARACTERS:
                    yield waiting
                    waiting, n_characters = [], 0
    if waiting:
        yield waiting


def _smallest(found: NDArray[np.void], n: int) -> NDArray[np.void]:
    """Those with the n smallest draws, copies of one text once; n = 0: all."""
    order = np.lexsort((found["row"], found["shard"], found["key"], found["draw"]))
    sorted_found = found[order]
    is_first = np.ones(len(found), np.bool_)
    is_first[1:] = sorted_found["key"][1:] != sorted_found["key"][:-1]
    return sorted_found[is_first][: n or None] if n else sorted_found
