"""Features that leave a mark whenever they are computed; importable by worker processes."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from prill.corpus.columns import ColumnInfo
from prill.features.feature import ColumnFeature, Feature, Given, WholeFeature
from prill.run.atomic import atomic_write


def mark(folder: Path, name: str) -> None:
    with (folder / "marks").open("a") as file:
        file.write(f"{name} {os.getpid()}\n")


@dataclass(frozen=True, kw_only=True)
class Model(WholeFeature):
    kind: ClassVar[str] = "model"
    is_apart: ClassVar[bool] = True
    size: int
    targets: tuple[str, ...] = ()
    marks: Path = field(compare=False)

    @property
    def files(self) -> tuple[str, ...]:
        return ("model.txt",)

    def build(self, given: Given, paths: Sequence[Path]) -> Mapping[str, Any]:
        mark(self.marks, f"model-{self.size}")
        texts = [text.as_py() for name in self.targets for text in given.targets[name]]
        atomic_write(paths[0], f"{self.size} {given.seed} {len(texts)}".encode())
        return {"flops": 10.0 * self.size}


@dataclass(frozen=True, kw_only=True)
class Scaled(ColumnFeature):
    kind: ClassVar[str] = "scaled"
    models: tuple[Feature, ...]
    marks: Path = field(compare=False)

    @property
    def columns(self) -> Sequence[ColumnInfo]:
        return [ColumnInfo(name="value", summary="length times the models' sizes")]

    def open(self, given: Given) -> int:
        mark(self.marks, "scaled")
        return sum(int(given.file(model).read_text().split()[0]) for model in self.models)

    def of_batch(self, given: Given, opened: Any, batch: Any) -> dict[str, Any]:
        return {"value": np.array([opened * len(text.as_py()) for text in batch.text])}

    def flops(self, given: Given) -> float:
        return 7.0


@dataclass(frozen=True, kw_only=True)
class Lengths(ColumnFeature):
    kind: ClassVar[str] = "lengths"
    marks: Path = field(compare=False)

    @property
    def columns(self) -> Sequence[ColumnInfo]:
        return [ColumnInfo(name="n", summary="characters")]

    def open(self, given: Given) -> None:
        mark(self.marks, "lengths")

    def of_batch(self, given: Given, opened: Any, batch: Any) -> dict[str, Any]:
        return {"n": np.array([len(text.as_py()) for text in batch.text])}
