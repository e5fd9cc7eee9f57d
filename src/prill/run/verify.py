"""Does every recorded file of a run still hold the recorded bytes?

Reads everything once and changes nothing. Any flipped bit, missing file or edited record is found: outputs
by size and SHA-256, records and the marker by their own digest, lineage by the parents' fingerprints.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from prill.errors import DataError, Problem, RecipeError
from prill.run.marker import INDEX_NAME, MARKER_NAME, read_index, read_marker
from prill.run.record import Record, find_records, output_problem, read_record

__all__ = ["Verification", "verify"]

_HINT = "run again: it is made anew"


@dataclass(frozen=True, kw_only=True)
class Verification:
    """What was checked and what is wrong; `is_whole` when nothing is."""

    problems: tuple[Problem, ...]
    n_steps: int
    n_files: int
    n_bytes: int
    n_unfinished: int

    @property
    def is_whole(self) -> bool:
        """True when no problem was found."""
        return not self.problems


def verify(run_dir: Path, on_file: Callable[[str], None] | None = None) -> Verification:
    """Check the marker, every record, every recorded output and every parent of a run.

    Args:
        run_dir: the run directory; not locked, not changed.
        on_file: called with each file's path before it is read, for progress.
    Raises:
        RecipeError: the folder is not a run of Prill.
    """
    problems = _marker_problems(run_dir)
    paths = find_records(run_dir)
    records: list[Record] = []
    for path in paths:
        try:
            records.append(read_record(path))
        except DataError as error:
            problem = error.problems[0]
            problems.append(Problem(message=problem.message, where=_inside(run_dir, path), hint=_HINT))
    outputs = [(record, output) for record in records for output in record.outputs]
    for record, output in outputs:
        if on_file is not None:
            on_file(output.path)
        found = output_problem(run_dir, output)
        if found is not None:
            message = f"step {record.step!r}: {found}"
            problems.append(Problem(message=message, where=output.path, hint=_HINT))
    problems += _lineage_problems(records)
    return Verification(
        problems=tuple(problems),
        n_steps=len(paths),
        n_files=len(outputs),
        n_bytes=sum(output.size for _, output in outputs),
        n_unfinished=_n_unfinished(run_dir, len(paths)),
    )


def _marker_problems(run_dir: Path) -> list[Problem]:
    try:
        if read_marker(run_dir) is None:
            raise RecipeError(
                f"expected a run of Prill, found no {MARKER_NAME}",
                where=str(run_dir),
                hint="name the folder of a run",
            )
    except DataError as error:
        damaged = error.problems[0]
        return [Problem(message=damaged.message, where=MARKER_NAME, hint=damaged.hint)]
    finished = {path.parent.name for path in find_records(run_dir)}
    listed = read_index(run_dir)
    if finished and not listed:
        return [Problem(message="expected the list of steps, found none", where=INDEX_NAME, hint=_HINT)]
    return [
        Problem(
            message="expected the record of a finished step, found none", where=f"steps/{name}", hint=_HINT
        )
        for name in listed
        if name not in finished
    ]


def _lineage_problems(records: Sequence[Record]) -> list[Problem]:
    known = {record.fingerprint for record in records}
    return [
        Problem(
            message=f"expected the record of its parent {parent!r} ({wanted[:12]}), found none",
            where=f"steps/{record.step}-{record.fingerprint[:12]}",
            hint=_HINT,
        )
        for record in records
        for parent, wanted in sorted(record.parents.items())
        if wanted not in known
    ]


def _n_unfinished(run_dir: Path, n_finished: int) -> int:
    steps = run_dir / "steps"
    n_folders = sum(1 for path in steps.iterdir() if path.is_dir()) if steps.is_dir() else 0
    return n_folders - n_finished


def _inside(run_dir: Path, path: Path) -> str:
    return path.relative_to(run_dir).as_posix()
