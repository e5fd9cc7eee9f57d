"""Figures of one GPU: stacked proxies, model FLOP utilisation of training, packed scoring.

    PYTHONPATH=src python bench/gpu.py [--peak 989] [--rounds 5] [--graphs]
    PYTHONPATH=src python bench/gpu.py --device cpu --tiny

Run by hand on a machine with a GPU; `--device cpu --tiny` runs the same code on small sizes, and its figures
mean nothing. Everything is in bf16, with random tokens in documents of 50 to 800 tokens.

    stacked     16 `micro` proxies as one stack over the same 16 one after the other, 4 rows of 512 tokens
    training    one `large` model (about 100 M parameters), 16 rows of 1,024 tokens; also with its blocks
                computed again in the backward pass
    scoring     documents packed into rows by a model of 1 B random weights

Seconds are wall time around a synchronised device, medians over rounds, all ways of a part in turn within a
round. Utilisation is the model's operations a second (`flops_per_token`: blocks and head, attention's causal
half of whole rows, nothing twice for what is computed again; for scoring, attention by the lengths of the
documents) over the peak. The peak is what `--peak` says, in TFLOP/s (989 is the H200's dense bf16 rate by its
data sheet; say your own device's), and beside it stands the share of what `torch.mm` reaches here.
GiB is the most that tensors took since the row before.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from prill.lm.cuda_graph import GraphedStack
from prill.lm.data import Rows, TokenStream, batch, stack_rows
from prill.lm.model import StackedLlama
from prill.lm.optimizer import AdamSettings, StackedAdamW
from prill.lm.score import EvalSet, score_documents
from prill.lm.shape import Shape, flops_per_token, ladder_shape

Ways = Mapping[str, Callable[[], Any]]
Row = tuple[str, float, str, float]
"""What, tokens a second, ratio, operations a second."""


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """What is measured: shapes, rows a step, models of the stack, documents, side of a square product."""

    proxy: Shape
    n_models: int
    proxy_rows: int
    trained: Shape
    trained_rows: int
    scored: Shape
    n_documents: int
    square: int


FULL = Sizes(
    proxy=ladder_shape("micro", vocab_size=4096, seq_len=512),
    n_models=16,
    proxy_rows=4,
    trained=ladder_shape("large", vocab_size=32_000, seq_len=1024),
    trained_rows=16,
    scored=Shape(vocab_size=32_000, d_model=2048, n_layers=18, n_heads=16, d_ff=5504, seq_len=2048),
    n_documents=2000,
    square=8192,
)
TINY = Sizes(
    proxy=ladder_shape("pico", vocab_size=512, seq_len=64),
    n_models=2,
    proxy_rows=1,
    trained=ladder_shape("pico", vocab_size=512, seq_len=64),
    trained_rows=2,
    scored=ladder_shape("pico", vocab_size=512, seq_len=1024),
    n_documents=4,
    square=64,
)


class Bench:
    """The device, and how often everything is measured."""

    def __init__(self, device: str, n_rounds: int) -> None:
        self.device = torch.device(device)
        self.n_rounds = n_rounds

    def seconds(self, ways: Ways) -> dict[str, float]:
        """Median wall time of each way; the first round is not counted."""
        found: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(self.n_rounds + 1):
            for name, way in ways.items():
                self.wait()
                started = time.perf_counter()
                way()
                self.wait()
                found[name].append(time.perf_counter() - started)
        return {name: statistics.median(times[1:]) for name, times in found.items()}

    def wait(self) -> None:
        """Until the device has done its work."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def stack(self, shape: Shape, seeds: list[int], *, again: bool = False) -> StackedLlama:
        """Fresh models in bf16."""
        return StackedLlama.init(
            shape, seeds, dtype=torch.bfloat16, device=self.device, checkpoint_blocks=again
        )

    def product_rate(self, side: int) -> float:
        """Operations a second of `torch.mm` in bf16."""
        square = torch.randn(side, side, device=self.device, dtype=torch.bfloat16)
        spent = self.seconds({"mm": lambda: [torch.mm(square, square) for _ in range(8)]})
        return 8 * 2 * side**3 / spent["mm"]


