"""Walking the graph: how a step is asked for, found finished, or worked off shard by shard."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prill.corpus.corpus import Corpus
from prill.engine import Engine, Kind
from prill.recipe.model import Recipe
from prill.run.directory import RunDirectory
from prill.run.progress import Progress
from prill.run.record import Record
from prill.run.step import Step

__all__ = ["Done", "Item", "Kind", "ManyWork", "ShardStep", "ShardWalk", "Walk"]

Item = tuple[int, Path]
Work = Callable[[Item], Any]
ManyItem = tuple[int, tuple[Path | None, ...]]
ManyWork = Callable[[ManyItem], Any]


@dataclass(frozen=True, kw_only=True)
class Done:
    """A finished step: its record and its files, in order."""

    record: Record
    parts: tuple[Path, ...]

    @property
    def path(self) -> Path:
        """The only file of a step that makes one."""
        (only,) = self.parts
        return only


def _no_counts(parts: list[Path]) -> Mapping[str, Any]:
    return {}


@dataclass(frozen=True, kw_only=True)
class ShardStep:
    """A step with one part a shard: what its fingerprint is made of, and where its parts go.

    Attributes:
        place: where a shard's part goes; in the step's folder when not given.
        counts: what the record says of the finished parts.
        label: what people call the step.
    """

    name: str
    version: int
    settings: Mapping[str, Any]
    parents: Sequence[Done]
    inputs: Sequence[Any] = ()
    place: Callable[[int], Path] | None = None
    counts: Callable[[list[Path]], Mapping[str, Any]] = _no_counts
    label: str = ""


@dataclass(frozen=True, kw_only=True)
class ShardWalk:
    """What every step needs: run, engine, display, corpus."""

    run: RunDirectory
    engine: Engine
    progress: Progress
    corpus: Corpus

    def over_shards(
        self,
        name: str,
        *,
        version: int,
        settings: Mapping[str, Any],
        parents: Sequence[Done],
        work: Callable[[], Work],
        kind: Kind = "threads",
        inputs: Sequence[Any] = (),
        place: Callable[[int], Path] | None = None,
        counts: Callable[[list[Path]], Mapping[str, Any]] = _no_counts,
        label: str | None = None,
    ) -> Done:
        """A step with one part a shard; parts that are whole already are kept.

        Args:
            work: makes the task that writes one part; called only when a part is missing.
            kind: threads for kernels that release the interpreter, processes for Python work.
            place, counts: as in `ShardStep`.
            label: what the display calls the step.
        """
        step = ShardStep(
            name=name,
            version=version,
            settings=settings,
            parents=parents,
            inputs=inputs,
            place=place,
            counts=counts,
            label=label or name,
        )
        (done,) = self.together([step], work=lambda: _One(work=work()), kind=kind, label=label or name)
        return done

    def together(
        self, steps: Sequence[ShardStep], *, work: Callable[[], ManyWork], kind: Kind, label: str
    ) -> list[Done]:
        """Several steps that share one pass over every shard; parts that are whole already are kept.

        Args:
            work: makes the task that, given a shard and a path for each step (None where that step's part
                is there), writes the parts; called only when a part is missing.
            kind: threads for kernels that release the interpreter, processes for Python work.
            label: what the display calls the pass.
        """
        begun = [self._begin(step) for step in steps]
        if all(one.step.record is not None for one in begun):
            self.progress.reused(label)
            return [one.done() for one in begun]
        shards = self.corpus.shards
        todo = [(shard.index, tuple(one.missing(shard.index) for one in begun)) for shard in shards]
        todo = [(index, paths) for index, paths in todo if any(paths)]
        total = sum(shard.n_bytes for shard in shards)
        with self.progress.step(label, total, "bytes") as display:
            display.reused(total - sum(shards[index].n_bytes for index, _ in todo))

            def finished(position: int, _: Any) -> None:
                index, paths = todo[position]
                for one, path in zip(begun, paths, strict=True):
                    if path is not None:
                        one.step.finish_part(path)
                display.advance(shards[index].n_bytes)

            if todo:
                self.engine.map(
                    work(),
                    todo,
                    kind=kind,
                    name=label,
                    on_result=finished,
                    label=lambda item: f"shard {item[0]} ({shards[item[0]].path})",
                )
        return [one.done() for one in begun]

    def _begin(self, step: ShardStep) -> _Begun:
        opened = self.run.step(
            step.name,
            version=step.version,
            settings=step.settings,
            parents=[parent.record for parent in step.parents],
            inputs=step.inputs,
            label=step.label,
        )
        place = step.place or opened.part
        parts = tuple(place(shard.index) for shard in self.corpus.shards)
        return _Begun(step=opened, parts=parts, counts=step.counts)

    def at_once(
        self,
        name: str,
        *,
        version: int,
        settings: Mapping[str, Any],
        parents: Sequence[Done],
        files: Sequence[str],
        build: Callable[[list[Path]], Mapping[str, Any] | None],
        inputs: Sequence[Any] = (),
        label: str | None = None,
        folder: Path | None = None,
    ) -> Done:
        """A step that is short enough to be done in one piece.

        Args:
            files: names of the files it makes, in the step's folder or in `folder`.
            build: writes them to the paths it is given; what it returns are the record's counts.
        """
        step = self.run.step(
            name,
            version=version,
            settings=settings,
            parents=[p.record for p in parents],
            inputs=inputs,
            label=label or name,
        )
        paths = [(folder or step.folder) / file for file in files]
        if step.record is not None:
            self.progress.reused(label or name)
            return Done(record=step.record, parts=tuple(paths))
        with self.progress.step(label or name, None, "") as display:
            counts = build(paths)
            display.advance(1)
        return Done(record=step.finish(paths, counts or {}), parts=tuple(paths))


@dataclass(frozen=True, kw_only=True)
class Walk(ShardWalk):
    """The walk of a study: with its recipe, and the folder that the recipe's paths start from."""

    recipe: Recipe
    base: Path


@dataclass(frozen=True, kw_only=True)
class _Begun:
    """A step under way, with the places of its parts."""

    step: Step
    parts: tuple[Path, ...]
    counts: Callable[[list[Path]], Mapping[str, Any]]

    def missing(self, shard: int) -> Path | None:
        """Where the shard's part must be written; None when it is there."""
        if self.step.record is not None or self.step.usable_part(self.parts[shard]):
            return None
        return self.parts[shard]

    def done(self) -> Done:
        """The step's record, written now unless it was there."""
        record = self.step.record or self.step.finish(self.parts, self.counts(list(self.parts)))
        return Done(record=record, parts=self.parts)


@dataclass(frozen=True, kw_only=True)
class _One:
    """A task of one part as a task of many."""

    work: Work

    def __call__(self, item: ManyItem) -> Any:
        index, (path,) = item
        return self.work((index, path)) if path is not None else None
