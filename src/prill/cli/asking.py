"""Commands that tell and check: plan, report, why, verify, methods, objectives, schema, doctor."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from prill.cli.app import RecipePath, RunFolder, Workers, app
from prill.cli.making import finish_preparation, finish_training
from prill.cli.studies import finish


@app.command()
def plan(recipe: RecipePath, workers: Workers = None) -> None:
    """Tell rows, tokens, disk, memory and time of a recipe before anything runs."""
    from prill.pipeline.plan import plan_recipe

    typer.echo(plan_recipe(recipe, n_workers=workers))


@app.command()
def report(
    run_folder: RunFolder = Path("run"),
    timings: Annotated[
        bool, typer.Option("--timings", help="Print the wall and processor time of every step.")
    ] = False,
) -> None:
    """Write the report of a finished run again, or print how long its steps took."""
    from prill.pipeline.prepare import is_preparation, rewrite_corpus_report
    from prill.pipeline.publish import timings_table
    from prill.pipeline.run import rewrite_report
    from prill.pipeline.train_again import is_training, rewrite_training_report

    if timings:
        typer.echo(timings_table(run_folder))
    elif is_training(run_folder):
        finish_training(rewrite_training_report(run_folder))
    elif is_preparation(run_folder):
        finish_preparation(rewrite_corpus_report(run_folder))
    else:
        finish(rewrite_report(run_folder))


@app.command()
def why(
    document: Annotated[str, typer.Argument(metavar="ID", help="A document's id, or SHARD:ROW.")],
    run_folder: Annotated[Path, typer.Option("--run", "-r", help="The folder of a run.")] = Path("run"),
) -> None:
    """Show every column, threshold and rule that kept or dropped a document, and what was cut out of it."""
    from prill.pipeline.why import write_explanation

    write_explanation(run_folder, document, sys.stdout)


@app.command()
def verify(run_folder: RunFolder = Path("run")) -> None:
    """Check every recorded file of a run against its size and hash."""
    from prill.errors import DataError
    from prill.pipeline.prepare import PREPARATION
    from prill.run.verify import verify as verify_run

    folders = [run_folder, *(path for path in [run_folder / PREPARATION] if path.is_dir())]
    found = {folder: verify_run(folder) for folder in folders}
    problems = [problem for one in found.values() for problem in one.problems]
    if problems:
        raise DataError.of(problems)
    for folder, one in found.items():
        typer.echo(
            f"{folder}: {one.n_files:,} files of {one.n_steps} finished steps are whole "
            f"({one.n_bytes / 1e6:,.1f} MB)"
            + (f"; {one.n_unfinished} steps are unfinished" if one.n_unfinished else "")
        )


@app.command()
def methods(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="A method, for its page.")] = None,
) -> None:
    """List the scoring methods, or show one: formula, source, cost, assumptions, settings."""
    from prill.methods.registry import describe, overview

    typer.echo(describe(name) if name else overview())


@app.command()
def objectives(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="An objective or a transform, for its page.")
    ] = None,
) -> None:
    """List the objectives and sample transforms of trainings, or show one: formula, source, settings."""
    from prill.pipeline.parts import describe, overview

    typer.echo(describe(name) if name else overview())


@app.command()
def schema(
    prepare_only: Annotated[
        bool, typer.Option("--prepare", help="Of a recipe that only prepares a corpus.")
    ] = False,
    train_only: Annotated[bool, typer.Option("--train", help="Of a recipe that only trains.")] = False,
) -> None:
    """Print the JSON schema of a recipe, for editors."""
    import orjson

    from prill.recipe import PrepareRecipe, Recipe, TrainRecipe, json_schema

    content = json_schema(PrepareRecipe if prepare_only else TrainRecipe if train_only else Recipe)
    typer.echo(orjson.dumps(content, option=orjson.OPT_INDENT_2).decode())


@app.command()
def doctor() -> None:
    """Tell what this machine and this installation can do, and what to install for the rest."""
    from prill.pipeline.doctor import examine

    typer.echo(examine())