class Training:
    """A stack, its optimiser, and steps on fixed rows."""

    def __init__(self, model: StackedLlama, n_rows: int, *, graphs: bool = False) -> None:
        self.model = model
        self.graphed = GraphedStack(model, is_on=graphs)
        moments = {name: torch.zeros_like(model.flat) for name in ("first", "second")}
        self.optimizer = StackedAdamW(AdamSettings(), n_decayed=model.n_decayed, **moments)
        stream = TokenStream.from_documents(documents(model.shape.vocab_size, 150), eos=0)
        one: Rows = batch(stream, np.arange(n_rows), seq_len=model.shape.seq_len)
        self.rows = stack_rows([one] * model.n_models)

    def step(self) -> None:
        """Rows to the device, loss and gradient, update."""
        _, gradient = self.graphed.losses_and_gradient(self.model.pack(self.rows))
        self.optimizer.step(self.model.flat, gradient, [1e-3] * self.model.n_models)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Figures of one GPU.")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="small sizes, to see that the code runs")
    parser.add_argument("--peak", type=float, default=989.0, help="the device's dense bf16 TFLOP/s")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--graphs", action="store_true", help="also record the stack as a CUDA graph")
    options = parser.parse_args()
    sizes, bench = TINY if options.tiny else FULL, Bench(options.device, options.rounds)
    if options.tiny:
        torch.set_num_threads(1)
    rate, peak = bench.product_rate(sizes.square), options.peak * 1e12
    name = torch.cuda.get_device_name(bench.device) if bench.device.type == "cuda" else "processor"
    print(f"{name}, torch {torch.__version__}, bf16, TFLOP/s: mm {rate / 1e12:.3g}, peak {peak / 1e12:g}\n")
    print(
        "| what | tokens/s | over in turn | of the peak | of torch.mm | GiB |\n|---|---:|---:|---:|---:|---:|"
    )
    for part in (stacked_rows, trained_rows, scored_rows):
        for what, tokens, ratio, work in part(bench, sizes, graphs=options.graphs):
            shares = f"{work / peak:.1%} | {work / rate:.1%}"
            print(f"| {what} | {tokens:,.0f} | {ratio} | {shares} | {memory(bench.device)} |", flush=True)


def stacked_rows(bench: Bench, sizes: Sizes, *, graphs: bool) -> Iterator[Row]:
    """A stack, and the same models in turn."""
    seeds = list(range(sizes.n_models))
    together = Training(bench.stack(sizes.proxy, seeds), sizes.proxy_rows)
    apart = [Training(bench.stack(sizes.proxy, [seed]), sizes.proxy_rows) for seed in seeds]
    ways: dict[str, Callable[[], Any]] = {
        "in turn": lambda: [one.step() for one in apart],
        "stacked": together.step,
    }
    if graphs:
        ways["stacked, recorded"] = Training(
            bench.stack(sizes.proxy, seeds), sizes.proxy_rows, graphs=True
        ).step
    spent = bench.seconds(ways)
    n_tokens = sizes.n_models * sizes.proxy_rows * sizes.proxy.seq_len
    work = flops_per_token(sizes.proxy)
    for name, seconds in spent.items():
        what = f"{sizes.n_models} x {sizes.proxy.n_params / 1e6:.2g} M, {name}"
        yield what, n_tokens / seconds, f"{spent['in turn'] / seconds:.2f}", work * n_tokens / seconds


def trained_rows(bench: Bench, sizes: Sizes, *, graphs: bool) -> Iterator[Row]:
    """One larger model, kept and computed again, each on its own for its memory."""
    n_tokens = sizes.trained_rows * sizes.trained.seq_len
    for told, again in (("kept", False), ("computed again", True)):
        training = Training(bench.stack(sizes.trained, [0], again=again), sizes.trained_rows)
        seconds = bench.seconds({"step": training.step})["step"]
        work = flops_per_token(sizes.trained) * n_tokens / seconds
        what = f"training {sizes.trained.n_params / 1e6:.3g} M, blocks {told}"
        del training
        yield what, n_tokens / seconds, "-", work


def scored_rows(bench: Bench, sizes: Sizes, *, graphs: bool) -> Iterator[Row]:
    """Packed scoring of documents."""
    model = bench.stack(sizes.scored, [0])
    docs = documents(sizes.scored.vocab_size, sizes.n_documents)
    lengths = np.array([len(doc) for doc in docs])
    evals = EvalSet(docs=docs, n_bytes=4 * lengths, eos=0)
    seconds = bench.seconds({"score": lambda: score_documents(model, evals)})["score"]
    linear = flops_per_token(sizes.scored, training=False) - 2 * (
        sizes.scored.n_layers * sizes.scored.seq_len * sizes.scored.d_model
    )
    attention = 2 * sizes.scored.n_layers * sizes.scored.d_model * (lengths * (lengths + 1)).sum()
    work = (linear * lengths.sum() + attention) / seconds
    yield f"scoring with {sizes.scored.n_params / 1e6:.4g} M", lengths.sum() / seconds, "-", work


def documents(vocab_size: int, count: int) -> list[np.ndarray]:
    """Random tokens, 50 to 800 each."""
    rng = np.random.default_rng(0)
    return [rng.integers(1, vocab_size, size=int(rng.integers(50, 801))) for _ in range(count)]


def memory(device: torch.device) -> str:
    """The most memory that tensors took since it was last asked for."""
    if device.type != "cuda":
        return "-"
    found = f"{torch.cuda.max_memory_allocated(device) / 2**30:.1f}"
    torch.cuda.reset_peak_memory_stats(device)
    return found


if __name__ == "__main__":
    main()
