"""What a training step costs: where its time goes, how near it is to plain products, stacked against one
after the other and against the Trainer of `transformers`; and how to spread trainings over few cores.

    PYTHONPATH=src python bench/step.py [--sizes pico,nano] [--batches 1x64,4x256] [--models 1,8]
        [--threads 1,2] [--precisions bf16] [--rounds 7] [--trainer] [--spread nano] [--seconds 4]

The first table is measured in one process, in turn within each round; a figure is the median over rounds of
CPU time (one thread) or wall time (several), a ratio is that of two medians. Tokens are random in documents
of 50 to 800 tokens: the cost of a step does not depend on the text. Its columns:

    step        milliseconds of one step of K stacked models
    products    share of the step in matrix products, timed where they are called
    compiled    share in the parts that numba compiles (`prill.lm._fused_kernel`)
    of products' rate
                GFLOP/s of the step over GFLOP/s of its own products, the same calls with the same sizes, one
                after the other on plain operands and nothing between them (`torch.mm`, `torch.bmm`): the
                share of the step that could not be taken away while products stay as they are
    of mm's rate
                the same against `torch.mm` on 1024 x 1024 matrices
    stacked     time of the same K models one after the other over that of the stack
    Trainer     with `--trainer`, tokens a second over those of a `LlamaForCausalLM` of the same shape under
                `transformers.Trainer` with its defaults (fp32, fused AdamW, clipping at 1, rows of the same
                length without division into documents)

Attention in rows of more than 256 tokens is one call of torch and counts neither as a product nor as work.

The second table, for the size that `--spread` names (empty: none), gives every arrangement of processes,
threads and stacks the same time in turn, in rounds: tokens a second (wall) and a CPU second, 4 rows of the
size's length a model and step.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from prill.lm import _fused_kernel as kernel
from prill.lm.backend import keep_freed_memory
from prill.lm.data import Rows, TokenStream, batch, stack_rows
from prill.lm.model import StackedLlama
from prill.lm.optimizer import AdamSettings, StackedAdamW
from prill.lm.shape import Shape, ladder_shape

VOCAB = 4096
DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}
Clock = Callable[[], float]


@dataclass(frozen=True, kw_only=True)
class Arrangement:
    """P processes of T threads, each training K models, as one stack or `apart`, one after the other."""

    processes: int = 1
    threads: int = 1
    models: int = 1
    precision: str = "bf16"
    malloc: bool = True
    apart: bool = False

    @property
    def name(self) -> str:
        """For a reader."""
        models = (
            f"{self.models} models {'in turn' if self.apart else 'stacked'}" if self.models > 1 else "1 model"
        )
        told = f"{self.processes} x {self.threads} threads, {models}, {self.precision}"
        return told if self.malloc else told + ", plain malloc"


ARRANGEMENTS = (
    Arrangement(),
    Arrangement(malloc=False),
    Arrangement(precision="fp32"),
    Arrangement(models=8),
    Arrangement(models=8, apart=True),
    Arrangement(threads=2),
    Arrangement(threads=2, models=3),
    Arrangement(threads=2, models=8),
    Arrangement(processes=2),
    Arrangement(processes=2, models=3),
    Arrangement(processes=2, models=3, precision="fp32"),
)


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


class Products(TorchDispatchMode):
    """The matrix products of what runs within: the sizes of each and the seconds of all."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock = clock
        self.sizes: list[tuple[torch.Size, torch.Size]] = []
        self.seconds = 0.0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket not in (torch.ops.aten.mm, torch.ops.aten.bmm):
            return func(*args, **(kwargs or {}))
        self.sizes.append((args[0].shape, args[1].shape))
        started = self.clock()
        found = func(*args, **(kwargs or {}))
        self.seconds += self.clock() - started
        return found

    @property
    def work(self) -> int:
        """Floating-point operations."""
        return sum(2 * left.numel() * right[-1] for left, right in self.sizes)

    def alone(self, dtype: torch.dtype) -> Callable[[], None]:
        """The same products on plain operands."""
        given = {
            pair: tuple(torch.randn(size).to(dtype) for size in pair) for pair in dict.fromkeys(self.sizes)
        }

        def multiply() -> None:
            for pair in self.sizes:
                left, right = given[pair]
                (torch.mm if left.ndim == 2 else torch.bmm)(left, right)

        return multiply


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="What a training step costs.")
    parser.add_argument("--sizes", default="pico,nano")
    parser.add_argument("--batches", default="1x64,4x64,1x256,4x256")
    parser.add_argument("--precisions", default="bf16")
    parser.add_argument("--models", default="1,8")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--trainer", action="store_true")
    parser.add_argument("--spread", default="nano")
    parser.add_argument("--seconds", type=float, default=4.0)
    options = parser.parse_args()
    keep_freed_memory()
    print(f"V = {VOCAB}, {options.rounds} rounds\n")
    print(
        "| size | rows x tokens | precision | threads | K | step, ms | tokens/s | products | compiled "
        "| of products' rate | of mm's rate | stacked | Trainer |\n|---|---|---|" + "---:|" * 10
    )
    for size, rows, precision, threads, n_models in itertools.product(
        options.sizes.split(","),
        options.batches.split(","),
        options.precisions.split(","),
        [int(n) for n in options.threads.split(",")],
        [int(n) for n in options.models.split(",")],
    ):
        n_rows, length = (int(part) for part in rows.split("x"))
        shape = ladder_shape(size, vocab_size=VOCAB, seq_len=length)
        torch.set_num_threads(threads)
        clock = time.process_time if threads == 1 else time.perf_counter
        told = measured(shape, n_rows, DTYPES[precision], n_models, options.rounds, clock)
        against = "-"
        if options.trainer:
            rate = trainer_rate(shape, n_rows, options.rounds, clock)
            against = f"{n_models * n_rows * length / told['step'] / rate:.2f}"
        print(
            f"| {size} | {rows} | {precision} | {threads} | {n_models} | {1e3 * told['step']:.1f} "
            f"| {n_models * n_rows * length / told['step']:,.0f} | {told['products']:.0%} "
            f"| {told['compiled']:.0%} | {told['of products']:.0%} | {told['of mm']:.0%} "
            f"| {told['stacked']:.2f} | {against} |",
            flush=True,
        )
    if options.spread:
        spread(options.spread, options.seconds, max(2, options.rounds // 3))


def measured(
    shape: Shape, n_rows: int, dtype: torch.dtype, n_models: int, n_rounds: int, clock: Clock
) -> dict[str, float]:
    """Seconds of a stacked step, and the ratios of the first table."""
    stream = text()
    together = Trained(shape, list(range(n_models)), dtype)
    apart = [Trained(shape, [k], dtype) for k in range(n_models)] if n_models > 1 else []
    square = torch.randn(1024, 1024).to(dtype)
    spent: dict[str, list[float]] = {}

    def note(name: str, seconds: float) -> None:
        spent.setdefault(name, []).append(seconds)

    for number in range(n_rounds + 1):  # the first is not counted
        rows = batch(stream, np.arange(n_rows) + number * n_rows, seq_len=shape.seq_len)
        step = lambda rows=rows: together.step([rows] * n_models)  # noqa: E731
        note("step", timed(step, clock))
        note("apart", timed(lambda rows=rows: [one.step([rows]) for one in apart], clock))
        with Products(clock) as products:
            step()
        note("products", products.seconds)
        with compiled_parts(clock) as parts:
            step()
        note("compiled", sum(parts))
        note("alone", timed(products.alone(dtype), clock))
        note("square", timed(lambda: [torch.mm(square, square) for _ in range(4)], clock) / 4)
    middle = {name: statistics.median(times[1:]) for name, times in spent.items()}
    whole = middle["step"]
    return {
        "step": whole,
        "products": middle["products"] / whole,
        "compiled": middle["compiled"] / whole,
        "of products": middle["alone"] / whole,
        "of mm": products.work / whole / (2 * 1024**3 / middle["square"]),
        "stacked": middle["apart"] / whole if apart else 1.0,
    }


@contextlib.contextmanager
def compiled_parts(clock: Clock) -> Iterator[list[float]]:
    """Seconds of every call of a compiled kernel within."""
    plain = {name: getattr(kernel, name) for name in kernel.__all__}
    parts: list[float] = []

    def noted(function: Callable[..., None]) -> Callable[..., None]:
        return lambda *given: parts.append(timed(lambda: function(*given), clock))

    try:
        for name, function in plain.items():
            setattr(kernel, name, noted(function))
        yield parts
    finally:
        for name, function in plain.items():
            setattr(kernel, name, function)


def trainer_rate(shape: Shape, n_rows: int, n_steps: int, clock: Clock) -> float:
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


def spread(size: str, seconds: float, n_rounds: int) -> None:
    """The second table."""
    rates: dict[str, list[tuple[float, float]]] = {one.name: [] for one in ARRANGEMENTS}
    for _, one in itertools.product(range(n_rounds), ARRANGEMENTS):
        rates[one.name].append(rate_of(one, size, seconds))
    print(f"\n{size}, 4 rows a model and step, {n_rounds} rounds of {seconds} s\n")
    print("| processes x threads | tokens/s | tokens/CPU s |\n|---|---:|---:|")
    for name, found in rates.items():
        wall, cpu = (statistics.median(values) for values in zip(*found, strict=True))
        print(f"| {name} | {wall:,.0f} | {cpu:,.0f} |")


def rate_of(arrangement: Arrangement, size: str, seconds: float) -> tuple[float, float]:
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
    if arrangement.malloc:
        keep_freed_memory()
    torch.set_num_threads(arrangement.threads)
    shape, stream, n_models = ladder_shape(size, vocab_size=VOCAB), text(), arrangement.models
    groups = [[k] for k in range(n_models)] if arrangement.apart else [list(range(n_models))]
    stacks = [Trained(shape, seeds, DTYPES[arrangement.precision]) for seeds in groups]

    def train(step: int) -> int:
        rows = batch(stream, np.arange(4) + 4 * (step % 16), seq_len=shape.seq_len)
        for seeds, stack in zip(groups, stacks, strict=True):
            stack.step([rows] * len(seeds))
        return n_models * 4 * shape.seq_len

    for step in range(3):
        train(step)
    barrier.wait()
    tokens, step, started, used = 0, 3, time.perf_counter(), time.process_time()
    while time.perf_counter() - started < seconds:
        tokens, step = tokens + train(step), step + 1
    send.send((tokens, time.perf_counter() - started, time.process_time() - used))


def text() -> TokenStream:
    """Documents of random tokens."""
    rng = np.random.default_rng(0)
    docs = [rng.integers(1, VOCAB, size=int(rng.integers(50, 800))) for _ in range(150)]
    return TokenStream.from_documents(docs, eos=0)


def timed(work: Callable[[], Any], clock: Clock) -> float:
    """Seconds it takes."""
    started = clock()
    work()
    return clock() - started


if __name__ == "__main__":
    main()
