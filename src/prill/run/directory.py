"""The run directory: made once, locked while in use, resumed by running the same recipe again.

run/prill-run.json     the recipe as resolved (secrets masked)
    prill-steps.json   the steps of this recipe, in order
    events.jsonl       the diary, with clocks; nothing else depends on it
    steps/<name>-<fingerprint>/record.json and the step's outputs
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

import prill
from prill.errors import DataError, InternalError, PrillError, RecipeError
from prill.run.atomic import sweep
from prill.run.events import EVENTS_NAME, EventLog
from prill.run.lock import RunLock
from prill.run.marker import (
    MARKER_NAME,
    check_folder,
    drift,
    drift_error,
    read_index,
    read_marker,
    remove_index,
    write_index,
    write_marker,
)
from prill.run.record import RECORD_NAME, Record, read_record, step_fingerprint
from prill.run.redact import redact_json
from prill.run.step import Step, StepIdentity

__all__ = ["RunDirectory", "StoredRun", "read_run"]

_STEP_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")


class RunDirectory:
    """An open run: `with RunDirectory.open(path, recipe) as run:`. Leaving the block gives the lock back."""

    def __init__(self, path: Path, recipe: Mapping[str, Any], *, lock: RunLock, steps: list[str]) -> None:
        self.path = path
        self.recipe = recipe
        self.changes: tuple[tuple[str, str, str], ...] = ()
        self._lock = lock
        self._written = steps  # the index as it lies on the disk
        self._earlier = tuple(steps)
        self._asked: dict[str, None] = {}
        self._done = set(steps)
        self.events = EventLog(path / EVENTS_NAME)

    @classmethod
    def open(cls, path: Path, recipe: Mapping[str, Any], accept_changes: bool = False) -> Self:  # noqa: FBT001 the agreed interface
        """Make the run directory, or resume the run in it.

        Args:
            path: the folder; its parents are made too.
            recipe: the recipe as resolved, plain JSON.
            accept_changes: go on although the folder holds a run of another recipe.
        Raises:
            RecipeError: the folder is not ours, or holds a run of another recipe; names each changed field.
            DataError: the run's marker is damaged.
            ResourceError: another process holds the folder, or the machine refuses to write.
        """
        check_folder(path, accept_changes=accept_changes)
        lock = RunLock(path)
        try:
            return cls._opened(path, _masked(recipe), accept_changes=accept_changes, lock=lock)
        except BaseException:
            lock.release()
            raise

    @classmethod
    def _opened(cls, path: Path, recipe: Mapping[str, Any], *, accept_changes: bool, lock: RunLock) -> Self:
        check_folder(path, accept_changes=accept_changes)  # again: now nobody else writes here
        stored = _stored_recipe(path, accept_changes=accept_changes)
        changes = [] if stored is None else drift(stored, recipe)
        if changes and not accept_changes:
            raise drift_error(path, changes)
        sweep(path)
        if stored is None or changes:
            remove_index(
                path
            )  # before the marker: a kill in between must not leave a new recipe with old steps
            write_marker(path, recipe, prill=prill.__version__)
        run = cls(path, recipe, lock=lock, steps=read_index(path))
        run.changes = tuple(changes)
        run.events.emit("session_started", {"prill": prill.__version__, "python": sys.version.split()[0]})
        if changes:
            run.events.emit("recipe_changed", {"changes": [f"{w}: {a} -> {b}" for w, a, b in changes]})
        return run

    def step(
        self,
        name: str,
        *,
        version: int,
        settings: Mapping[str, Any],
        parents: Sequence[Record] = (),
        inputs: Sequence[Any] = (),
        label: str = "",
    ) -> Step:
        """A step of this run, resumed when its fingerprint is known; its clock starts now.

        Args:
            name: lower case letters, digits, `_` and `-`; use `safe_name` for names from data.
            version: of the algorithm; a change of the result is a change of the version.
            settings: everything that decides the result, plain JSON; secrets are masked.
            parents: records of the steps whose outputs are read.
            inputs: identity of files from outside (relative path, size, hash), plain JSON.
            label: what people call it; for the diary alone.
        Raises:
            InternalError: the name is not fit for a folder, or a value is not plain JSON.
        """
        if not _STEP_NAME.fullmatch(name):
            raise InternalError(f"expected a step name of a-z, 0-9, _ and -, found {name!r}")
        settings, inputs = _masked(settings), cast("list[Any]", redact_json(list(inputs)))
        named = _parent_names(parents)
        fingerprint = step_fingerprint(name, version=version, settings=settings, parents=named, inputs=inputs)
        identity = StepIdentity(
            name=name,
            version=version,
            settings=settings,
            parents=named,
            inputs=inputs,
            fingerprint=fingerprint,
        )
        self._asked.setdefault(identity.folder_name)
        return Step(
            self.path,
            identity,
            label=label or name,
            events=self.events,
            prill=prill.__version__,
            on_done=self._note_done,
        )

    def close(self, error: BaseException | None = None) -> None:
        """Write the end into the diary and give the lock back; safe to call twice."""
        try:
            if error is None:
                self.events.emit("session_finished")
            else:
                self.events.emit("session_failed", {"error": type(error).__name__, "message": str(error)})
        finally:
            self.events.close()
            self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close(error)
        except (
            PrillError
        ) as second:  # on a full disk the diary cannot be written either: do not hide the cause
            if error is None:
                raise
            error.add_note(str(second))

    def _note_done(self, folder_name: str) -> None:
        """Steps stand in the index as they were asked for: the order in which workers finish is chance."""
        self._done.add(folder_name)
        named = [*self._asked, *(name for name in self._earlier if name not in self._asked)]
        steps = [name for name in named if name in self._done]
        if steps != self._written:
            self._written = steps
            write_index(self.path, steps)


@dataclass(frozen=True, kw_only=True)
class StoredRun:
    """A run as it lies on the disk: its recipe, and the records of the recipe's finished steps, in order."""

    path: Path
    recipe: Mapping[str, Any]
    records: tuple[Record, ...]

    def named(self, step: str) -> tuple[Record, ...]:
        """The records of all steps with this name."""
        return tuple(record for record in self.records if record.step == step)


def read_run(path: Path) -> StoredRun:
    """Read a run without locking or changing it; outputs are not verified (see `verify`).

    Raises:
        RecipeError: the folder is not a run of Prill.
        DataError: the marker or a record is damaged.
    """
    recipe = read_marker(path)
    if recipe is None:
        raise RecipeError(
            f"expected a run of Prill, found no {MARKER_NAME}",
            where=str(path),
            hint="name the folder of a run",
        )
    paths = [path / "steps" / name / RECORD_NAME for name in read_index(path)]
    records = tuple(read_record(p) for p in paths if p.exists())
    return StoredRun(path=path, recipe=recipe, records=records)


def _stored_recipe(path: Path, *, accept_changes: bool) -> dict[str, Any] | None:
    """The recipe of the run in the folder; None when there is none, or a damaged one may be replaced."""
    try:
        return read_marker(path)
    except DataError:
        if accept_changes:
            return None
        raise


def _masked(settings: Mapping[str, Any]) -> dict[str, Any]:
    return cast("dict[str, Any]", redact_json(dict(settings)))


def _parent_names(parents: Sequence[Record]) -> dict[str, str]:
    """Step name -> fingerprint; parents that share a name are told apart by their fingerprints."""
    names = [record.step for record in parents]
    return {
        record.step
        if names.count(record.step) == 1
        else f"{record.step}-{record.fingerprint[:12]}": record.fingerprint
        for record in parents
    }
