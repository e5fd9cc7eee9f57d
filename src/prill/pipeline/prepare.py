"""`prill prepare`: from a recipe's file to a prepared corpus, its lineage and its report."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson

from prill.corpus.corpus import Corpus
from prill.corpus.spec import CorpusSpec
from prill.engine.failure import Retry
from prill.engine.local import LocalEngine
from prill.errors import RecipeError
from prill.pipeline.corpus_findings import CorpusFindings, corpus_report, without_texts
from prill.pipeline.dataset import write_lineage
from prill.pipeline.inputs import available_cores
from prill.pipeline.place import recall_place, remember_place
from prill.pipeline.preparation import Preparation, prepare, prepared_spec
from prill.pipeline.quarantine import set_aside
from prill.pipeline.rewriting import rewrite_prepared
from prill.pipeline.texts import with_texts
from prill.pipeline.walk import Done, ShardWalk
from prill.prepare.spec import groupings, measures
from prill.recipe import PrepareRecipe, Recipe, TrainRecipe, load_any_recipe
from prill.report.corpus_render import write_corpus_report
from prill.report.corpus_terminal import plain_corpus_summary
from prill.run.atomic import atomic_write
from prill.run.directory import RunDirectory, read_run
from prill.run.progress import Progress, choose_progress
from prill.run.record import Record
from prill.run.signals import stop_on_signals

__all__ = [
    "PREPARATION",
    "Prepared",
    "Work",
    "is_preparation",
    "of_study",
    "preparation_recipe",
    "prepare_into",
    "prepare_recipe",
    "rewrite_corpus_report",
]

REPORT_VERSION = 1

PREPARATION = "preparation"
"""Folder of the preparation inside the run of a whole study."""


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A finished preparation: where it lies, the corpus that it made, and the words that close it."""

    folder: Path
    corpus: CorpusSpec
    preparation: Preparation
    summary: str
    rewritten: Done | None = None


def prepare_recipe(
    path: Path, *, output: Path | None, n_workers: int | None, is_quiet: bool, accept_changes: bool
) -> Prepared:
    """Prepare the corpus of a recipe, or go on with it.

    Args:
        path: the recipe's file, of a preparation or of a whole study with a `prepare` section.
        output, n_workers, is_quiet, accept_changes: as for `prill run`.
    Raises:
        PrillError: the recipe or an input is wrong; tells all problems before the first step.
    """
    recipe = preparation_recipe(path)
    folder = output or Path(os.path.normpath(path.resolve().parent / recipe.output))
    with stop_on_signals(), choose_progress(is_quiet=is_quiet) as progress:
        work = Work(recipe_path=path.resolve(), n_workers=n_workers, progress=progress, accept=accept_changes)
        if isinstance(recipe, PrepareRecipe):
            return prepare_into(folder, recipe, work)
        stored = recipe.model_dump(mode="json", exclude={"output"})
        with RunDirectory.open(folder, stored, accept_changes):
            remember_place(folder, path.resolve())
            return prepare_into(folder / PREPARATION, of_study(recipe), work)


def is_preparation(run_folder: Path) -> bool:
    """Whether the folder holds a preparation, not a whole study."""
    recipe = read_run(run_folder).recipe
    return "prepare" in recipe and "budget" not in recipe


def rewrite_corpus_report(run_folder: Path) -> Prepared:
    """Write the report of a finished preparation again; everything else is verified and kept.

    Raises:
        RecipeError: the preparation is not finished, or its recipe has changed.
    """
    if not read_run(run_folder).named("report"):
        raise RecipeError(
            "a finished preparation expected",
            where=str(run_folder),
            hint="finish it with `prill prepare RECIPE`",
        )
    (run_folder / "report.html").unlink(missing_ok=True)
    recipe_path = recall_place(run_folder)
    recipe = preparation_recipe(recipe_path)
    with stop_on_signals(), choose_progress(is_quiet=True) as progress:
        work = Work(recipe_path=recipe_path, n_workers=None, progress=progress, accept=False)
        return prepare_into(
            run_folder, recipe if isinstance(recipe, PrepareRecipe) else of_study(recipe), work
        )


