"""Progress on a terminal: finished steps stay as a quiet list, one live block below shows the present.

The live block has the current step (bar, share, units, rates, time left), its latest finding, and the whole
run when the steps were announced. It is redrawn a few times a second and disappears at the end. Colour
follows the terminal and `NO_COLOR`; every state is also told in words.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self, TextIO

from prill.errors import printable
from prill.run.pace import Pace, PlanPace, format_done, format_rate, format_seconds
from prill.run.redact import redact

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.progress_bar import ProgressBar
    from rich.spinner import Spinner
    from rich.text import Text

__all__ = ["LiveProgress"]

_REFRESHES_PER_S = 8
_INDENT = 2
_NAME_WIDTH = 12
_MAX_NAME = 24
_MAX_FINDINGS = 3  # the latest of a step, kept when it ends
_BAR_WIDTH = 28
_NARROW_BAR_WIDTH = 12
_WIDE = 100  # columns from which rates have room beside everything else
_MEDIUM = 72


class LiveProgress:
    """A calm live display; use it in a `with` block.

    Args:
        stream: a terminal, usually standard error.
        console: where to draw, for tests; made from the stream when None.
    """

    def __init__(self, stream: TextIO, console: Console | None = None) -> None:
        from rich.console import Console
        from rich.live import Live
        from rich.spinner import Spinner

        self._console = console or Console(file=stream, highlight=False, markup=False, emoji=False)
        self._spinner: Spinner = Spinner("dots" if self._has_symbols() else "line", style="cyan")
        self._plan: PlanPace | None = None
        self._current: _LiveStep | None = None
        self._name_width = _NAME_WIDTH
        self._lock = threading.RLock()
        self._live = Live(
            console=self._console,
            get_renderable=self._draw,
            refresh_per_second=_REFRESHES_PER_S,
            transient=True,
            redirect_stdout=sys.stdout.isatty(),
        )

    def plan(self, steps: Sequence[tuple[str, float]]) -> None:
        """Announce the steps to come and their weights."""
        self._plan = PlanPace(steps)
        longest = max((len(name) for name, _ in steps), default=0)
        self._name_width = min(_MAX_NAME, max(_NAME_WIDTH, longest))

    def step(self, name: str, total: int | None, unit: str) -> _LiveStep:
        """Begin a step."""
        return _LiveStep(self, _safe(name), Pace(total, unit))

    def reused(self, name: str) -> None:
        """A step was finished by an earlier session."""
        if self._plan is not None:
            self._plan.reuse(name)
        self._print_line(self._mark("·", "-"), "dim", _safe(name), "reused", dim=True)

    def note(self, text: str) -> None:
        """A line that belongs to no step."""
        self._print_line(self._mark("›", ">"), "yellow", "", _safe(text))

    def begin(self, step: _LiveStep) -> None:
        """Show this step in the live block."""
        with self._lock:
            self._current = step

    def end(self, step: _LiveStep, *, is_done: bool) -> None:
        """Move a step from the live block to the list above it."""
        with self._lock:
            self._current = None
            if is_done and self._plan is not None:
                self._plan.finish(step.name)
        took = format_seconds(step.pace.elapsed_s)
        if is_done:
            rates = "   ".join(step.rates())
            self._print_line(self._mark("✓", "+"), "green", step.name, f"{took:>12}   {rates}".rstrip())
        else:
            self._print_line(self._mark("×", "x"), "red", step.name, f"stopped after {took}")
        for text in step.findings:
            self._print_line(" ", "", "", text, dim=True)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._current = None
        self._live.stop()

    def _has_symbols(self) -> bool:
        return (self._console.encoding or "").lower().startswith("utf")

    def _mark(self, symbol: str, plain: str) -> str:
        return symbol if self._has_symbols() else plain

    def _print_line(self, mark: str, style: str, name: str, text: str, *, dim: bool = False) -> None:
        from rich.text import Text

        shown = Text(text, "dim" if dim else "")
        if name or dim:
            row = self._row(Text(mark, style), Text(name, "dim" if dim else "bold"), shown)
        else:
            row = self._row(Text(mark, style), None, shown)
        self._console.print(row)

    def _row(self, mark: RenderableType, name: Text | None, *cells: RenderableType) -> RenderableType:
        """One line: a mark, the name in its column (left out when None), and whatever follows."""
        from rich.padding import Padding
        from rich.table import Table

        row = Table.grid(padding=(0, 1))
        row.add_column(width=1, min_width=1)
        if name is not None:
            row.add_column(
                width=self._name_width, min_width=self._name_width, no_wrap=True, overflow="ellipsis"
            )
        for _ in cells:
            row.add_column(overflow="ellipsis")
        row.add_row(mark, *([] if name is None else [name]), *cells)
        return Padding(row, (0, 0, 0, _INDENT))

    def _draw(self) -> RenderableType:
        from rich.console import Group
        from rich.text import Text

        with self._lock:
            step = self._current
            if step is None:
                return Text("")
            state = self._state(step)
            rows = [self._row(self._spinner, Text(step.name, "bold"), self._bar(step.pace.share), state)]
            for words in [step.words, *step.findings[-1:]]:
                rows += [self._row("", Text(""), Text(words, "dim", no_wrap=True))] if words else []
            return Group(*rows, *self._whole_run(step))

    def _whole_run(self, step: _LiveStep) -> list[RenderableType]:
        """The line about the whole run; nothing when the steps were not announced."""
        from rich.text import Text

        share = None if self._plan is None else self._plan.share(step.name, step.pace.share)
        if self._plan is None or share is None:
            return []
        remaining_s = self._plan.remaining_s(step.name, step.pace.share)
        left = "" if remaining_s is None else f"   about {format_seconds(remaining_s)} left"
        text = Text(f"{share:4.0%}{left}", "dim", no_wrap=True)
        return [self._row("", Text("whole run", "dim"), self._bar(share, is_dim=True), text)]

    def _bar(self, share: float | None, *, is_dim: bool = False) -> ProgressBar:
        from rich.progress_bar import ProgressBar

        width = _BAR_WIDTH if self._console.width >= _MEDIUM else _NARROW_BAR_WIDTH
        colour = "bright_black" if is_dim else "cyan"
        return ProgressBar(
            total=None if share is None else 1.0,
            completed=share or 0.0,
            width=width,
            pulse=share is None,
            style="bar.back",
            complete_style=colour,
            finished_style=colour,
        )

    def _state(self, step: _LiveStep) -> Text:
        from rich.text import Text

        pace, text = step.pace, Text(no_wrap=True)
        if pace.share is not None:
            text.append(f"{pace.share:4.0%}", "bold")
        words = [format_done(pace.n_done, pace.total, pace.unit)]
        if pace.remaining_s is not None:
            words.append(f"{format_seconds(pace.remaining_s)} left")
        elif pace.share is None:
            words.append(format_seconds(pace.elapsed_s))
        text.append(("   " if text else "") + "   ".join(word for word in words if word))
        if self._console.width >= _WIDE:
            text.append("".join(f"   {rate}" for rate in step.rates()), "dim")
        return text


class _LiveStep:
    def __init__(self, progress: LiveProgress, name: str, pace: Pace) -> None:
        self.name = name
        self.pace = pace
        self.findings: list[str] = []
        self.words = ""
        self._progress = progress

    def advance(self, n: int = 1, **amounts: float) -> None:
        """More units are done."""
        self.pace.advance(n, amounts)

    def reused(self, n: int) -> None:
        """Units of an earlier session."""
        self.pace.reuse(n)

    def status(self, text: str) -> None:
        """Where it stands; shown until the next."""
        self.words = _safe(text)

    def finding(self, text: str) -> None:
        """Something worth knowing; the latest are kept."""
        shown = _safe(text)
        self.findings = [*(f for f in self.findings if f != shown), shown][-_MAX_FINDINGS:]

    def rates(self) -> list[str]:
        """The rates of this step in words."""
        return [format_rate(rate, name) for name, rate in self.pace.rates().items()]

    def __enter__(self) -> Self:
        self._progress.begin(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.end(self, is_done=error is None)


def _safe(text: str) -> str:
    return printable(redact(text), limit=200)
