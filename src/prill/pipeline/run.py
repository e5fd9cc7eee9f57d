"""`prill run`: from a recipe's file to a finished run and the words that close it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from prill.corpus.corpus import Corpus
from prill.engine.failure import Retry
from prill.engine.local import LocalEngine
from prill.errors import DataError, RecipeError
from prill.methods.scored import Fitted, Scored
from prill.pipeline import steps
from prill.pipeline.arms import LeftOut, flops_of, uses
from prill.pipeline.dataset import write_dataset
from prill.pipeline.features import Features
from prill.pipeline.inputs import available_cores, check_inputs
from prill.pipeline.place import recall_place, remember_place
from prill.pipeline.plan import announce
from prill.pipeline.prepare import PREPARATION, Work, of_study, prepare_into
from prill.pipeline.publish import Outcome, publish
from prill.pipeline.steps import Choice, Pool
from prill.pipeline.trials import prove
from prill.pipeline.walk import Walk
from prill.recipe import load_recipe
from prill.run.directory import RunDirectory, read_run
from prill.run.progress import choose_progress
from prill.run.signals import stop_on_signals
from prill.study.comparison import Shared
from prill.targets.target import Target

__all__ = ["rewrite_report", "run_recipe"]


def run_recipe(
    path: Path,
    *,
    output: Path | None,
    n_workers: int | None,
    is_quiet: bool,
    accept_changes: bool,
    is_comparison: bool = False,
) -> Outcome:
    """Run a recipe, or go on with it.

    Args:
        path: the recipe's file; its relative paths start from its folder.
        output: folder of the run; the recipe's own when None.
        n_workers: at a time; None takes one a core. The result does not depend on it.
        is_quiet: without progress display.
        accept_changes: go on in a folder that holds a run of a changed recipe.
        is_comparison: also write `comparison.json` and `comparison.md`, every arm side by side.
    Returns:
        What the closing words are made of: the report's content and where it lies.
    """
    recipe = load_recipe(path)
    base = path.resolve().parent
    folder = output or Path(os.path.normpath(base / recipe.output))
    stored = recipe.model_dump(mode="json", exclude={"output"})
    with stop_on_signals(), choose_progress(is_quiet=is_quiet) as progress:
        corpus, targets = check_inputs(recipe, base)
        with RunDirectory.open(folder, stored, accept_changes) as run:
            remember_place(folder, path.resolve())
            if recipe.prepare is not None:
                work = Work(
                    recipe_path=path.resolve(), n_workers=n_workers, progress=progress, accept=accept_changes
                )
                done = prepare_into(folder / PREPARATION, of_study(recipe), work)
                corpus = Corpus.open(done.corpus)

            def retried(retry: Retry) -> None:
                run.events.emit("retry", {"what": str(retry)})
                progress.note(str(retry))

            workers = n_workers or available_cores()
            engine = LocalEngine(workers, on_retry=retried)
            walk = Walk(recipe=recipe, base=base, run=run, engine=engine, progress=progress, corpus=corpus)
            return _walk(walk, targets, path, workers, is_comparison=is_comparison)


def rewrite_report(run_folder: Path) -> Outcome:
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
        recall_place(run_folder),
        output=run_folder,
        n_workers=None,
        is_quiet=True,
        accept_changes=False,
        is_comparison=(run_folder / "comparison.json").is_file(),
    )


def _walk(
    walk: Walk, targets: dict[str, Target], recipe_path: Path, n_workers: int, *, is_comparison: bool
) -> Outcome:
    """The whole way, one step after the other."""
    recipe = walk.recipe
    walk.progress.plan(announce(recipe, walk.corpus, n_workers=n_workers))
    targets_done = steps.store_targets(walk, targets)
    pool = steps.prepare_pool(walk, targets, targets_done)
    features = steps.features_of(walk, pool, targets)
    scores = steps.score(features, recipe.arms)
    choices, left_out = _choose(walk, pool, features, scores)
    walk = replace(
        walk, recipe=recipe.model_copy(update={"arms": tuple({c.arm.label: c.arm for c in choices}.values())})
    )
    datasets = {f"{c.target}/{c.arm.label}": write_dataset(walk, c) for c in choices}
    proof = prove(walk, pool, targets, choices) if recipe.trials else None
    computed = {arm: scored for arm, scored in scores.items() if scored in features.done}
    return publish(
        walk,
        recipe_path,
        pool=pool,
        targets=targets,
        choices=choices,
        datasets=datasets,
        proof=proof,
        left_out=left_out,
        trace=_trace(features, computed) if is_comparison else None,
    )


def _choose(
    walk: Walk, pool: Pool, features: Features, scores: Mapping[str, Scored]
) -> tuple[list[Choice], list[LeftOut]]:
    """Every arm's choice for every target; arms that the data refuse are left out, or stop the run."""
    n_bytes = int(pool.counts["n_eligible_bytes"])
    choices: list[Choice] = []
    problems: dict[str, DataError] = {}
    for arm in walk.recipe.arms:
        scored = scores[arm.label]
        try:
            if scored in features.refused:
                raise features.refused[scored]
            flops = flops_of(scored, features, n_bytes=n_bytes)
            choices += [
                steps.choose(walk, arm, name, pool, features.done[scored], flops=flops)
                for name in features.targets
            ]
        except DataError as error:
            if not features.goes_on:
                raise
            problems[arm.label] = error
    if not choices:
        raise next(iter(problems.values()))
    left_out = [LeftOut(arm=arm, why=_in_words(error)) for arm, error in problems.items()]
    for one in left_out:
        walk.run.events.emit("left_out", {"what": str(one)})
        walk.progress.note(str(one))
    return choices, left_out


def _in_words(error: DataError) -> str:
    """Every problem in one line, what to do in brackets."""
    told = []
    for one in error.problems:
        text = f"{one.where}: {one.message}" if one.where else one.message
        told.append(f"{text} ({one.hint})" if one.hint else text)
    return "; ".join(told)


def _trace(features: Features, scores: Mapping[str, Scored]) -> list[Shared]:
    """Every feature that was computed, with what it took and whom it served."""
    return [
        Shared(
            label=use.feature.label,
            step=use.feature.name,
            flops=features.flops(use.feature),
            arms=use.arms,
        )
        for use in uses(scores)
        if not isinstance(use.feature, Fitted | Scored)
    ]
