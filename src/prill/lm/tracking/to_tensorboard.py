"""TensorBoard: event files in `tensorboard/` of the training's folder. Local, nothing else.

Show them with `tensorboard --logdir FOLDER`. After a resumption the steps beyond the checkpoint are purged.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

from prill.lm.tracking.tracker import RunFacts

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

__all__ = ["TensorBoardTracker"]


class TensorBoardTracker:
    """Scalars by step, alerts and settings as text."""

    name = "tensorboard"

    def __init__(self) -> None:
        self._writer: SummaryWriter | None = None
        self._step = 0

    def start(self, facts: RunFacts) -> None:
        """Open an event file of this session."""
        from torch.utils.tensorboard import SummaryWriter

        self._step = facts.resumed_step or 0
        purge = None if facts.resumed_step is None else facts.resumed_step + 1
        self._writer = SummaryWriter(str(facts.folder / "tensorboard"), purge_step=purge)
        if facts.resumed_step is None:
            text = json.dumps(dict(facts.settings), indent=1, sort_keys=True, default=str)
            self._writer.add_text("settings", f"```\n{text}\n```", 0)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """One scalar a number; TensorBoard writes them out every two minutes and at the end."""
        assert self._writer is not None
        self._step = step
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, step)

    def alert(self, text: str) -> None:
        """Text at the last step, at once on the disk."""
        assert self._writer is not None
        self._writer.add_text("alerts", text, self._step)
        self._writer.flush()

    def finish(self) -> None:
        """Close the file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
