"""MLflow: files in `mlruns/` of the training's folder; when online, the server of the user's environment.

Show the files with `mlflow ui --backend-store-uri FOLDER/mlruns`. A resumed training goes on in its run,
found by a tag; numbers of steps that are done again are stored twice, with equal values.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from prill.lm.tracking.backlog import Backlog, flattened
from prill.lm.tracking.tracker import RunFacts

__all__ = ["MlflowTracker"]

RUN_TAG = "prill.run_id"
MAX_METRICS, MAX_PARAMS, MAX_PARAM_LENGTH = 1000, 100, 500  # the limits of one request
_ODD = re.compile(r"[^\w\-. /]")


class MlflowTracker:
    """Metrics, settings as parameters, and the last alert as a tag."""

    name = "mlflow"

    def __init__(self) -> None:
        self._client: Any = None
        self._run: str | None = None
        self._backlog = Backlog()

    def start(self, facts: RunFacts) -> None:
        """Find or make the run. Offline, the environment's server is not asked."""
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # read at import
        from mlflow import MlflowClient
        from mlflow.entities import Param

        with _allow_files():
            place = None if facts.is_online else (facts.folder / "mlruns").resolve().as_uri()
            self._client = MlflowClient(tracking_uri=place)
            self._run = self._find_run(facts)
        params = [
            Param(_ODD.sub("_", name), value[:MAX_PARAM_LENGTH])
            for name, value in flattened(facts.settings).items()
        ]
        for start in range(0, len(params), MAX_PARAMS):
            self._client.log_batch(self._run, params=params[start : start + MAX_PARAMS])

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Sent every few seconds."""
        self._send(self._backlog.add(step, metrics))

    def alert(self, text: str) -> None:
        """A tag of the run."""
        self._client.set_tag(self._run, "prill.alert", text[:MAX_PARAM_LENGTH])

    def finish(self) -> None:
        """Send what waits and end the run."""
        run, self._run = self._run, None
        if run is not None:
            self._send(self._backlog.take(), run)
            self._client.set_terminated(run)

    def _find_run(self, facts: RunFacts) -> str:
        experiment = self._client.get_experiment_by_name(facts.project)
        number = experiment.experiment_id if experiment else self._client.create_experiment(facts.project)
        if facts.resumed_step is not None:
            found = self._client.search_runs([number], f"tags.`{RUN_TAG}` = '{facts.run_id}'", max_results=1)
            if found:
                run = str(found[0].info.run_id)
                self._client.set_terminated(run, "RUNNING")
                return run
        return str(
            self._client.create_run(number, run_name=facts.name, tags={RUN_TAG: facts.run_id}).info.run_id
        )

    def _send(self, entries: Sequence[tuple[int, dict[str, float]]], run: str | None = None) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [
            Metric(_ODD.sub("_", name), value, now, step)
            for step, numbers in entries
            for name, value in numbers.items()
        ]
        for start in range(0, len(metrics), MAX_METRICS):
            self._client.log_batch(run or self._run, metrics=metrics[start : start + MAX_METRICS])


@contextlib.contextmanager
def _allow_files() -> Iterator[None]:
    """MLflow asks for this word since it prefers databases; files need no further package."""
    name = "MLFLOW_ALLOW_FILE_STORE"
    before = os.environ.get(name)
    os.environ[name] = "true"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
