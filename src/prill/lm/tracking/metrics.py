"""Where the metrics of a training go: what a caller says once, and the loop makes its watch of."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from prill.lm.tracking.observation import Observation
from prill.lm.tracking.tracker import RunFacts, Tracker

if TYPE_CHECKING:
    from prill.lm.plan import Run, TrainSettings

__all__ = ["Metrics"]


def _silent(text: str) -> None:
    return None


@dataclass(frozen=True, kw_only=True)
class Metrics:
    """Where to write, and whom to tell.

    Args:
        folder: of `metrics.jsonl`, `incidents.jsonl` and `timings.jsonl`; None: nothing is written, only
            the health of the models is watched.
        project, name: of the training, for trackers.
        trackers: beside the files.
        note: told what a person should see, one line each.
    """

    folder: Path | None = None
    project: str = "prill"
    name: str = "training"
    trackers: Sequence[Tracker] = ()
    note: Callable[[str], None] = _silent

    def observation(
        self, runs: Sequence[Run], settings: TrainSettings, *, resumed_step: int | None = None
    ) -> Observation:
        """The watch over one training."""
        record = json.dumps([settings.as_record(), [run.label for run in runs]], sort_keys=True)
        facts = RunFacts(
            project=self.project,
            name=self.name,
            run_id=hashlib.sha256(f"{self.name}|{record}".encode()).hexdigest()[:16],
            settings=settings.as_record(),
            folder=self.folder or Path(),
            resumed_step=resumed_step,
        )
        return Observation(
            [run.label for run in runs],
            facts,
            n_steps=settings.n_steps,
            policy=settings.health,
            trackers=self.trackers,
            note=self.note,
            is_main=self.folder is not None,
        )
