"""What a training step costs: stacked against one after the other, near the rate of plain products or not,
and against the Trainer of `transformers`.

    PYTHONPATH=src python bench/step.py [--sizes pico,nano,tiny] [--batches 1x64,4x256] [--models 8]
        [--threads 1] [--precisions bf16,fp32] [--rounds 7] [--trainer]

Everything runs in one process with the same threads, in turn within each round; a figure is the median over
rounds of CPU time (one thread) or wall time (several), a ratio is that of two medians. Tokens are random in
documents of 50 to 800 tokens: the cost of a step does not depend on the text.

Columns: milliseconds of one step of K stacked models; the same K models one after the other, as a ratio;
GFLOP/s of the step by `flops_per_token` (a multiply
and an add for every weight, attention's causal half) over GFLOP/s of `torch.mm` on 1024 x 1024 matrices,
measured in the same round; and, with `--trainer`, tokens a second over those of a `LlamaForCausalLM` of the
same shape under `transformers.Trainer` with its defaults (fp32, fused AdamW, clipping at 1, rows of the same
length without division into documents).

The parts between the products are compiled by numba (`prill.lm._fused_kernel`), so torch.compile, which
needs a C++ compiler where it runs, has little left to fuse. It is not offered: compiling the gated unit alone
had not finished after 200 s on the loaded machine below, so its gain is not known.

Measured with torch 2.13 on two shared cores (Xeon with AMX) under a load of 8 to 10, K = 8, one thread, bf16,
4 rounds (tiny 3, micro 2): stacked over in turn, and over the Trainer:

    pico  1x64 1.95, 4x64 1.68, 1x256 1.63, 4x256 1.22;  Trainer 2.8, 2.9, 2.1, 2.3
    nano  1x64 1.56, 4x64 1.42, 1x256 1.39, 4x256 1.14;  Trainer 2.0, 2.3, 2.2, 2.1
    tiny  1x256 1.31, 4x256 1.13;  micro 1x256 1.26
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from prill.lm.backend import keep_freed_memory
from prill.lm.data import Rows, TokenStream, batch, stack_rows
from prill.lm.model import StackedLlama
from prill.lm.optimizer import AdamSettings, StackedAdamW
from prill.lm.shape import Shape, flops_per_token, ladder_shape

VOCAB = 4096
DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}


class Trained:
    """Models and their optimiser."""

    def __init__(self, shape: Shape, seeds: list[int], dtype: torch.dtype) -> None:
        self.model = StackedLlama.init(shape, seeds, dtype=dtype)
        moments = {name: torch.zeros_like(self.model.flat) for name in ("first", "second")}
        self.optimizer = StackedAdamW(AdamSettings(), n_decayed=self.model.n_decayed, **moments)

    def step(self, rows: list[Rows]) -> None:
        """One step on one set of rows a model."""
        packed = self.model.pack(stack_rows(rows))
        _, gradient = self.model.losses_and_gradient(packed)
        self.optimizer.step(self.model.flat, gradient, [1e-3] * len(rows))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="What a training step costs.")
    parser.add_argument("--sizes", default="pico,nano,tiny")
    parser.add_argument("--batches", default="1x64,4x64,1x256,4x256")
    parser.add_argument("--precisions", default="bf16")
    parser.add_argument("--models", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--trainer", action="store_true")
    options = parser.parse_args()
    keep_freed_memory()
    torch.set_num_threads(options.threads)
    clock = time.process_time if options.threads == 1 else time.perf_counter
    print(f"K = {options.models}, V = {VOCAB}, {options.threads} thread(s), {options.rounds} rounds\n")
    print("| size | rows x tokens | precision | step, ms | stacked / in turn | of mm's GFLOP/s | / Trainer |")
    print("|---|---|---|---:|---:|---:|---:|")
    for size, rows, precision in itertools.product(
        options.sizes.split(","), options.batches.split(","), options.precisions.split(",")
    ):
        n_rows, length = (int(part) for part in rows.split("x"))
        shape = ladder_shape(size, vocab_size=VOCAB, seq_len=length)
        found = compared(shape, n_rows, DTYPES[precision], options.models, options.rounds, clock)
        against = "-"
        if options.trainer:
            n_tokens = options.models * n_rows * length
            against = f"{(n_tokens / found[0]) / trainer_rate(shape, n_rows, options.rounds, clock):.2f}"
        print(
            f"| {size} | {rows} | {precision} | {1e3 * found[0]:.1f} | {found[1]:.2f} "
            f"| {found[2]:.0%} | {against} |",
            flush=True,
        )


def compared(
    shape: Shape, n_rows: int, dtype: torch.dtype, n_models: int, n_rounds: int, clock: Callable[[], float]
) -> tuple[float, float, float]:
    """Seconds of a stacked step, how many times longer one after the other, share of the rate of products."""
    stream = text()
    together = Trained(shape, list(range(n_models)), dtype)
    apart = [Trained(shape, [k], dtype) for k in range(n_models)]
    square = torch.randn(1024, 1024).to(dtype)
    spent: dict[str, list[float]] = {"together": [], "apart": [], "product": []}
    for number in range(n_rounds + 1):  # the first is not counted
        rows = batch(stream, np.arange(n_rows) + number * n_rows, seq_len=shape.seq_len)
        spent["together"].append(timed(lambda rows=rows: together.step([rows] * n_models), clock))
        spent["apart"].append(timed(lambda rows=rows: [one.step([rows]) for one in apart], clock))
        spent["product"].append(timed(lambda: [torch.mm(square, square) for _ in range(4)], clock) / 4)
    middle = {name: statistics.median(times[1:]) for name, times in spent.items()}
    work = flops_per_token(shape) * n_models * n_rows * shape.seq_len / middle["together"]
    return middle["together"], middle["apart"] / middle["together"], work / (2 * 1024**3 / middle["product"])


def trainer_rate(shape: Shape, n_rows: int, n_steps: int, clock: Callable[[], float]) -> float:
    """Tokens a second of `transformers.Trainer` with its defaults, by two runs of different length."""
    train_with_trainer(shape, n_rows, 2)  # imports and first calls
    few, many = (timed(lambda n=n: train_with_trainer(shape, n_rows, n), clock) for n in (2, 2 + n_steps))
    return n_steps * n_rows * shape.seq_len / (many - few)


def train_with_trainer(shape: Shape, n_rows: int, n_steps: int) -> None:
    """A Llama of this shape for some steps."""
    import transformers

    transformers.logging.set_verbosity_error()
    model = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=shape.vocab_size,
            hidden_size=shape.d_model,
            intermediate_size=shape.d_ff,
            num_hidden_layers=shape.n_layers,
            num_attention_heads=shape.n_heads,
            max_position_embeddings=shape.seq_len,
            tie_word_embeddings=shape.tied,
        )
    )
    rng = np.random.default_rng(0)
    ids = torch.from_numpy(rng.integers(1, VOCAB, size=(n_steps * n_rows, shape.seq_len)))
    with tempfile.TemporaryDirectory() as folder:
        settings = transformers.TrainingArguments(
            output_dir=folder,
            use_cpu=True,
            max_steps=n_steps,
            per_device_train_batch_size=n_rows,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            logging_strategy="no",
        )
        rows: Any = [{"input_ids": row, "labels": row} for row in ids]
        trainer = transformers.Trainer(model=model, args=settings, train_dataset=rows)
        trainer.remove_callback(transformers.PrinterCallback)
        trainer.train()


def text() -> TokenStream:
    """Documents of random tokens."""
    rng = np.random.default_rng(0)
    docs = [rng.integers(1, VOCAB, size=int(rng.integers(50, 800))) for _ in range(150)]
    return TokenStream.from_documents(docs, eos=0)


def timed(work: Callable[[], Any], clock: Callable[[], float]) -> float:
    """Seconds it takes."""
    started = clock()
    work()
    return clock() - started


if __name__ == "__main__":
    main()
