"""Numbers that wait to be told together, for trackers where every call costs a file lock or a request."""

from __future__ import annotations

import time
from collections.abc import Mapping

from prill.run.pace import Clock

__all__ = ["Backlog", "flattened"]

FLUSH_S = 5.0
MAX_STEPS = 200

Entry = tuple[int, dict[str, float]]


class Backlog:
    """Holds what is logged for at most `FLUSH_S` seconds of training or `MAX_STEPS` steps."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._entries: list[Entry] = []
        self._since = clock()

    def add(self, step: int, metrics: Mapping[str, float]) -> list[Entry]:
        """Keep one step; returns everything that waited when it is time, else nothing."""
        self._entries.append((step, dict(metrics)))
        is_due = len(self._entries) >= MAX_STEPS or self._clock() - self._since >= FLUSH_S
        return self.take() if is_due else []

    def take(self) -> list[Entry]:
        """Everything that waited."""
        taken, self._entries = self._entries, []
        self._since = self._clock()
        return taken


def flattened(settings: Mapping[str, object], *, prefix: str = "") -> dict[str, str]:
    """Nested settings as `outer.inner` -> text, for trackers that know only flat parameters."""
    found: dict[str, str] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            found |= flattened(value, prefix=f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = str(value)
    return found
