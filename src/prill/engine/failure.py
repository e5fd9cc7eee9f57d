"""What can go wrong with a task, told the same way by every kind of engine.

A `PrillError` passes unchanged. Errors of the machine become a `ResourceError`. Anything else is a fault of
Prill and becomes a `TaskError`, whose `detail` keeps the traceback for `--debug`.
"""

from __future__ import annotations

import signal
import traceback
from collections.abc import Callable
from dataclasses import dataclass

from prill.errors import InternalError, PrillError, ResourceError, printable
from prill.run.atomic import resource_error

__all__ = [
    "ReportRetry",
    "Retry",
    "TaskError",
    "death_error",
    "describe_exit",
    "no_report",
    "stall_error",
    "task_failure",
]

_MAX_MESSAGE = 500


class TaskError(InternalError):
    """A task raised an unexpected exception. `detail` is its traceback, also from another process."""

    def __init__(
        self, message: str, *, where: str | None = None, hint: str | None = None, detail: str = ""
    ) -> None:
        super().__init__(message, where=where, hint=hint)
        self.detail = detail

    def __reduce__(self) -> tuple[object, ...]:
        return (
            _rebuild,
            (self.problems[0].message, self.problems[0].where, self.problems[0].hint, self.detail),
        )


@dataclass(frozen=True, kw_only=True)
class Retry:
    """A worker was lost and its item is tried again: which item, the attempt that failed, and why."""

    name: str
    label: str
    attempt: int
    reason: str

    def __str__(self) -> str:
        again = f"tried again (attempt {self.attempt + 1})"
        return f"{self.name}: the worker for {self.label} {self.reason}; {again}"


def task_failure(error: BaseException, *, name: str, label: str) -> PrillError:
    """The `PrillError` that tells what a task's exception means."""
    if isinstance(error, PrillError):
        return error
    if isinstance(error, MemoryError):
        return ResourceError(
            f"{name} ran out of memory", where=label, hint="use fewer workers or a machine with more memory"
        )
    if isinstance(error, OSError):
        known = resource_error(error, error.filename if isinstance(error.filename, str) else label)
        if known is not None:
            return known
    said = printable(str(error), limit=_MAX_MESSAGE)
    return TaskError(
        f"{name} failed with {type(error).__name__}: {said}"
        if said
        else f"{name} failed with {type(error).__name__}",
        where=label,
        hint="run again with `--debug` for the traceback, and please report it",
        detail="".join(traceback.format_exception(error)),
    )


def describe_exit(code: int | None) -> str:
    """An exit code in words: `was killed by SIGKILL (out of memory?)`, `exited with code 3`."""
    if code is None:
        return "was lost"
    if code >= 0:
        return f"exited with code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"was killed by {name}" + (" (out of memory?)" if -code == signal.SIGKILL else "")


def death_error(*, name: str, label: str, reason: str, n_attempts: int) -> ResourceError:
    """The end of an item whose workers died again and again."""
    times = f", {n_attempts} times" if n_attempts > 1 else ""
    return ResourceError(
        f"{name}: the worker for {label} {reason}{times}",
        hint="use fewer workers or a machine with more memory; finished shards are kept, run again to resume",
    )


def stall_error(*, name: str, label: str, stall_s: float, n_attempts: int) -> ResourceError:
    """The end of an item that never came back."""
    times = f" in each of {n_attempts} attempts" if n_attempts > 1 else ""
    return ResourceError(
        f"{name}: {label} gave no result within {stall_s:g} s{times}",
        hint="look at this shard, or allow more time; finished shards are kept, run again to resume",
    )


def no_report(retry: Retry) -> None:
    """The report of a retry that nobody asked for."""


ReportRetry = Callable[[Retry], None]


def _rebuild(message: str, where: str | None, hint: str | None, detail: str) -> TaskError:
    return TaskError(message, where=where, hint=hint, detail=detail)
