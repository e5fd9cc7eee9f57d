"""The report of a finished training, written again."""

from __future__ import annotations

from pathlib import Path

from prill.errors import RecipeError
from prill.pipeline.place import recall_place
from prill.pipeline.train_results import Trained
from prill.run.directory import read_run

__all__ = ["is_training", "rewrite_training_report"]


def is_training(run_folder: Path) -> bool:
    """Whether the folder holds a training, not a study or a preparation."""
    return {"sources", "model", "tokens"} <= read_run(run_folder).recipe.keys()


def rewrite_training_report(run_folder: Path) -> Trained:
    """Write the report of a finished training again; everything else is verified and kept.

    Raises:
        RecipeError: the training is not finished, or its recipe has changed.
    """
    from prill.pipeline.train import train_recipe

    if not read_run(run_folder).named("results"):
        raise RecipeError(
            "a finished training expected", where=str(run_folder), hint="finish it with `prill train RECIPE`"
        )
    (run_folder / "report.html").unlink(missing_ok=True)
    done = train_recipe(
        recall_place(run_folder), output=run_folder, n_workers=None, is_quiet=True, accept_changes=False
    )
    if done is None:
        raise RecipeError("one process expected, found several", hint="run it without torchrun")
    return done
