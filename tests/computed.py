"""Features computed where the test is, without worker processes: quick, and the same code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from pool_of import opened, recipe_of
from prill.features.feature import Feature, Given, ShardFeature, WholeFeature
from prill.features.pool import PoolView
from prill.pipeline.features import closure


def pool_of(documents: Sequence[str], folder: Path) -> PoolView:
    """The pool of some documents, in two shards."""
    targets = {"t": ["a target text of some words", "another text of the target"]}
    recipe = recipe_of(folder, documents, targets, arms=[{"name": "arm", "method": "random"}])
    with opened(recipe, folder) as features:
        return features.pool


@dataclass
class Computed:
    """What was computed: files and counts by feature.

    Attributes:
        folder: for the files; `cache` in it is kept between computations.
        target: texts of every target.
    """

    pool: PoolView
    folder: Path
    target: pa.Array = field(default_factory=lambda: pa.array(["a text of the target"], pa.large_string()))
    parts: dict[Feature, tuple[Path, ...]] = field(default_factory=dict)
    counts: dict[Feature, Mapping[str, Any]] = field(default_factory=dict)

    def of(self, *asked: Feature) -> Computed:
        """Compute these features and all they need, anew where they were not."""
        for _, feature in closure(asked):
            if feature not in self.parts:
                self._compute(feature)
        return self

    def _compute(self, feature: Feature) -> None:
        given = Given(
            pool=self.pool,
            targets=dict.fromkeys(feature.reads_targets, self.target),
            seed=0,
            parts={need: self.parts[need] for need in feature.needs},
            counts={need: self.counts[need] for need in feature.needs},
            named=feature.names,
            cache=self.folder / "cache",
        )
        place = self.folder / f"{len(self.parts)}-{feature.name}"
        place.mkdir(parents=True, exist_ok=True)
        if isinstance(feature, WholeFeature):
            paths = tuple(place / name for name in feature.files)
            self.counts[feature] = feature.build(given, paths)
        else:
            assert isinstance(feature, ShardFeature)
            paths = tuple(place / f"{shard}.parquet" for shard in range(self.pool.n_shards))
            self.counts[feature] = {}
            for shard, path in enumerate(paths):
                feature.write(given, shard, path)
        self.parts[feature] = paths
