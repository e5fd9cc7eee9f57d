"""The one object a training loop tells its steps to.

    watch = Observation(labels, facts, policy=policy, trackers=trackers, note=progress.note)
    watch.start(state_of_the_checkpoint_or_none)
    masked = watch.step(StepReport(...), suspects=lambda k: suspects(feed, first, count, token_losses))
    checkpoint["observation"] = watch.state()
    watch.finish()

It writes `metrics.jsonl` and `incidents.jsonl`, which after any number of kills and resumptions equal those
of an uninterrupted training byte for byte, and `timings.jsonl`, the only one that knows a clock. Of several
processes that train together, all judge and only the main one writes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from prill.errors import DataError, InternalError
from prill.lm.tracking.health import Finding, Health, HealthPolicy
from prill.lm.tracking.incidents import Incident, Suspects
from prill.lm.tracking.pace import TrainingPace
from prill.lm.tracking.records import RecordFile
from prill.lm.tracking.tracker import RunFacts, Tracker, Trackers
from prill.run.events import EventLog
from prill.run.pace import Clock

__all__ = ["INCIDENTS", "METRICS", "TIMINGS", "Observation", "StepReport", "metrics_of"]

METRICS, INCIDENTS, TIMINGS = "metrics.jsonl", "incidents.jsonl", "timings.jsonl"
TIMING_EVERY_S = 1.0
MAX_WARNINGS = 10  # of one session that a person is told; raw text with small batches has many outliers


@dataclass(frozen=True, kw_only=True)
class StepReport:
    """One step of K models.

    Attributes:
        done: steps done of the whole plan, this one included; rises by one.
        branch: number of the decay branch; None on the trunk.
        n_tokens: tokens each model has seen on this path, this step included.
        step_tokens: tokens of this step, all models together: what the pace counts.
        losses: mean loss of each model, nats a token, (K,).
        norms: gradient norm of each model before clipping, (K,).
        rates: learning rate of each model, (K,).
        extra: further numbers by name, clocks excluded.
    """

    done: int
    branch: int | None
    n_tokens: int
    step_tokens: int
    losses: Sequence[float]
    norms: Sequence[float]
    rates: Sequence[float]
    extra: Mapping[str, float] | None = None


def metrics_of(labels: Sequence[str], report: StepReport) -> dict[str, float]:
    """The numbers of a step by name: `loss/<label>`, `gradient_norm/<label>`, `learning_rate/<label>`."""
    found: dict[str, float] = {"tokens": report.n_tokens}
    if report.branch is not None:
        found["branch"] = report.branch
    columns = (("loss", report.losses), ("gradient_norm", report.norms), ("learning_rate", report.rates))
    for name, values in columns:
        found |= {f"{name}/{label}": float(value) for label, value in zip(labels, values, strict=True)}
    return found | dict(report.extra or {})


class Observation:
    """Metrics, health and trackers of one training.

    Args:
        labels: of the models, unique, (K,).
        facts: told to the trackers; the files go to `facts.folder`.
        n_steps: of the whole plan.
        policy: of the health watch.
        trackers: beside the files.
        note: told what a person should see, one line each.
        is_main: this process writes; the others only judge.
        clock: seconds.
    """

    def __init__(
        self,
        labels: Sequence[str],
        facts: RunFacts,
        *,
        n_steps: int,
        policy: HealthPolicy | None = None,
        trackers: Sequence[Tracker] = (),
        note: Callable[[str], None],
        is_main: bool = True,
        clock: Clock | None = None,
    ) -> None:
        self.labels = tuple(labels)
        self.facts = facts
        self.health = Health(len(self.labels), policy)
        self.pace = TrainingPace(n_steps, clock=clock)
        self._trackers = Trackers(trackers if is_main else (), note=note)
        self._note = note
        self._is_main = is_main
        self._metrics: RecordFile | None = None
        self._incidents: RecordFile | None = None
        self._timings: EventLog | None = None
        self._timed_at = -math.inf
        self._n_warnings = 0

    @property
    def masked(self) -> tuple[bool, ...]:
        """Which models are out: their gradient and rate must be 0."""
        return self.health.masked

    def start(self, state: Mapping[str, Any] | None) -> None:
        """Open the files where `state` left them, or empty ones, and start the trackers.

        Raises:
            DataError: a file was changed since the checkpoint.
            PrillError: a tracker cannot be used.
        """
        if state is not None:
            self.health.restore(state["health"])
        if self._is_main:
            folder = self.facts.folder
            self._metrics = RecordFile(folder / METRICS, state["metrics"] if state else None)
            self._incidents = RecordFile(folder / INCIDENTS, state["incidents"] if state else None)
            self._timings = EventLog(folder / TIMINGS)
        self._trackers.start(self.facts)

    def step(self, report: StepReport, *, suspects: Callable[[int], Suspects] | None = None) -> None:
        """Judge and record one step, before the optimiser acts on it; afterwards `masked` holds.

        Args:
            report: the numbers.
            suspects: (model) -> what its batch holds; called only when something is wrong with it.
        Raises:
            DataError: the policy says stop; names run, step and numbers, and the record is written.
        """
        found = self.health.judge(report.done, report.losses, report.norms, branch=report.branch)
        known: dict[int, Suspects] = {}
        for finding in found:
            k = finding.model
            if k not in known:
                is_asked = suspects is not None and finding.kind != "recovery" and self._is_main
                known[k] = suspects(k) if suspects is not None and is_asked else Suspects()
            self._tell(_incident(self.labels, report, finding, known[k]))
        self._log(report)
        for finding in found:
            if finding.action == "stop":
                self.finish()
                raise _stopped(self.labels, report, finding)

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps; JSON-able. Flushes the files first."""
        if not self._is_main:
            return {"health": self.health.state(), "metrics": None, "incidents": None}
        if self._metrics is None or self._incidents is None:
            raise InternalError("an observation must be started before its state is asked for")
        return {
            "health": self.health.state(),
            "metrics": self._metrics.mark(),
            "incidents": self._incidents.mark(),
        }

    def finish(self) -> None:
        """Close everything; safe to call twice."""
        self._trackers.finish()
        for file in (self._metrics, self._incidents, self._timings):
            if file is not None:
                file.close()

    def _log(self, report: StepReport) -> None:
        self.pace.advance(report.done, report.step_tokens, report.losses)
        metrics = metrics_of(self.labels, report)
        if self._metrics is None or self._timings is None:
            return
        self._metrics.append({"step": report.done, **metrics})
        speed = self.pace.as_metrics()
        if self.pace.elapsed_s - self._timed_at >= TIMING_EVERY_S:
            self._timings.emit("step", {"step": report.done, **speed})
            self._timed_at = self.pace.elapsed_s
        self._trackers.log(report.done, metrics | speed)

    def _tell(self, incident: Incident) -> None:
        if self._incidents is None:
            return
        self._incidents.append(incident.as_record())
        if incident.finding.kind == "recovery":
            return
        self._trackers.alert(incident.text)
        if incident.finding.action == "warn":
            self._n_warnings += 1
            if self._n_warnings == MAX_WARNINGS + 1:
                self._note(f"further warnings are told in {self.facts.folder / INCIDENTS} alone")
            if self._n_warnings > MAX_WARNINGS:
                return
        self._note(incident.text)


def _incident(labels: Sequence[str], report: StepReport, finding: Finding, held: Suspects) -> Incident:
    k = finding.model
    return Incident(
        run=labels[k],
        step=report.done,
        branch=report.branch,
        n_tokens=report.n_tokens,
        finding=finding,
        loss=float(report.losses[k]),
        gradient_norm=float(report.norms[k]),
        learning_rate=float(report.rates[k]),
        suspects=held,
    )


def _stopped(labels: Sequence[str], report: StepReport, finding: Finding) -> DataError:
    k = finding.model
    loss, norm = report.losses[k], report.norms[k]
    expected = (
        "loss and gradient must be finite" if finding.kind == "not finite" else "training must be sound"
    )
    found = f"{loss} and norm {norm}" if finding.kind == "not finite" else f"a {finding.kind}, loss {loss}"
    return DataError(
        f"{expected}, found {found} at step {report.done}",
        where=f"run {labels[k]!r}",
        hint=f"{INCIDENTS} names the documents of the batch; lower the learning rate, use precision fp32, "
        "or let the run be masked",
    )
