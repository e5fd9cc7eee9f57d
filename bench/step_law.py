"""How far the default learning rate and batch are from the best of a grid, on cells (N, D) of the ladder.

    PYTHONPATH=src python bench/step_law.py [--cells pico:128k nano:128k] [--rows 2 4] [--seeds 2]

Each cell trains a grid of rates (factors of the default, stacked as runs with peaks of their own) x rows a
step x seeds, warmed up and decayed to zero exactly as trials are, and scores documents that were held out.
Regret is the default's loss over the lowest in the cell, both as means over the seeds. The lowest of a noisy
grid is a little too low, so the table also shows the seeds' noise: the standard error of the paired
difference between the default and the lowest. The default's own row count is always in the grid. A worker
process of one thread takes a cell; on two busy cores the defaults take about ten minutes.

Text: the folder that PRILL_SHARED_DATA names, if it is set (Parquet files with a column `text`), else the
documentation, sources and licences of this Python installation.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import statistics
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from prill.corpus.tokenizer import load_tokenizer, train_bpe
from prill.demo.machine_text import documents
from prill.lm.backend import keep_freed_memory
from prill.lm.batches import BatchTable
from prill.lm.feed.stream import StreamFeed
from prill.lm.fresh import Fresh
from prill.lm.shape import ladder_shape
from prill.lm.steplaw import advise
from prill.lm.train import EvalSet, Run, TokenStream, TrainSettings, train

LN2 = float(np.log(2.0))
FOLDER = "PRILL_SHARED_DATA"
VOCAB, ROW_TOKENS, EVAL_TOKENS, CORPUS_BYTES = 4096, 256, 24_000, 6_000_000


@dataclass(frozen=True, kw_only=True)
class Cell:
    """Losses of one (size, tokens), bits a byte: (rows, factor) -> one a seed."""

    size: str
    n_tokens: int
    n_params: int
    rows: int
    rate: float
    origin: str
    losses: dict[tuple[int, float], list[float]]
    cpu_s: float

    @property
    def best(self) -> tuple[int, float]:
        """The grid point with the lowest mean."""
        return min(self.losses, key=lambda point: statistics.fmean(self.losses[point]))

    def regret(self, point: tuple[int, float]) -> tuple[float, float]:
        """Bits a byte over the best, and the standard error of that paired difference."""
        gaps = [a - b for a, b in zip(self.losses[point], self.losses[self.best], strict=True)]
        error = statistics.stdev(gaps) / len(gaps) ** 0.5 if len(gaps) > 1 else float("nan")
        return statistics.fmean(gaps), error


def main() -> None:
    """Train the grids and print two tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--cells", nargs="+", default=["tiny:128k", "nano:128k", "pico:128k"])
    parser.add_argument("--rows", nargs="+", type=int, default=[2, 4])
    parser.add_argument("--factors", nargs="+", type=float, default=[0.5, 1.0, 2.0])
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    started = time.perf_counter()
    with ProcessPoolExecutor(options.workers, mp_context=get_context("spawn")) as workers:
        found = list(workers.map(measured, options.cells, [options] * len(options.cells)))
    cells = sorted(found, key=lambda cell: (cell.n_params, cell.n_tokens))
    text = "shared data" if os.environ.get(FOLDER) else "this machine's"
    print(f"text: {text}, vocabulary {VOCAB}, rows of {ROW_TOKENS}, {options.seeds} seeds\n")
    for cell in cells:
        print_grid(cell, options.factors)
    print_regrets(cells)
    used = sum(cell.cpu_s for cell in cells)
    print(f"\n{time.perf_counter() - started:.0f} s, {used:.0f} CPU s")