def preparation_recipe(path: Path) -> Recipe | PrepareRecipe:
    """The recipe in a file, of a preparation or of a study.

    Raises:
        RecipeError: it is no valid recipe, or one of a training.
    """
    recipe = load_any_recipe(path)
    if isinstance(recipe, TrainRecipe):
        raise RecipeError(
            "the recipe of a preparation expected, found one of a training",
            where=str(path),
            hint="`prill train` trains; a preparation has `corpus` and `prepare`",
        )
    return recipe


@dataclass(frozen=True, kw_only=True)
class Work:
    """How a preparation is worked off; none of it changes a result."""

    recipe_path: Path
    n_workers: int | None
    progress: Progress
    accept: bool


def of_study(recipe: Recipe) -> PrepareRecipe:
    """The preparation that a whole recipe asks for.

    Raises:
        RecipeError: it asks for none.
    """
    if recipe.prepare is None:
        raise RecipeError(
            "a `prepare` section expected, found none",
            where=recipe.name,
            hint="add `prepare: {}` to the recipe; `prill schema --prepare` describes every field",
        )
    return PrepareRecipe(
        name=recipe.name,
        seed=recipe.seed,
        corpus=recipe.corpus,
        prepare=recipe.prepare,
        targets=recipe.targets,
    )


def prepare_into(folder: Path, recipe: PrepareRecipe, work: Work) -> Prepared:
    """Prepare into a folder that is a run of its own."""
    base = work.recipe_path.parent
    first, second = measures(recipe.prepare, base), groupings(recipe.prepare, base)
    corpus = Corpus.open(recipe.corpus, base)
    stored = recipe.model_dump(mode="json", exclude={"output"})
    with RunDirectory.open(folder, stored, work.accept) as run:
        remember_place(folder, work.recipe_path)

        def retried(retry: Retry) -> None:
            run.events.emit("retry", {"what": str(retry)})
            work.progress.note(str(retry))

        engine = LocalEngine(work.n_workers or available_cores(), on_retry=retried)
        walk = ShardWalk(run=run, engine=engine, progress=work.progress, corpus=corpus)
        walk = with_texts(walk, recipe.prepare.html, recipe.prepare.repair)
        done = prepare(walk, first, second, memory_bytes=recipe.prepare.memory)
        if done.read.record.counts["n_bad"]:
            set_aside(walk, done.read)
        spec = recipe.prepare.rewrite
        rewritten = rewrite_prepared(walk, done.prepared, spec, base) if spec is not None else None
        records = [r for r in read_run(folder).records if r.step not in ("lineage", "report")]
        _write_lineage(walk, done, records)
        found = CorpusFindings(
            walk=walk, recipe=recipe, recipe_path=work.recipe_path, done=done, records=records
        )
        return Prepared(
            folder=folder,
            corpus=prepared_spec(folder, recipe.corpus),
            preparation=done,
            summary=_write_report(found),
            rewritten=rewritten,
        )


def _write_report(found: CorpusFindings) -> str:
    """Write `report.html`, `corpus.json` and `summary.txt`; returns the summary."""

    def build(paths: list[Path]) -> None:
        data = corpus_report(found)
        write_corpus_report(paths[0], data)
        atomic_write(paths[1], orjson.dumps(without_texts(data), option=orjson.OPT_INDENT_2) + b"\n")
        atomic_write(paths[2], plain_corpus_summary(data).encode())

    done = found.walk.at_once(
        "report",
        version=REPORT_VERSION,
        settings={"recipe": found.recipe_path.read_text(encoding="utf-8")},
        parents=[found.done.prepared],
        files=["report.html", "corpus.json", "summary.txt"],
        folder=found.walk.run.path,
        build=build,
        label="write the report",
    )
    return done.parts[2].read_text(encoding="utf-8")


def _write_lineage(walk: ShardWalk, done: Preparation, records: Sequence[Record]) -> None:
    folder = walk.run.path
    walk.at_once(
        "lineage",
        version=1,
        settings={},
        parents=[done.prepared],
        files=["lineage.json"],
        folder=folder,
        build=lambda paths: write_lineage(paths[0], records, {"prepared": done.prepared}),
        label="write the lineage",
    )
