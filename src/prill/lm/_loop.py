"""The training loop: steps, branches, checkpoints. Entered through `prill.lm.train.train`.

State is a trunk (weights, moments) and, within a branch, the branch's own copy. Where a run stands is a
segment number and a step, so a checkpoint is those two numbers, the buffers and the results so far, and
going on from it replays exactly the steps that would have followed.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from prill.errors import DataError
from prill.lm._progress import identity_of, read_progress, write_progress
from prill.lm.backend import compute_dtype, resolve_device, resolve_precision
from prill.lm.batches import shorten
from prill.lm.data import Rows, stack_rows
from prill.lm.learner import Learner
from prill.lm.objectives.objective import At
from prill.lm.optimizer import AdamSettings, StackedAdamW
from prill.lm.plan import BranchResult, CurvePoint, Run, RunResult, Segment, StepInfo, TrainSettings
from prill.lm.score import EvalSet, score_documents

__all__ = ["Loop"]


@dataclass(kw_only=True)
class _Path:
    """One line of training: the trunk, or a branch that continues a copy of it."""

    model: Learner
    optimizer: StackedAdamW

    def copy(self) -> _Path:
        return _Path(model=self.model.copy(), optimizer=self.optimizer.copy())

    def buffers(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        return self.model.flat, self.optimizer.first, self.optimizer.second


class Loop:
    """A stack of runs on its way through the plan."""

    def __init__(
        self,
        runs: Sequence[Run],
        settings: TrainSettings,
        *,
        eval_sets: Mapping[str, EvalSet],
        checkpoint_dir: Path | None,
        models_dir: Path | None,
        on_step: Callable[[StepInfo], None] | None,
    ) -> None:
        self.runs = runs
        self.settings = settings
        self.eval_sets = eval_sets
        self.models_dir = models_dir
        self.on_step = on_step
        self.file = checkpoint_dir / "training.safetensors" if checkpoint_dir else None
        self.device = resolve_device(settings.device)
        self.precision: Literal["fp32", "bf16"] = resolve_precision(settings.precision, self.device)
        self.peaks = [run.peak_rate or settings.peak_rate for run in runs]
        self.identity = identity_of(runs, settings, eval_sets, self.precision) if self.file else {}
        self.progress, self.note = read_progress(self.file, self.identity)
        self.resumed_from = self._done() or None
        self.saved_at = time.monotonic()
        self.every = max(1, settings.n_steps // settings.n_curve_points)

    def finish(self) -> list[RunResult]:
        """Run every segment that is left, then hand back all results."""
        segments = self.settings.segments
        if self.progress.segment < len(segments):
            trunk = self._path(self.progress.trunk, self.progress.trunk_steps)
            while self.progress.segment < len(segments):
                self._segment(trunk, segments[self.progress.segment])
        return [self._result(k, run) for k, run in enumerate(self.runs)]

    def _segment(self, trunk: _Path, segment: Segment) -> None:
        progress = self.progress
        path = trunk
        if segment.branch is not None:
            path = trunk.copy() if progress.branch is None else self._path(progress.branch, progress.step)
        schedule = self.settings.course.schedule(segment.branch)
        for step in range(max(progress.step, segment.start), segment.stop):
            losses, norms = self._step(path, step, schedule.rate(step))
            progress.step = step + 1
            self._record(losses, norms, segment, schedule.rate(step))
            if self.file and time.monotonic() - self.saved_at >= self.settings.checkpoint_s:
                self._save(trunk, path)
        if segment.evaluation is not None:
            self._evaluate(path, segment)
        progress.segment += 1
        progress.branch = None
        following = self.settings.segments[progress.segment : progress.segment + 1]
        progress.step = following[0].start if following else segment.stop
        if self.file and segment.evaluation is not None:
            self._save(trunk, trunk)

    def _step(self, path: _Path, step: int, share: float) -> tuple[list[float], list[float]]:
        at = At(step=step, progress=self._done() / self.settings.n_steps)
        batch = path.model.pack(self._rows(step))
        losses, gradient = path.model.losses_and_gradient(batch, self.settings.objective, at)
        rates = [0.0 if k in self.progress.dropped else peak * share for k, peak in enumerate(self.peaks)]
        norms = path.optimizer.step(path.model.flat, gradient, rates)
        found, lengths = losses.tolist(), norms.tolist()
        for k, (loss, norm) in enumerate(zip(found, lengths, strict=True)):
            if not (math.isfinite(loss) and math.isfinite(norm)) and k not in self.progress.dropped:
                self._broken(k, step, loss, norm)
        return found, lengths

    def _rows(self, step: int) -> Rows:
        """The rows of all models at a step."""
        part = self.settings.batches.at(step)
        rows = [run.feed.rows(part.first_row, part.n_rows) for run in self.runs]
        return stack_rows([shorten(r, part.row_tokens) for r in rows])

    def _broken(self, k: int, step: int, loss: float, norm: float) -> None:
        """A model whose loss is no longer a number: stop, or go on without it."""
        if self.settings.on_divergence == "drop" and len(self.progress.dropped) + 1 < len(self.runs):
            self.progress.dropped[k] = step
            return
        part = self.settings.batches.at(step)
        documents = self.runs[k].feed.documents(part.first_row, part.n_rows)
        shown = ", ".join(documents[:3]) + (f" and {len(documents) - 3} more" if len(documents) > 3 else "")
        raise DataError(
            f"loss and gradient must be finite, found {loss} and norm {norm} at step {step}, "
            f"which read {shown}",
            where=f"run {self.runs[k].label!r}",
            hint="the run has diverged: lower the learning rate or use precision fp32",
        )

    def _record(self, losses: list[float], norms: list[float], segment: Segment, share: float) -> None:
        progress = self.progress
        progress.pending.append(losses)
        done = self._done()
        n_tokens = self.settings.batches.n_tokens(progress.step)
        if done % self.every == 0 or progress.step == segment.stop:
            means = [math.fsum(column) / len(column) for column in zip(*progress.pending, strict=True)]
            progress.curve.append((n_tokens, -1 if segment.branch is None else segment.branch, means))
            progress.pending.clear()
        if self.on_step is not None:
            self.on_step(
                StepInfo(
                    done=done,
                    n_steps=self.settings.n_steps,
                    step=progress.step - 1,
                    branch=segment.branch,
                    n_tokens=n_tokens,
                    losses=tuple(losses),
                    norms=tuple(norms),
                    share_of_peak=share,
                    resumed_from=self.resumed_from,
                    note=self.note,
                )
            )
        self.resumed_from = self.note = None

    def _evaluate(self, path: _Path, segment: Segment) -> None:
        number = segment.evaluation
        assert number is not None
        self.progress.losses[number] = {
            name: score_documents(path.model, evals) for name, evals in sorted(self.eval_sets.items())
        }
        if self.models_dir is not None:
            n_tokens = self.settings.batches.n_tokens(segment.stop)
            for k, run in enumerate(self.runs):
                meta = {
                    "label": run.label,
                    "seed": run.seed,
                    "n_tokens": n_tokens,
                    "precision": self.precision,
                }
                path.model.save(self.models_dir / f"{k}-{n_tokens}", k, meta)

    def _save(self, trunk: _Path, path: _Path) -> None:
        assert self.file is not None
        progress = self.progress
        finished = progress.segment >= len(self.settings.segments)
        progress.trunk = None if finished else trunk.buffers()
        progress.trunk_steps = trunk.optimizer.n_steps
        progress.branch = None if path is trunk else path.buffers()
        write_progress(self.file, progress, self.identity)
        progress.trunk = progress.branch = None
        self.saved_at = time.monotonic()

    def _path(self, buffers: tuple[torch.Tensor, ...] | None, n_steps: int) -> _Path:
        """Fresh models, or the ones a checkpoint held."""
        start, objective = self.settings.start, self.settings.objective
        model = start.learner(
            [run.seed for run in self.runs],
            n_extra=objective.n_extra(start.width()) if objective else 0,
            dtype=compute_dtype(self.precision),
            device=self.device,
        )
        first, second = torch.zeros_like(model.flat), torch.zeros_like(model.flat)
        for buffer, stored in zip((model.flat, first, second), buffers or (), strict=False):
            buffer.copy_(stored)
        settings = self.settings
        adam = AdamSettings(
            beta1=settings.beta1,
            beta2=settings.beta2,
            eps=settings.eps,
            weight_decay=settings.weight_decay,
            clip_norm=settings.clip_norm,
        )
        optimizer = StackedAdamW(adam, n_decayed=model.n_decayed, first=first, second=second, n_steps=n_steps)
        return _Path(model=model, optimizer=optimizer)

    def _done(self) -> int:
        """Steps done of the whole plan."""
        segments = self.settings.segments
        before = sum(segment.stop - segment.start for segment in segments[: self.progress.segment])
        if self.progress.segment >= len(segments):
            return before
        return before + max(0, self.progress.step - segments[self.progress.segment].start)

    def _result(self, k: int, run: Run) -> RunResult:
        return RunResult(
            label=run.label,
            seed=run.seed,
            precision=self.precision,
            stack_size=len(self.runs),
            branches=tuple(self._branch_results(k, run)),
            curve=tuple(
                CurvePoint(n_tokens=n_tokens, loss_nats=means[k], branch=None if branch < 0 else branch)
                for n_tokens, branch, means in self.progress.curve
            ),
            diverged_at=self.progress.dropped.get(k),
        )

    def _branch_results(self, k: int, run: Run) -> Iterator[BranchResult]:
        for number, branch in enumerate(self.settings.course.branches):
            n_tokens = self.settings.batches.n_tokens(branch.stop)
            yield BranchResult(
                planned_tokens=self.settings.branch_tokens[number],
                n_tokens=n_tokens,
                n_epochs=n_tokens / run.feed.n_tokens,
                losses={name: losses[k] for name, losses in self.progress.losses[number].items()},
            )
