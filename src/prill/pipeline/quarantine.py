"""Bad records set aside as `quarantine.parquet`: place, reason and bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from prill.corpus.columns import read_columns
from prill.corpus.corpus import Corpus
from prill.corpus.writers import write_parquet
from prill.pipeline.walk import Done, ShardWalk

__all__ = ["set_aside"]


def set_aside(walk: ShardWalk, read: Done, *, name: str = "quarantine") -> None:
    """Write the bad records that the read step met into the run's folder, as `name`.parquet."""

    def build(paths: list[Path]) -> Mapping[str, Any]:
        return {"n_bad": _write(paths[0], walk.corpus, read.parts)}

    walk.at_once(
        name,
        version=1,
        settings={},
        parents=[read],
        files=[f"{name}.parquet"],
        folder=walk.run.path,
        build=build,
        label="set bad records aside",
    )


def _write(path: Path, corpus: Corpus, read_parts: Sequence[Path]) -> int:
    """Write every bad record with its place, reason and bytes; returns how many there are."""
    found = []
    for shard, part in zip(corpus.shards, read_parts, strict=True):
        table = read_columns(part, ["bad", "bad_where", "bad_raw"])
        rows = np.flatnonzero(pc.is_valid(table["bad"]).to_numpy())
        place = {"shard": np.full(len(rows), shard.index, np.int64), "row": rows}
        bad = table.take(pa.array(rows))
        found.append(
            pa.table({**place, "reason": bad["bad"], "where": bad["bad_where"], "raw": bad["bad_raw"]})
        )
    quarantine = pa.concat_tables(found)
    write_parquet(path, quarantine)
    return int(quarantine.num_rows)
