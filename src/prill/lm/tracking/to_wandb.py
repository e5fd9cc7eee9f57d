"""Weights & Biases: offline files in `wandb/` of the training's folder; online only if the recipe says so.

Send offline files later with `wandb sync FOLDER/wandb/offline-run-*`. Command line, host, code and installed
packages are not collected. After a resumption the run keeps its id; a server ignores steps that it knows.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from prill.lm.tracking.tracker import RunFacts

__all__ = ["WandbTracker"]


class WandbTracker:
    """Metrics, settings and alerts of one run."""

    name = "wandb"

    def __init__(self) -> None:
        self._run: Any = None

    def start(self, facts: RunFacts) -> None:
        """Begin or go on with the run of this id."""
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # read at import
        import wandb

        facts.folder.mkdir(parents=True, exist_ok=True)
        settings = wandb.Settings(
            silent=True,
            console="off",
            disable_git=True,
            disable_code=True,
            disable_job_creation=True,
            x_disable_meta=True,
            x_disable_machine_info=True,
            x_disable_stats=not facts.is_online,
            x_save_requirements=False,
        )
        self._run = wandb.init(
            project=facts.project,
            name=facts.name,
            id=facts.run_id,
            resume="allow" if facts.is_online else None,
            mode="online" if facts.is_online else "offline",
            dir=str(facts.folder),
            config=dict(facts.settings),
            settings=settings,
        )

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Handed to the background process of wandb."""
        self._run.log(dict(metrics), step=step)

    def alert(self, text: str) -> None:
        """An alert of the run."""
        self._run.alert(title="training", text=text)

    def finish(self) -> None:
        """Wait until everything is stored."""
        run, self._run = self._run, None
        if run is not None:
            run.finish()