def measured(text: str, options: argparse.Namespace) -> Cell:
    """One cell's grid."""
    import torch

    keep_freed_memory()
    torch.set_num_threads(1)
    stream, evals = corpus()
    size, _, written = text.partition(":")
    n_tokens = int(float(written.rstrip("kM")) * {"k": 1e3, "M": 1e6}[written[-1]])
    shape = ladder_shape(size, vocab_size=VOCAB, seq_len=ROW_TOKENS)
    advice = advise(shape.n_params, n_tokens, ROW_TOKENS)
    losses: dict[tuple[int, float], list[float]] = {}
    used = time.process_time()
    for rows in sorted({*options.rows, advice.n_rows}):
        points = [(factor, seed) for factor in options.factors for seed in range(options.seeds)]
        runs = [
            Run(
                label=f"{factor}/{seed}",
                seed=seed,
                feed=StreamFeed(stream=stream, row_tokens=ROW_TOKENS, seed=seed),
                peak_rate=factor * advice.peak_rate,
            )
            for factor, seed in points
        ]
        settings = TrainSettings(
            start=Fresh(shape=shape),
            branch_tokens=(n_tokens,),
            batches=BatchTable.constant(n_rows=rows, row_tokens=ROW_TOKENS),
        )
        found = train(runs, settings, eval_sets={"held out": evals})
        for (factor, _), result in zip(points, found, strict=True):
            nats = float(result.branches[0].losses["held out"].sum())
            losses.setdefault((rows, factor), []).append(nats / LN2 / float(evals.n_bytes.sum()))
    return Cell(
        size=size,
        n_tokens=n_tokens,
        n_params=shape.n_params,
        rows=advice.n_rows,
        rate=advice.peak_rate,
        origin=advice.origin,
        losses=losses,
        cpu_s=time.process_time() - used,
    )


def print_grid(cell: Cell, factors: Sequence[float]) -> None:
    """Mean bits a byte at every point."""
    print(f"{cell.size}, N {cell.n_params / 1e6:.2f} M, D {cell.n_tokens / 1e6:.3f} M, bits a byte:\n")
    print("| rows \\ rate | " + " | ".join(f"{f * cell.rate:.2e}" for f in factors) + " |")
    print("| --- |" + " ---: |" * len(factors))
    for rows in sorted({rows for rows, _ in cell.losses}):
        means = [statistics.fmean(cell.losses[rows, f]) for f in factors]
        print(f"| {rows} | " + " | ".join(f"{mean:.4f}" for mean in means) + " |")
    print()


def print_regrets(cells: Sequence[Cell]) -> None:
    """The default against each cell's best."""
    print("| cell | default: rate, rows, origin | best: rate, rows | regret, bits a byte | regret, % |")
    print("| --- | --- | --- | ---: | ---: |")
    shares = []
    for cell in cells:
        gap, error = cell.regret((cell.rows, 1.0))
        rows, factor = cell.best
        shares.append(100 * gap / statistics.fmean(cell.losses[cell.best]))
        print(
            f"| {cell.size}, {cell.n_tokens / 1e6:.3f} M | {cell.rate:.2e}, {cell.rows}, {cell.origin} | "
            f"{factor * cell.rate:.2e}, {rows} | {gap:.4f} ± {error:.4f} | {shares[-1]:.2f} |"
        )
    print(f"\nregret of the default: mean {statistics.fmean(shares):.2f} %, max {max(shares):.2f} %")


def corpus() -> tuple[TokenStream, EvalSet]:
    """Training stream and held-out documents, in the order of a hash of the text."""
    folder = os.environ.get(FOLDER)
    found = shared(Path(folder)) if folder else (d.text for d in documents(CORPUS_BYTES // 6))
    texts = sorted(set(found), key=lambda text: hashlib.sha256(text.encode()).digest())
    kept, total = [], 0
    for text in texts:
        kept.append(text)
        total += len(text.encode())
        if total > CORPUS_BYTES:
            break
    tokenizer = load_tokenizer(train_bpe(kept[:1500], VOCAB))
    tokens = tokenizer.encode_batch(kept)
    n_held = int(np.searchsorted(np.cumsum([len(ids) for ids in tokens]), EVAL_TOKENS)) + 1
    held: list[Any] = [(ids, len(text.encode())) for ids, text in zip(tokens[:n_held], kept, strict=False)]
    evals = EvalSet(
        docs=[ids for ids, _ in held if len(ids)],
        n_bytes=np.array([n for ids, n in held if len(ids)]),
        eos=tokenizer.eos_id,
    )
    stream = TokenStream.from_documents(tokens[n_held:], eos=tokenizer.eos_id)
    return stream, evals


def shared(folder: Path) -> Iterator[str]:
    """Texts of the pool's Parquet files."""
    for path in sorted((folder / "corpus").glob("*.parquet")):
        yield from pq.read_table(path, columns=["text"])["text"].to_pylist()


if __name__ == "__main__":
    main()
