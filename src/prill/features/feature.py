"""Features: what is computed once about a pool, kept in the run, and shared by every method that asks for it.

A feature is a frozen dataclass. Its fields say what it is made of: plain settings, other features it needs,
and, where it reads them, the names of targets. Equal features are one: a run resolves what its methods ask
for to a graph, computes every node once, names it by its fingerprint, and finds it again after any kill.

A `ShardFeature` has a part for each shard of the pool, most often columns row for row with it. A
`WholeFeature` has files of its own: a model, centroids, a sample of the pool.

    @dataclass(frozen=True, kw_only=True)
    class Lengths(ColumnFeature):
        kind: ClassVar[str] = "lengths"
        codec: str = "gzip"

        @property
        def columns(self): ...
        def of_batch(self, given, opened, batch): ...

Legend: D documents of a shard.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import pyarrow as pa

from prill.corpus.columns import ColumnInfo, read_columns, write_columns
from prill.engine import Engine, Kind
from prill.errors import InternalError
from prill.features.pool import PoolView
from prill.run.fingerprint import fingerprint

if TYPE_CHECKING:
    from prill.corpus.batch import Batch

__all__ = ["ColumnFeature", "Feature", "Given", "ShardFeature", "WholeFeature"]


@dataclass(frozen=True, kw_only=True)
class Given:
    """What a feature or a method may read. Without `engine` it can be sent to worker processes.

    Attributes:
        pool: the documents: texts, keys, tokens, who may be chosen.
        targets: the fit part of the targets that were asked for, by name; large_string without nulls.
        seed: of the recipe; derive one for each use with `derive_seed(given.seed, "what for")`.
        parts: the files of everything needed, by feature: one a shard, or as `WholeFeature.files` says.
        counts: what the records of everything needed say.
        named: features by the name under which a method asked for them.
        engine: for a `WholeFeature` or a fit that works in parallel; None in workers.
        cache: folder of the run for what was paid for once, such as a rater's answers; outlives its steps.
    """

    pool: PoolView
    targets: Mapping[str, pa.Array]
    seed: int
    parts: Mapping[Feature, tuple[Path, ...]]
    counts: Mapping[Feature, Mapping[str, Any]] = field(default_factory=dict)
    named: Mapping[str, Feature] = field(default_factory=dict)
    engine: Engine | None = None
    cache: Path | None = None

    def files(self, feature: Feature | str) -> tuple[Path, ...]:
        """The files of a needed feature, in order."""
        return self.parts[self.named[feature] if isinstance(feature, str) else feature]

    def file(self, feature: Feature | str) -> Path:
        """The only file of a feature that makes one."""
        (only,) = self.files(feature)
        return only

    def columns(self, feature: Feature | str, shard: int, names: Sequence[str] | None = None) -> pa.Table:
        """The columns of one shard, checksums verified, rows as in the pool."""
        return read_columns(self.files(feature)[shard], names)


@dataclass(frozen=True, kw_only=True)
class Feature(ABC):
    """What all features have in common. Subclasses are frozen, hashable and picklable.

    Attributes:
        kind: a word for what it is: `loss`, `clusters`; begins the step's name.
        version: of the algorithm; a change of the result is a change of the version.
        rests_on: `texts`: only the documents as they were read, so that other targets, budgets and tokenizers
            change nothing; `pool`: also who may be chosen, and tokens. Where it is `texts`, `Given.pool`
            knows no more than that.
    """

    kind: ClassVar[str]
    version: ClassVar[int] = 1
    rests_on: ClassVar[Literal["texts", "pool"]] = "pool"

    @property
    def label(self) -> str:
        """A few words for people: `loss under the reference`."""
        return self.kind

    @property
    def settings(self) -> dict[str, Any]:
        """What decides the result beside needs and targets, plain JSON: fields that are neither.

        Paths are left out: a feature of a user's folder has a field with the hash of its content.
        """
        kept = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "targets"}
        return {name: value for name, value in kept.items() if not _is_need(value) and not _is_path(value)}

    @property
    def needs(self) -> tuple[Feature, ...]:
        """The features it reads: fields that are features or tuples of them."""
        found: list[Feature] = []
        for f in fields(self):
            value = getattr(self, f.name)
            if _is_need(value):
                found.extend(value if isinstance(value, tuple) else (value,))
        return tuple(found)

    @property
    def reads_targets(self) -> tuple[str, ...]:
        """Names of the targets whose fit part it reads: the field `targets`, if it has one."""
        return tuple(getattr(self, "targets", ()))

    @property
    def names(self) -> Mapping[str, Feature]:
        """Needs by the name under which `Given` finds them; needs that are fields have none."""
        return {}

    @property
    def name(self) -> str:
        """Of the step: the kind, and a few digits that tell features of one kind apart."""
        return f"{self.kind}-{self.digest[:8]}"

    @cached_property
    def digest(self) -> str:
        """Hash of settings, targets and needs."""
        own = [self.kind, self.version, self.settings, list(self.reads_targets)]
        return fingerprint([own, [need.digest for need in self.needs]])


class ShardFeature(Feature):
    """One part a shard.

    Attributes:
        engine_kind: `threads` where the work frees the interpreter, `processes` for torch and Python;
            the text of JSONL files is always read in processes.
    """

    engine_kind: ClassVar[Kind] = "threads"

    @abstractmethod
    def write(self, given: Given, shard: int, path: Path) -> None:
        """Write one shard's part, whole or not at all: a pure function of what is given."""

    def flops(self, given: Given) -> float:
        """Floating-point operations of all shards, for the account of what selecting costs."""
        return 0.0


