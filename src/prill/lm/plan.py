"""What to train and what comes back: plain values, free of torch.

A plan trains K runs of one kind for the same number of steps. By default the trunk is warmed up and then
constant; for each token count a branch leaves it, decays linearly to zero over the last share of its steps on
the data that follows, and is evaluated. So one run of D tokens yields a properly decayed model at every
listed count. Other schedules (`prill.lm.schedules.spec`) are laid out as courses of the same kind.

Source: WSD, Hu et al. 2024, arXiv:2404.06395, section 4. K runs, D documents of an evaluation set.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from prill.errors import RecipeError
from prill.lm.batches import BatchTable
from prill.lm.feed.feed import Feed
from prill.lm.learner import Start
from prill.lm.objectives.objective import Objective
from prill.lm.schedules.course import Course
from prill.lm.schedules.spec import ScheduleSpec, WsdSpec
from prill.lm.tracking.health import HealthPolicy

__all__ = [
    "BranchResult",
    "CurvePoint",
    "EvaluationInfo",
    "Run",
    "RunResult",
    "Segment",
    "StepInfo",
    "TrainSettings",
]


@dataclass(frozen=True, kw_only=True)
class Run:
    """One model to train.

    Args:
        label: named in errors and results, unique in a call.
        seed: fixes the initial weights.
        feed: training rows, of `batches.longest` tokens each.
        peak_rate: overrides the settings' learning rate for this run.
    """

    label: str
    seed: int
    feed: Feed
    peak_rate: float | None = None


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """Everything about training that all runs of a stack share.

    Args:
        start: the models: fresh proxies, nested sizes, weights on disk.
        branch_tokens: rising token counts at which a model is evaluated; each is rounded down to whole
            steps, so it is never exceeded.
        batches: rows a step and tokens a row, by step.
        schedule: learning rate as a share of the peak, with the branches it makes.
        objective: what is minimised beside or in place of cross-entropy; None: cross-entropy.
        peak_rate: learning rate after warm-up.
        weight_decay, beta1, beta2, eps: AdamW; decay acts on embeddings and matrices.
        clip_norm: largest gradient norm of one model.
        precision: of matrix products: bf16 where the processor gains by it, or as named.
        device: auto, cpu, cuda or cuda:N.
        health: what counts as trouble, and whether it stops the training, masks the model or is only told.
        n_curve_points: points of each training curve.
        checkpoint_s: longest time between checkpoints, seconds; it decides nothing but what is redone.
    Raises:
        RecipeError: a value is out of bounds; rows are longer than the models' context; the schedule
            does not fit the token counts.
    """

    start: Start
    branch_tokens: tuple[int, ...]
    batches: BatchTable
    schedule: ScheduleSpec = field(default_factory=lambda: ScheduleSpec(wsd=WsdSpec()))
    objective: Objective | None = None
    peak_rate: float = 3e-3
    weight_decay: float = 0.1
    beta1: float = 0.9
    beta2: float = 0.95
    eps: float = 1e-8
    clip_norm: float = 1.0
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    device: str = "auto"
    health: HealthPolicy = field(default_factory=HealthPolicy)
    n_curve_points: int = 100
    checkpoint_s: float = 60.0

    def __post_init__(self) -> None:
        if not self.peak_rate > 0:
            raise RecipeError(
                f"training needs a peak rate above 0, found {self.peak_rate}", where="training settings"
            )
        if self.batches.row_tokens > self.start.context:
            raise RecipeError(
                f"rows must fit the models' context of {self.start.context} tokens, "
                f"found {self.batches.row_tokens}",
                where="training settings",
            )
        assert self.course.branches

    @functools.cached_property
    def course(self) -> Course:
        """The schedule laid out for the token counts, in steps."""
        return self.schedule.course(self.branch_tokens, steps_for=self.batches.steps_for)

    @property
    def segments(self) -> tuple[Segment, ...]:
        """The order of work: trunk to a branch point, that branch, trunk to the next, ..."""
        found: list[Segment] = []
        at = 0
        for index, branch in enumerate(self.course.branches):
            is_passing = branch.start == branch.stop
            if branch.start > at:
                done = index if is_passing else None
                found.append(Segment(start=at, stop=branch.start, evaluation=done))
            if not is_passing:
                found.append(Segment(branch=index, start=branch.start, stop=branch.stop, evaluation=index))
            at = branch.start
        return tuple(found)

    @property
    def n_steps(self) -> int:
        """Steps of the whole plan, decays included."""
        return sum(segment.stop - segment.start for segment in self.segments)

    @property
    def n_rows(self) -> int:
        """Base rows that the plan reads, decays of earlier branches not counted twice."""
        return self.batches.n_rows(self.course.branches[-1].stop)

    def tokens_done(self, n_steps: int) -> int:
        """Tokens of the first `n_steps` steps of the work, branches included."""
        total = 0
        for segment in self.segments:
            stop = min(segment.stop, segment.start + n_steps)
            total += self.batches.n_tokens(stop) - self.batches.n_tokens(segment.start)
            n_steps -= stop - segment.start
            if n_steps <= 0:
                break
        return total

    @property
    def n_tokens(self) -> int:
        """Tokens of the whole plan of one model, decays included."""
        return self.tokens_done(self.n_steps)

    @property
    def flops(self) -> int:
        """Floating-point operations of training one model through the whole plan."""
        return self.n_tokens * self.start.flops_per_token

    def as_record(self) -> dict[str, Any]:
        """The settings that decide the result, for fingerprints and checkpoints."""
        plain = ("start", "batches", "schedule", "health", "objective", "checkpoint_s")
        record = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in plain}
        record["branch_tokens"] = list(self.branch_tokens)
        record["start"] = self.start.as_record()
        record["batches"] = self.batches.as_record()
        record["schedule"] = self.schedule.as_record()
        record["health"] = asdict(self.health)
        record["objective"] = None if self.objective is None else self.objective.as_record()
        return record


@dataclass(frozen=True, kw_only=True)
class Segment:
    """Steps `start`..`stop` of the trunk (`branch` None) or of one branch, then perhaps an evaluation."""

    start: int
    stop: int
    branch: int | None = None
    evaluation: int | None = None


@dataclass(frozen=True, kw_only=True)
class StepInfo:
    """Told after every step.

    Attributes:
        done, n_steps: steps done of the whole plan.
        step: the step on the trunk's or branch's own count, from 0.
        branch: number of the branch, None on the trunk.
        n_tokens: tokens each model has seen on this path.
        losses: each run's loss of the step, nats a token where it is cross-entropy, (K,).
        norms: each run's gradient norm before clipping, (K,).
        share_of_peak: learning rate as a share of the peak.
        resumed_from: steps that a checkpoint saved, in the first call after resuming; else None.
        note: why a checkpoint could not be used, in the first call; else None.
    """

    done: int
    n_steps: int
    step: int
    branch: int | None
    n_tokens: int
    losses: tuple[float, ...]
    norms: tuple[float, ...]
    share_of_peak: float
    resumed_from: int | None = None
    note: str | None = None


@dataclass(frozen=True, kw_only=True)
class EvaluationInfo:
    """Told after every evaluation.

    Attributes:
        n_tokens: tokens each model has seen on this path.
        losses: nats of each document of each evaluation set, (K, D).
        masked: models that broke before it, (K,).
    """

    n_tokens: int
    losses: Mapping[str, NDArray[np.float64]]
    masked: tuple[bool, ...]


@dataclass(frozen=True, kw_only=True)
class CurvePoint:
    """Mean training loss, nats a token, over the steps since the last point of the same path."""

    n_tokens: int
    loss_nats: float
    branch: int | None


@dataclass(frozen=True, kw_only=True)
class BranchResult:
    """A model's evaluation, decayed unless the plan has a schedule of its own.

    Attributes:
        planned_tokens: the token count asked for.
        n_tokens: tokens trained on, whole steps.
        n_epochs: passes over the data, n_tokens / its length.
        losses: nats of each document of each evaluation set, float64, (D,).
        sizes: the same under each smaller model nested in this one, by its name (`d64-l2`).
        is_masked: the model was left out of the stack (`HealthPolicy`); its losses mean nothing.
    """

    planned_tokens: int
    n_tokens: int
    n_epochs: float
    losses: Mapping[str, NDArray[np.float64]]
    sizes: Mapping[str, Mapping[str, NDArray[np.float64]]] = field(default_factory=dict)
    is_masked: bool = False


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """What one run gave.

    Attributes:
        label, seed: of the run.
        precision: what `auto` was resolved to.
        branches: in order of tokens; the last is the final model.
        curve: training loss along trunk and branches.
        stack_size: models trained together; results agree with a run alone to rounding, not bit for bit.
        is_masked: so is at least one of its branches.
    """

    label: str
    seed: int
    precision: str
    stack_size: int
    branches: tuple[BranchResult, ...]
    curve: tuple[CurvePoint, ...] = field(default=())
    is_masked: bool = False
