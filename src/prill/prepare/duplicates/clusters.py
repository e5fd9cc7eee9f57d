"""From clusters of copies to columns: which member stays, how large its cluster is, how often to repeat it.

The member that stays is the one of highest quality where a quality is given, then the longest, then the one
with the smallest text hash, then the first in the corpus. So the choice depends on the documents alone; only
copies equal to the byte are told apart by where they stand.

Legend: C candidates, M members of clusters of two or more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import AfterValidator

from prill.corpus.columns import ColumnInfo, read_columns, write_columns
from prill.prepare.duplicates._records import Rows
from prill.prepare.measure import GroupingInputs

__all__ = [
    "REHYDRATION",
    "Clusters",
    "Quality",
    "Weights",
    "cluster_columns",
    "cluster_counts",
    "dropped",
    "form_clusters",
    "write_clusters",
]

Quality: TypeAlias = Callable[[int], NDArray[np.float64]]
"""The quality of every document of a shard, by its index; higher is better, NaN is worst."""


def _ascending(weights: tuple[tuple[int, int], ...]) -> tuple[tuple[int, int], ...]:
    sizes = [size for size, _ in weights]
    if any(a >= b for a, b in pairwise(sizes)) or min((0, *(weight for _, weight in weights))) < 0:
        raise ValueError(f"sizes must ascend and weights be 0 or more, found {[list(w) for w in weights]}")
    return weights


Weights: TypeAlias = Annotated[tuple[tuple[int, int], ...], AfterValidator(_ascending)]
"""(smallest cluster size, weight), ascending; the last one that fits holds."""

REHYDRATION: Weights = ((1, 1), (2, 2), (3, 3), (5, 5), (100, 8), (1000, 1))
"""FineWeb-2's weights of a kept document by the size of its cluster."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Clusters:
    """All clusters of two or more, member by member in the order of places.

    Attributes:
        places: int64, shape (M,), ascending.
        ids: a name of the cluster, uint64.
        sizes: int64.
        keep: whether the member is the one that stays.
        representatives: index, among members, of the one that stays, int64.
    """

    places: NDArray[np.int64]
    ids: NDArray[np.uint64]
    sizes: NDArray[np.int64]
    keep: NDArray[np.bool_]
    representatives: NDArray[np.int64]


def form_clusters(
    places_M: NDArray[np.int64],
    labels_M: NDArray[np.int64],
    inputs: GroupingInputs,
    rows: Rows,
    *,
    quality: Quality | None,
    longest: bool = True,
    ids_M: NDArray[np.uint64] | None = None,
) -> Clusters:
    """Clusters of the documents with equal labels, of which each has at least two.

    Args:
        places_M: ascending.
        labels_M: any numbers.
        quality: of a shard's documents.
        longest: prefer long documents; else those that stand first.
        ids_M: what to call each member's cluster; default: the smallest hash of its texts.
    """
    n_bytes, high, low, best = _features(places_M, inputs, rows, quality)
    wanted = [places_M, low, high, -n_bytes, -best] if longest else [places_M, -best]
    order = np.lexsort((*wanted, labels_M))
    ordered = labels_M[order]
    begins = np.concatenate([np.ones(min(1, len(order)), np.bool_), ordered[1:] != ordered[:-1]])
    firsts = np.flatnonzero(begins)
    sizes = np.diff(np.append(firsts, len(order)))
    cluster = np.cumsum(begins) - 1
    back = np.empty(len(order), np.int64)
    back[order] = cluster
    keep = np.zeros(len(order), np.bool_)
    keep[order[firsts]] = True
    if ids_M is None:
        smallest = np.minimum.reduceat(low[order], firsts) if len(firsts) else np.empty(0, np.uint64)
        ids_M = smallest[back]
    return Clusters(
        places=places_M,
        ids=ids_M,
        sizes=sizes[back],
        keep=keep,
        representatives=order[firsts][back] if len(firsts) else np.empty(0, np.int64),
    )


def _features(
    places_M: NDArray[np.int64], inputs: GroupingInputs, rows: Rows, quality: Quality | None
) -> tuple[NDArray[np.int64], NDArray[np.uint64], NDArray[np.uint64], NDArray[np.float64]]:
    n_bytes = np.zeros(len(places_M), np.int64)
    high, low = np.zeros(len(places_M), np.uint64), np.zeros(len(places_M), np.uint64)
    best = np.zeros(len(places_M), np.float64)
    for shard, path in enumerate(inputs.read_parts):
        part = rows.within(shard, places_M)
        if part.start == part.stop:
            continue
        at = places_M[part] - rows.starts[shard]
        table = read_columns(path, ["n_bytes", "hash_high", "hash_low"])
        for name, column in (("n_bytes", n_bytes), ("hash_high", high), ("hash_low", low)):
            column[part] = table[name].to_numpy()[at]
        if quality is not None:
            values = np.asarray(quality(shard), np.float64)[at]
            best[part] = np.where(np.isnan(values), -np.inf, values)
    return n_bytes, high, low, best


