"""How to run several small trainings on few cores: stacked or apart, threads or processes, fp32 or bf16.

    PYTHONPATH=src python bench/stacked.py [--seconds 4] [--size nano] [--rounds 2] [--only NAME]

Every arrangement runs for the same time in turn, in rounds, so that ratios within a round are fair on a
machine that others use; the table shows the median over rounds of tokens a second (wall) and tokens a CPU
second. Tokens are drawn from a Zipf law in documents of 50 to 800 tokens: the cost of a step does not depend
on the text.

Arrangements: P processes of T threads each, every process training K models as one stack, in the given
precision; `malloc` sets glibc to keep freed memory (see `prill.lm.backend.keep_freed_memory`).
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

ROWS, VOCAB = 4, 4096


@dataclass(frozen=True, kw_only=True)
class Arrangement:
    """P processes x T threads, K models a process; `apart` trains the K models one after the other."""

    name: str
    processes: int = 1
    threads: int = 1
    models: int = 1
    precision: str = "bf16"
    malloc: bool = True
    apart: bool = False


ARRANGEMENTS = [
    Arrangement(name="K=1, 1 process x 1 thread, plain malloc", malloc=False),
    Arrangement(name="K=1, 1 process x 1 thread"),
    Arrangement(name="K=1, 1 process x 1 thread, fp32", precision="fp32"),
    Arrangement(name="K=3, 1 process x 1 thread", models=3),
    Arrangement(name="K=8 stacked, 1 process x 1 thread", models=8),
    Arrangement(name="K=8 one after the other, 1 process x 1 thread", models=8, apart=True),
    Arrangement(name="K=3, 1 process x 2 threads", models=3, threads=2),
    Arrangement(name="K=8, 1 process x 2 threads", models=8, threads=2),
    Arrangement(name="K=1, 2 processes x 1 thread", processes=2),
    Arrangement(name="K=3, 2 processes x 1 thread", processes=2, models=3),
    Arrangement(name="K=3, 2 processes x 1 thread, plain malloc", processes=2, models=3, malloc=False),
    Arrangement(name="K=3, 2 processes x 1 thread, fp32", processes=2, models=3, precision="fp32"),
]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--size", default="nano")
    parser.add_argument("--only", default="", help="a part of an arrangement's name")
    options = parser.parse_args()
    chosen = [a for a in ARRANGEMENTS if options.only in a.name]
    wall: dict[str, list[float]] = {a.name: [] for a in chosen}
    cpu: dict[str, list[float]] = {a.name: [] for a in chosen}
    for _ in range(options.rounds):
        for arrangement in chosen:
            w, c = measure(arrangement, options.size, options.seconds)
            wall[arrangement.name].append(w)
            cpu[arrangement.name].append(c)
    print(
        f"{options.size}, V={VOCAB}, {ROWS} rows a model and step, "
        f"{options.rounds} rounds of {options.seconds} s"
    )
    print(f"{'':50s} {'tokens/s':>10s} {'tokens/CPU s':>14s}")
    for a in chosen:
        print(
            f"{a.name:50s} {statistics.median(wall[a.name]):10,.0f} {statistics.median(cpu[a.name]):14,.0f}"
        )


def measure(arrangement: Arrangement, size: str, seconds: float) -> tuple[float, float]:
    """Tokens a second and tokens a CPU second of all processes together."""
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(arrangement.processes)
    pipes = [context.Pipe(duplex=False) for _ in range(arrangement.processes)]
    workers = [
        context.Process(target=work, args=(arrangement, size, seconds, barrier, send)) for _, send in pipes
    ]
    for worker in workers:
        worker.start()
    found = [receive.recv() for receive, _ in pipes]
    for worker in workers:
        worker.join()
    tokens = sum(f[0] for f in found)
    return tokens / statistics.mean(f[1] for f in found), tokens / sum(f[2] for f in found)


def work(arrangement: Arrangement, size: str, seconds: float, barrier: Any, send: Any) -> None:
    """One process: warm up, wait for the others, then train for some seconds."""
    from prill.lm.backend import keep_freed_memory

    if arrangement.malloc:
        keep_freed_memory()
    import torch

    torch.set_num_threads(arrangement.threads)
    steps = stepper(arrangement, size)
    for _ in range(3):
        next(steps)
    barrier.wait()
    tokens, started, used = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - started < seconds:
        tokens += next(steps)
    send.send((tokens, time.perf_counter() - started, time.process_time() - used))


def stepper(arrangement: Arrangement, size: str) -> Any:
    """Training steps without end; yields the tokens of each."""
    import torch

    from prill.lm.data import TokenStream, batch, row_order, stack_rows
    from prill.lm.model import StackedLlama
    from prill.lm.optimizer import AdamSettings, StackedAdamW
    from prill.lm.parameters import n_decayed
    from prill.lm.shape import ladder_shape

    shape = ladder_shape(size, vocab_size=VOCAB)
    dtype = torch.bfloat16 if arrangement.precision == "bf16" else torch.float32
    groups = (
        [[k] for k in range(arrangement.models)] if arrangement.apart else [list(range(arrangement.models))]
    )
    rng = np.random.default_rng(0)
    share = 1 / np.arange(1, VOCAB)
    docs = [
        rng.choice(np.arange(1, VOCAB), size=int(rng.integers(50, 800)), p=share / share.sum())
        for _ in range(150)
    ]
    stream = TokenStream.from_documents(docs, eos=0)
    block = stream.n_tokens // shape.seq_len
    stacks = []
    for seeds in groups:
        model = StackedLlama.init(shape, seeds, dtype=dtype)
        moments = {"first": torch.zeros_like(model.flat), "second": torch.zeros_like(model.flat)}
        stacks.append((model, StackedAdamW(AdamSettings(), n_decayed=n_decayed(shape), **moments), seeds))
    step = 0
    while True:
        for model, optimizer, seeds in stacks:
            numbers = [
                row_order(step * ROWS, ROWS, seed=s, block=block, total=(step + 1) * ROWS + block)
                for s in seeds
            ]
            packed = model.pack(stack_rows([batch(stream, n, seq_len=shape.seq_len) for n in numbers]))
            _, gradient = model.losses_and_gradient(packed)
            optimizer.step(model.flat, gradient, [2e-3] * len(seeds))
        step += 1
        yield arrangement.models * ROWS * shape.seq_len


if __name__ == "__main__":
    main()
