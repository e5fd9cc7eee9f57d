"""One stack of a training in a process of its own: from packed files to models, losses and an account."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from prill.corpus.columns import read_columns
from prill.corpus.packed import open_packed
from prill.corpus.writers import write_parquet
from prill.pipeline.telling import Telling
from prill.pipeline.train_feeds import FeedPlan
from prill.run.fingerprint import safe_name

if TYPE_CHECKING:
    from prill.lm.distributed import World
    from prill.lm.plan import RunResult, TrainSettings
    from prill.lm.score import EvalSet
    from prill.lm.tracking.known import TrackerName

__all__ = ["ASKED", "SIZE", "HeldOut", "TrainJob", "metrics_folder", "run_job"]


ASKED = ", with its prefix"
"""Follows the name of a set in the results where its documents stand behind prefixes."""

SIZE = ", size "
"""Stands between the name of a set and that of a nested size that was measured on it."""


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """Documents to measure on: packed tokens, and the bytes of each document.

    Attributes:
        asked: the same documents as a model that learnt from sample transforms is asked; empty: no other way.
    """

    name: str
    tokens: Path
    sizes: Path
    asked: Path


@dataclass(frozen=True, kw_only=True)
class TrainJob:
    """Models that train as one stack.

    Attributes:
        seeds: one model each.
        settings: shared by all.
        feeds: where rows come from.
        held_out: what the models are measured on.
        folder: checkpoints while it trains.
        models: where evaluated models go, `seed-<seed>-<tokens>`.
        metrics: folder of the metrics files.
        trackers: told beside the files.
        name: of the training.
        counter: file that tells the display how far it is (`prill.pipeline.telling`); decides nothing.
        threads: of this process; None leaves them.
    """

    seeds: tuple[int, ...]
    settings: TrainSettings
    feeds: FeedPlan
    held_out: tuple[HeldOut, ...]
    folder: Path
    models: Path
    metrics: Path
    trackers: tuple[TrackerName, ...]
    name: str
    counter: Path
    threads: int | None

    @property
    def label(self) -> str:
        """How errors and the display call the job."""
        return ", ".join(f"seed {seed}" for seed in self.seeds)


def metrics_folder(run: Path, seeds: Sequence[int]) -> Path:
    """Where the metrics of the models with these seeds lie."""
    return run / "metrics" / safe_name("-".join(map(str, seeds)) + " seeds")


def run_job(item: tuple[TrainJob, Path], world: World | None = None) -> None:
    """Train and measure one stack, alone or with other processes; the main one writes losses to the path."""
    import torch

    from prill.lm.backend import keep_freed_memory
    from prill.lm.plan import Run
    from prill.lm.tracking.known import open_trackers
    from prill.lm.tracking.metrics import Metrics
    from prill.lm.train import train

    keep_freed_memory()
    job, path = item
    if job.threads is not None:
        torch.set_num_threads(job.threads)
    evals = {found.name: found for held in job.held_out for found in read_held_out(held)}
    if world is not None and not world.is_main:
        _help(job, evals, world)
        return
    n_bytes = {name: int(found.n_bytes.sum()) for name, found in evals.items() if not name.endswith(ASKED)}
    telling = Telling(job.counter, job.settings, job.seeds, n_bytes)
    results = train(
        [Run(label=f"seed-{seed}", seed=seed, feed=job.feeds.feed(seed)) for seed in job.seeds],
        job.settings,
        eval_sets=evals,
        checkpoint_dir=job.folder,
        models_dir=job.models,
        metrics=Metrics(
            folder=job.metrics, name=job.name, trackers=open_trackers(job.trackers), note=telling.note
        ),
        on_step=telling.step,
        on_evaluation=telling.evaluation,
        world=world,
    )
    write_parquet(path, pa.concat_tables([_rows(result, evals) for result in results]))


def _help(job: TrainJob, evals: Mapping[str, EvalSet], world: World) -> None:
    """Train along with the main process, which alone writes and tells."""
    from prill.lm.plan import Run
    from prill.lm.train import train

    train(
        [Run(label=f"seed-{seed}", seed=seed, feed=job.feeds.feed(seed)) for seed in job.seeds],
        job.settings,
        eval_sets=evals,
        checkpoint_dir=job.folder,
        world=world,
    )


def read_held_out(held: HeldOut) -> Iterator[EvalSet]:
    """The evaluation set in these files, and the same behind prefixes where there are any."""
    from prill.lm.data import TokenStream
    from prill.lm.samples.prefixed import prefixed_like
    from prill.lm.score import EvalSet

    packed = open_packed(held.tokens)
    sizes = read_columns(held.sizes)["n_bytes"].to_numpy()
    starts, ends = packed.doc_starts[:-1], packed.doc_starts[1:] - 1
    kept = np.flatnonzero(ends > starts)
    docs = [np.asarray(packed.tokens[starts[i] : ends[i]]).astype(np.int64) for i in kept]
    plain = EvalSet(docs=docs, n_bytes=sizes[kept], eos=int(packed.header["eos"]), name=held.name)
    yield plain
    asked = open_packed(held.asked)
    if asked.n_docs:
        yield replace(prefixed_like(plain, TokenStream.of(asked)), name=f"{held.name}{ASKED}")


def _rows(result: RunResult, evals: Mapping[str, EvalSet]) -> pa.Table:
    """One row an evaluation, set (of every nested size) and document; a model that broke has no losses."""
    parts = []
    for branch in result.branches:
        found = [(name, name, losses) for name, losses in branch.losses.items()]
        for size, by_set in branch.sizes.items():
            found += [(f"{name}{SIZE}{size}", name, losses) for name, losses in by_set.items()]
        for shown, name, losses in found:
            n = len(losses)
            parts.append(
                pa.table(
                    {
                        "seed": np.full(n, result.seed, np.int64),
                        "n_tokens": np.full(n, branch.n_tokens, np.int64),
                        "n_epochs": np.full(n, branch.n_epochs),
                        "eval_set": pa.array([shown] * n, pa.string()),
                        "doc": np.arange(n),
                        "loss_nats": np.full(n, np.nan) if branch.is_masked else losses,
                        "n_bytes": evals[name].n_bytes,
                        "n_tokens_doc": evals[name].n_tokens,
                    }
                )
            )
    return pa.concat_tables(parts)
