"""Whether the estimate of a training's memory is right: `memory_bytes` against the peak of the process.

    PYTHONPATH=src python bench/step_memory.py [--sizes pico,nano] [--models 1,8] [--rows 4]
        [--precisions fp32,bf16] [--recompute]

Every training is a process of its own: a step of the trunk, which warms up what is loaded on first use, then
weights and moments anew, a step of the trunk, a copy as for a branch, and a step of the branch. What is
measured is the peak of the resident memory over what it was before the weights; in MB, vocabulary 4,096, rows
of the size's length, one thread. Linux only.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import re
from pathlib import Path

import numpy as np

from prill.lm.shape import Shape, ladder_shape, memory_bytes

VOCAB = 4096


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Estimated and measured memory of a training.")
    parser.add_argument("--sizes", default="pico,nano,micro,mini")
    parser.add_argument("--models", default="1,8")
    parser.add_argument("--precisions", default="fp32,bf16")
    parser.add_argument("--rows", type=int, default=4)
    parser.add_argument("--recompute", action="store_true")
    options = parser.parse_args()
    print(
        "| size | K | precision | measured | estimate | estimate / measured |\n|---|---:|---|---:|---:|---:|"
    )
    for size, n_models, precision in itertools.product(
        options.sizes.split(","), options.models.split(","), options.precisions.split(",")
    ):
        shape = ladder_shape(size, vocab_size=VOCAB)
        context = multiprocessing.get_context("spawn")
        receive, send = context.Pipe(duplex=False)
        given = (shape, int(n_models), options.rows, precision, options.recompute, send)
        process = context.Process(target=measure, args=given)
        process.start()
        measured = receive.recv()
        process.join()
        estimate = memory_bytes(
            shape,
            n_models=int(n_models),
            n_rows=options.rows,
            bytes_per_value=2 if precision == "bf16" else 4,
            recompute=options.recompute,
        )
        print(
            f"| {size} | {n_models} | {precision} | {measured / 1e6:.0f} | {estimate / 1e6:.0f} "
            f"| {estimate / measured:.2f} |",
            flush=True,
        )


def measure(
    shape: Shape,
    n_models: int,
    n_rows: int,
    precision: str,
    recompute: bool,  # noqa: FBT001 a process takes no keywords
    send: object,
) -> None:
    """Sends the bytes that a training takes at its peak."""
    import torch

    from prill.lm.data import Rows, positions_of
    from prill.lm.model import StackedLlama
    from prill.lm.optimizer import AdamSettings, StackedAdamW

    torch.set_num_threads(1)
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32

    def train(n_models: int, n_rows: int, *, branches: bool) -> None:
        ids = np.random.default_rng(0).integers(1, VOCAB, size=(n_models, n_rows, shape.seq_len))
        segments = np.zeros_like(ids)
        rows = Rows(inputs=ids, targets=ids, positions=positions_of(segments), segments=segments)
        model = StackedLlama.init(shape, range(n_models), dtype=dtype, checkpoint_blocks=recompute)
        moments = {name: torch.zeros_like(model.flat) for name in ("first", "second")}
        optimizer = StackedAdamW(AdamSettings(), n_decayed=model.n_decayed, **moments)
        kept = []
        for _ in range(1 + branches):
            _, gradient = model.losses_and_gradient(model.pack(rows))
            optimizer.step(model.flat, gradient, [1e-3] * n_models)
            del gradient
            kept.append((model, optimizer))
            if branches:
                model, optimizer = model.copy(), optimizer.copy()

    train(1, 1, branches=False)
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # forget the peak
    train(n_models, n_rows, branches=True)
    send.send(resident("VmHWM") - before)  # type: ignore[attr-defined]


def resident(what: str) -> int:
    """Bytes of a line of /proc/self/status."""
    found = re.search(rf"^{what}:\s*(\d+) kB", Path("/proc/self/status").read_text("ascii"), re.M)
    assert found is not None
    return 1024 * int(found[1])


if __name__ == "__main__":
    main()
