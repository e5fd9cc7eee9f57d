"""Writes a choice out: the chosen documents with their scores, one file a shard, and where they come from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa

from prill.corpus.corpus import Corpus
from prill.corpus.writers import write_documents
from prill.pipeline.choose import read_choice
from prill.pipeline.steps import Choice
from prill.pipeline.walk import Done, Walk
from prill.run.atomic import atomic_write
from prill.run.fingerprint import safe_name
from prill.run.record import Record

__all__ = ["DATASET_VERSION", "WriteDataset", "dataset_folder", "write_dataset", "write_lineage"]

DATASET_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class WriteDataset:
    """Writes the chosen documents of one shard, in corpus order, with every field of the corpus.

    Added columns: `prill_score` (the method's score), `prill_tokens`, `prill_shard` and `prill_row`.
    """

    corpus: Corpus
    choice_parts: list[Path]

    def __call__(self, item: tuple[int, Path]) -> None:
        index, path = item
        chosen = read_choice(self.choice_parts[index])
        rows = chosen["row"].to_numpy()
        tables = []
        for batch in self.corpus.batches(self.corpus.shards[index], self.corpus.fields) if len(rows) else ():
            start, stop = np.searchsorted(rows, [batch.first_row, batch.first_row + batch.n_rows])
            place = pa.array(rows[start:stop] - batch.first_row)
            tables.append(pa.table({name: column.take(place) for name, column in batch.columns.items()}))
        schema = pa.schema([(name, pa.large_string()) for name in self.corpus.fields])
        documents = pa.concat_tables(tables) if tables else schema.empty_table()
        extra = {
            "prill_score": chosen["score"],
            "prill_tokens": chosen["n_tokens"],
            "prill_shard": pa.array(np.full(len(rows), index, np.int64)),
            "prill_row": chosen["row"],
        }
        for name, column in extra.items():
            documents = documents.append_column(name, column)
        write_documents(path, [documents])


def dataset_folder(walk: Walk, choice: Choice) -> Path:
    """Where a choice's documents are written."""
    return walk.run.path / "dataset" / safe_name(choice.target) / safe_name(choice.arm.label)


def write_dataset(walk: Walk, choice: Choice) -> Done:
    """Write one choice's documents under `dataset/TARGET/ARM/`."""
    spec = walk.recipe.dataset
    folder = dataset_folder(walk, choice)
    folder.mkdir(parents=True, exist_ok=True)
    return walk.over_shards(
        f"dataset-{safe_name(choice.arm.label)}-{safe_name(choice.target)}"[:64],
        version=DATASET_VERSION,
        settings={"format": spec.format, "target": choice.target, "arm": choice.arm.label},
        parents=[choice.done],
        work=lambda: WriteDataset(corpus=walk.corpus, choice_parts=choice.parts),
        place=lambda index: folder / f"part-{index:05d}.{spec.format}",
        label=f"write {choice.target}'s documents",
    )


def write_lineage(path: Path, records: Sequence[Record], datasets: Mapping[str, Done]) -> None:
    """Where every output comes from: each step with its settings, version, parents and files' hashes."""
    content: dict[str, Any] = {
        "format": "prill-lineage",
        "format_version": 1,
        "datasets": {name: done.record.fingerprint for name, done in sorted(datasets.items())},
        "steps": [
            {
                "step": record.step,
                "fingerprint": record.fingerprint,
                "version": record.version,
                "prill": record.prill,
                "settings": record.settings,
                "parents": record.parents,
                "inputs": record.inputs,
                "counts": record.counts,
                "outputs": [{"path": o.path, "size": o.size, "sha256": o.sha256} for o in record.outputs],
            }
            for record in records
        ],
    }
    atomic_write(path, orjson.dumps(content, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS) + b"\n")
