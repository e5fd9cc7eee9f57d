"""A method at work, as features: its fitted state, and its scores of every document.

So that scores too are computed once: two arms that differ in their policy share them, and a combination of
methods reads them like any other feature.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from prill.corpus.columns import write_columns
from prill.features.feature import Feature, Given, ShardFeature, WholeFeature
from prill.methods.registry import Method, get_method
from prill.run.atomic import atomic_write

__all__ = ["Fitted", "Scored", "made", "scored"]


@dataclass(frozen=True, kw_only=True)
class Fitted(WholeFeature):
    """The state of a method.

    Attributes:
        method: its name.
        options: its settings as canonical JSON.
        targets: names of all targets, in the order of the recipe.
        base: folder that paths in the settings start from.
        asked: the features the method needs, by the name it uses.
    """

    kind: ClassVar[str] = "fit"
    method: str
    options: str
    targets: tuple[str, ...]
    base: Path = field(compare=False)
    asked: tuple[tuple[str, Feature], ...]

    @property
    def files(self) -> tuple[str, ...]:
        return ("state.safetensors",)

    @property
    def label(self) -> str:
        return f"{self.method}: fit"

    @property
    def name(self) -> str:
        return f"fit-{self.method}-{self.digest[:8]}"

    @property
    def settings(self) -> dict[str, Any]:
        return {"method": self.method, "settings": json.loads(self.options), "version": self.made.version}

    @property
    def needs(self) -> tuple[Feature, ...]:
        return tuple(dict.fromkeys(feature for _, feature in self.asked))

    @property
    def names(self) -> Mapping[str, Feature]:
        return dict(self.asked)

    @cached_property
    def made(self) -> Method:
        """The method with its settings."""
        return made(self.method, json.loads(self.options))

    def build(self, given: Given, paths: Sequence[Path]) -> Mapping[str, Any]:
        from safetensors.numpy import save

        state = {name: np.ascontiguousarray(array) for name, array in self.made.fit(given).items()}
        atomic_write(paths[0], save(dict(sorted(state.items()))))
        arrays = {name: list(array.shape) for name, array in sorted(state.items())}
        return {"arrays": arrays, **self.made.account(state)}


@dataclass(frozen=True, kw_only=True)
class Scored(ShardFeature):
    """The scores of a method: one column a target."""

    kind: ClassVar[str] = "score"
    fitted: Fitted

    @property
    def label(self) -> str:
        n = len(self.fitted.targets)
        return f"{self.fitted.method}: score for {n} target{'s' * (n != 1)}"

    @property
    def name(self) -> str:
        return f"score-{self.fitted.method}-{self.digest[:8]}"

    @property
    def needs(self) -> tuple[Feature, ...]:
        return (self.fitted, *self.fitted.needs)

    @property
    def names(self) -> Mapping[str, Feature]:
        return self.fitted.names

    @property
    def reads_targets(self) -> tuple[str, ...]:
        return self.fitted.targets

    def write(self, given: Given, shard: int, path: Path) -> None:
        from safetensors.numpy import load_file

        method = self.fitted.made
        columns = dict(method.score(load_file(given.file(self.fitted)), given, shard))
        write_columns(path, columns, method.columns(self.fitted.targets))


def made(name: str, options: Mapping[str, Any]) -> Method:
    """The method `name` with these settings.

    Raises:
        RecipeError: no method has this name.
    """
    kind = get_method(name)
    return kind(kind.Settings.model_validate(options))


def scored(name: str, options: Mapping[str, Any], targets: Sequence[str], base: Path) -> Scored:
    """The scores of the method `name`, as a feature.

    Raises:
        PrillError: something that the settings ask for is not there.
    """
    method = made(name, options)
    stored = json.dumps(method.settings.model_dump(mode="json"), sort_keys=True)
    asked = tuple(sorted(method.needs(tuple(targets), base).items()))
    return Scored(fitted=Fitted(method=name, options=stored, targets=tuple(targets), base=base, asked=asked))
