"""What a run tells a person while it works: which step, how far, how fast, how long still, what it found.

The library reports to a `Progress` and never prints. `choose_progress` picks the live display on a
terminal, plain lines elsewhere, both on standard error; `SilentProgress` says nothing. Text is redacted and
control characters are escaped before they are shown.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Protocol, Self, TextIO

__all__ = ["Progress", "SilentProgress", "StepProgress", "choose_progress"]


class StepProgress(Protocol):
    """One step under way; safe to use from any thread."""

    def advance(self, n: int = 1, **amounts: float) -> None:
        """`n` more units are done, and with them these amounts (`documents=5000`), shown as rates."""
        ...

    def reused(self, n: int) -> None:
        """`n` units were done by an earlier session: they are done, but say nothing of the pace."""
        ...

    def status(self, text: str) -> None:
        """Where the step stands, in a few words: `loss 3.214`; each replaces the one before."""
        ...

    def finding(self, text: str) -> None:
        """Something worth knowing: `1.3 % of the documents are exact copies`."""
        ...


class Progress(Protocol):
    """Where a run reports."""

    def plan(self, steps: Sequence[tuple[str, float]]) -> None:
        """Announce the steps to come and their weights (expected share of the time, any scale)."""
        ...

    def step(self, name: str, total: int | None, unit: str) -> AbstractContextManager[StepProgress]:
        """A step begins; it ends with the block. `total` counts units and is None when unknown."""
        ...

    def reused(self, name: str) -> None:
        """A step of the plan was finished by an earlier session."""
        ...

    def note(self, text: str) -> None:
        """A line that belongs to no step: a retried worker, a warning."""
        ...


class SilentProgress:
    """Says nothing."""

    def plan(self, steps: Sequence[tuple[str, float]]) -> None:
        """Ignored."""

    def step(self, name: str, total: int | None, unit: str) -> _SilentStep:
        """A step that says nothing."""
        return _SilentStep()

    def reused(self, name: str) -> None:
        """Ignored."""

    def note(self, text: str) -> None:
        """Ignored."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


class _SilentStep:
    def advance(self, n: int = 1, **amounts: float) -> None:
        """Ignored."""

    def reused(self, n: int) -> None:
        """Ignored."""

    def status(self, text: str) -> None:
        """Ignored."""

    def finding(self, text: str) -> None:
        """Ignored."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


def choose_progress(
    stream: TextIO | None = None, *, is_quiet: bool = False
) -> AbstractContextManager[Progress]:
    """The display that suits the stream (standard error when None). Use it in a `with` block."""
    if is_quiet:
        return SilentProgress()
    shown_on = sys.stderr if stream is None else stream
    if shown_on.isatty():
        from prill.run.live import LiveProgress

        return LiveProgress(shown_on)
    from prill.run.plain import PlainProgress

    return PlainProgress(shown_on)
