"""The trackers that Prill knows by name, each behind its own optional package."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Sequence
from typing import Literal

from prill.errors import ResourceError
from prill.lm.tracking.tracker import Tracker

__all__ = ["TrackerName", "open_trackers"]

TrackerName = Literal["trackio", "wandb", "mlflow", "tensorboard"]

CLASSES: dict[TrackerName, str] = {
    "trackio": "TrackioTracker",
    "wandb": "WandbTracker",
    "mlflow": "MlflowTracker",
    "tensorboard": "TensorBoardTracker",
}


def open_trackers(names: Sequence[TrackerName]) -> list[Tracker]:
    """One tracker a name, not yet started.

    Raises:
        ResourceError: a package is not installed; names the extra.
    """
    return [_open(name) for name in dict.fromkeys(names)]


def _open(name: TrackerName) -> Tracker:
    if importlib.util.find_spec(name) is None:
        raise ResourceError(
            f"the tracker {name} needs the package {name}, found none",
            where="this Python environment",
            hint=f"install it with: pip install 'prill[{name}]'",
        )
    made: Tracker = getattr(importlib.import_module(f"prill.lm.tracking.to_{name}"), CLASSES[name])()
    return made
