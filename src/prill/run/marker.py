"""What makes a folder a run directory, and whose: `prill-run.json`, the recipe as resolved.

A folder that holds anything else is never touched. A run of another recipe is refused with every changed
field by name, unless the changes are accepted; finished steps are found by fingerprint, so accepting
changes redoes only what the changes concern. `prill-steps.json` lists the steps that belong to the recipe
as it is now, because a folder may also hold steps of the recipe as it was.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from prill.errors import DataError, PrillError, Problem, RecipeError, printable
from prill.run.atomic import TEMPORARY_PREFIX, atomic_write, machine_errors, sync_folder
from prill.run.fingerprint import canonical_json
from prill.run.lock import LOCK_NAME
from prill.run.record import RECORD_NAME, read_sealed, sealed_json

__all__ = [
    "INDEX_NAME",
    "MARKER_NAME",
    "check_folder",
    "drift",
    "drift_error",
    "read_index",
    "read_marker",
    "remove_index",
    "write_index",
    "write_marker",
]

MARKER_NAME = "prill-run.json"
INDEX_NAME = "prill-steps.json"

_FORMAT = "prill-run"
_INDEX_FORMAT = "prill-steps"
_FORMAT_VERSION = 1
_MAX_SHOWN = 20
_MAX_VALUE = 80
_ABSENT = "(absent)"


def check_folder(path: Path, *, accept_changes: bool) -> None:
    """Refuse a path that is not a folder, and a folder with content that is not a run.

    Raises:
        RecipeError: the folder is not ours.
    """
    with machine_errors(path):
        if path.exists() and not path.is_dir():
            raise RecipeError(
                "expected a folder for the run, found a file", where=str(path), hint="name another folder"
            )
        names = sorted(p.name for p in path.iterdir()) if path.is_dir() else []
    if MARKER_NAME in names:
        return
    others = [n for n in names if n != LOCK_NAME and not n.startswith(TEMPORARY_PREFIX)]
    if not others:
        return
    is_run = any((path / "steps").glob(f"*/{RECORD_NAME}"))
    if is_run and accept_changes:
        return
    found = printable(", ".join(others[:3]))
    if is_run:
        raise RecipeError(
            f"expected {MARKER_NAME} beside the finished steps, found none ({found})",
            where=str(path),
            hint="add `--accept-changes` to write it anew; finished steps that fit are reused",
        )
    raise RecipeError(
        f"expected an empty folder or a run of Prill, found {len(others)} other entries ({found})",
        where=str(path),
        hint="name a new folder; nothing was changed in this one",
    )


def write_marker(folder: Path, recipe: Mapping[str, Any], *, prill: str) -> None:
    """Write the recipe of this run; `recipe` must be redacted plain JSON."""
    content = {"format": _FORMAT, "format_version": _FORMAT_VERSION, "recipe": recipe, "prill": prill}
    atomic_write(folder / MARKER_NAME, sealed_json(content))


def read_marker(folder: Path) -> dict[str, Any] | None:
    """The recipe of the run in `folder`; None when there is no marker.

    Raises:
        DataError: the marker is damaged or of a newer format.
    """
    path = folder / MARKER_NAME
    if not path.exists():
        return None
    try:
        recipe = read_sealed(path, kind=_FORMAT, version=_FORMAT_VERSION).get("recipe")
    except DataError as error:
        hint = error.problems[0].hint or (
            "add `--accept-changes` to write it anew; finished steps that fit are reused"
        )
        raise DataError(error.problems[0].message, where=str(path), hint=hint) from error
    if not isinstance(recipe, dict):
        raise DataError("expected a recipe in the run's marker, found none", where=str(path))
    return recipe


def write_index(folder: Path, steps: Sequence[str]) -> None:
    """Write the folder names of the steps that belong to the current recipe, in order."""
    content = {"format": _INDEX_FORMAT, "format_version": _FORMAT_VERSION, "steps": list(steps)}
    atomic_write(folder / INDEX_NAME, sealed_json(content))


def remove_index(folder: Path) -> None:
    """Forget which steps belong to the current recipe."""
    with machine_errors(folder):
        (folder / INDEX_NAME).unlink(missing_ok=True)
        sync_folder(folder)


def read_index(folder: Path) -> list[str]:
    """The steps of the current recipe; empty when the index is missing or damaged, it is written anew."""
    with contextlib.suppress(DataError):
        steps = read_sealed(folder / INDEX_NAME, kind=_INDEX_FORMAT, version=_FORMAT_VERSION).get("steps")
        if isinstance(steps, list) and all(isinstance(step, str) for step in steps):
            return steps
    return []


def drift(old: object, new: object) -> list[tuple[str, str, str]]:
    """Each changed field as (dotted path, old value, new value), values as short JSON.

    >>> drift({"select": {"budget": 0.05}}, {"select": {"budget": 0.1}})
    [('select.budget', '0.05', '0.1')]
    """
    return list(_drift(old, new, ""))


def drift_error(folder: Path, changes: Sequence[tuple[str, str, str]]) -> PrillError:
    """The refusal of a run of another recipe, one problem for each changed field."""
    n = len(changes)
    problems = [
        Problem(
            where=str(folder),
            message=f"this folder holds a run of another recipe ({n} changed field{'s' if n > 1 else ''})",
        )
    ]
    problems += [Problem(where=where, message=f"{old} -> {new}") for where, old, new in changes[:_MAX_SHOWN]]
    hint = "use another folder, or add `--accept-changes` to go on here: steps that did not change are reused"
    last = problems.pop()
    more = f" (and {n - _MAX_SHOWN} more)" if n > _MAX_SHOWN else ""
    problems.append(Problem(where=last.where, message=last.message + more, hint=hint))
    return RecipeError.of(problems)


_MISSING = object()


def _drift(old: object, new: object, where: str) -> Iterator[tuple[str, str, str]]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in sorted({*old, *new}):
            deeper = f"{where}.{key}" if where else str(key)
            yield from _drift(old.get(key, _MISSING), new.get(key, _MISSING), deeper)
    elif isinstance(old, list | tuple) and isinstance(new, list | tuple):
        for i in range(max(len(old), len(new))):
            left = old[i] if i < len(old) else _MISSING
            right = new[i] if i < len(new) else _MISSING
            yield from _drift(left, right, f"{where}[{i}]")
    elif _shown(old) != _shown(new) or _exact(old) != _exact(new):
        yield where or "recipe", _shown(old), _shown(new)


def _exact(value: object) -> bytes:
    return b"" if value is _MISSING else canonical_json(value)


def _shown(value: object) -> str:
    if value is _MISSING:
        return _ABSENT
    return printable(json.dumps(value, ensure_ascii=False, sort_keys=True), limit=_MAX_VALUE)
