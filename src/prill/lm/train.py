"""Train K runs of one shape as one stack, with decay branches, evaluation and exact resumption.

    feed = StreamFeed(stream=TokenStream.of(packed), row_tokens=256, seed=0)
    results = train(
        [Run(label="dsir/0", seed=0, feed=feed)],
        TrainSettings(
            start=Fresh(shape=ladder_shape("nano", vocab_size=4096)),
            branch_tokens=(250_000, 500_000),
            batches=BatchTable.constant(4, 256),
        ),
        eval_sets={"target:fiction": EvalSet(docs=docs, n_bytes=n_bytes, eos=0)},
        checkpoint_dir=folder,
    )

The result depends on the runs, the settings, the torch version, the processor and the number of threads,
which the caller fixes; not on clocks, on global random state, or on when the run was killed. A model's curve
in a stack equals the one it has alone to rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from prill.errors import Problem, RecipeError
from prill.lm.backend import require_torch
from prill.lm.data import TokenStream
from prill.lm.feed.check import check_feed
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
from prill.lm.score import EvalSet
from prill.lm.tracking.metrics import Metrics

if TYPE_CHECKING:
    from prill.lm.distributed import World

__all__ = [
    "BranchResult",
    "CurvePoint",
    "EvalSet",
    "EvaluationInfo",
    "Run",
    "RunResult",
    "Segment",
    "StepInfo",
    "TokenStream",
    "TrainSettings",
    "train",
]


def train(
    runs: Sequence[Run],
    settings: TrainSettings,
    *,
    eval_sets: Mapping[str, EvalSet] | None = None,
    checkpoint_dir: Path | None = None,
    models_dir: Path | None = None,
    metrics: Metrics | None = None,
    on_step: Callable[[StepInfo], None] | None = None,
    on_evaluation: Callable[[EvaluationInfo], None] | None = None,
    world: World | None = None,
) -> list[RunResult]:
    """Train every run through the whole plan.

    Args:
        runs: one model each; labels are unique.
        settings: shared by all of them.
        eval_sets: scored under every model at the end of every branch, in full.
        checkpoint_dir: where to keep `training.safetensors`; an interrupted call with the same arguments
            continues from it to the same losses. A damaged file is told to `on_step`; training starts over.
        models_dir: where to keep each evaluated model, in `<label>-<tokens>/`.
        metrics: where metrics and incidents go; None: nowhere.
        on_step: told after every step.
        on_evaluation: told after every evaluation.
        world: the processes that train together (`prill.lm.distributed.joined`); None: this one alone. Only
            the main one writes files and is told.
    Returns:
        One result a run, in order.
    Raises:
        RecipeError: no runs, or two with one label.
        DataError: a stream is shorter than a batch or holds ids beyond the vocabulary; a loss is no longer
            finite (names run, step and, in the metrics, the documents); the checkpoint belongs to other runs
            or settings.
        ResourceError: torch is missing, the disk is full, or the device does not exist.
    """
    _check(runs, settings)
    require_torch()
    from prill.lm._loop import Loop

    return Loop(
        runs,
        settings,
        eval_sets=eval_sets or {},
        checkpoint_dir=checkpoint_dir,
        models_dir=models_dir,
        metrics=metrics,
        on_step=on_step,
        on_evaluation=on_evaluation,
        world=world,
    ).finish()


def _check(runs: Sequence[Run], settings: TrainSettings) -> None:
    labels = [run.label for run in runs]
    twice = sorted({label for label in labels if labels.count(label) > 1})
    if not runs or twice:
        raise RecipeError.of(
            [
                Problem(message=f"run labels must be unique, found {label!r} twice", where="runs")
                for label in twice
            ]
            or [Problem(message="training needs at least one run, found none", where="runs")]
        )
    for run in runs:
        check_feed(
            run.feed,
            batches=settings.batches,
            vocab_size=settings.start.vocab_size,
            where=f"run {run.label!r}",
        )
