"""The training loop: steps, branches, checkpoints. Entered through `prill.lm.train.train`.

State is a trunk (weights, moments) and, within a branch, the branch's own copy. Where a run stands is a
segment number and a step, so a checkpoint is those two numbers, the buffers and the results so far, and
going on from it replays exactly the steps that would have followed.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from prill.lm._progress import FeedStates, identity_of, read_progress, write_progress
from prill.lm.backend import compute_dtype, resolve_device, resolve_precision
from prill.lm.batches import shorten
from prill.lm.data import Rows, stack_rows
from prill.lm.distributed import Counted, World
from prill.lm.feed.feed import Feed
from prill.lm.feed.prefetch import Prefetch
from prill.lm.feed.watched import Watchable, Watching
from prill.lm.learner import Learner
from prill.lm.memory import memory_errors
from prill.lm.nested.learner import NestedLearner
from prill.lm.nested.sizes import Nested, size_name
from prill.lm.objectives.noted import Noted
from prill.lm.objectives.objective import At
from prill.lm.optimizer import AdamSettings, StackedAdamW
from prill.lm.packed import Packed
from prill.lm.plan import (
    BranchResult,
    CurvePoint,
    EvaluationInfo,
    Run,
    RunResult,
    Segment,
    StepInfo,
    TrainSettings,
)
from prill.lm.score import EvalSet, score_documents
from prill.lm.tracking.incidents import Suspects, suspects
from prill.lm.tracking.metrics import Metrics
from prill.lm.tracking.observation import StepReport
from prill.run.fingerprint import safe_name

__all__ = ["Loop"]

ROWS_AHEAD = 2
"""Steps whose rows are made while an accelerator computes; a processor would only be kept from computing."""


@dataclass(kw_only=True)
class _Path:
    """One line of training: the trunk, or a branch that continues a copy of it.

    `watches` are what its feeds remember, by run, for those that learn from losses.
    """

    model: Learner
    optimizer: StackedAdamW
    watches: dict[int, Watching]

    def copy(self) -> _Path:
        watches = {k: watch.copy() for k, watch in self.watches.items()}
        return _Path(model=self.model.copy(), optimizer=self.optimizer.copy(), watches=watches)

    def buffers(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        return self.model.flat, self.optimizer.first, self.optimizer.second

    def states(self) -> FeedStates:
        return {k: watch.state() for k, watch in self.watches.items()}


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
        metrics: Metrics | None,
        on_step: Callable[[StepInfo], None] | None,
        on_evaluation: Callable[[EvaluationInfo], None] | None = None,
        world: World | None = None,
    ) -> None:
        self.runs = runs
        self.settings = settings
        self.eval_sets = eval_sets
        self.world = world or World()
        self.models_dir = models_dir if self.world.is_main else None
        self.on_step = on_step if self.world.is_main else None
        self.on_evaluation = on_evaluation if self.world.is_main else None
        for phase in settings.batches.phases:
            self.world.part(0, phase.n_rows)
        self.file = checkpoint_dir / "training.safetensors" if checkpoint_dir else None
        self.device = self.world.device(resolve_device(settings.device))
        self.precision: Literal["fp32", "bf16"] = resolve_precision(settings.precision, self.device)
        self.peaks = [run.peak_rate or settings.peak_rate for run in runs]
        self.identity = identity_of(runs, settings, eval_sets, self.precision) if self.file else {}
        self.progress, self.note = read_progress(self.file, self.identity)
        if not self.world.is_main:
            self.file = metrics = None
        self.world.agree("the checkpoint", f"{self.progress.segment}/{self.progress.step}")
        self.resumed_from = self._done() or None
        self.saved_at = time.monotonic()
        self.watch = (metrics or Metrics()).observation(runs, settings, resumed_step=self.resumed_from)
        self.every = max(1, settings.n_steps // settings.n_curve_points)

    def finish(self) -> list[RunResult]:
        """Run every segment that is left, then hand back all results."""
        segments = self.settings.segments
        if self.progress.segment < len(segments):
            self.watch.start(self.progress.observation)
            trunk = self._path(self.progress.trunk, self.progress.trunk_steps, self.progress.trunk_feeds)
            while self.progress.segment < len(segments):
                self._segment(trunk, segments[self.progress.segment])
            self.watch.finish()
        return [self._result(k, run) for k, run in enumerate(self.runs)]

    def _segment(self, trunk: _Path, segment: Segment) -> None:
        progress = self.progress
        path = trunk
        if segment.branch is not None:
            fresh = progress.branch is None
            path = (
                trunk.copy() if fresh else self._path(progress.branch, progress.step, progress.branch_feeds)
            )
        schedule = self.settings.course.schedule(segment.branch)
        steps = range(max(progress.step, segment.start), segment.stop)
        is_ahead = self.device.type == "cuda" and not path.watches
        made = functools.partial(self._rows, path)
        with Prefetch(made, steps, depth=ROWS_AHEAD if is_ahead else 0) as ahead:
            for step, rows in ahead:
                losses, norms = self._step(path, segment, rows, schedule.rate(step))
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

    def _step(
        self, path: _Path, segment: Segment, rows: Rows, share: float
    ) -> tuple[list[float], list[float]]:
        progress, settings = self.progress, self.settings
        step = progress.step
        at = At(step=step, progress=self._done() / settings.n_steps)
        _, n_rows, row_tokens = rows.inputs.shape
        noted = Noted(settings.objective) if path.watches else None
        counted = Counted(noted or settings.objective) if self.world.size > 1 else None
        with memory_errors(path.model, n_rows=n_rows, row_tokens=row_tokens):
            batch, objective = path.model.pack(rows), counted or noted or settings.objective
            losses, gradient = path.model.losses_and_gradient(batch, objective, at)
        if noted is not None:
            self._tell(path, step, noted, batch)
        if counted is not None:
            losses, gradient = self.world.reduce(losses, gradient, counted.counts)
        norms = torch.linalg.vector_norm(gradient, dim=1)
        progress.step = step + 1
        report = StepReport(
            done=self._done(),
            branch=segment.branch,
            n_tokens=settings.batches.n_tokens(step + 1),
            step_tokens=settings.batches.step_tokens(step) * len(self.runs),
            losses=losses.tolist(),
            norms=norms.tolist(),
            rates=self._rates(share),
        )
        self.watch.step(report, suspects=functools.partial(self._suspects, path, rows, step))
        for k, is_masked in enumerate(self.watch.masked):
            if is_masked:
                gradient[k].zero_()
                norms[k] = 0.0
                if not (math.isfinite(report.losses[k]) and math.isfinite(report.norms[k])):
                    path.model.flat[k].zero_()  # an evaluation of such weights would stop the others
        path.optimizer.step(path.model.flat, gradient, self._rates(share), norms)
        return list(report.losses), list(report.norms)

    def _rates(self, share: float) -> list[float]:
        """Each model's learning rate, 0 for a masked one."""
        masked = self.watch.masked
        return [0.0 if masked[k] else peak * share for k, peak in enumerate(self.peaks)]

    def _suspects(self, path: _Path, rows: Rows, step: int, k: int) -> Suspects:
        """What model k's batch holds, and which of its rows have the highest loss."""
        part = self.settings.batches.at(step)
        first, count = self.world.part(part.first_row, part.n_rows)
        losses = path.model.token_losses(path.model.pack(rows))[k].cpu().numpy()
        return suspects(path.watches.get(k, self.runs[k].feed), first, count, losses)

    def _rows(self, path: _Path, step: int) -> Rows:
        """The rows of all models at a step that this process reads."""
        part = self.settings.batches.at(step)
        first, count = self.world.part(part.first_row, part.n_rows)
        rows = []
        for k, run in enumerate(self.runs):
            feed: Feed | Watching = run.feed
            if k in path.watches:
                feed = path.watches[k]
                feed.reach(part.first_row + part.n_rows)
            rows.append(feed.rows(first, count))
        return stack_rows([shorten(r, part.row_tokens) for r in rows])

    def _tell(self, path: _Path, step: int, noted: Noted, batch: Packed) -> None:
        """Tell every feed that watches what its rows of the step cost, wherever they were read."""
        part = self.settings.batches.at(step)
        first, count = self.world.part(part.first_row, part.n_rows)
        losses = noted.row_losses(batch, count)
        whole = self.world.gathered(losses, first - part.first_row, part.n_rows)
        for k, watch in path.watches.items():
            watch.saw(part.first_row, whole[k])

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
        self.progress.masked[number] = list(self.watch.masked)
        self.progress.losses[number] = {
            prefix + name: score_documents(model, evals)
            for prefix, model in _evaluated(path.model).items()
            for name, evals in sorted(self.eval_sets.items())
        }
        n_tokens = self.settings.batches.n_tokens(segment.stop)
        if self.on_evaluation is not None:
            found, masked = self.progress.losses[number], tuple(self.progress.masked[number])
            self.on_evaluation(EvaluationInfo(n_tokens=n_tokens, losses=found, masked=masked))
        if self.models_dir is not None:
            for k, run in enumerate(self.runs):
                folder = self.models_dir / f"{safe_name(run.label)}-{n_tokens}"
                meta = {
                    "label": run.label,
                    "seed": run.seed,
                    "n_tokens": n_tokens,
                    "precision": self.precision,
                }
                path.model.save(folder, k, meta)

    def _save(self, trunk: _Path, path: _Path) -> None:
        assert self.file is not None
        progress = self.progress
        finished = progress.segment >= len(self.settings.segments)
        progress.trunk = None if finished else trunk.buffers()
        progress.trunk_steps = trunk.optimizer.n_steps
        progress.trunk_feeds = {} if finished else trunk.states()
        progress.branch = None if path is trunk else path.buffers()
        progress.branch_feeds = {} if path is trunk else path.states()
        progress.observation = self.watch.state()
        write_progress(self.file, progress, self.identity)
        progress.trunk = progress.branch = None
        progress.trunk_feeds, progress.branch_feeds = {}, {}
        self.saved_at = time.monotonic()

    def _path(self, buffers: tuple[torch.Tensor, ...] | None, n_steps: int, feeds: FeedStates) -> _Path:
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
        watches = {
            k: run.feed.watch(feeds.get(k))
            for k, run in enumerate(self.runs)
            if isinstance(run.feed, Watchable)
        }
        return _Path(model=model, optimizer=optimizer, watches=watches)

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
            is_masked=any(masked[k] for masked in self.progress.masked.values()),
        )

    def _branch_results(self, k: int, run: Run) -> Iterator[BranchResult]:
        start = self.settings.start
        sizes = [size_name(size) for size in start.sizes[1:]] if isinstance(start, Nested) else []
        for number, branch in enumerate(self.settings.course.branches):
            n_tokens = self.settings.batches.n_tokens(branch.stop)
            found = self.progress.losses[number]
            yield BranchResult(
                planned_tokens=self.settings.branch_tokens[number],
                n_tokens=n_tokens,
                n_epochs=n_tokens / run.feed.n_tokens,
                is_masked=self.progress.masked[number][k],
                losses={name: found[name][k] for name in sorted(self.eval_sets)},
                sizes={
                    size: {name: found[f"{size}/{name}"][k] for name in sorted(self.eval_sets)}
                    for size in sizes
                },
            )


def _evaluated(model: Learner) -> dict[str, Learner]:
    """What is scored, by the prefix of its results: the model, and the sizes nested in it."""
    found: dict[str, Learner] = {"": model}
    if isinstance(model, NestedLearner):
        found |= {f"{size_name(size)}/": model.extract(size) for size in model.nested.sizes[1:]}
    return found
