"""Trains the trials: which models train together, how far they are, what they say so far.

On a processor every trial is a process of its own with one thread: two such processes train faster than
one with two threads, and stacking gains only a few percent. On a GPU the seeds of an arm train as one stack.
"""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from prill.corpus.columns import read_columns
from prill.pipeline.walk import Walk
from prill.run.progress import StepProgress
from prill.run.step import Step
from prill.study.conclude import REST
from prill.study.trials import TrialGroup, bits_per_byte, run_group

if TYPE_CHECKING:
    from prill.lm.plan import TrainSettings

__all__ = ["GPU_STACK", "counters", "followed", "stack_size", "train_groups"]

GPU_STACK = 16
POLL_S = 0.5


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
        display.advance(sum(totals.values()) - sum(totals[group.label] for group, _ in todo))
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


@contextmanager
def counters(n: int) -> Iterator[list[Path]]:
    """Small files outside the run in which workers tell how far they are; they decide nothing."""
    with tempfile.TemporaryDirectory(prefix="prill-") as folder:
        paths = [Path(folder) / str(number) for number in range(n)]
        for path in paths:
            path.write_bytes(b"\0" * 8)
        yield paths


@contextmanager
def followed(display: StepProgress, paths: Sequence[Path]) -> Iterator[None]:
    """Advance the display as the workers' counters grow."""
    maps = [np.memmap(path, np.int64, "r", shape=(1,)) for path in paths]
    stop = threading.Event()

    def follow() -> None:
        seen = 0
        while not stop.wait(POLL_S):
            now = sum(int(m[0]) for m in maps)
            display.advance(max(0, now - seen))
            seen = max(seen, now)

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
