"""Run a grouping over documents held in memory, in as many shards and with as many threads as a test asks."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from prill.corpus.columns import ColumnInfo, read_columns, write_columns
from prill.corpus.corpus import Corpus
from prill.corpus.spec import CorpusSpec
from prill.engine.local import LocalEngine
from prill.features.text_hash import hash_documents
from prill.prepare.measure import Grouping, GroupingInputs
from prill.prepare.spans import Spans


@dataclass(frozen=True, kw_only=True)
class Grouped:
    """What a grouping wrote, one table a shard, and its counts."""

    tables: list[pa.Table]
    counts: Any

    def column(self, name: str) -> list[Any]:
        return [value for table in self.tables for value in table[name].to_pylist()]

    def spans(self, name: str) -> list[list[tuple[int, int]]]:
        found: list[list[tuple[int, int]]] = []
        for table in self.tables:
            spans = Spans.of_column(table[name])
            pairs = list(zip(spans.starts.tolist(), spans.stops.tolist(), strict=True))
            found += [pairs[a:b] for a, b in zip(spans.offsets[:-1], spans.offsets[1:], strict=True)]
        return found


def run_grouping(
    grouping: Grouping,
    shards: Sequence[Sequence[str]],
    folder: Path,
    *,
    n_workers: int = 1,
    memory_bytes: int = 1 << 30,
    is_kept: Callable[[int], Any] | None = None,
    urls: Sequence[Sequence[str | None]] | None = None,
) -> Grouped:
    """Write the documents, with their URLs where given, as Parquet files, one a shard, and group them."""
    for name in ("corpus", "columns", "scratch"):
        (folder / name).mkdir(parents=True)
    for k, documents in enumerate(shards):
        table = pa.table({"text": pa.array(documents, pa.large_string())})
        if urls is not None:
            table = table.append_column("url", pa.array(urls[k], pa.large_string()))
        pq.write_table(table, folder / "corpus" / f"{k:03d}.parquet")
    corpus = Corpus.open(CorpusSpec(paths=[str(folder / "corpus" / "*.parquet")]))
    read_parts, key_parts = [], []
    for k, documents in enumerate(shards):
        read_parts.append(folder / "columns" / f"read-{k}.parquet")
        _write_read_part(read_parts[-1], list(documents))
        if grouping.keys is not None:
            key_parts.append(folder / "columns" / f"keys-{k}.parquet")
            _write_key_part(grouping, corpus, k, key_parts[-1])
    parts = [folder / "columns" / f"part-{k}.parquet" for k in range(len(shards))]
    inputs = GroupingInputs(
        corpus=corpus,
        read_parts=read_parts,
        key_parts=key_parts,
        is_kept=is_kept or (lambda k: np.ones(len(shards[k]), np.bool_)),
        parts=parts,
        scratch=folder / "scratch",
        engine=LocalEngine(n_workers),
        memory_bytes=memory_bytes,
    )
    counts = grouping.group(inputs)
    return Grouped(tables=[read_columns(part) for part in parts], counts=counts)


def _write_read_part(path: Path, documents: list[str]) -> None:
    hi, lo = hash_documents(pa.array(documents, pa.large_string()))
    columns: dict[str, Any] = {
        "hash_high": hi,
        "hash_low": lo,
        "n_bytes": np.array([len(document.encode()) for document in documents], np.int64),
        "source": pa.array([None] * len(documents), pa.large_string()),
        "bad": np.zeros(len(documents), np.bool_),
    }
    write_columns(path, columns, [ColumnInfo(name=name) for name in columns])


def _write_key_part(grouping: Grouping, corpus: Corpus, shard: int, path: Path) -> None:
    keys = grouping.keys
    assert keys is not None
    made = [keys(batch) for batch in corpus.batches(corpus.shards[shard], keys.fields)]
    columns = {
        info.name: pa.chunked_array([pa.array(m[info.name]) for m in made]).combine_chunks()
        for info in keys.columns
    }
    write_columns(path, columns, keys.columns)
