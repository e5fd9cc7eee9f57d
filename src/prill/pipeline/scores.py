"""Applies a scoring method to shards: observe the pool, fit, score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from prill.corpus.columns import read_columns, write_columns
from prill.corpus.corpus import Corpus
from prill.methods.registry import Method, get_method
from prill.recipe.model import ArmSpec
from prill.run.atomic import atomic_write
from prill.select.policy import Policy
from prill.targets.target import Target

__all__ = ["Observe", "Score", "default_policy", "fit", "make"]


def make(arm: ArmSpec) -> Method:
    """The arm's method with its settings."""
    kind = get_method(arm.method)
    return kind(kind.Settings.model_validate(arm.settings))


def default_policy(arm: ArmSpec) -> Policy:
    """How the method's scores become a choice when the recipe does not say."""
    return Policy.model_validate(get_method(arm.method).default_policy)


@dataclass(frozen=True, kw_only=True)
class Observe:
    """Adds up a method's statistics of one shard's eligible documents."""

    corpus: Corpus
    method: Method
    eligible_parts: list[Path]

    def __call__(self, item: tuple[int, Path]) -> None:
        from safetensors.numpy import save

        index, path = item
        eligible = pc.is_null(read_columns(self.eligible_parts[index])["drop_reason"]).to_numpy()
        total = self.method.empty()
        for batch in self.corpus.batches(self.corpus.shards[index]):
            mask = eligible[batch.first_row : batch.first_row + batch.n_rows]
            if not mask.all():
                batch = replace(batch, columns={"text": batch.text.filter(pa.array(mask))}, bad=())
            total = self.method.merge(total, self.method.observe(batch))
        atomic_write(path, save(dict(sorted(total.items()))))


def fit(
    paths: list[Path], *, method: Method, partials: Sequence[Path], targets: Mapping[str, Target]
) -> Mapping[str, Any]:
    """Merge the partial statistics, fit, and write the state as arrays."""
    from safetensors.numpy import load_file, save

    merged = reduce(method.merge, (load_file(path) for path in partials), method.empty())
    state = method.fit(merged, {name: target.fit for name, target in targets.items()})
    atomic_write(paths[0], save(dict(sorted(state.items()))))
    return {"arrays": {name: list(array.shape) for name, array in sorted(state.items())}}


@dataclass(frozen=True, kw_only=True)
class Score:
    """Writes one shard's scores, one column a target."""

    corpus: Corpus
    method: Method
    state: Path
    targets: list[str]
    read_parts: list[Path]

    def __call__(self, item: tuple[int, Path]) -> None:
        from safetensors.numpy import load_file

        index, path = item
        state = load_file(self.state)
        keys = read_columns(self.read_parts[index], ["hash_low"])["hash_low"].to_numpy()
        scores: dict[str, list[np.ndarray]] = {name: [np.empty(0)] for name in self.targets}
        for batch in self.corpus.batches(self.corpus.shards[index]):
            found = self.method.score(state, batch, keys[batch.first_row : batch.first_row + batch.n_rows])
            for name, column in found.items():
                scores[name].append(column)
        columns = {name: np.concatenate(parts) for name, parts in scores.items()}
        write_columns(path, columns, self.method.columns(self.targets))
