"""What to train and what comes back: plain values, free of torch.

A plan trains K runs of one shape for the same number of steps. The trunk is warmed up and then constant; for
each token count a branch leaves it, decays linearly to zero over the last share of its steps on the data
that follows, and is evaluated. So one run of D tokens yields a properly decayed model at every listed count.

Source: WSD, Hu et al. 2024, arXiv:2404.06395, section 4. K runs, D documents of an evaluation set.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from prill.errors import RecipeError
from prill.lm.data import TokenStream
from prill.lm.schedule import Branch, branches
from prill.lm.shape import Shape, flops_per_token

__all__ = ["BranchResult", "CurvePoint", "Run", "RunResult", "Segment", "StepInfo", "TrainSettings"]


@dataclass(frozen=True, kw_only=True)
class Run:
    """One model to train.

    Args:
        label: named in errors and results, unique in a call.
        seed: fixes the initial weights.
        stream: training documents in order.
        peak_rate: overrides the settings' learning rate for this run.
    """

    label: str
    seed: int
    stream: TokenStream
    peak_rate: float | None = None


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """Everything about training that all runs of a stack share.

    Args:
        shape: the model.
        branch_tokens: rising token counts at which a decayed model is evaluated; each is rounded down to
            whole steps, so it is never exceeded.
        n_rows: rows of `shape.seq_len` tokens a step and model.
        shuffle: rows are visited in an order keyed by the run's seed: over the whole `stream` (each epoch
            anew), within each `block` of 1,024 rows, so that the coarse order stays and a plan of one epoch
            visits exactly the stream's first rows, or as they come (`none`).
        peak_rate: learning rate after warm-up.
        warmup_steps: steps of linear warm-up.
        decay_share: share of a branch's steps that decay, linearly to zero.
        weight_decay, beta1, beta2, eps: AdamW; decay acts on embeddings and matrices.
        clip_norm: largest gradient norm of one model.
        precision: of matrix products: bf16 where the processor gains by it, or as named.
        device: auto, cpu, cuda or cuda:N.
        n_curve_points: points of each training curve.
        checkpoint_s: longest time between checkpoints, seconds; it decides nothing but what is redone.
    Raises:
        RecipeError: a value is out of bounds; the warm-up does not fit before the first decay.
    """

    shape: Shape
    branch_tokens: tuple[int, ...]
    n_rows: int = 4
    shuffle: Literal["stream", "block", "none"] = "stream"
    peak_rate: float = 3e-3
    warmup_steps: int = 30
    decay_share: float = 0.2
    weight_decay: float = 0.1
    beta1: float = 0.9
    beta2: float = 0.95
    eps: float = 1e-8
    clip_norm: float = 1.0
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    device: str = "auto"
    n_curve_points: int = 100
    checkpoint_s: float = 60.0

    def __post_init__(self) -> None:
        if (
            self.n_rows < 1
            or not self.peak_rate > 0
            or not 0 < self.decay_share <= 1
            or self.warmup_steps < 0
        ):
            raise RecipeError(
                "training needs n_rows >= 1, peak_rate > 0, 0 < decay_share <= 1 and warmup_steps >= 0, "
                f"found {self.n_rows}, {self.peak_rate}, {self.decay_share} and {self.warmup_steps}",
                where="training settings",
            )
        first = self.branches[0]
        if self.warmup_steps > first.start:
            raise RecipeError(
                f"the warm-up of {self.warmup_steps} steps must end before the first decay begins "
                f"at step {first.start}",
                where="training settings",
                hint=f"train for more than {self.branch_tokens[0]} tokens, or warm up for fewer steps",
            )

    @property
    def tokens_per_step(self) -> int:
        """Tokens of one step of one model."""
        return self.n_rows * self.shape.seq_len

    @property
    def branches(self) -> tuple[Branch, ...]:
        """The decay branches in steps."""
        return branches(
            self.branch_tokens, tokens_per_step=self.tokens_per_step, decay_share=self.decay_share
        )

    @property
    def segments(self) -> tuple[Segment, ...]:
        """The order of work: trunk to a branch point, that branch, trunk to the next, ..."""
        found: list[Segment] = []
        at = 0
        for index, branch in enumerate(self.branches):
            if branch.start > at:
                found.append(Segment(branch=None, start=at, stop=branch.start))
            found.append(Segment(branch=index, start=branch.start, stop=branch.stop))
            at = branch.start
        return tuple(found)

    @property
    def n_steps(self) -> int:
        """Steps of the whole plan, decays included."""
        return sum(segment.stop - segment.start for segment in self.segments)

    @property
    def flops(self) -> int:
        """Floating-point operations of training one model through the whole plan."""
        return self.n_steps * self.tokens_per_step * flops_per_token(self.shape)

    def as_record(self) -> dict[str, Any]:
        """The settings that decide the result, for fingerprints and checkpoints."""
        record = asdict(self)
        del record["checkpoint_s"]
        return record


@dataclass(frozen=True, kw_only=True)
class Segment:
    """Steps `start`..`stop` of the trunk (`branch` None) or of one branch."""

    branch: int | None
    start: int
    stop: int


@dataclass(frozen=True, kw_only=True)
class StepInfo:
    """Told after every step.

    Attributes:
        done, n_steps: steps done of the whole plan.
        step: the step on the trunk's or branch's own count, from 0.
        branch: number of the branch, None on the trunk.
        n_tokens: tokens each model has seen on this path.
        losses: each run's mean loss of the step, nats a token, (K,).
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
    share_of_peak: float
    resumed_from: int | None = None
    note: str | None = None


@dataclass(frozen=True, kw_only=True)
class CurvePoint:
    """Mean training loss, nats a token, over the steps since the last point of the same path."""

    n_tokens: int
    loss_nats: float
    branch: int | None


@dataclass(frozen=True, kw_only=True)
class BranchResult:
    """A decayed model's evaluation.

    Attributes:
        planned_tokens: the token count asked for.
        n_tokens: tokens trained on, whole steps.
        n_epochs: passes over the stream, n_tokens / its length.
        losses: nats of each document of each evaluation set, float64, (D,).
    """

    planned_tokens: int
    n_tokens: int
    n_epochs: float
    losses: Mapping[str, NDArray[np.float64]]


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """What one run gave.

    Attributes:
        label, seed: of the run.
        precision: what `auto` was resolved to.
        branches: in order of tokens; the last is the final model.
        curve: training loss along trunk and branches.
        stack_size: models trained together; results agree with a run alone to rounding, not bit for bit.
    """

    label: str
    seed: int
    precision: str
    stack_size: int
    branches: tuple[BranchResult, ...]
    curve: tuple[CurvePoint, ...] = field(default=())
