"""Where a run's recipe lies, seen from the run's folder.

Kept apart from records and outputs, because it is the only thing in a run's folder that depends on where the
folder is. `why` and `report` read the corpus again and need it.
"""

from __future__ import annotations

import os
from pathlib import Path

import orjson

from prill.errors import DataError
from prill.run.atomic import atomic_write

__all__ = ["recall_place", "remember_place"]

NAME = "prill-place.json"


def remember_place(run_folder: Path, recipe: Path) -> None:
    """Note where the recipe is, relative to the run's folder."""
    relative = os.path.relpath(recipe, run_folder.resolve())
    atomic_write(run_folder / NAME, orjson.dumps({"recipe": relative}) + b"\n")


def recall_place(run_folder: Path) -> Path:
    """The recipe's path.

    Raises:
        DataError: the recipe is no longer where it was.
    """
    try:
        content = orjson.loads((run_folder / NAME).read_bytes())
        path = (run_folder.resolve() / str(content["recipe"])).resolve()
    except (OSError, ValueError, KeyError, TypeError):
        path = run_folder / "recipe.yaml"
    if not path.is_file():
        raise DataError(f"the run's recipe expected, found none at {path}", where=str(run_folder))
    return path
