"""A tiny pool for tests of methods: real files, every feature resolved as in a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from prill.corpus.columns import read_columns
from prill.engine.local import LocalEngine
from prill.features.feature import Feature
from prill.pipeline import steps
from prill.pipeline.features import Features
from prill.pipeline.inputs import check_inputs
from prill.pipeline.walk import Walk
from prill.recipe.model import Recipe
from prill.run.directory import RunDirectory
from prill.run.progress import choose_progress


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
    recipe = recipe_of(
        folder, documents, targets, arms=[{"name": "arm", "method": name, "settings": dict(settings)}]
    )
    with opened(recipe.model_copy(update={"seed": seed}), folder) as features:
        scores = steps.score(features, recipe.arms)
        parts = [read_columns(part) for part in features.done[scores["arm"]].parts]
    names = parts[0].column_names
    return {column: np.concatenate([part[column].to_numpy() for part in parts]) for column in names}


def resolve(
    asked: Sequence[Feature],
    documents: Sequence[str],
    targets: Mapping[str, Sequence[str]],
    folder: Path,
) -> Features:
    """The features, computed; read their files from `done`."""
    recipe = recipe_of(folder, documents, targets, arms=[{"name": "arm", "method": "random"}])
    with opened(recipe, folder) as features:
        features.resolve(asked)
    return features


def recipe_of(
    folder: Path,
    documents: Sequence[str],
    targets: Mapping[str, Sequence[str]],
    *,
    arms: Sequence[Mapping[str, Any]],
    shards: int = 2,
) -> Recipe:
    """Write pool and targets, and the recipe that reads them; one document a target is held out."""
    pool = folder / "pool"
    pool.mkdir(parents=True, exist_ok=True)
    for index, part in enumerate(np.array_split(np.arange(len(documents)), shards)):
        rows = {"id": [f"d{i}" for i in part], "text": [documents[i] for i in part]}
        pq.write_table(pa.table(rows), pool / f"{index}.parquet")
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
            "trials": None,
            "duplicates": "keep",
            "arms": list(arms),
        }
    )


class opened:  # noqa: N801 reads as a function
    """The features of a run of the recipe in `folder`, while it is open."""

    def __init__(self, recipe: Recipe, folder: Path) -> None:
        self._recipe, self._folder = recipe, folder

    def __enter__(self) -> Features:
        recipe, folder = self._recipe, self._folder
        corpus, targets = check_inputs(recipe, folder)
        self._run = RunDirectory.open(folder / "run", recipe.model_dump(mode="json"), accept_changes=True)
        run = self._run.__enter__()
        self._progress = choose_progress(is_quiet=True)
        progress = self._progress.__enter__()
        walk = Walk(
            recipe=recipe, base=folder, run=run, engine=LocalEngine(2), progress=progress, corpus=corpus
        )
        done = steps.prepare_pool(walk, targets, steps.store_targets(walk, targets))
        return steps.features_of(walk, done, targets)

    def __exit__(self, *problem: Any) -> None:
        self._progress.__exit__(*problem)
        self._run.__exit__(*problem)
