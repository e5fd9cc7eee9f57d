"""Progress as plain lines, for logs and pipes: when a step begins and ends, and now and then between."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self, TextIO

from prill.errors import printable
from prill.run.pace import Clock, Pace, PlanPace, format_amount, format_done, format_rate, format_seconds
from prill.run.redact import redact

__all__ = ["PlainProgress"]

_EVERY_S = 10.0


class PlainProgress:
    """Writes lines to a stream, at most one about the same step in `every_s` seconds."""

    def __init__(self, stream: TextIO, *, every_s: float = _EVERY_S, clock: Clock = time.monotonic) -> None:
        self._stream = stream
        self._every_s = every_s
        self._clock = clock
        self._plan: PlanPace | None = None
        self._lock = threading.Lock()

    def plan(self, steps: Sequence[tuple[str, float]]) -> None:
        """Announce the steps to come and their weights."""
        self._plan = PlanPace(steps, self._clock)

    def step(self, name: str, total: int | None, unit: str) -> _PlainStep:
        """Begin a step."""
        return _PlainStep(self, name, Pace(total, unit, self._clock))

    def reused(self, name: str) -> None:
        """A step was finished by an earlier session."""
        if self._plan is not None:
            self._plan.reuse(name)
        self.write(f"{name}: reused")

    def note(self, text: str) -> None:
        """A line that belongs to no step."""
        self.write(text)

    def finished(self, name: str) -> None:
        """A step of the plan is done."""
        if self._plan is not None:
            self._plan.finish(name)

    def write(self, text: str) -> None:
        """One safe line."""
        with self._lock:
            self._stream.write(printable(redact(text), limit=500) + "\n")
            self._stream.flush()

    @property
    def every_s(self) -> float:
        """Seconds between two lines about the same step."""
        return self._every_s

    def whole_run(self, name: str, share: float | None) -> str:
        """How long the whole run still takes, or nothing."""
        remaining_s = None if self._plan is None else self._plan.remaining_s(name, share)
        return "" if remaining_s is None else f", whole run about {format_seconds(remaining_s)} left"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


class _PlainStep:
    def __init__(self, progress: PlainProgress, name: str, pace: Pace) -> None:
        self._progress = progress
        self._name = name
        self._pace = pace
        self._said_at = 0.0
        self._status = ""
        self._said: set[str] = set()

    def advance(self, n: int = 1, **amounts: float) -> None:
        """More units are done."""
        self._pace.advance(n, amounts)
        now = self._pace.elapsed_s
        if now - self._said_at >= self._progress.every_s and self._pace.share != 1.0:
            self._said_at = now
            self._progress.write(f"{self._name}: {self._state()}")

    def reused(self, n: int) -> None:
        """Units of an earlier session."""
        self._pace.reuse(n)

    def status(self, text: str) -> None:
        """Where it stands; said with the next line."""
        self._status = text

    def finding(self, text: str) -> None:
        """Something worth knowing; said once."""
        if text not in self._said:
            self._said.add(text)
            self._progress.write(f"{self._name}: {text}")

    def __enter__(self) -> Self:
        total = "" if self._pace.total is None else f" ({format_amount(self._pace.total, self._pace.unit)})"
        self._progress.write(f"{self._name}: started{total}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        took = format_seconds(self._pace.elapsed_s)
        if error is not None:
            self._progress.write(f"{self._name}: stopped after {took}")
            return
        self._progress.finished(self._name)
        rates = "".join(f", {format_rate(rate, name)}" for name, rate in self._pace.rates().items())
        self._progress.write(f"{self._name}: done in {took}{rates}")

    def _state(self) -> str:
        pace = self._pace
        words = [format_done(pace.n_done, pace.total, pace.unit)]
        words += [f"{pace.share:.0%}"] if pace.share is not None else []
        words += [format_rate(rate, name) for name, rate in pace.rates().items()]
        words += [f"about {format_seconds(pace.remaining_s)} left"] if pace.remaining_s is not None else []
        words += [self._status]
        return ", ".join(word for word in words if word) + self._progress.whole_run(self._name, pace.share)
