"""A tiny pool for tests of features and methods: real files, every feature resolved as in a run.

All of it happens in this process. A worker process imports torch anew, which takes longer than a tiny model.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from prill.corpus.columns import read_columns
from prill.engine import Engine, Kind
from prill.engine.local import LocalEngine
from prill.features.feature import Feature
from prill.methods.scored import scored
from prill.pipeline import steps
from prill.pipeline.features import Features
from prill.pipeline.inputs import check_inputs
from prill.pipeline.walk import Walk
from prill.recipe.model import Recipe
from prill.run.directory import RunDirectory
from prill.run.progress import choose_progress

Item = TypeVar("Item")
Result = TypeVar("Result")

RANDOM = ({"name": "arm", "method": "random"},)
TARGETS = {
    "t": ("a target text of some words", "another text of the target"),
    "u": ("what the other target holds", "and one more text of it"),
}


class InlineEngine(LocalEngine):
    """What would run in worker processes runs here, one after the other; it is pickled all the same."""

    def map(
        self,
        task: Callable[[Item], Result],
        items: Sequence[Item],
        *,
        kind: Kind,
        name: str,
        on_result: Callable[[int, Result], None] | None = None,
        label: Callable[[Item], str] | None = None,
    ) -> list[Result]:
        if kind == "processes":
            kind = "inline"
            task, items = pickle.loads(pickle.dumps((task, items)))
        return super().map(task, items, kind=kind, name=name, on_result=on_result, label=label)


def recipe_of(
    folder: Path,
    documents: Sequence[str],
    targets: Mapping[str, Sequence[str]] = TARGETS,
    *,
    arms: Sequence[Mapping[str, Any]] = RANDOM,
    shards: int = 2,
    columns: Mapping[str, Sequence[str | None]] | None = None,
    seed: int = 0,
) -> Recipe:
    """Write pool and targets, and the recipe that reads them; one document a target is held out.

    Args:
        columns: beside `text`, a value for each document; default: an `id` for each.
    """
    columns = columns or {"id": [f"d{i}" for i in range(len(documents))]}
    rows = pa.table({**columns, "text": list(documents)})
    pool = folder / "pool"
    pool.mkdir(parents=True, exist_ok=True)
    for index, part in enumerate(np.array_split(np.arange(len(documents)), shards)):
        pq.write_table(rows.take(part), pool / f"{index}.parquet")
    specs = {}
    for name, texts in targets.items():
        path = folder / f"target-{name}.jsonl"
        path.write_bytes(b"".join(orjson.dumps({"text": text}) + b"\n" for text in texts))
        specs[name] = {"paths": [str(path)], "held_out": 1 / (4 * len(texts))}
    return Recipe.model_validate(
        {
            "corpus": {"paths": [str(pool / "*.parquet")]},
            "targets": specs,
            "tokenizer": {"vocab_size": 300, "sample": 100_000},
            "budget": "20%",
            "seed": seed,
            "trials": None,
            "duplicates": "keep",
            "arms": list(arms),
        }
    )


@contextmanager
def opened(recipe: Recipe, folder: Path, *, engine: Engine | None = None) -> Iterator[Features]:
    """The features of a run of the recipe in `folder`, while it is open."""
    corpus, targets = check_inputs(recipe, folder)
    run = RunDirectory.open(folder / "run", recipe.model_dump(mode="json"), accept_changes=True)
    with run, choose_progress(is_quiet=True) as progress:
        walk = Walk(
            recipe=recipe,
            base=folder,
            run=run,
            engine=engine or InlineEngine(2),
            progress=progress,
            corpus=corpus,
        )
        done = steps.prepare_pool(walk, targets, steps.store_targets(walk, targets))
        yield steps.features_of(walk, done, targets)


@contextmanager
def computing(features: Features, folder: Path) -> Iterator[Features]:
    """The same pool in another run, in `folder`: what is computed, and paid for, is what lies there."""
    run = RunDirectory.open(folder, features.walk.run.recipe, accept_changes=True)
    with run:
        yield replace(features, walk=replace(features.walk, run=run), done={})


def resolve(
    asked: Sequence[Feature],
    documents: Sequence[str],
    targets: Mapping[str, Sequence[str]],
    folder: Path,
) -> Features:
    """The features, computed; read their files from `done`."""
    with opened(recipe_of(folder, documents, targets), folder) as features:
        features.resolve(asked)
    return features


def run_method(
    name: str,
    documents: Sequence[str],
    targets: Mapping[str, Sequence[str]],
    settings: Mapping[str, Any],
    folder: Path,
    *,
    seed: int = 0,
) -> dict[str, NDArray[Any]]:
    """The method's columns for all documents, in order; one text of each target is held out."""
    with opened(recipe_of(folder, documents, targets, seed=seed), folder) as features:
        return scores_of(features, name, settings)


def scores_of(
    features: Features, name: str, settings: Mapping[str, Any], targets: Sequence[str] | None = None
) -> dict[str, NDArray[Any]]:
    """The method's columns for all documents of a pool that is open, in order; by default for all targets."""
    asked = scored(name, settings, targets or tuple(features.targets), features.walk.base)
    table = table_of(features, asked)
    return {column: table[column].to_numpy() for column in table.column_names}


def table_of(features: Features, feature: Feature) -> pa.Table:
    """The columns of all shards, in order, computed where they are not yet."""
    features.resolve([feature])
    return pa.concat_tables([read_columns(part) for part in features.done[feature].parts])
