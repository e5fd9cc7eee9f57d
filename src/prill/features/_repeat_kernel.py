"""How often hashes occur, and which occurrences are too many, by a table in the order of the text.

Legend: U units, H different hashes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from prill.features._jit import kernel

__all__ = ["count_hashes", "mark_repeated"]


@kernel
def count_hashes(
    hashes: NDArray[np.uint64],
    rows: NDArray[np.int64],
    by_document: np.bool_,
    table: NDArray[np.int64],
    first: NDArray[np.int64],
    counts: NDArray[np.int64],
    last_rows: NDArray[np.int64],
) -> int:
    """Count each hash: every occurrence, or every document with it; the number of different ones.

    Args:
        hashes, rows: of U units; rows ascend.
        table: zeros, a power of two of places, at least twice U.
        first: where each different hash stands first, shape (U,), filled.
        counts: of each different hash, shape (U,), filled.
        last_rows: scratch, shape (U,).
    """
    mask = np.uint64(table.shape[0] - 1)
    n = 0
    for u in range(hashes.shape[0]):
        h = hashes[u]
        at = h & mask
        while table[at] != 0 and hashes[first[table[at] - 1]] != h:
            at = (at + np.uint64(1)) & mask
        if table[at] == 0:
            table[at] = n + 1
            first[n], counts[n], last_rows[n] = u, 1, rows[u]
            n += 1
        else:
            k = table[at] - 1
            if not by_document or last_rows[k] != rows[u]:
                counts[k] += 1
                last_rows[k] = rows[u]
    return n


@kernel
def mark_repeated(
    hashes: NDArray[np.uint64],
    rows: NDArray[np.int64],
    by_document: np.bool_,
    known: NDArray[np.uint64],
    before: NDArray[np.int64],
    keep: int,
    table: NDArray[np.int64],
    is_cut: NDArray[np.bool_],
) -> None:
    """Mark the units of the known hashes that have `keep` occurrences, or documents, before them.

    Args:
        known: different hashes that are too frequent, shape (H,).
        before: occurrences of each in earlier shards; afterwards in this one too.
        table: zeros, a power of two of places, at least twice H.
        is_cut: false on entry, shape (U,).
    """
    mask = np.uint64(table.shape[0] - 1)
    for k in range(known.shape[0]):
        at = known[k] & mask
        while table[at] != 0:
            at = (at + np.uint64(1)) & mask
        table[at] = k + 1
    last_rows = np.full(known.shape[0], -1, np.int64)
    for u in range(hashes.shape[0]):
        h = hashes[u]
        at = h & mask
        while table[at] != 0 and known[table[at] - 1] != h:
            at = (at + np.uint64(1)) & mask
        if table[at] == 0:
            continue
        k = table[at] - 1
        if by_document:  # a document that has the unit twice counts once, and keeps or loses both
            if last_rows[k] != rows[u]:
                before[k] += 1
                last_rows[k] = rows[u]
            is_cut[u] = before[k] > keep
        else:
            before[k] += 1
            is_cut[u] = before[k] > keep
