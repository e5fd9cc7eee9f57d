"""Per-document loss of a small random Llama: packed scoring against `transformers`.

    PRILL_SHARED_DATA=... python bench/scoring.py [--threads 1] [--documents 96] [--rounds 3]
    PRILL_SHARED_DATA=... python bench/scoring.py --memory

The model has 4 layers, width 256, 4 heads, feed-forward 688 and a vocabulary of 16,000 from the corpus's own
texts; documents are cut at 1,023 tokens and open with end-of-text. Every round runs every way in turn. The
table holds medians over rounds: tokens a second of CPU time and of wall time, ratios taken within rounds, and
the largest relative difference of a document's loss from the same document alone through `transformers` in
fp32.

`matmul` is the rate of a 1,024 x 1,024 product in the same round; a token needs 2 (N + V d) operations and
its share of the causal half of attention. `--memory` scores the corpus once and ten times over and prints
the peak resident memory of each, in processes of their own.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from torch.nn.functional import cross_entropy, pad
from transformers import LlamaConfig, LlamaForCausalLM

from prill.corpus.tokenizer import load_tokenizer, train_bpe
from prill.lm.bases.base import TransformersBase
from prill.lm.hf import import_llama
from prill.lm.scoring.scorer import TokenScorer, scorer_of
from prill.lm.scoring.stacked import StackedScorer
from prill.lm.scoring.stream import ScoreSettings, score_stream

LONGEST, VOCABULARY, BATCH, WIDTH, LAYERS = 1023, 16_000, 16, 256, 4
Docs = list[torch.Tensor]


@dataclass(frozen=True, kw_only=True)
class Setting:
    """The model's folder, token ids of the documents, and end-of-text."""

    folder: Path
    docs: Docs
    eos: int

    @property
    def n_tokens(self) -> int:
        return sum(len(doc) for doc in self.docs)

    def flops(self) -> float:
        """Multiplications and additions of one pass over all documents."""
        block = 4 * WIDTH**2 + 3 * WIDTH * 688
        linear = 2 * (LAYERS * block + VOCABULARY * WIDTH) * self.n_tokens
        return linear + sum(2 * LAYERS * WIDTH * len(doc) * (len(doc) + 1) for doc in self.docs)


