"""How fast a training goes, how long it still takes, and where its losses are, smoothed for a person."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Sequence

from prill.run.pace import Clock, format_rate, format_seconds

__all__ = ["TrainingPace"]

WINDOW_S = 30.0  # of the speed that is shown
SMOOTHING = 0.95  # share of the past in a smoothed loss


class TrainingPace:
    """Arithmetic of the live display; nothing depends on it.

    Args:
        n_steps: of the whole plan.
        clock: seconds; `time.monotonic` when None.
    """

    def __init__(self, n_steps: int, *, clock: Clock | None = None) -> None:
        self.n_steps = n_steps
        self.done = 0
        self._clock = clock or time.monotonic
        self._start = self._clock()
        self._recent: deque[tuple[float, int, int]] = deque([(self._start, 0, -1)])  # time, tokens, done
        self._n_tokens = 0
        self._sums: list[float] = []
        self._weight = 0.0

    @property
    def elapsed_s(self) -> float:
        """Since it was made."""
        return self._clock() - self._start

    def advance(self, done: int, n_tokens: int, losses: Sequence[float]) -> None:
        """`done` steps of the plan are done, the last with `n_tokens` tokens of all models."""
        if self._recent[0][2] < 0:
            self._recent[0] = (self._start, 0, done - 1)
        self.done = done
        self._n_tokens += n_tokens
        now = self._clock()
        self._recent.append((now, self._n_tokens, done))
        while len(self._recent) > 2 and now - self._recent[0][0] > WINDOW_S:
            self._recent.popleft()
        past = self._sums or [0.0] * len(losses)
        self._sums = [
            SMOOTHING * sum_ + (1 - SMOOTHING) * loss for sum_, loss in zip(past, losses, strict=True)
        ]
        self._weight = SMOOTHING * self._weight + 1 - SMOOTHING

    @property
    def losses(self) -> tuple[float, ...]:
        """Exponential means of each model's loss, nats a token, (K,); the beginning weighs no more."""
        return tuple(sum_ / self._weight for sum_ in self._sums)

    @property
    def tokens_per_s(self) -> float:
        """Over the last half minute, all models together; 0 before the first step."""
        (start, before, _), (now, tokens, _) = self._recent[0], self._recent[-1]
        return (tokens - before) / (now - start) if now > start else 0.0

    @property
    def remaining_s(self) -> float | None:
        """At the pace of the last half minute; None before the first step."""
        (start, _, before), (now, _, done) = self._recent[0], self._recent[-1]
        if now <= start or done <= before:
            return None
        return (self.n_steps - done) * (now - start) / (done - before)

    def as_metrics(self) -> dict[str, float]:
        """For trackers and the diary: clocks only."""
        found = {"tokens_per_s": round(self.tokens_per_s, 1)}
        if self.remaining_s is not None:
            found["remaining_s"] = round(self.remaining_s, 1)
        return found

    def text(self) -> str:
        """One short line: `loss 3.214 (3.101 to 3.377), 18.2 k tokens/s, 3 min left`."""
        losses = [loss for loss in self.losses if math.isfinite(loss)]
        if not losses:
            return "no step yet"
        shown = f"loss {sum(losses) / len(losses):.3f}"
        if len(losses) > 1:
            shown += f" ({min(losses):.3f} to {max(losses):.3f})"
        parts = [shown, format_rate(self.tokens_per_s, "tokens")]
        if self.remaining_s is not None:
            parts.append(f"{format_seconds(self.remaining_s)} left")
        return ", ".join(parts)