def write_clusters(
    prefix: str,
    clusters: Clusters,
    inputs: GroupingInputs,
    rows: Rows,
    infos: Sequence[ColumnInfo],
    *,
    weights: Weights,
    more: Callable[[int, slice], Mapping[str, Any]] = lambda shard, part: {},
) -> None:
    """Write the columns of every shard; null for documents that took no part.

    Args:
        prefix: of the names of columns.
        more: further columns of a shard, given its index and which members lie in it.
    """

    def write(shard: int) -> None:
        part = rows.within(shard, clusters.places)
        at = clusters.places[part] - rows.starts[shard]
        takes_part = inputs.is_kept(shard)
        n = len(takes_part)
        absent = pa.array(~takes_part)
        ids, alone = np.zeros(n, np.uint64), np.ones(n, np.bool_)
        sizes, keep = np.ones(n, np.int64), np.ones(n, np.bool_)
        ids[at], alone[at], sizes[at] = clusters.ids[part], False, clusters.sizes[part]
        keep[at] = clusters.keep[part]
        weight = np.where(keep, weights_of(sizes, weights), 0)
        columns = {
            f"{prefix}_cluster": pa.array(ids, mask=alone),
            f"{prefix}_size": _masked(sizes, absent),
            f"{prefix}_keep": _masked(keep, absent),
            f"{prefix}_weight": _masked(weight, absent),
            **more(shard, part),
        }
        write_columns(inputs.parts[shard], columns, infos)

    shards = list(range(len(inputs.parts)))
    inputs.engine.map(write, shards, kind="threads", name=f"{prefix} duplicates: write")


def weights_of(sizes: NDArray[np.int64], weights: Weights) -> NDArray[np.int64]:
    """The weight of each cluster size, int64; 1 below the smallest size that is told."""
    bounds = np.array([size for size, _ in weights], np.int64)
    values = np.array([1, *(weight for _, weight in weights)], np.int64)
    return values[np.searchsorted(bounds, sizes, side="right")]


def dropped(prefix: str, table: pa.Table) -> NDArray[np.bool_]:
    """Which documents another member of their cluster stands for; false where they took no part."""
    keep = pc.fill_null(table[f"{prefix}_keep"], True)
    return ~np.asarray(keep, dtype=np.bool_)


def cluster_counts(clusters: Clusters) -> dict[str, Any]:
    """How many clusters there are, how many documents lie in them and go, and the sizes of the largest."""
    sizes = clusters.sizes[clusters.keep]
    edges = {
        "2": (2, 2),
        "3-4": (3, 4),
        "5-99": (5, 99),
        "100-999": (100, 999),
        "1000 and more": (1000, None),
    }
    spread = {
        name: int(((sizes >= low) & (sizes <= (high or sizes.max(initial=0)))).sum())
        for name, (low, high) in edges.items()
    }
    largest = np.lexsort((clusters.ids[clusters.keep], -sizes))[:10]
    return {
        "n_clusters": len(sizes),
        "n_members": int(sizes.sum()),
        "n_copies": int((~clusters.keep).sum()),
        "n_clusters_by_size": spread,
        "largest": [
            {"cluster": f"{clusters.ids[clusters.keep][i]:016x}", "size": int(sizes[i])} for i in largest
        ],
    }


def cluster_columns(prefix: str, *, what: str, version: int, state: str = "") -> list[ColumnInfo]:
    """What the columns of `write_clusters` mean."""

    def info(name: str, unit: str, summary: str) -> ColumnInfo:
        return ColumnInfo(name=f"{prefix}_{name}", unit=unit, version=version, state=state, summary=summary)

    return [
        info("cluster", "hash", f"which {what} belong together: one number a cluster; null when alone"),
        info("size", "documents", f"{what} that belong together, this one included"),
        info("keep", "1", "whether this is the document that stays"),
        info(
            "weight", "1", "how often to repeat the document that stays, by the size of its cluster; else 0"
        ),
    ]


def _masked(values: NDArray[Any], absent: pa.Array) -> pa.Array:
    return pc.if_else(absent, None, pa.array(values))
