"""The work of the grouping `near`: band keys of all shards to candidate pairs, to clusters, to columns.

1. Documents whose keys are all equal are told apart from the first of them no further: one pair each.
2. The firsts are paired by every band key (`_records`: in memory, or by range of the key in files).
3. The candidates' text is read again and pairs are joined where their sets of shingles are similar enough.
4. One member of each cluster stays, and columns are written.

Legend: D documents, B bands, C candidates, P pairs, M members of clusters.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from prill.corpus.columns import read_columns
from prill.features.minhash import SET_LIMIT
from prill.prepare.duplicates._indexed import indexed_documents, write_near_index
from prill.prepare.duplicates._records import PairCounts, Pairs, Records, Rows, pairs_of
from prill.prepare.duplicates._sets import CandidateSets, read_sets
from prill.prepare.duplicates.clusters import Clusters, cluster_counts, form_clusters, write_clusters
from prill.prepare.measure import GroupingInputs

if TYPE_CHECKING:
    from prill.prepare.duplicates.near import NearDuplicates

__all__ = ["link_near"]

KeySink = Callable[[NDArray[np.uint64], NDArray[np.int64]], None]


def link_near(near: NearDuplicates, inputs: GroupingInputs) -> Mapping[str, Any]:
    """Group, write, and count."""
    rows, spec = Rows.of(inputs.read_parts), near.spec
    is_open = np.zeros(rows.n_documents, np.bool_)  # takes part, and is not known as a copy yet
    counts = PairCounts()
    _for_all_keys(inputs, rows, functools.partial(_mark, is_open), is_open=None)
    n_documents = int(is_open.sum())
    indexed = indexed_documents(near, inputs, rows)
    is_open[indexed] = False
    pairs = Pairs(folder=inputs.scratch / "pairs", memory_bytes=inputs.memory_bytes // 4)
    _pair_equal_signatures(inputs, rows, is_open, pairs)
    _pair_bands(near, inputs, rows, is_open, pairs, counts)
    places_C = _places(pairs, rows.n_documents)
    sets = _sets(near, inputs, rows, places_C) if spec.verify else None
    parents_C, n_compared, n_similar = _join(pairs, places_C, sets, spec.threshold)
    members_C = np.bincount(parents_C, minlength=len(parents_C))[parents_C] > 1
    clusters = form_clusters(places_C[members_C], parents_C[members_C], inputs, rows, quality=near.quality)
    similarity_M = _similarities(clusters, np.flatnonzero(members_C), sets)
    _write(near, inputs, rows, clusters, similarity_M, indexed)
    found = {
        "n_documents": n_documents,
        "n_candidates": len(places_C),
        "n_pairs": pairs.n_pairs,
        "n_pairs_compared": n_compared,
        "n_pairs_joined": n_similar,
        "n_bounded_keys": counts.n_bounded_keys,
        "n_pairs_left_out": counts.n_pairs_left_out,
        **cluster_counts(clusters),
    }
    if near.against:
        found["n_indexed_copies"] = len(indexed)
    if near.index_path is not None:
        found["n_written_to_index"] = write_near_index(near, inputs, rows)
    return found


def _for_all_keys(
    inputs: GroupingInputs, rows: Rows, sink: KeySink, *, is_open: NDArray[np.bool_] | None
) -> None:
    """Give the keys (D, B) and places of every shard's documents that take part to `sink`, from threads.

    Args:
        is_open: which documents of the corpus take part; None: those that are kept so far.
    """

    def read(shard: int) -> None:
        table = read_columns(inputs.key_parts[shard], ["near_keys", "near_shingles"])
        chosen = inputs.is_kept(shard) if is_open is None else is_open[slice(*rows.starts[shard : shard + 2])]
        at = np.flatnonzero(chosen & (table["near_shingles"].to_numpy() > 0))
        sink(_key_matrix(table["near_keys"])[at], at + rows.starts[shard])

    shards = list(range(len(inputs.key_parts)))
    inputs.engine.map(read, shards, kind="threads", name="near duplicates: read keys")


def _key_matrix(column: pa.ChunkedArray) -> NDArray[np.uint64]:
    array = column.combine_chunks()
    bands = array.type.list_size
    return np.asarray(array.flatten(), np.uint64).reshape(-1, bands)


def _mark(is_open: NDArray[np.bool_], keys_DB: NDArray[np.uint64], places_D: NDArray[np.int64]) -> None:
    is_open[places_D] = True


def _pair_equal_signatures(
    inputs: GroupingInputs, rows: Rows, is_open: NDArray[np.bool_], pairs: Pairs
) -> None:
    """Pair every document with the first whose keys are all the same; only that one stays open."""
    records = Records(
        inputs.scratch / "signatures", n_expected=int(is_open.sum()), memory_bytes=inputs.memory_bytes // 2
    )

    def sink(keys_DB: NDArray[np.uint64], places_D: NDArray[np.int64]) -> None:
        odd = np.arange(1, 2 * keys_DB.shape[1], 2, dtype=np.uint64)
        records.add((keys_DB * odd).sum(axis=1, dtype=np.uint64), places_D)

    _for_all_keys(inputs, rows, sink, is_open=is_open)
    copies = []
    for keys_N, places_N in records.parts():
        same = pairs_of(keys_N, places_N, leaders=1, n_documents=rows.n_documents, counts=PairCounts())
        same = same[np.unique(same[:, 1], return_index=True)[1]]  # with the first, not with the one before
        pairs.add(same)
        copies.append(same[:, 1])
    for places in copies:
        is_open[places] = False


def _pair_bands(
    near: NearDuplicates,
    inputs: GroupingInputs,
    rows: Rows,
    is_open: NDArray[np.bool_],
    pairs: Pairs,
    counts: PairCounts,
) -> None:
    """Pair the documents that share a band key."""
    n_expected = near.spec.bands * int(is_open.sum())
    records = Records(inputs.scratch / "bands", n_expected=n_expected, memory_bytes=inputs.memory_bytes // 2)

    def sink(keys_DB: NDArray[np.uint64], places_D: NDArray[np.int64]) -> None:
        records.add(keys_DB.ravel(), np.repeat(places_D, keys_DB.shape[1]))

    _for_all_keys(inputs, rows, sink, is_open=is_open)
    leaders = near.spec.leaders if near.spec.verify else 1
    for keys_N, places_N in records.parts():
        pairs.add(pairs_of(keys_N, places_N, leaders=leaders, n_documents=rows.n_documents, counts=counts))
    if not near.spec.verify:  # one pair a member joins them all: nothing is left out
        counts.n_bounded_keys = counts.n_pairs_left_out = 0


def _places(pairs: Pairs, n_documents: int) -> NDArray[np.int64]:
    """The documents that stand in any pair, ascending."""
    found = np.zeros(n_documents, np.bool_)
    for part in pairs:
        found[part.ravel()] = True
    return np.flatnonzero(found)


def _sets(
    near: NearDuplicates, inputs: GroupingInputs, rows: Rows, places_C: NDArray[np.int64]
) -> CandidateSets:
    return read_sets(
        inputs.corpus,
        places_C,
        rows,
        inputs.engine,
        n=near.spec.n,
        limit=SET_LIMIT,
        file=inputs.scratch / "sets.bin",
        memory_bytes=inputs.memory_bytes // 4,
    )


def _join(
    pairs: Pairs, places_C: NDArray[np.int64], sets: CandidateSets | None, threshold: float
) -> tuple[NDArray[np.int64], int, int]:
    """The lowest candidate of each candidate's cluster, the pairs compared, and the pairs joined."""
    from prill.features._pairs_kernel import link_pairs, roots

    nothing = np.empty(0, np.int64)
    starts, lengths = (sets.starts, sets.lengths) if sets else (nothing, nothing)
    values = sets.values if sets else np.empty(0, np.uint32)
    parents_C = np.arange(len(places_C), dtype=np.int64)
    n_compared = n_similar = 0
    for part in pairs:
        ranks = np.searchsorted(places_C, part)
        for some in sets.within_memory(ranks) if sets else [slice(None)]:
            compared, similar = link_pairs(
                ranks[some], starts, lengths, values, threshold, SET_LIMIT, parents_C
            )
            n_compared, n_similar = n_compared + compared, n_similar + similar
    roots(parents_C)
    return parents_C, n_compared, n_similar


