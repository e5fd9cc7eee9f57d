"""Trains the trials: which models train together, how far they are, what they say so far.

On a processor every trial is a process of its own with one thread: two such processes train faster than
one with two threads, and stacking gains only a few percent. On a GPU the seeds of an arm train as one stack.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from prill.corpus.columns import read_columns
from prill.pipeline.telling import followed
from prill.pipeline.walk import Walk
from prill.run.step import Step
from prill.study.conclude import REST
from prill.study.trials import TrialGroup, bits_per_byte, run_group

if TYPE_CHECKING:
    from prill.lm.plan import TrainSettings

__all__ = ["GPU_STACK", "stack_size", "train_groups"]

GPU_STACK = 16


def stack_size(asked: int | None, settings: TrainSettings) -> int:
    """Models that train as one: what the recipe says, else one on a processor and several on a GPU."""
    return asked or (GPU_STACK if settings.device.startswith("cuda") else 1)


def train_groups(walk: Walk, step: Step, groups: Sequence[TrialGroup], parts: Sequence[Path]) -> None:
    """Train every group whose part is missing; each part is one group's results."""
    todo = [(group, part) for group, part in zip(groups, parts, strict=True) if not step.usable_part(part)]
    totals = {group.label: _tokens(group) for group in groups}
    todo.sort(key=lambda item: -totals[item[0].label])  # the longest first: no worker waits long for the last
    n_models = sum(len(group.runs) for group in groups)
    with walk.progress.step(f"train {n_models} proxies", sum(totals.values()), "tokens") as display:
        display.reused(sum(totals.values()) - sum(totals[group.label] for group, _ in todo))
        finished_rows: list[pa.Table] = []

        def finished(position: int, _: Any) -> None:
            group, part = todo[position]
            step.finish_part(part)
            shutil.rmtree(group.checkpoints, ignore_errors=True)
            finished_rows.append(read_columns(part))
            for sentence in _findings(pa.concat_tables(finished_rows), {files.name for files in group.evals}):
                display.finding(sentence)

        with followed(display, [group.counter for group in groups]):
            walk.engine.map(
                run_group,
                todo,
                kind="processes",
                name="train",
                on_result=finished,
                label=lambda item: item[0].label,
            )
    for group in groups:
        shutil.rmtree(group.checkpoints, ignore_errors=True)


def _tokens(group: TrialGroup) -> int:
    return group.settings.n_tokens * len(group.runs)


def _findings(rows: pa.Table, eval_sets: set[str]) -> Iterator[str]:
    """What the trials finished so far say of these sets, in one line a target."""
    for eval_set in sorted(eval_sets - {REST}):
        found = bits_per_byte(rows, eval_set)
        last = {(arm, seed): n_tokens for arm, seed, n_tokens, _ in found}  # in order of tokens
        final: dict[str, list[float]] = {}
        for arm, seed, n_tokens, value in found:
            if n_tokens == last[arm, seed]:
                final.setdefault(arm.partition(":")[0], []).append(value)
        if len(final) > 1:
            means = ", ".join(
                f"{arm} {np.mean(values):.3f} ({len(values)})" for arm, values in sorted(final.items())
            )
            yield f"{eval_set.partition(':')[2]}: bits per byte so far (trials): {means}"
