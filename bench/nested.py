"""What nested sizes cost and whether their losses rank data: nested against each size trained alone.

    PYTHONPATH=src python bench/nested.py [--size nano] [--tokens 250k] [--arms A B] [--seeds 2]

One stack of nested models, one an arm and seed, and for every size of the grid one stack of plain models on
the same rows in the same order, each at its own default rate. Losses are of held-out documents of all arms
together, bits a byte, means over the seeds. The tax is nested minus alone. The cost is CPU time of the nested
training over that of the full size alone, in one process, one after the other.

Text: the folder that PRILL_SHARED_DATA names, if it is set (arms are sources of its Parquet files), else the
documentation and sources of this Python installation, and the same with one token in ten replaced.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch

from prill.corpus.tokenizer import load_tokenizer, train_bpe
from prill.demo.machine_text import documents
from prill.lm.backend import compute_dtype, keep_freed_memory, resolve_precision
from prill.lm.batches import BatchTable
from prill.lm.data import TokenStream, stack_rows
from prill.lm.feed.stream import StreamFeed
from prill.lm.fresh import Fresh
from prill.lm.learner import Learner, Start
from prill.lm.nested.sizes import Nested, size_name
from prill.lm.nested.tax import NestingTax, losses_by_size
from prill.lm.objectives.objective import At
from prill.lm.optimizer import AdamSettings, StackedAdamW
from prill.lm.schedule import wsd
from prill.lm.score import EvalSet, score_documents
from prill.lm.shape import ladder_shape
from prill.lm.steplaw import advise

VOCAB, ROW_TOKENS, ROWS, ARM_BYTES, HELD_OUT = 4096, 256, 4, 4_000_000, 12


def main() -> None:
    """Train, then print the table and the verdict."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--size", default="nano")
    parser.add_argument("--tokens", default="250k")
    parser.add_argument("--arms", nargs="+", default=["textbook", "encyclopedia"])
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    keep_freed_memory()
    torch.set_num_threads(options.threads)
    n_tokens = int(float(options.tokens.rstrip("kM")) * {"k": 1e3, "M": 1e6}[options.tokens[-1]])
    streams, evals = arms(options.arms)
    shape = ladder_shape(options.size, vocab_size=VOCAB, seq_len=ROW_TOKENS)
    nested = Nested(shape=shape)
    n_seeds = options.seeds
    print(
        f"{options.size}, {n_tokens:,} tokens, arms {', '.join(s.name for s in streams)}, {n_seeds} seeds\n"
    )

    learner, spent = trained(nested, nested.n_params, streams, n_seeds, n_tokens)
    found = {
        name: bits(losses, evals, len(streams)) for name, losses in losses_by_size(learner, evals).items()
    }
    alone, costs = {}, {}
    for size in nested.sizes:
        plain, costs[size_name(size)] = trained(Fresh(shape=size), size.n_params, streams, n_seeds, n_tokens)
        alone[size_name(size)] = bits(score_documents(plain, evals), evals, len(streams))
    report(NestingTax(nested=found, alone=alone), [s.name for s in streams], spent, costs)