def _similarities(
    clusters: Clusters, candidates_M: NDArray[np.int64], sets: CandidateSets | None
) -> NDArray[np.float64] | None:
    """Jaccard similarity of every member to the one that stays; None when nothing was compared."""
    from prill.features._pairs_kernel import jaccard_of_pairs

    if sets is None:
        return None
    pairs = np.stack([candidates_M, candidates_M[clusters.representatives]], axis=1)
    out = np.empty(len(pairs), np.float64)
    for some in sets.within_memory(pairs):
        jaccard_of_pairs(pairs[some], sets.starts, sets.lengths, sets.values, SET_LIMIT, out[some])
    return out


def _write(
    near: NearDuplicates,
    inputs: GroupingInputs,
    rows: Rows,
    clusters: Clusters,
    similarity_M: NDArray[np.float64] | None,
    indexed: NDArray[np.int64],
) -> None:
    def more(shard: int, part: slice) -> dict[str, Any]:
        first, stop = rows.starts[shard : shard + 2]
        n = int(stop - first)
        similarity, missing = np.zeros(n, np.float32), np.ones(n, np.bool_)
        if similarity_M is not None:
            at = clusters.places[part] - first
            similarity[at], missing[at] = similarity_M[part], False
        is_indexed = np.zeros(n, np.bool_)
        is_indexed[indexed[rows.within(shard, indexed)] - first] = True
        return {"near_jaccard": pa.array(similarity, mask=missing), "near_indexed": pa.array(is_indexed)}

    write_clusters("near", clusters, inputs, rows, near.columns, weights=near.spec.weights, more=more)
