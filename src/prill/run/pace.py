"""How far, how fast, how long still: the arithmetic of progress, and how a person reads it.

The remaining time of a step is its remaining units at the pace so far. The remaining time of the run weighs
the announced steps: finished weight and elapsed time give the pace, whatever is left goes at that pace.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

__all__ = ["Clock", "Pace", "PlanPace", "format_amount", "format_done", "format_rate", "format_seconds"]

Clock = Callable[[], float]

_MIN_ELAPSED_S = 0.2  # below this a rate says nothing
_KILO = 1000
_MINUTE = 60
_HOUR = 3600
_RATED_UNITS = ("bytes", "tokens", "documents", "steps")
_PREFIXES = ("", "k", "M", "G", "T", "P")


class Pace:
    """Units done in one step, and amounts that came with them. Safe to use from any thread."""

    def __init__(self, total: int | None, unit: str, clock: Clock = time.monotonic) -> None:
        self.total = total
        self.unit = unit
        self._clock = clock
        self._start = clock()
        self._n_done = self._n_reused = 0
        self._amounts: dict[str, float] = {}
        self._lock = threading.Lock()

    def advance(self, n: int, amounts: dict[str, float]) -> None:
        """`n` more units, and more of each amount."""
        with self._lock:
            self._n_done += n
            for name, amount in amounts.items():
                self._amounts[name] = self._amounts.get(name, 0.0) + amount

    def reuse(self, n: int) -> None:
        """`n` more units were done before: no time went into them."""
        with self._lock:
            self._n_done += n
            self._n_reused += n

    @property
    def n_done(self) -> int:
        """Units done so far."""
        return self._n_done

    @property
    def elapsed_s(self) -> float:
        """Seconds since the step began."""
        return self._clock() - self._start

    @property
    def share(self) -> float | None:
        """Done share of the total in [0, 1]; None when the total is unknown."""
        if self.total is None:
            return None
        return min(1.0, self._n_done / self.total) if self.total > 0 else 1.0

    @property
    def remaining_s(self) -> float | None:
        """Seconds still to go at the pace so far; None when that cannot be said."""
        n_own = self._n_done - self._n_reused
        if not self.total or n_own <= 0 or self.elapsed_s < _MIN_ELAPSED_S:
            return None
        return self.elapsed_s * max(0, self.total - self._n_done) / n_own

    def amounts(self) -> dict[str, float]:
        """The amounts so far, by name."""
        with self._lock:
            return dict(self._amounts)

    def rates(self) -> dict[str, float]:
        """Amount per second, by name, the unit itself where that means something; empty at the beginning."""
        elapsed_s = self.elapsed_s
        if elapsed_s < _MIN_ELAPSED_S:
            return {}
        amounts = self.amounts()
        n_own = self._n_done - self._n_reused
        if self.unit in _RATED_UNITS and n_own:
            amounts = {self.unit: float(n_own), **amounts}
        return {name: amount / elapsed_s for name, amount in amounts.items()}


class PlanPace:
    """The whole run: announced steps with weights, of which some are finished or were reused."""

    def __init__(self, steps: Sequence[tuple[str, float]], clock: Clock = time.monotonic) -> None:
        self._weights = [(name, max(0.0, weight)) for name, weight in steps]
        self._done = [False] * len(steps)
        self._clock = clock
        self._start = self._asked = clock()
        self._finished_weight = 0.0

    def finish(self, name: str) -> None:
        """The next unfinished step of this name was worked through; one that is not planned is ignored."""
        self._finished_weight += self._take(name)

    def reuse(self, name: str) -> None:
        """The next unfinished step of this name needs no work."""
        self._take(name)

    def share(self, current: str | None, share: float | None) -> float | None:
        """Done share of this session's work, the current step's own share included; None without work."""
        left = sum(weight for (_, weight), done in zip(self._weights, self._done, strict=True) if not done)
        whole = left + self._finished_weight
        if whole <= 0:
            return None
        return min(1.0, (self._finished_weight + self._weight(current) * (share or 0.0)) / whole)

    def remaining_s(self, current: str | None, share: float | None) -> float | None:
        """Seconds still to go for the whole run; None when that cannot be said.

        While a step works that was not announced, the clock of the whole stands still.
        """
        before, self._asked = self._asked, self._clock()
        if self._index(current) is None:
            self._start += self._asked - before
            return None
        done = self.share(current, share)
        elapsed_s = self._asked - self._start
        if not done or elapsed_s < _MIN_ELAPSED_S:
            return None
        return elapsed_s * (1.0 - done) / done

    def _index(self, name: str | None) -> int | None:
        for i, (known, _) in enumerate(self._weights):
            if known == name and not self._done[i]:
                return i
        return None

    def _weight(self, name: str | None) -> float:
        i = self._index(name)
        return 0.0 if i is None else self._weights[i][1]

    def _take(self, name: str) -> float:
        i = self._index(name)
        if i is None:
            return 0.0
        self._done[i] = True
        return self._weights[i][1]


def format_seconds(seconds: float) -> str:
    """A duration for people: `0.4 s`, `12 s`, `3 min 05 s`, `2 h 10 min`.

    >>> [format_seconds(s) for s in (0.44, 12.3, 59.9, 185, 7805)]
    ['0.4 s', '12 s', '1 min 00 s', '3 min 05 s', '2 h 10 min']
    """
    if round(seconds, 1) < 10:
        return f"{max(0.0, seconds):.1f} s"
    whole = round(seconds)
    if whole < _MINUTE:
        return f"{whole} s"
    if whole < _HOUR:
        return f"{whole // _MINUTE} min {whole % _MINUTE:02d} s"
    minutes = round(seconds / _MINUTE)
    return f"{minutes // _MINUTE} h {minutes % _MINUTE:02d} min"


def format_amount(amount: float, name: str) -> str:
    """An amount with its unit: bytes with decimal prefixes, large counts shortened.

    >>> [format_amount(34_200_000, "bytes"), format_amount(5021, "documents")]
    ['34.2 MB', '5,021 documents']
    >>> format_amount(1.25e7, "tokens")
    '12.5 M tokens'
    """
    if name == "bytes":
        number, prefix = _scaled(amount)
        return f"{number} {prefix}B"
    if abs(amount) < 100 * _KILO:
        shown = f"{amount:,.0f}" if abs(amount) >= 10 or amount == int(amount) else f"{amount:.1f}"
        return f"{shown} {name}"
    number, prefix = _scaled(amount)
    return f"{number} {prefix} {name}"


def format_done(n_done: int, total: int | None, unit: str) -> str:
    """How far a step is: `13/21 shards`, `1.5 MB of 20.0 MB`; empty when there is nothing to say.

    >>> [format_done(13, 21, "shards"), format_done(1_500_000, 20_000_000, "bytes"), format_done(0, None, "")]
    ['13/21 shards', '1.5 MB of 20.0 MB', '']
    """
    if total is None:
        return format_amount(n_done, unit) if n_done and unit else ""
    if unit == "bytes":
        return f"{format_amount(n_done, unit)} of {format_amount(total, unit)}"
    if total >= 100 * _KILO:
        return f"{format_amount(n_done, '').strip()} of {format_amount(total, unit)}"
    return f"{n_done:,}/{total:,} {unit}".rstrip()


def format_rate(rate: float, name: str) -> str:
    """An amount per second.

    >>> format_rate(34_200_000, "bytes")
    '34.2 MB/s'
    """
    return f"{format_amount(rate, name)}/s"


def _scaled(amount: float) -> tuple[str, str]:
    level = 0
    while abs(amount) >= 999.5 and level < len(_PREFIXES) - 1:
        amount /= _KILO
        level += 1
    return (f"{amount:.0f}" if level == 0 or abs(amount) >= 99.95 else f"{amount:.1f}"), _PREFIXES[level]
