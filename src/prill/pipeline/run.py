"""`prill run`: from a recipe's file to a finished run and the words that close it."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

from prill.corpus.corpus import Corpus
from prill.engine.failure import Retry
from prill.engine.local import LocalEngine
from prill.errors import PrillError, Problem, RecipeError
from prill.features.keyed import derive_seed
from prill.pipeline import steps
from prill.pipeline.dataset import write_dataset
from prill.pipeline.place import recall_place, remember_place
from prill.pipeline.publish import publish
from prill.pipeline.trials import prove
from prill.pipeline.walk import Walk
from prill.recipe import Recipe, load_recipe
from prill.run.directory import RunDirectory, read_run
from prill.run.progress import choose_progress
from prill.run.signals import stop_on_signals
from prill.targets.target import Target, read_target

__all__ = ["available_cores", "check_inputs", "rewrite_report", "run_recipe"]

T = TypeVar("T")


def run_recipe(
    path: Path, *, output: Path | None, n_workers: int | None, is_quiet: bool, accept_changes: bool
) -> str:
    """Run a recipe, or go on with it.

    Args:
        path: the recipe's file; its relative paths start from its folder.
        output: folder of the run; the recipe's own when None.
        n_workers: at a time; None takes one a core. The result does not depend on it.
        is_quiet: without progress display.
        accept_changes: go on in a folder that holds a run of a changed recipe.
    Returns:
        The closing words: verdicts, and where the report is.
    """
    recipe = load_recipe(path)
    base = path.resolve().parent
    folder = output or base / recipe.output
    stored = recipe.model_dump(mode="json", exclude={"output"})
    with stop_on_signals(), choose_progress(is_quiet=is_quiet) as progress:
        corpus, targets = check_inputs(recipe, base)
        with RunDirectory.open(folder, stored, accept_changes) as run:
            remember_place(folder, path.resolve())

            def retried(retry: Retry) -> None:
                run.events.emit("retry", {"what": str(retry)})
                progress.note(str(retry))

            engine = LocalEngine(n_workers or available_cores(), on_retry=retried)
            walk = Walk(recipe=recipe, base=base, run=run, engine=engine, progress=progress, corpus=corpus)
            return _walk(walk, targets, path)


def rewrite_report(run_folder: Path) -> str:
    """Write the report of a finished run again; everything else is verified and kept.

    Raises:
        RecipeError: the run is not finished, or its recipe has changed.
    """
    if not read_run(run_folder).named("report"):
        raise RecipeError(
            "a finished run expected", where=str(run_folder), hint="finish it with `prill run RECIPE`"
        )
    (run_folder / "report.html").unlink(missing_ok=True)
    return run_recipe(
        recall_place(run_folder), output=run_folder, n_workers=None, is_quiet=True, accept_changes=False
    )


def available_cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def check_inputs(recipe: Recipe, base: Path) -> tuple[Corpus, dict[str, Target]]:
    """Open the corpus and the targets, and tell every problem of all of them at once."""
    problems: list[PrillError] = []

    def attempt(build: Callable[[], T]) -> T | None:
        try:
            return build()
        except PrillError as error:
            problems.append(error)
            return None

    corpus = attempt(lambda: Corpus.open(recipe.corpus, base))
    seed = derive_seed(recipe.seed, "targets")
    targets = {
        name: attempt(partial(read_target, name, spec, seed=seed, base=base))
        for name, spec in recipe.targets.items()
    }
    if recipe.trials is not None:
        from prill.lm.backend import require_torch

        attempt(require_torch)
    _raise_all(problems)
    assert corpus is not None
    return corpus, {name: target for name, target in targets.items() if target is not None}


def _raise_all(errors: list[PrillError]) -> None:
    if errors:
        told: list[Problem] = [problem for error in errors for problem in error.problems]
        raise type(errors[0]).of(told)


def _walk(walk: Walk, targets: dict[str, Target], recipe_path: Path) -> str:
    """The whole way, one step after the other."""
    recipe = walk.recipe
    targets_done = steps.store_targets(walk, targets)
    pool = steps.prepare_pool(walk, targets, targets_done)
    choices = []
    for arm in recipe.arms:
        _, scored = steps.score(walk, arm, pool, targets)
        choices += [steps.choose(walk, arm, name, pool, scored) for name in targets]
    datasets = {f"{c.target}/{c.arm.label}": write_dataset(walk, c) for c in choices}
    proof = prove(walk, pool, targets, choices) if recipe.trials else None
    return publish(
        walk, recipe_path, pool=pool, targets=targets, choices=choices, datasets=datasets, proof=proof
    )
