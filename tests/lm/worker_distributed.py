"""One process of a distributed training, for `test_lm_distributed`: trains a tiny stack and tells its losses.

Arguments: folder, and optionally the row whose reading kills process 1.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from prill.errors import DataError, PrillError
from prill.lm.batches import BatchTable
from prill.lm.data import Rows, TokenStream
from prill.lm.distributed import World, joined
from prill.lm.feed.feed import Feed
from prill.lm.feed.pruning import SeTa
from prill.lm.feed.stream import StreamFeed
from prill.lm.feed.watched import WatchedFeed
from prill.lm.fresh import Fresh
from prill.lm.plan import Run, TrainSettings
from prill.lm.schedules.span import Span
from prill.lm.schedules.spec import ScheduleSpec, WsdSpec
from prill.lm.score import EvalSet
from prill.lm.shape import Shape
from prill.lm.tracking.metrics import Metrics
from prill.lm.train import train

SHAPE = Shape(vocab_size=40, d_model=16, n_layers=2, n_heads=2, d_ff=24, seq_len=16)
EVALS = EvalSet(docs=[np.arange(1, 30)], n_bytes=np.array([29]), eos=0)
N_ROWS, N_STEPS = 5, 12


@dataclass(frozen=True)
class Deadly:
    """A feed whose reader dies without a word at a row."""

    feed: Feed
    row: int

    @property
    def name(self) -> str:
        return self.feed.name

    @property
    def n_tokens(self) -> int:
        return self.feed.n_tokens

    @property
    def highest_id(self) -> int:
        return self.feed.highest_id

    def rows(self, first: int, count: int) -> Rows:
        if first <= self.row < first + count:
            os.kill(os.getpid(), signal.SIGKILL)
        return self.feed.rows(first, count)

    def documents(self, first: int, count: int) -> list[str]:
        return self.feed.documents(first, count)

    def digest(self) -> str:
        return self.feed.digest()


def feed(seed: int) -> StreamFeed:
    """Documents whose tokens are trained or not, in shares that are far from equal between rows."""
    rng = np.random.default_rng(seed)
    documents = [rng.integers(1, 40, size=int(rng.integers(1, 50))) for _ in range(60)]
    plain = TokenStream.from_documents(documents, eos=0, name=f"stream {seed}")
    share = 0.5 + 0.45 * np.sin(np.arange(plain.n_tokens) / 20)
    weights = np.where(rng.random(plain.n_tokens) < share, 1.5, 0.0).astype(np.float32)
    stream = TokenStream(tokens=plain.tokens, doc_starts=plain.doc_starts, weights=weights, name=plain.name)
    return StreamFeed(stream=stream, row_tokens=16, seed=seed)


def within(seed: int) -> WatchedFeed:
    """A feed that plans its epochs from the losses of all processes; epochs end within steps."""
    planner = SeTa(prune=0.2, n_groups=4)
    n_rows = N_STEPS * N_ROWS
    return WatchedFeed(
        stream=feed(seed).stream, row_tokens=16, seed=seed, planner=planner, n_rows=n_rows, passes=3.3
    )


def main(folder: Path, deadly_row: int = -1) -> None:
    torch.set_num_threads(1)
    settings = TrainSettings(
        start=Fresh(shape=SHAPE),
        batches=BatchTable.constant(N_ROWS, 16),
        branch_tokens=(4 * N_ROWS * 16, N_STEPS * N_ROWS * 16),
        schedule=ScheduleSpec(wsd=WsdSpec(warmup=Span(2, "steps"))),
        precision="fp32",
        device="cpu",
        n_curve_points=N_STEPS,
    )
    with joined(torch.device("cpu")) as world:
        kills = deadly_row >= 0 and world.rank == 1
        runs = [
            Run(label=f"arm/{seed}", seed=seed, feed=Deadly(feed(seed), deadly_row) if kills else feed(seed))
            for seed in (1, 2)
        ]
        runs.append(Run(label="within/3", seed=3, feed=within(3)))
        results = train(
            runs,
            settings,
            eval_sets={"e": EVALS},
            checkpoint_dir=folder,
            models_dir=folder / "models",
            metrics=Metrics(folder=folder),
            world=world,
        )
        told = {
            "curves": [[point.loss_nats for point in result.curve] for result in results],
            "losses": [branch.losses["e"].tolist() for result in results for branch in result.branches],
            "disagreement": disagreement(world),
        }
        (folder / f"told-{world.size}-{world.rank}.json").write_text(json.dumps(told))


def disagreement(world: World) -> str:
    """What a process is told whose checkpoint is not that of the others."""
    try:
        world.agree("the checkpoint", f"seen by {world.rank}")
    except DataError as error:
        return str(error).split("\n")[0]
    return ""


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
    except PrillError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
