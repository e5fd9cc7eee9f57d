"""One pass over the text for all measures: each shard is read once, and every measure writes its own columns.

The first measure is `read` itself: what every document is, without judging it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from prill.corpus.batch import BadRow, Batch
from prill.corpus.columns import ColumnInfo, read_columns, write_columns
from prill.corpus.corpus import Corpus
from prill.corpus.spec import CorpusSpec
from prill.engine import Kind
from prill.features.ngrams import hash_documents
from prill.pipeline.walk import Done, ManyItem, ShardStep, ShardWalk
from prill.prepare.measure import Drops, Measure
from prill.prepare.spans import Edits

__all__ = [
    "BAD",
    "BAD_PREFIX",
    "EMPTY",
    "MeasureShard",
    "ReadDocuments",
    "bad_columns",
    "engine_kind",
    "measure_all",
    "read_counts",
]

_T = TypeVar("_T")

BAD = "bad record"
EMPTY = "no text"
BAD_PREFIX = "prill_"
"""What the columns of `bad_columns` are called with in rewritten texts."""

_READ_COLUMNS = (
    ColumnInfo(name="hash_high", unit="hash", summary="upper half of the 128-bit hash of the text"),
    ColumnInfo(name="hash_low", unit="hash", summary="lower half; the key of everything drawn"),
    ColumnInfo(name="n_bytes", unit="bytes", summary="length of the text in UTF-8"),
    ColumnInfo(name="source", unit="name", summary="where the corpus says the document comes from"),
    ColumnInfo(name="bad", unit="reason", summary="why the record could not be read; null for a good one"),
    ColumnInfo(
        name="bad_where", unit="text", summary="file, line or row of a bad record, and what was found"
    ),
    ColumnInfo(name="bad_raw", unit="bytes", summary="the bytes of a bad record, as they are in the file"),
)


@dataclass(frozen=True, kw_only=True)
class ReadDocuments:
    """The hash, length and source of every document, and why a record is none.

    Attributes:
        is_rewritten: whether the corpus is one of rewritten texts, which tell why a raw record was bad.
    """

    spec: CorpusSpec
    is_rewritten: bool = False
    name: str = "read"
    version: int = 1
    fields: tuple[str, ...] = ("text", "source")

    @property
    def settings(self) -> Mapping[str, Any]:
        """How the files are read."""
        spec = self.spec
        return {
            "fields": spec.fields,
            "source": spec.source,
            "on_bad": spec.on_bad,
            "shard_bytes": spec.shard_bytes,
        }

    @property
    def policy(self) -> Mapping[str, Any]:
        """Nothing can be chosen here."""
        return {}

    @property
    def columns(self) -> Sequence[ColumnInfo]:
        """The columns of the step `read`."""
        return _READ_COLUMNS

    def __call__(self, batch: Batch) -> dict[str, pa.Array | NDArray[Any]]:
        """The columns of one batch."""
        high, low = hash_documents(batch.text)
        source = batch.columns.get("source", pa.nulls(batch.n_rows, pa.string()))
        return {
            "hash_high": high,
            "hash_low": low,
            "n_bytes": np.diff(batch.text_buffers()[0]).astype(np.int64),
            "source": source.cast(pa.string()),
            **bad_columns(batch, is_rewritten=self.is_rewritten),
        }

    def drops(self, table: pa.Table) -> Drops:
        """Bad records, each kind by itself, and documents without text."""
        reasons = table["bad"]
        kinds = sorted(pc.unique(reasons.drop_null()).to_pylist())
        drops = {kind: pc.fill_null(pc.equal(reasons, kind), False).to_numpy() for kind in kinds}
        is_empty = (table["n_bytes"].to_numpy() == 0) & pc.is_null(reasons).to_numpy()
        return {**drops, EMPTY: is_empty}

    def edits(self, table: pa.Table) -> Edits | None:
        """Reading changes nothing."""
        return None


def bad_columns(batch: Batch, *, is_rewritten: bool = False) -> dict[str, pa.Array]:
    """Why records of a batch are bad, where they stand, and their bytes; null for good ones."""
    types = {"bad": pa.string(), "bad_where": pa.string(), "bad_raw": pa.large_binary()}
    if not batch.bad:
        return {name: pa.nulls(batch.n_rows, kind) for name, kind in types.items()}
    values: dict[str, list[object]] = {name: [None] * batch.n_rows for name in types}
    stored = _told(batch.bad, list(types)) if is_rewritten else [dict.fromkeys(types)] * len(batch.bad)
    for bad, told in zip(batch.bad, stored, strict=True):
        row = bad.row - batch.first_row
        values["bad"][row] = told["bad"] or f"{BAD}: {bad.reason}"
        values["bad_where"][row] = told["bad_where"] or f"{bad.where}: {bad.message}"
        values["bad_raw"][row] = bad.raw if told["bad_raw"] is None else told["bad_raw"]
    return {name: pa.array(values[name], kind) for name, kind in types.items()}


def _told(found: Sequence[BadRow], names: list[str]) -> list[dict[str, Any]]:
    """What a file of rewritten texts says of its bad records."""
    path, rows = found[0].where.rpartition(", row ")[0], [int(bad.where.rpartition(" ")[2]) for bad in found]
    table = pq.read_table(path, columns=[f"{BAD_PREFIX}{name}" for name in names]).take(rows)
    return list(table.rename_columns(names).to_pylist())


@dataclass(frozen=True, kw_only=True)
class MeasureShard:
    """Reads one shard once, and writes the columns of every measure that has a path."""

    corpus: Corpus
    measures: tuple[Measure, ...]

    def __call__(self, item: ManyItem) -> None:
        index, paths = item
        todo = [(m, path) for m, path in zip(self.measures, paths, strict=True) if path is not None]
        wanted = {"text"}.union(*(measure.fields for measure, _ in todo))
        fields = [field for field in self.corpus.fields if field in wanted]
        found: list[list[pa.Table]] = [[] for _ in todo]
        for batch in self.corpus.batches(self.corpus.shards[index], fields):
            for tables, (measure, _) in _turned(list(zip(found, todo, strict=True)), index):
                tables.append(pa.table(measure(batch)))
        for tables, (measure, path) in zip(found, todo, strict=True):
            table = pa.concat_tables(tables or [pa.table(measure(_no_rows(index, fields)))])
            write_columns(path, {name: table[name] for name in table.column_names}, measure.columns)


def _turned(sequence: list[_T], n: int) -> list[_T]:
    """Begun at item n: workers that start together do not wait for the same tables to be made."""
    n %= max(1, len(sequence))
    return sequence[n:] + sequence[:n]


def _no_rows(shard: int, fields: Sequence[str]) -> Batch:
    return Batch(
        shard=shard, first_row=0, columns={field: pa.array([], pa.large_string()) for field in fields}
    )


def measure_all(walk: ShardWalk, measures: Sequence[Measure], *, label: str) -> list[Done]:
    """Every measure's columns, in one pass over those shards that lack any."""
    reading = ReadDocuments(spec=walk.corpus.spec).settings
    identity = walk.corpus.identity()
    steps = [
        ShardStep(
            name=measure.name,
            version=measure.version,
            settings=measure.settings
            if isinstance(measure, ReadDocuments)
            else {"reading": reading, **measure.settings},
            parents=[],
            inputs=identity,
            counts=read_counts if isinstance(measure, ReadDocuments) else _no_counts,
        )
        for measure in measures
    ]
    return walk.together(
        steps,
        work=lambda: MeasureShard(corpus=walk.corpus, measures=tuple(measures)),
        kind=engine_kind(walk.corpus),
        label=label,
    )


def engine_kind(corpus: Corpus) -> Kind:
    """Threads where reading releases the interpreter (Parquet), processes elsewhere."""
    return "threads" if all(shard.format == "parquet" for shard in corpus.shards) else "processes"


def read_counts(parts: list[Path]) -> dict[str, int]:
    """Documents, bytes and bad records of the read step."""
    counts = {"n_documents": 0, "n_bytes": 0, "n_bad": 0}
    for path in parts:
        table = read_columns(path, ["n_bytes", "bad"])
        counts["n_documents"] += table.num_rows
        counts["n_bytes"] += int(table["n_bytes"].to_numpy().sum())
        counts["n_bad"] += table.num_rows - table["bad"].null_count
    return counts


def _no_counts(parts: list[Path]) -> dict[str, int]:
    return {}