def prepared(place: Path, n_documents: int) -> Setting:
    """Documents spread over the corpus, a tokenizer trained on them and others, a random model."""
    files = sorted((Path(os.environ["PRILL_SHARED_DATA"]) / "corpus").glob("*.parquet"))
    texts = [text for file in files for text in pq.read_table(file, columns=["text"])["text"].to_pylist()]
    spread = texts[:: max(1, len(texts) // 2000)]
    content = train_bpe(spread, VOCABULARY)
    tokenizer = load_tokenizer(content)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        intermediate_size=688,
        num_hidden_layers=LAYERS,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=4096,
        bos_token_id=tokenizer.eos_id,
        eos_token_id=tokenizer.eos_id,
        use_cache=False,
    )
    LlamaForCausalLM(config).save_pretrained(place)
    (place / "tokenizer.json").write_bytes(content)
    some = spread[:: max(1, len(spread) // n_documents)][:n_documents]
    docs = [torch.from_numpy(doc[:LONGEST].astype(np.int64)) for doc in tokenizer.encode_batch(some)]
    return Setting(folder=place, docs=[doc for doc in docs if len(doc)], eos=tokenizer.eos_id)


@torch.inference_mode()
def alone(model: Any, setting: Setting) -> np.ndarray:
    """One document a call, nats."""
    found = []
    for doc in setting.docs:
        logits = model(pad(doc, (1, 0), value=setting.eos)[None, :-1]).logits[0].float()
        found.append(cross_entropy(logits, doc, reduction="sum").item())
    return np.array(found)


@torch.inference_mode()
def padded(model: Any, setting: Setting) -> np.ndarray:
    """Batches of 16 in order of arrival, padded to the longest, nats."""
    found = []
    for start in range(0, len(setting.docs), BATCH):
        part = setting.docs[start : start + BATCH]
        targets = torch.nn.utils.rnn.pad_sequence(part, batch_first=True)
        mask = torch.nn.utils.rnn.pad_sequence([torch.ones_like(doc) for doc in part], batch_first=True)
        inputs = pad(targets, (1, 0), value=setting.eos)[:, :-1]
        logits = model(inputs, attention_mask=mask).logits.float()
        losses = cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none").view_as(mask)
        found += [row[: len(doc)].sum().item() for row, doc in zip(losses, part, strict=True)]
    return np.array(found)


def packed(scorer: TokenScorer, setting: Setting, **layout: Any) -> np.ndarray:
    """Ours, nats."""
    settings = ScoreSettings(prefix=setting.eos, max_len=LONGEST + 1, **layout)
    flushes = score_stream(scorer, (doc.numpy() for doc in setting.docs), settings)
    return np.concatenate([flush.nats()[0] for flush in flushes])


def matmul(dtype: torch.dtype) -> Callable[[], None]:
    """Twenty products of 1,024 x 1,024."""
    matrix = torch.randn(1024, 1024).to(dtype)

    def run() -> None:
        for _ in range(20):
            matrix @ matrix

    return run


def ways(setting: Setting) -> dict[str, Callable[[], Any]]:
    """Everything that is timed, by name."""
    theirs = LlamaForCausalLM.from_pretrained(setting.folder).eval()
    half = LlamaForCausalLM.from_pretrained(setting.folder, dtype=torch.bfloat16).eval()
    ours, ours_half = (
        StackedScorer(import_llama(setting.folder, dtype=dtype)) for dtype in (torch.float32, torch.bfloat16)
    )
    base = TransformersBase(folder=setting.folder)
    on_base = scorer_of(base.learner([0], n_extra=0, dtype=torch.float32, device=torch.device("cpu")))
    return {
        "matmul fp32": matmul(torch.float32),
        "matmul bf16": matmul(torch.bfloat16),
        "transformers padded": lambda: padded(theirs, setting),
        "transformers one a call": lambda: alone(theirs, setting),
        "prill fp32": lambda: packed(ours, setting),
        "prill fp32 with moments": lambda: packed(ours, setting, is_whole=True),
        "prill fp32 on transformers' layers": lambda: packed(on_base, setting),
        "transformers one a call bf16": lambda: alone(half, setting),
        "prill bf16": lambda: packed(ours_half, setting),
    }


def measure(cases: dict[str, Callable[[], Any]], rounds: int) -> dict[str, list[tuple[float, float]]]:
    """(CPU, wall) seconds of every way in every round, after one round that does not count."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in cases}
    for number in range(rounds + 1):
        for name, run in cases.items():
            cpu, wall = time.process_time(), time.perf_counter()
            run()
            if number:
                times[name].append((time.process_time() - cpu, time.perf_counter() - wall))
    return times


def table(
    setting: Setting, times: dict[str, list[tuple[float, float]]], losses: dict[str, np.ndarray]
) -> str:
    """The Markdown table."""
    lines = [
        "| way | tokens / CPU s | tokens / s | x padded | x one a call | of matmul rate | max rel. diff. |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    truth = losses["transformers one a call"]

    def ratio(name: str, other: str) -> float:
        pairs = zip(times[other], times[name], strict=True)
        return statistics.median(theirs[0] / ours[0] for theirs, ours in pairs)

    for name, found in losses.items():
        cpu, wall = (statistics.median(t[i] for t in times[name]) for i in (0, 1))
        kind = "bf16" if "bf16" in name else "fp32"
        share = ratio(name, f"matmul {kind}") * setting.flops() / (20 * 2 * 1024**3)
        worst = float((np.abs(found - truth) / truth).max())
        lines.append(
            f"| {name} | {setting.n_tokens / cpu:,.0f} | {setting.n_tokens / wall:,.0f} "
            f"| {ratio(name, 'transformers padded'):.2f} | {ratio(name, 'transformers one a call'):.2f} "
            f"| {share:.0%} | {worst:.1e} |"
        )
    for kind in ("fp32", "bf16"):
        cpu = statistics.median(t[0] for t in times[f"matmul {kind}"])
        lines.append(f"\nmatmul {kind}: {20 * 2 * 1024**3 / cpu / 1e9:,.0f} GFLOP a CPU second")
    return "\n".join(lines)


def peak_mb(folder: Path, corpus: Path, times: int) -> float:
    """Peak resident memory of scoring the corpus `times` over, in a process of its own."""
    found = subprocess.run(
        [sys.executable, __file__, "--child", str(folder), str(corpus), str(times)],
        check=True,
        capture_output=True,
        text=True,
    )
    return float(found.stdout)


def child(folder: Path, corpus: Path, times: int) -> None:
    """Scores documents as they are read; prints the peak in megabytes."""
    torch.set_num_threads(1)
    tokenizer = load_tokenizer(folder / "tokenizer.json")
    scorer = StackedScorer(import_llama(folder, dtype=torch.bfloat16))

    def documents() -> Any:
        for _ in range(times):
            for batch in pq.ParquetFile(corpus).iter_batches(256, columns=["text"]):
                yield from tokenizer.encode_batch(batch["text"].to_pylist())

    settings = ScoreSettings(prefix=tokenizer.eos_id, max_len=1024, flush_documents=200)
    n_tokens = sum(int(f.n_tokens.sum()) for f in score_stream(scorer, documents(), settings))
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    print(f"{times} x: {n_tokens:,} tokens", file=sys.stderr)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--documents", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.child:
        child(Path(chosen.child[0]), Path(chosen.child[1]), int(chosen.child[2]))
        return
    torch.set_num_threads(chosen.threads)
    with tempfile.TemporaryDirectory() as folder:
        setting = prepared(Path(folder), chosen.documents)
        if chosen.memory:
            corpus = sorted((Path(os.environ["PRILL_SHARED_DATA"]) / "corpus").glob("dialogue-*.parquet"))[0]
            print("| corpus | peak MB |\n| --- | ---: |")
            for times in (1, 10):
                print(f"| {times} x {corpus.name} | {peak_mb(setting.folder, corpus, times):.0f} |")
            return
        cases = ways(setting)
        losses = {name: run() for name, run in cases.items() if not name.startswith("matmul")}
        print(f"{len(setting.docs)} documents, {setting.n_tokens:,} tokens, {chosen.threads} threads\n")
        print(table(setting, measure(cases, chosen.rounds), losses))


if __name__ == "__main__":
    main()
