"""One step of a run: a folder named by its fingerprint, parts while it works, a record when it is done.

step = run.step("score", version=1, settings={...}, parents=[counted.record])
if step.record is None:
    for shard in shards:
        part = step.part(shard.index)
        if not step.usable_part(part):
            ...write the part with atomic_path...
            step.finish_part(part, {"n_rows": n_rows})
    step.finish([step.part(s.index) for s in shards], {"n_rows": total})
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prill.errors import DataError, InternalError
from prill.run.atomic import machine_errors, make_folder, sync_folder
from prill.run.events import EventLog, Stopwatch
from prill.run.fingerprint import file_digest
from prill.run.parts import Journal, PartEntry
from prill.run.record import RECORD_NAME, Output, Record, output_problem, read_record, write_record

__all__ = ["Step", "StepIdentity"]

_FINGERPRINT_DIGITS = 12  # of 64, in the folder's name
_PART_DIGITS = 5


@dataclass(frozen=True, kw_only=True)
class StepIdentity:
    """What a step's fingerprint is made of, and the fingerprint."""

    name: str
    version: int
    settings: Mapping[str, Any]
    parents: Mapping[str, str]
    inputs: Sequence[Any]
    fingerprint: str

    @property
    def folder_name(self) -> str:
        """`<name>-<first 12 hex of the fingerprint>`."""
        return f"{self.name}-{self.fingerprint[:_FINGERPRINT_DIGITS]}"


