"""The application: its options, what commands share, and how it ends: one clear error, never a traceback."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from prill import __version__
from prill.errors import InternalError, PrillError, ResourceError

__all__ = ["Accept", "Going", "Quiet", "RecipePath", "RunFolder", "Workers", "app", "main", "works_off"]

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
Accept = Annotated[
    bool,
    typer.Option(
        "--accept-changes", help="Go on in a folder whose recipe differed; unchanged steps are kept."
    ),
]


@dataclass(frozen=True, kw_only=True)
class Going:
    """Where a recipe's run goes and how: the options of every command that works a recipe off."""

    output: Path | None
    n_workers: int | None
    is_quiet: bool
    accept_changes: bool


def works_off(act: Callable[[Path, Going], None]) -> Callable[[Path, Going], None]:
    """Make a command of a function that works a recipe off; its name and its sentence are the command's."""

    def command(
        recipe: RecipePath,
        output: Output = None,
        workers: Workers = None,
        quiet: Quiet = False,
        accept_changes: Accept = False,
    ) -> None:
        going = Going(output=output, n_workers=workers, is_quiet=quiet, accept_changes=accept_changes)
        act(recipe, going)

    app.command(name=act.__name__, help=act.__doc__)(command)
    return act


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
