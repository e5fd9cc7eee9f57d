"""New documents against an index, and the index of the documents that stay.

Legend: D documents, B bands, I indexed documents, P pairs.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from prill.corpus.columns import read_columns
from prill.features.minhash import shingle_sets
from prill.prepare.duplicates._records import PairCounts, Records, Rows, pairs_of
from prill.prepare.duplicates._sets import read_sets
from prill.prepare.duplicates.index import Index, index_table, write_index
from prill.prepare.measure import GroupingInputs

if TYPE_CHECKING:
    from prill.prepare.duplicates.near import NearDuplicates

__all__ = ["indexed_documents", "write_near_index"]


def indexed_documents(near: NearDuplicates, inputs: GroupingInputs, rows: Rows) -> NDArray[np.int64]:
    """Places, ascending, of the documents that are near copies of indexed ones."""
    found = [np.empty(0, np.int64)]
    for number, index in enumerate(near.against):
        pairs_P2 = _index_pairs(near, index, inputs, rows, number)
        if near.spec.verify:
            pairs_P2 = _similar(near, index, inputs, rows, pairs_P2)
        found.append(pairs_P2[:, 1] - index.n_documents)
    return np.unique(np.concatenate(found))


def _index_pairs(
    near: NearDuplicates, index: Index, inputs: GroupingInputs, rows: Rows, number: int
) -> NDArray[np.int64]:
    """(Row of the index, place + I) of all that share a band key."""
    n_all = index.n_documents + rows.n_documents
    records = Records(
        inputs.scratch / f"index-{number}",
        n_expected=near.spec.bands * n_all,
        memory_bytes=inputs.memory_bytes // 2,
    )
    first = 0
    for batch in index.batches(["keys"]):
        keys_IB = np.asarray(batch.column(0).flatten(), np.uint64).reshape(batch.num_rows, -1)
        records.add(keys_IB.ravel(), np.repeat(np.arange(first, first + batch.num_rows), keys_IB.shape[1]))
        first += batch.num_rows
    for shard, path in enumerate(inputs.key_parts):
        table = read_columns(path, ["near_keys", "near_shingles"])
        at = np.flatnonzero(inputs.is_kept(shard) & (table["near_shingles"].to_numpy() > 0))
        keys_DB = np.asarray(table["near_keys"].combine_chunks().flatten(), np.uint64)
        keys_DB = keys_DB.reshape(-1, near.spec.bands)[at]
        places = at + rows.starts[shard] + index.n_documents
        records.add(keys_DB.ravel(), np.repeat(places, near.spec.bands))
    parts = [np.empty((0, 2), np.int64)]
    for keys_N, places_N in records.parts():
        pairs_P2 = pairs_of(
            keys_N, places_N, leaders=near.spec.leaders, n_documents=n_all, counts=PairCounts()
        )
        parts.append(pairs_P2[(pairs_P2[:, 0] < index.n_documents) & (pairs_P2[:, 1] >= index.n_documents)])
    return np.unique(np.concatenate(parts), axis=0)


def _similar(
    near: NearDuplicates, index: Index, inputs: GroupingInputs, rows: Rows, pairs_P2: NDArray[np.int64]
) -> NDArray[np.int64]:
    """The pairs whose sketches are similar enough."""
    from prill.features._pairs_kernel import jaccard_of_pairs

    places = np.unique(pairs_P2[:, 1]) - index.n_documents
    limit = near.spec.sketch
    sets = read_sets(
        inputs.corpus,
        places,
        rows,
        inputs.engine,
        n=near.spec.n,
        limit=limit,
        file=inputs.scratch / "index-sets.bin",
        memory_bytes=inputs.memory_bytes // 4,
    )
    wanted = np.unique(pairs_P2[:, 0])
    lengths, values = _sketches(index, wanted)
    left = np.searchsorted(wanted, pairs_P2[:, 0])
    right = np.searchsorted(places, pairs_P2[:, 1] - index.n_documents) + len(wanted)
    starts = np.concatenate([np.cumsum(lengths) - lengths, sets.starts + len(values)])
    similarity = np.empty(len(pairs_P2), np.float64)
    jaccard_of_pairs(
        np.stack([left, right], axis=1),
        starts,
        np.concatenate([lengths, sets.lengths]),
        np.concatenate([values, sets.values]),
        limit,
        similarity,
    )
    return pairs_P2[similarity >= near.spec.threshold]


def _sketches(index: Index, wanted: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.uint32]]:
    """Lengths and values of the sketches of some rows, ascending."""
    lengths, values = [np.empty(0, np.int64)], [np.empty(0, np.uint32)]
    first = 0
    for batch in index.batches(["sketch"]):
        begin, stop = np.searchsorted(wanted, [first, first + batch.num_rows])
        chosen = batch.column(0).take(pa.array(wanted[begin:stop] - first))
        lengths.append(np.asarray(chosen.value_lengths(), np.int64))
        values.append(np.asarray(chosen.flatten(), np.uint32))
        first += batch.num_rows
    return np.concatenate(lengths), np.concatenate(values)


def write_near_index(near: NearDuplicates, inputs: GroupingInputs, rows: Rows) -> int:
    """Write the index of the documents that stay; how many there are."""
    if near.index_path is None:
        return 0
    tables = (_shard_table(near, inputs, shard) for shard in range(len(inputs.parts)))
    return write_index(near.index_path, _flat(tables), "near", near.index_settings)


def _flat(tables: Iterator[Iterator[pa.Table]]) -> Iterator[pa.Table]:
    for shard in tables:
        yield from shard


def _shard_table(near: NearDuplicates, inputs: GroupingInputs, shard: int) -> Iterator[pa.Table]:
    keys = read_columns(inputs.key_parts[shard], ["near_keys", "near_shingles"])
    read = read_columns(inputs.read_parts[shard], ["hash_high", "hash_low"])
    own = read_columns(inputs.parts[shard], ["near_keep", "near_indexed"])
    keep = np.asarray(own["near_keep"].fill_null(False), np.bool_)
    stays = keep & ~own["near_indexed"].to_numpy() & (keys["near_shingles"].to_numpy() > 0)
    matrix = np.asarray(keys["near_keys"].combine_chunks().flatten(), np.uint64).reshape(len(keep), -1)
    for batch in inputs.corpus.batches(inputs.corpus.shards[shard]):
        here = np.flatnonzero(stays[batch.first_row : batch.first_row + batch.n_rows])
        at = here + batch.first_row
        sets = shingle_sets(batch.text, here, n=near.spec.n, limit=near.spec.sketch)
        yield index_table(
            read["hash_high"].to_numpy()[at],
            read["hash_low"].to_numpy()[at],
            matrix[at],
            sets.lengths,
            sets.values,
        )