def trained(
    start: Start, n_params: int, streams: list[TokenStream], n_seeds: int, n_tokens: int
) -> tuple[Any, float]:
    """The models, one an arm and seed, and the CPU seconds of their steps."""
    table = BatchTable.constant(ROWS, ROW_TOKENS)
    n_steps = table.steps_for(n_tokens)
    feeds = [
        StreamFeed(stream=s, row_tokens=ROW_TOKENS, seed=seed) for s in streams for seed in range(n_seeds)
    ]
    device = torch.device("cpu")
    dtype = compute_dtype(resolve_precision("auto", device))
    learner: Learner = start.learner(
        [seed for _ in streams for seed in range(n_seeds)], n_extra=0, dtype=dtype, device=device
    )
    peak = advise(n_params, n_tokens, ROW_TOKENS).peak_rate
    schedule = wsd(peak=peak, warmup=n_steps // 20, decay_from=n_steps * 4 // 5, total=n_steps)
    moments = [torch.zeros_like(learner.flat) for _ in range(2)]
    adam = StackedAdamW(
        AdamSettings(), n_decayed=learner.n_decayed, first=moments[0], second=moments[1], n_steps=0
    )
    spent = 0.0
    for step in range(n_steps):
        part = table.at(step)
        rows = stack_rows([feed.rows(part.first_row, part.n_rows) for feed in feeds])
        began = time.process_time()
        at = At(step=step, progress=step / n_steps)
        _, gradient = learner.losses_and_gradient(learner.pack(rows), None, at)
        adam.step(learner.flat, gradient, [schedule.rate(step)] * len(feeds))
        spent += time.process_time() - began
    return learner, spent


def bits(losses: np.ndarray[Any, Any], evals: EvalSet, n_arms: int) -> list[float]:
    """Bits a byte of each arm, mean over the seeds."""
    per_model = losses.sum(1) / float(np.log(2)) / float(evals.n_bytes.sum())
    return [float(part.mean()) for part in np.split(per_model, n_arms)]


def report(tax: NestingTax, names: list[str], spent: float, costs: dict[str, float]) -> None:
    """A row a size, then agreement, spread and cost."""
    columns = [f"{name} {kind}" for name in names for kind in ("nested", "alone", "tax")]
    print("| size | " + " | ".join(columns) + " | CPU s alone |")
    print("| --- |" + " ---: |" * (len(columns) + 1))
    for size, taxes in tax.tax.items():
        cells = [
            f"{tax.nested[size][a]:.4f} | {tax.alone[size][a]:.4f} | {taxes[a]:+.4f}"
            for a in range(len(names))
        ]
        print(f"| {size} | " + " | ".join(cells) + f" | {costs[size]:.0f} |")
    same, total = tax.n_agreements
    full, together = next(iter(costs.values())), sum(costs.values())
    print(f"\ndifferences between arms with the same sign: {same} of {total}")
    print(f"mean tax {statistics.fmean(t for taxes in tax.tax.values() for t in taxes):+.4f}, ", end="")
    print(f"largest deviation within a size {tax.spread:.4f} bits a byte")
    print(
        f"CPU time of the nested training: {spent:.0f} s, {spent / full:.2f} x the full size alone, ", end=""
    )
    print(f"{spent / together:.2f} x all sizes alone")


def arms(names: list[str]) -> tuple[list[TokenStream], EvalSet]:
    """A stream an arm, and held-out documents of all arms."""
    folder = os.environ.get("PRILL_SHARED_DATA")
    texts = {name: shared_text(Path(folder), name) for name in names} if folder else {"text": local_text()}
    tokenizer = load_tokenizer(train_bpe((t for ts in texts.values() for t in ts[HELD_OUT:]), VOCAB))
    coded = {name: [np.array(ids) for ids in tokenizer.encode_batch(list(ts))] for name, ts in texts.items()}
    eos = tokenizer.eos_id
    if not folder:
        rng = np.random.default_rng(0)
        coded["noised"] = [
            np.where(rng.random(len(ids)) < 0.1, rng.integers(1, VOCAB, len(ids)), ids)
            for ids in coded["text"]
        ]
    held = [ids for name in texts for ids in coded[name][:HELD_OUT]]
    n_bytes = np.array([len(t.encode()) for ts in texts.values() for t in ts[:HELD_OUT]])
    streams = [
        TokenStream.from_documents(docs[HELD_OUT:], eos=eos, name=name) for name, docs in coded.items()
    ]
    return streams, EvalSet(docs=held, n_bytes=n_bytes, eos=eos)


def shared_text(folder: Path, source: str) -> list[str]:
    """Documents of one source in hashed order, up to `ARM_BYTES`."""
    found = [
        text
        for path in sorted((folder / "corpus").glob(f"{source}-*.parquet"))
        for text in pq.read_table(path, columns=["text"]).column("text").to_pylist()
    ]
    return limited(found)


def local_text() -> list[str]:
    """Texts of this machine."""
    return limited([document.text for document in documents(ARM_BYTES)])


def limited(texts: list[str]) -> list[str]:
    """In hashed order, up to `ARM_BYTES`."""
    ordered = sorted(texts, key=lambda text: hashlib.sha256(text.encode()).digest())
    sizes = np.cumsum([len(text) for text in ordered])
    return ordered[: max(HELD_OUT + 1, int(np.searchsorted(sizes, ARM_BYTES)))]


if __name__ == "__main__":
    main()
