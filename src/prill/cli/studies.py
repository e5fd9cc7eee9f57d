"""Commands that choose and prove: run, compare, lab, demo."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from prill.cli.app import Going, Quiet, Workers, app, works_off

if TYPE_CHECKING:
    from prill.pipeline.publish import Outcome

__all__ = ["finish"]

LabSize = Literal["small", "full"]


@works_off
def run(recipe: Path, going: Going) -> None:
    """Run a recipe from the corpus to the report; run it again after any stop and it goes on."""
    from prill.pipeline.run import run_recipe

    finish(run_recipe(recipe, **vars(going)))


@works_off
def compare(recipe: Path, going: Going) -> None:
    """Run a recipe and lay its methods side by side (`arms: all`: every method); prints Markdown tables."""
    from prill.pipeline.run import run_recipe

    outcome = run_recipe(recipe, **vars(going), is_comparison=True)
    assert outcome.comparison is not None
    typer.echo(outcome.comparison.read_text(encoding="utf-8"))
    typer.echo(f"comparison: {outcome.comparison}\nreport: {outcome.report}", err=True)


@app.command()
def lab(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where to put it.")] = Path("prill-lab"),
    size: Annotated[LabSize, typer.Option(help="0.3 M words, or 20 M.")] = "small",
    seed: Annotated[int, typer.Option(help="Of the laboratory: another seed, other chains.")] = 0,
    method: Annotated[
        list[str] | None, typer.Option("--method", "-m", help="A method, repeatable; all when not given.")
    ] = None,
    trials: Annotated[bool, typer.Option("--trials", help="Also train proxies; verdicts need none.")] = False,
    workers: Workers = None,
    quiet: Quiet = False,
) -> None:
    """Let methods choose in a laboratory where the right choice is known, and say which find it."""
    from prill.pipeline.laboratory import run_laboratory
    from prill.study.laboratory.judging import verdict_table

    found, left_out = run_laboratory(
        folder,
        size=size,
        seed=seed,
        methods=method,
        has_trials=trials,
        n_workers=workers,
        is_quiet=quiet,
    )
    for target, verdicts in found.items():
        typer.echo(f"target {target}\n\n{verdict_table(verdicts)}\n")
        typer.echo("\n".join(verdict.sentence for verdict in verdicts) + "\n")
    for one in left_out:
        typer.echo(str(one))


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where to put it.")] = Path("prill-demo"),
    workers: Workers = None,
    quiet: Quiet = False,
) -> None:
    """Try it on the text of this Python installation: a real corpus, two targets, a proven choice."""
    from prill.demo.build import ensure_demo
    from prill.pipeline.run import run_recipe

    recipe = ensure_demo(folder)
    finish(run_recipe(recipe, output=None, n_workers=workers, is_quiet=quiet, accept_changes=False))


def finish(outcome: Outcome) -> None:
    from prill.report.terminal import write_summary

    write_summary(outcome.data, sys.stdout, report=str(outcome.report))
    typer.echo(outcome.dataset)
