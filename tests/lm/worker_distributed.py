"""One process of a distributed training, for `test_lm_distributed`: trains a tiny model and tells its losses.

Arguments: folder, steps to do, and optionally the step at which process 1 ends itself without a word.
"""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from prill.errors import DataError, PrillError
from prill.lm.data import Rows, TokenStream, stack_rows
from prill.lm.distributed import Counted, World, joined
from prill.lm.feed.stream import StreamFeed
from prill.lm.model import StackedLlama
from prill.lm.objectives.objective import At
from prill.lm.optimizer import AdamSettings, StackedAdamW
from prill.lm.shape import Shape
from prill.lm.tensorfile import read_tensors, write_tensors

SHAPE = Shape(vocab_size=40, d_model=16, n_layers=2, n_heads=2, d_ff=24, seq_len=16)
N_ROWS, SAVE_EVERY = 5, 4


def feed(seed: int) -> StreamFeed:
    rng = np.random.default_rng(seed)
    documents = [rng.integers(1, 40, size=int(rng.integers(1, 50))) for _ in range(60)]
    stream = TokenStream.from_documents(documents, eos=0, name=f"stream {seed}")
    return StreamFeed(stream=stream, row_tokens=16, seed=seed)


def rows(feeds: list[StreamFeed], world: World, step: int) -> Rows:
    """This process's rows; weights are far from equal between the rows."""
    first, count = world.part(step * N_ROWS, N_ROWS)
    found = stack_rows([feed.rows(first, count) for feed in feeds])
    keep = (
        np.random.default_rng(step).random((len(feeds), N_ROWS, 16)) < np.linspace(0.1, 1.0, N_ROWS)[:, None]
    )
    mine = slice(first - step * N_ROWS, first - step * N_ROWS + count)
    return dataclasses.replace(found, weights=np.where(keep[:, mine], 1.5, 0.0).astype(np.float32))


def main(folder: Path, n_steps: int, dies_at: int = -1) -> None:
    torch.set_num_threads(1)
    with joined(torch.device("cpu")) as world:
        model = StackedLlama.init(SHAPE, [1, 2])
        moments = [torch.zeros_like(model.flat) for _ in range(2)]
        start, losses, path = 0, [], folder / "state.safetensors"
        if path.exists():
            tensors, meta = read_tensors(path)
            start, losses = meta["step"], meta["losses"]
            for buffer, name in zip((model.flat, *moments), "abc", strict=True):
                buffer.copy_(tensors[name])
        world.agree("the checkpoint", json.dumps([start, losses]))
        adam = StackedAdamW(
            AdamSettings(), n_decayed=model.n_decayed, first=moments[0], second=moments[1], n_steps=start
        )
        feeds = [feed(1), feed(2)]
        for step in range(start, n_steps):
            if step == dies_at and world.rank == 1:
                os.kill(os.getpid(), signal.SIGKILL)
            counted = Counted(None)
            batch = model.pack(rows(feeds, world, step))
            found: Any = model.losses_and_gradient(batch, counted, At(step=step, progress=step / n_steps))
            loss, gradient = world.reduce(*found, counted.counts)
            adam.step(model.flat, gradient, [1e-2, 1e-2])
            losses.append(loss.tolist())
            if world.is_main and (step + 1) % SAVE_EVERY == 0:
                buffers = dict(zip("abc", (model.flat, *moments), strict=True))
                write_tensors(path, buffers, {"step": step + 1, "losses": losses})
        told = {"losses": losses, "weights": float(model.flat.double().sum()), "disagreement": ""}
        try:
            world.agree("the checkpoint", f"seen by {world.rank}")
        except DataError as error:
            told["disagreement"] = str(error).split("\n")[0]
        (folder / f"told-{world.size}-{world.rank}.json").write_text(json.dumps(told))


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
    except PrillError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
