"""Commands that make corpora, models and columns: prepare, train, score."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from prill.cli.app import Accept, Going, Quiet, Workers, app, works_off

if TYPE_CHECKING:
    from prill.pipeline.prepare import Prepared
    from prill.pipeline.train_results import Trained

__all__ = ["finish_preparation", "finish_training"]

ScoreDetail = Literal["documents", "tokens", "moments"]
ScorePrecision = Literal["auto", "fp32", "bf16"]


@works_off
def prepare(recipe: Path, going: Going) -> None:
    """Prepare a raw corpus: measure, drop, find copies, cut; run it again after any stop and it goes on."""
    from prill.pipeline.prepare import prepare_recipe

    finish_preparation(prepare_recipe(recipe, **vars(going)))


@works_off
def train(recipe: Path, going: Going) -> None:
    """Train or continue models on mixed sources; run it again after any stop and it goes on."""
    from prill.pipeline.train import train_recipe

    done = train_recipe(recipe, **vars(going))
    if done is not None:
        finish_training(done)


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


def finish_preparation(done: Prepared) -> None:
    from prill.report.corpus_terminal import write_corpus_summary

    write_corpus_summary(done.summary, sys.stdout)
    typer.echo(f"report: {done.folder / 'report.html'}")
    typer.echo(f"prepared: {done.folder / 'prepared'}")
    if done.rewritten is not None:
        typer.echo(f"rewritten: {done.folder / 'rewritten'}")


def finish_training(done: Trained) -> None:
    typer.echo(done.summary, nl=False)
    for folder in done.models:
        typer.echo(f"model: {folder}")
    typer.echo(f"report: {done.folder / 'report.html'}")