class Step:
    """A step of an open run; made by `RunDirectory.step`, used by the process that holds the lock."""

    def __init__(
        self,
        run_dir: Path,
        identity: StepIdentity,
        *,
        label: str,
        events: EventLog,
        prill: str,
        on_done: Callable[[str], None],
    ) -> None:
        self.identity = identity
        self.folder = run_dir / "steps" / identity.folder_name
        self._run_dir = run_dir
        self._label = label
        self._events = events
        self._prill = prill
        self._on_done = on_done
        make_folder(self.folder)
        self._journal = Journal(self.folder)
        self._trusted: set[str] = set()  # parts that were hashed in this session
        self._record = self._load_record()
        self._begin()

    @property
    def name(self) -> str:
        """The step's name, as given."""
        return self.identity.name

    @property
    def fingerprint(self) -> str:
        """64 hex digits over name, version, settings, parents and inputs."""
        return self.identity.fingerprint

    @property
    def record(self) -> Record | None:
        """The record of the finished step, whose outputs were verified; None while there is work to do."""
        return self._record

    def part(self, index: int, suffix: str = ".parquet") -> Path:
        """Where the output for one shard belongs."""
        return self.folder / f"part-{index:0{_PART_DIGITS}d}{suffix}"

    def usable_part(self, path: Path) -> bool:
        """Is this part whole, by size and hash? A file that is there but not whole is removed."""
        name = self._relative(path)
        if self._record is not None:
            return any(output.path == name for output in self._record.outputs)
        if name in self._trusted:
            return True
        entry = self._journal.get(name)
        problem = "not in the journal" if entry is None else output_problem(self._run_dir, _output(entry))
        if problem is None:
            self._trusted.add(name)
            return True
        if path.is_file() or path.is_symlink():
            self._events.emit("part_discarded", {"path": name, "reason": problem})
            path.unlink(missing_ok=True)
        self._journal.forget(name)
        return False

    def finish_part(self, path: Path, facts: Mapping[str, Any] | None = None) -> None:
        """Note in the journal that a part is whole, with plain JSON facts that finishing will need.

        Raises:
            InternalError: the part is not there or not inside the run directory.
        """
        output = self._measure(path, facts or {})
        entry = PartEntry(name=output.path, size=output.size, sha256=output.sha256, facts=output.facts)
        self._journal.add(entry)
        self._trusted.add(entry.name)

    def part_facts(self, path: Path) -> Mapping[str, Any]:
        """The facts noted for a whole part of this step.

        Raises:
            InternalError: the part was not finished.
        """
        name = self._relative(path)
        if self._record is not None:
            return self._record.output(name).facts
        entry = self._journal.get(name)
        if entry is None:
            raise InternalError("expected a finished part, found none in the journal", where=name)
        return entry.facts

    def finish(
        self,
        outputs: Iterable[Path],
        counts: Mapping[str, Any] | None = None,
        *,
        spent: Mapping[str, float | int] | None = None,
    ) -> Record:
        """Write the record: the step is done. Folders among `outputs` stand for all files in them.

        Args:
            outputs: files or folders, inside the run directory.
            counts: what the record tells, plain JSON.
            spent: what a `Stopwatch` read where the work was done, if several steps shared the time here.
        Raises:
            InternalError: an output is missing, given twice, or outside the run directory.
        """
        listed = [self._finished_output(path) for path in _files(outputs)]
        names = [output.path for output in listed]
        if len(set(names)) != len(names):
            raise InternalError("expected each output once, found one twice", where=self.name)
        sync_folder(self.folder)
        record = Record(
            step=self.name,
            fingerprint=self.fingerprint,
            version=self.identity.version,
            settings=self.identity.settings,
            parents=self.identity.parents,
            inputs=self.identity.inputs,
            outputs=tuple(sorted(listed, key=lambda output: output.path)),
            counts=dict(counts or {}),
            prill=self._prill,
        )
        write_record(self.folder / RECORD_NAME, record)
        self._journal.remove()
        self._record = record
        fields = {**self._where(), "label": self._label, "counts": record.counts}
        fields |= self._watch.read() | dict(spent or {})
        self._events.emit("step_finished", fields)
        self._on_done(self.identity.folder_name)
        return record

    def _begin(self) -> None:
        self._watch = Stopwatch()
        if self._record is not None:
            self._journal.remove()
            self._events.emit("step_reused", self._where())
            self._on_done(self.identity.folder_name)
            return
        if self._journal.n_damaged:
            self._events.emit("journal_damaged", {**self._where(), "n_lines": self._journal.n_damaged})
        self._events.emit("step_started", self._where())

    def _load_record(self) -> Record | None:
        path = self.folder / RECORD_NAME
        if not path.exists():
            return None
        try:
            record = read_record(path)
            if record.fingerprint != self.fingerprint:
                raise DataError("expected the fingerprint of this step, found another", where=str(path))
        except DataError as error:
            self._events.emit("record_discarded", {**self._where(), "reason": error.problems[0].message})
            path.unlink(missing_ok=True)
            return None
        return record if self._outputs_hold(record) else None

    def _outputs_hold(self, record: Record) -> bool:
        """True when every output is what the record says; else keep the good ones as parts, drop the rest."""
        problems = {output.path: output_problem(self._run_dir, output) for output in record.outputs}
        if not any(problems.values()):
            return True
        (self.folder / RECORD_NAME).unlink(missing_ok=True)
        for output in record.outputs:
            if problems[output.path] is None:
                self._journal.add(_entry(output))
                self._trusted.add(output.path)
            else:
                (self._run_dir / output.path).unlink(missing_ok=True)
                fields = {"path": output.path, "reason": problems[output.path]}
                self._events.emit("output_discarded", {**self._where(), **fields})
        return False

    def _finished_output(self, path: Path) -> Output:
        name = self._relative(path)
        entry = self._journal.get(name)
        if (
            entry is not None
            and name in self._trusted
            and path.is_file()
            and path.stat().st_size == entry.size
        ):
            return _output(entry)
        return self._measure(path, {})

    def _measure(self, path: Path, facts: Mapping[str, Any]) -> Output:
        name = self._relative(path)
        if not path.is_file():
            raise InternalError("expected a finished file, found none", where=name)
        with machine_errors(path):
            handle = os.open(path, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
        return Output(path=name, size=path.stat().st_size, sha256=file_digest(path), facts=dict(facts))

    def _relative(self, path: Path) -> str:
        """`path` as the run directory sees it; refuses anything outside, links included."""
        root, real = self._run_dir.resolve(), path.resolve()
        if real == root or not real.is_relative_to(root) or path.is_symlink():
            raise InternalError(
                "expected a file inside the run directory, found one outside", where=str(path)
            )
        return real.relative_to(root).as_posix()

    def _where(self) -> dict[str, object]:
        return {"step": self.name, "folder": self.identity.folder_name}


def _files(paths: Iterable[Path]) -> list[Path]:
    files: list[Path] = []
    for path in paths:
        files += sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    return files


def _output(entry: PartEntry) -> Output:
    return Output(path=entry.name, size=entry.size, sha256=entry.sha256, facts=entry.facts)


def _entry(output: Output) -> PartEntry:
    return PartEntry(name=output.path, size=output.size, sha256=output.sha256, facts=output.facts)
