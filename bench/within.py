"""What it costs a training to tell a feed the losses of its rows, and to group them.

    PYTHONPATH=src python bench/within.py [--rounds 15]

First table: CPU time of a step of 4 rows of 256 tokens on one thread: plain, with every token's loss noted on
its way through the head, and plain with a forward pass of its own for the losses; in turn in rounds, ratios
are medians over rounds. Second: CPU time of the exact groups of N losses (10 groups).
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch

from prill.lm.data import TokenStream, stack_rows
from prill.lm.feed.loss_groups import loss_groups
from prill.lm.feed.stream import StreamFeed
from prill.lm.model import StackedLlama
from prill.lm.objectives.noted import Noted
from prill.lm.objectives.objective import At
from prill.lm.shape import ladder_shape

N_ROWS, ROW_TOKENS, VOCAB = 4, 256, 4096


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=15)
    n_rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    print("| size | plain, ms | noted / plain | own forward pass / plain |")
    print("|---|---|---|---|")
    for size in ("pico", "nano"):
        took = in_turn(steps(size), n_rounds)
        plain = took["plain"]
        noted, apart = (
            statistics.median(a / b for a, b in zip(took[name], plain, strict=True))
            for name in ("noted", "apart")
        )
        print(f"| {size} | {1e3 * statistics.median(plain):.1f} | {noted:.3f} | {apart:.3f} |")
    print("\n| losses | s |")
    print("|---|---|")
    rng = np.random.default_rng(0)
    loss_groups(rng.random(100), 10)  # compiles
    for n in (1_000, 100_000, 1_000_000):
        losses = rng.gamma(2, 1, n)
        start = time.thread_time()
        loss_groups(losses, 10)
        print(f"| {n:,} | {time.thread_time() - start:.3f} |")


def steps(size: str) -> dict[str, Callable[[], object]]:
    """One step each way."""
    rng = np.random.default_rng(0)
    documents = [rng.integers(1, VOCAB, 400) for _ in range(200)]
    feed = StreamFeed(stream=TokenStream.from_documents(documents, eos=0), row_tokens=ROW_TOKENS, seed=0)
    model = StackedLlama.init(ladder_shape(size, vocab_size=VOCAB, seq_len=ROW_TOKENS), [0])
    batch = model.pack(stack_rows([feed.rows(0, N_ROWS)]))

    def noted() -> object:
        objective = Noted(None)
        model.losses_and_gradient(batch, objective, At(step=0, progress=0.0))
        return objective.row_losses(batch, N_ROWS)

    def apart() -> object:
        model.losses_and_gradient(batch)
        return model.token_losses(batch)

    return {"plain": lambda: model.losses_and_gradient(batch), "noted": noted, "apart": apart}


def in_turn(ways: dict[str, Callable[[], object]], n_rounds: int) -> dict[str, list[float]]:
    """CPU seconds of each way, one after the other in every round, the first round left out."""
    took: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(n_rounds + 1):
        for name, run in ways.items():
            start = time.thread_time()
            run()
            took[name].append(time.thread_time() - start)
    return {name: values[1:] for name, values in took.items()}


if __name__ == "__main__":
    main()
