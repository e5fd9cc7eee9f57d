"""The contract of experiment trackers, and a group of them that cannot stop a training.

A tracker is told facts, numbers and alerts; it decides nothing. Trackers of other makers raise whatever
they like (a full disk, a lost network, a changed interface), so a group catches it, tells it once, and goes
on without that tracker.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from prill.errors import PrillError, printable
from prill.run.redact import redact, redact_json

__all__ = ["RunFacts", "Tracker", "Trackers"]

Metrics = Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """What a tracker is told at the start.

    Args:
        project: what the training belongs to.
        name: of this training, readable.
        run_id: the same for a training and its resumption, another for any other training; letters,
            digits and `-`.
        settings: what decides the training. JSON-able; secrets are masked before a tracker sees it.
        folder: where a tracker keeps files of its own.
        resumed_step: last step that is kept of an interrupted training; None: a new one.
        is_online: a tracker may use the network, with the user's own login.
    """

    project: str
    name: str
    run_id: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    folder: Path
    resumed_step: int | None = None
    is_online: bool = False


class Tracker(Protocol):
    """One place that wants to know how a training goes."""

    @property
    def name(self) -> str:
        """Named when it fails."""
        ...

    def start(self, facts: RunFacts) -> None:
        """The training begins or goes on."""
        ...

    def log(self, step: int, metrics: Metrics) -> None:
        """Numbers of one step; steps rise. Clock-dependent ones are among them; any may be non-finite."""
        ...

    def alert(self, text: str) -> None:
        """Something a person should see."""
        ...

    def finish(self) -> None:
        """The training ended; nothing follows."""
        ...


class Trackers:
    """Several trackers as one; one that fails is told once to `note` and left out from then on.

    A missing package is the user's error and is raised by `start`.
    """

    def __init__(self, trackers: Sequence[Tracker], *, note: Callable[[str], None]) -> None:
        self._active = list(trackers)
        self._note = note

    name = "trackers"

    def start(self, facts: RunFacts) -> None:
        """Start each.

        Raises:
            PrillError: a tracker's package is not installed, or the user's settings do not suit it.
        """
        shown = redact_json(dict(facts.settings))
        safe = dataclasses.replace(facts, settings=shown if isinstance(shown, dict) else {})
        self._tell(lambda tracker: tracker.start(safe))

    def log(self, step: int, metrics: Metrics) -> None:
        """Tell each."""
        self._tell(lambda tracker: tracker.log(step, metrics))

    def alert(self, text: str) -> None:
        """Tell each."""
        shown = printable(redact(text), limit=2000)
        self._tell(lambda tracker: tracker.alert(shown))

    def finish(self) -> None:
        """End each; safe to call twice."""
        self._tell(lambda tracker: tracker.finish())
        self._active.clear()

    def _tell(self, message: Callable[[Tracker], None]) -> None:
        for tracker in list(self._active):
            try:
                message(tracker)
            except PrillError:
                raise
            except Exception as error:  # noqa: BLE001 whatever a foreign tracker raises must not end a training
                self._active.remove(tracker)
                reason = printable(redact(f"{type(error).__name__}: {error}"))
                self._note(f"{tracker.name} is told nothing more, training goes on: {reason}")