class WholeFeature(Feature):
    """Files of its own.

    Attributes:
        is_apart: built in a worker process with one thread, beside others that are ready: for trainings.
    """

    is_apart: ClassVar[bool] = False

    @property
    @abstractmethod
    def files(self) -> tuple[str, ...]:
        """Names of the files it makes."""

    @abstractmethod
    def build(self, given: Given, paths: Sequence[Path]) -> Mapping[str, Any]:
        """Write the files to these paths; returns counts for the record, plain JSON.

        A count named `flops` is the floating-point operations it took.
        """


class ColumnFeature(ShardFeature):
    """Columns row for row with the pool, made batch by batch from the text."""

    rests_on: ClassVar[Literal["texts", "pool"]] = "texts"
    reads: ClassVar[tuple[str, ...]] = ("text",)

    @property
    @abstractmethod
    def columns(self) -> Sequence[ColumnInfo]:
        """What the columns mean, `span` included."""

    def open(self, given: Given) -> Any:
        """What every batch of a shard needs: a model read from a file. Cache it where that is slow."""
        return None

    @abstractmethod
    def of_batch(self, given: Given, opened: Any, batch: Batch) -> Mapping[str, Any]:
        """The columns of one batch, arrays of D values; rows that may not be chosen are given too."""

    def write(self, given: Given, shard: int, path: Path) -> None:
        opened = self.open(given)
        found: dict[str, list[pa.Array]] = {info.name: [] for info in self.columns}
        n_rows = 0
        for batch in given.pool.batches(shard, self.reads):
            columns = self.of_batch(given, opened, batch)
            for name, arrays in found.items():
                column = columns[name]
                arrays.append(column if isinstance(column, pa.Array) else pa.array(column))
            n_rows += batch.n_rows
        if n_rows == 0:
            raise InternalError("expected at least one row in a shard", where=f"shard {shard}")
        write_columns(path, {name: pa.chunked_array(a) for name, a in found.items()}, self.columns)


def _is_need(value: object) -> bool:
    if isinstance(value, tuple):
        return bool(value) and all(isinstance(item, Feature) for item in value)
    return isinstance(value, Feature)


def _is_path(value: object) -> bool:
    return isinstance(value, Path)
