"""trackio: its own SQLite file in `trackio/` of the training's folder. Local; it never meets the network.

Show it with `TRACKIO_DIR=FOLDER/trackio trackio show`, publish it with `trackio sync`. The storage is written
to directly: `trackio.init` would ask the hub who the user is, print, and start threads.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from prill.lm.tracking.backlog import Backlog
from prill.lm.tracking.tracker import RunFacts

__all__ = ["TrackioTracker"]


class TrackioTracker:
    """Metrics, settings and alerts of one run of a trackio project."""

    name = "trackio"

    def __init__(self) -> None:
        self._storage: Any = None
        self._facts: RunFacts | None = None
        self._backlog = Backlog()
        self._step = 0

    def start(self, facts: RunFacts) -> None:
        """Use `TRACKIO_DIR` if the user has set it. trackio reads it once, when it is first imported."""
        os.environ.setdefault("TRACKIO_DIR", str(facts.folder / "trackio"))
        from trackio.sqlite_storage import SQLiteStorage

        self._storage, self._facts = SQLiteStorage, facts
        self._step = facts.resumed_step or 0

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Stored every few seconds."""
        self._step = step
        self._store(self._backlog.add(step, metrics))

    def alert(self, text: str) -> None:
        """Stored at once, at the last step."""
        facts = self._known()
        self._storage.bulk_alert(
            project=facts.project,
            run=facts.name,
            titles=["training"],
            texts=[text],
            levels=["warn"],
            steps=[self._step],
            run_id=facts.run_id,
        )

    def finish(self) -> None:
        """Store what waits."""
        if self._facts is not None:
            self._store(self._backlog.take())

    def _store(self, entries: Sequence[tuple[int, dict[str, float]]]) -> None:
        if not entries:
            return
        facts = self._known()
        self._storage.bulk_log(
            project=facts.project,
            run=facts.name,
            metrics_list=[metrics for _, metrics in entries],
            steps=[step for step, _ in entries],
            config=dict(facts.settings),
            run_id=facts.run_id,
        )

    def _known(self) -> RunFacts:
        assert self._facts is not None
        return self._facts
