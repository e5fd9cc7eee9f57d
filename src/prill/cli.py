"""The commands. Settings live in the recipe; the command line only says which recipe, where, and how loud.

Data goes to standard output, everything else to standard error. Heavy packages load inside the command
that needs them, so `prill --help` is instant.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NoReturn

import typer

from prill import __version__
from prill.errors import InternalError, PrillError, ResourceError

if TYPE_CHECKING:
    from prill.pipeline.prepare import Prepared
    from prill.pipeline.publish import Outcome
    from prill.pipeline.train_results import Trained

__all__ = ["app", "main"]

INTERRUPTED = 130  # the shell's code for Ctrl-C

app = typer.Typer(
    name="prill",
    help="Find the training data that makes the best language model for each target, and prove it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

RecipePath = Annotated[Path, typer.Argument(metavar="RECIPE", help="A recipe, in YAML.")]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run.")]
Output = Annotated[
    Path | None, typer.Option("--output", "-o", help="Folder of the run, instead of the recipe's.")
]
Workers = Annotated[
    int | None, typer.Option("--workers", "-j", min=1, help="Workers; all cores when not given.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress display.")]
LabSize = Literal["small", "full"]
ScoreDetail = Literal["documents", "tokens", "moments"]
ScorePrecision = Literal["auto", "fp32", "bf16"]
Accept = Annotated[
    bool,
    typer.Option(
        "--accept-changes", help="Go on in a folder whose recipe differed; unchanged steps are kept."
    ),
]


@app.command()
def run(
    recipe: RecipePath,
    output: Output = None,
    workers: Workers = None,
    quiet: Quiet = False,
    accept_changes: Accept = False,
) -> None:
    """Run a recipe from the corpus to the report; run it again after any stop and it goes on."""
    from prill.pipeline.run import run_recipe

    _finish(
        run_recipe(recipe, output=output, n_workers=workers, is_quiet=quiet, accept_changes=accept_changes)
    )


@app.command()
def compare(
    recipe: RecipePath,
    output: Output = None,
    workers: Workers = None,
    quiet: Quiet = False,
    accept_changes: Accept = False,
) -> None:
    """Run a recipe and lay its methods side by side (`arms: all`: every method); prints Markdown tables."""
    from prill.pipeline.run import run_recipe

    outcome = run_recipe(
        recipe,
        output=output,
        n_workers=workers,
        is_quiet=quiet,
        accept_changes=accept_changes,
        is_comparison=True,
    )
    assert outcome.comparison is not None
    typer.echo(outcome.comparison.read_text(encoding="utf-8"))
    typer.echo(f"comparison: {outcome.comparison}\nreport: {outcome.report}", err=True)


@app.command()
def prepare(
    recipe: RecipePath,
    output: Output = None,
    workers: Workers = None,
    quiet: Quiet = False,
    accept_changes: Accept = False,
) -> None:
    """Prepare a raw corpus: measure, drop, find copies, cut; run it again after any stop and it goes on."""
    from prill.pipeline.prepare import prepare_recipe

    _finish_preparation(
        prepare_recipe(
            recipe, output=output, n_workers=workers, is_quiet=quiet, accept_changes=accept_changes
        )
    )


@app.command()
def train(
    recipe: RecipePath,
    output: Output = None,
    workers: Workers = None,
    quiet: Quiet = False,
    accept_changes: Accept = False,
) -> None:
    """Train or continue models on mixed sources; run it again after any stop and it goes on."""
    from prill.pipeline.train import train_recipe

    done = train_recipe(
        recipe, output=output, n_workers=workers, is_quiet=quiet, accept_changes=accept_changes
    )
    if done is not None:
        _finish_training(done)


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
    _finish(run_recipe(recipe, output=None, n_workers=workers, is_quiet=quiet, accept_changes=False))


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
def plan(recipe: RecipePath, workers: Workers = None) -> None:
    """Tell rows, tokens, disk, memory and time of a recipe before anything runs."""
    from prill.pipeline.plan import plan_recipe

    typer.echo(plan_recipe(recipe, n_workers=workers))


@app.command()
def why(
    document: Annotated[str, typer.Argument(metavar="ID", help="A document's id, or SHARD:ROW.")],
    run_folder: Annotated[Path, typer.Option("--run", "-r", help="The folder of a run.")] = Path("run"),
) -> None:
    """Show every column, threshold and rule that kept or dropped a document, and what was cut out of it."""
    from prill.pipeline.why import write_explanation

    write_explanation(run_folder, document, sys.stdout)


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
        _finish_training(rewrite_training_report(run_folder))
    elif is_preparation(run_folder):
        _finish_preparation(rewrite_corpus_report(run_folder))
    else:
        _finish(rewrite_report(run_folder))


@app.command()
def score(
    model: Annotated[
        Path, typer.Argument(metavar="MODEL", help="A folder with a model: one of ours, or of transformers.")
    ],
    corpus: Annotated[
        list[str], typer.Argument(metavar="CORPUS...", help="Files, folders, globs or URLs of documents.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the scores.")] = Path("scored"),
    tokenizer: Annotated[
        Path | None, typer.Option(help="tokenizer.json of the model, if it is not in its folder.")
    ] = None,
    detail: Annotated[
        ScoreDetail,
        typer.Option(
            help="Store numbers a document; also log-probabilities a token; also moments and ranks."
        ),
    ] = "documents",
    max_len: Annotated[
        int | None, typer.Option(min=1, help="Longest window in tokens; the model's context, up to a row.")
    ] = None,
    context: Annotated[
        int, typer.Option(min=1, help="Tokens that every window after a document's first reads before.")
    ] = 1,
    row_tokens: Annotated[int, typer.Option(min=1, help="Tokens of a packed row.")] = 4096,
    max_tokens: Annotated[
        int | None, typer.Option(min=1, help="Score only so many first tokens of a document.")
    ] = None,
    precision: Annotated[ScorePrecision, typer.Option(help="Of matrix products.")] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    text_field: Annotated[str, typer.Option(help="Field of the documents that holds the text.")] = "text",
    quarantine: Annotated[
        bool, typer.Option("--quarantine", help="Give bad records no loss and go on, instead of stopping.")
    ] = False,
    workers: Workers = None,
    quiet: Quiet = False,
    accept_changes: Accept = False,
) -> None:
    """Score every document of a corpus under a language model; run it again after any stop and it goes on."""
    from prill.corpus.spec import CorpusSpec
    from prill.pipeline.scoring import score_corpus

    spec = CorpusSpec(
        paths=corpus,
        fields={} if text_field == "text" else {"text": text_field},
        on_bad="quarantine" if quarantine else "stop",
    )
    done = score_corpus(
        model,
        spec,
        output=output,
        tokenizer=tokenizer,
        detail=detail,
        max_len=max_len,
        context=context,
        row_tokens=row_tokens,
        max_tokens=max_tokens,
        precision=precision,
        device=device,
        n_workers=workers,
        is_quiet=quiet,
        accept_changes=accept_changes,
    )
    typer.echo(done.summary)


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


def _version(is_asked: bool) -> None:  # noqa: FBT001 - typer's callback signature
    if is_asked:
        typer.echo(f"prill {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    _State.is_debug = debug


class _State:
    is_debug = False


def _finish_preparation(done: Prepared) -> None:
    from prill.report.corpus_terminal import write_corpus_summary

    write_corpus_summary(done.summary, sys.stdout)
    typer.echo(f"report: {done.folder / 'report.html'}")
    typer.echo(f"prepared: {done.folder / 'prepared'}")
    if done.rewritten is not None:
        typer.echo(f"rewritten: {done.folder / 'rewritten'}")


def _finish_training(done: Trained) -> None:
    typer.echo(done.summary, nl=False)
    for folder in done.models:
        typer.echo(f"model: {folder}")
    typer.echo(f"report: {done.folder / 'report.html'}")


def _finish(outcome: Outcome) -> None:
    from prill.report.terminal import write_summary

    write_summary(outcome.data, sys.stdout, report=str(outcome.report))
    typer.echo(outcome.dataset)


def main() -> NoReturn:
    """Run the command line; one clear error, an exit code that says who must act, never a traceback."""
    from prill.run.atomic import resource_error
    from prill.run.signals import Stop, leave

    try:
        app()
    except Stop as stop:
        typer.echo("stopped; run the same command again to go on", err=True)
        leave(stop.exit_code)
    except KeyboardInterrupt:
        leave(INTERRUPTED)
    except PrillError as error:
        sys.exit(_tell(error))
    except MemoryError:
        hint = "use fewer workers, or smaller shards"
        sys.exit(_tell(ResourceError("more memory expected, found none left", hint=hint)))
    except Exception as fault:  # noqa: BLE001 - the last line of defence: no user sees a traceback unasked
        known = resource_error(fault, "this machine") if isinstance(fault, OSError) else None
        message = f"this should not happen: {type(fault).__name__}: {fault}"
        sys.exit(_tell(known or InternalError(message, hint="run it with `prill --debug` and report it")))
    sys.exit(0)


def _tell(error: PrillError) -> int:
    """Write every problem to standard error, secrets masked; returns the exit code."""
    from prill.run.redact import redact

    if _State.is_debug:
        import traceback

        typer.echo(redact(getattr(error, "detail", "") + traceback.format_exc()), err=True)
    for problem in error.problems:
        typer.echo(f"error: {redact(str(problem))}", err=True)
    return error.exit_code
