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

__all__ = ["Done", "Item", "Kind", "Walk"]

Item = tuple[int, Path]
Work = Callable[[Item], Any]


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


@dataclass(frozen=True, kw_only=True)
class Walk:
    """What every step needs: recipe, folder its paths start from, run, engine, display, pool."""

    recipe: Recipe
    base: Path
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
        counts: Callable[[list[Path]], Mapping[str, Any]] = lambda parts: {},
        label: str | None = None,
    ) -> Done:
        """A step with one part a shard; parts that are whole already are kept.

        Args:
            work: makes the task that writes one part; called only when a part is missing.
            kind: threads for kernels that release the interpreter, processes for Python work.
            place: where a shard's part goes; in the step's folder when not given.
            counts: what the record says of the finished parts.
            label: what the display calls the step.
        """
        shards = self.corpus.shards
        step = self.run.step(
            name, version=version, settings=settings, parents=[p.record for p in parents], inputs=inputs
        )
        parts = [place(shard.index) if place else step.part(shard.index) for shard in shards]
        if step.record is not None:
            self.progress.reused(label or name)
            return Done(record=step.record, parts=tuple(parts))
        todo = [
            (shard.index, part)
            for shard, part in zip(shards, parts, strict=True)
            if not step.usable_part(part)
        ]
        total = sum(shard.n_bytes for shard in shards)
        with self.progress.step(label or name, total, "bytes") as display:
            display.advance(total - sum(shards[index].n_bytes for index, _ in todo))

            def finished(position: int, _: Any) -> None:
                index, part = todo[position]
                step.finish_part(part)
                display.advance(shards[index].n_bytes)

            if todo:
                self.engine.map(
                    work(),
                    todo,
                    kind=kind,
                    name=name,
                    on_result=finished,
                    label=lambda item: f"shard {item[0]} ({shards[item[0]].path})",
                )
        return Done(record=step.finish(parts, counts(parts)), parts=tuple(parts))

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
            name, version=version, settings=settings, parents=[p.record for p in parents], inputs=inputs
        )
        paths = [(folder or step.folder) / file for file in files]
        if step.record is not None:
            self.progress.reused(label or name)
            return Done(record=step.record, parts=tuple(paths))
        with self.progress.step(label or name, None, "") as display:
            counts = build(paths)
            display.advance(1)
        return Done(record=step.finish(paths, counts or {}), parts=tuple(paths))
