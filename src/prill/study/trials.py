"""Runs trials: one data plan, one model shape, one seed each, judged on every evaluation set.

A trial is a process of its own with one thread, so its result does not depend on how many run at a time.
Trials of one group train as one stack; which group a trial belongs to is part of the plan, never of the
machine's load. Results are one row a document, so that every later comparison can be paired.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from prill.corpus.columns import read_columns
from prill.corpus.packed import open_packed
from prill.corpus.writers import write_parquet

if TYPE_CHECKING:
    from prill.lm.feed.feed import Feed
    from prill.lm.feed.in_training import InTraining
    from prill.lm.plan import RunResult, StepInfo, TrainSettings
    from prill.lm.score import EvalSet

__all__ = ["TRIALS_VERSION", "EvalFiles", "TrialGroup", "TrialRun", "read_eval_set", "run_group"]

TRIALS_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class EvalFiles:
    """An evaluation set on disk: packed tokens, one document a piece, and who owns each piece."""

    name: str
    tokens: Path
    pieces: Path


@dataclass(frozen=True, kw_only=True)
class TrialRun:
    """One model of a group.

    Attributes:
        arm: the name in results.
        stream: its packed tokens in training order.
        within: what its method does in training; None: rows drawn from the stream.
        rounds: documents of each round of the stream, for a method that draws anew.
    """

    arm: str
    seed: int
    stream: Path
    within: InTraining | None = None
    rounds: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class TrialGroup:
    """Trials that train as one stack.

    Args:
        runs: the models; all share shape, schedule and evaluation sets.
        settings: the shared training settings.
        counter: file that begins with one int64, the training tokens done, for the display; decides nothing.
    """

    runs: tuple[TrialRun, ...]
    settings: TrainSettings
    evals: tuple[EvalFiles, ...]
    checkpoints: Path
    counter: Path

    @property
    def label(self) -> str:
        """How errors and the display call the group."""
        return ", ".join(f"{run.arm}/{run.seed}" for run in self.runs)


def run_group(item: tuple[TrialGroup, Path]) -> None:
    """Train and judge one group; writes its rows of results to the given path."""
    from prill.lm.backend import keep_freed_memory
    from prill.lm.train import Run, train

    keep_freed_memory()
    group, path = item
    settings = group.settings
    feeds = [_feed(run, settings) for run in group.runs]
    counter = np.memmap(group.counter, np.int64, "r+", shape=(1,))

    def count(step: StepInfo) -> None:
        counter[0] = settings.tokens_done(step.done) * len(group.runs)

    evals = {files.name: read_eval_set(files) for files in group.evals}
    results = train(
        [
            Run(label=f"{run.arm}/{run.seed}", seed=run.seed, feed=feed)
            for run, feed in zip(group.runs, feeds, strict=True)
        ],
        settings,
        eval_sets=evals,
        checkpoint_dir=group.checkpoints,
        on_step=count,
    )
    owners = {files.name: _owners(files) for files in group.evals}
    tables = [_rows(run, result, evals, owners) for run, result in zip(group.runs, results, strict=True)]
    write_parquet(path, pa.concat_tables(tables))


def _feed(run: TrialRun, settings: TrainSettings) -> Feed:
    """The rows of one model."""
    from prill.lm.data import TokenStream
    from prill.lm.feed.stream import StreamFeed

    stream = TokenStream.of(open_packed(run.stream), name=f"{run.arm}/{run.seed}")
    row_tokens = settings.batches.row_tokens
    if run.within is None:
        return StreamFeed(stream=stream, row_tokens=row_tokens, seed=run.seed)
    return run.within.feed(
        stream, row_tokens=row_tokens, seed=run.seed, n_rows=settings.n_rows, rounds=run.rounds
    )


def read_eval_set(files: EvalFiles) -> EvalSet:
    """The pieces of an evaluation set as token arrays."""
    from prill.lm.score import EvalSet

    packed = open_packed(files.tokens)
    starts, ends = packed.doc_starts[:-1], packed.doc_starts[1:] - 1
    docs = [
        np.asarray(packed.tokens[start:end]).astype(np.int64) for start, end in zip(starts, ends, strict=True)
    ]
    eos = int(packed.tokens[ends[0]])
    return EvalSet(docs=docs, n_bytes=_owners(files)["n_bytes"].to_numpy(), eos=eos, name=files.name)


def _owners(files: EvalFiles) -> pa.Table:
    return read_columns(files.pieces, ["document", "n_bytes"])


def _rows(
    run: TrialRun, result: RunResult, evals: dict[str, EvalSet], owners: dict[str, pa.Table]
) -> pa.Table:
    """One row a checkpoint, evaluation set and document: its loss summed over its pieces."""
    parts = []
    for branch in result.branches:
        for name, losses in branch.losses.items():
            document = owners[name]["document"].to_numpy()
            known, place = np.unique(document, return_inverse=True)
            n = len(known)
            parts.append(
                pa.table(
                    {
                        "arm": pa.array([run.arm] * n, pa.string()),
                        "seed": np.full(n, run.seed, np.int64),
                        "n_tokens": np.full(n, branch.n_tokens, np.int64),
                        "n_epochs": np.full(n, branch.n_epochs),
                        "eval_set": pa.array([name] * n, pa.string()),
                        "doc": known.astype(np.int64),
                        "loss_nats": np.bincount(place, losses, n),
                        "n_bytes": np.bincount(place, evals[name].n_bytes, n).astype(np.int64),
                        "n_tokens_doc": np.bincount(place, evals[name].n_tokens, n).astype(np.int64),
                    }
                )
            )
    return pa.concat_tables(parts)


def bits_per_byte(table: pa.Table, eval_set: str) -> Sequence[tuple[str, int, int, float]]:
    """(arm, seed, training tokens, bits per byte) of every trial's checkpoint on one evaluation set."""
    import pyarrow.compute as pc

    rows = table.filter(pc.equal(table["eval_set"], eval_set))
    sums = rows.group_by(["arm", "seed", "n_tokens"]).aggregate([("loss_nats", "sum"), ("n_bytes", "sum")])
    keys = zip(sums["arm"].to_pylist(), sums["seed"].to_pylist(), sums["n_tokens"].to_pylist(), strict=True)
    bpb = sums["loss_nats_sum"].to_numpy() / (np.log(2) * sums["n_bytes_sum"].to_numpy())
    return sorted((*key, float(value)) for key, value in zip(keys, bpb, strict=True))
