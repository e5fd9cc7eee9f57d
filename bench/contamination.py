"""Decontamination: speed, memory, recall and false hits by length, what a corpus holds; datatrove beside.

    python bench/contamination.py --corpus shared [--tasks DIR] [--rounds 3] [--every 8] [--peer-mb 5]

`shared` is `$PRILL_SHARED_DATA/corpus` with the items of `$PRILL_SHARED_DATA/tasks`; else a folder of Parquet
files with a `text` column, and --tasks a folder of JSONL items. Speed is the whole measure (words, matches,
columns) on text in memory, CPU seconds of the process after kernels are loaded, medians over rounds. Error
rates are those of `estimate_errors` on every n-th document. PRILL_PEER_DATATROVE names a Python that has
datatrove and spaCy; it judges a sample of --peer-mb, made of documents with an item, with a decoy, or with
neither, with its defaults and with questions indexed as well, in a process of its own.
"""

from __future__ import annotations

import argparse
import functools
import json
import operator
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from prill.audit.concepts import ConceptIndex, count_concepts, likely_concepts
from prill.corpus.batch import BATCH_BYTES, Batch, text_bytes
from prill.prepare.contamination import Contamination, ContaminationSpec
from prill.prepare.contamination.error_rates import ErrorRates, estimate_errors
from prill.prepare.contamination.planting import DECOYS, EDITS, Lexicon, planted
from prill.prepare.contamination.report import ItemsReport, merged_reports

PEER = Path(__file__).with_name("peer_datatrove_decontamination.py")
GOAL_MB_S, GOAL_RECALL, GOAL_PRECISION = 50, 0.98, 0.95


def main() -> None:
    """Run all parts and print their tables."""
    args = _arguments()
    made = Contamination.of(
        ContaminationSpec.model_validate({"tasks": [{"paths": [f"{args.tasks}/*.jsonl"]}]})
    )
    batches = _batches(args.corpus)
    n_mb = sum(text_bytes(batch.text) for batch in batches) / 1e6
    n_documents = sum(batch.n_rows for batch in batches)
    print(f"{n_documents:,} documents, {n_mb:.1f} MB; {len(made.items):,} items\n")
    _print_speed(made, batches, n_mb, args.rounds)
    _print_found(made, batches)
    _print_concepts(made, batches, n_mb, args.rounds)
    texts = [text for batch in batches for text in batch.text.to_pylist()[:: args.every]]
    _print_rates(estimate_errors(made, texts, seed=args.seed), len(texts))
    _print_peer(made, texts, args)


def _print_speed(made: Contamination, batches: list[Batch], n_mb: float, rounds: int) -> None:
    start = time.process_time()
    _ = made.index
    print(f"index: {sum(a.nbytes for a in made.index.arrays.values()) / 1e6:.1f} MB, ", end="")
    print(f"built in {time.process_time() - start:.2f} CPU s (kernels included)\n")
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"peak memory with the corpus and the index loaded: {memory:.0f} MB\n")
    made(batches[0])
    print("| threads | CPU s | MB/s a core | wall MB/s | peak memory MB |")
    print("| --- | --- | --- | --- | --- |")
    for n_threads in (1, 2):
        taken = [_pass(made, batches, n_threads) for _ in range(rounds)]
        cpu, wall = (statistics.median(values) for values in zip(*taken, strict=True))
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"| {n_threads} | {cpu:.2f} | {n_mb / cpu:.0f} | {n_mb / wall:.0f} | {memory:.0f} |")
        if n_threads == 1:
            goal = "met" if n_mb / cpu >= GOAL_MB_S else "MISSED"
    print(f"\ngoal of {GOAL_MB_S} MB/s a core: {goal}\n", flush=True)


def _pass(made: Contamination, batches: list[Batch], n_threads: int) -> tuple[float, float]:
    cpu, wall = time.process_time(), time.perf_counter()
    with ThreadPoolExecutor(n_threads) as pool:
        list(pool.map(made, batches))
    return time.process_time() - cpu, time.perf_counter() - wall


def _print_found(made: Contamination, batches: list[Batch]) -> None:
    tables = [pa.table(made(batch)) for batch in batches]
    report = merged_reports([ItemsReport.of(made, table) for table in tables])
    dropped = sum(int(np.any(list(made.drops(table).values()), axis=0).sum()) for table in tables)
    print(f"documents that hold an item: {dropped:,}\n")
    print("| task | items | too short | found | share | documents | passage only |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for task in report.by_task():
        print(
            f"| {task.task} | {task.n_items} | {task.n_short} | {task.n_dirty} | {task.dirty_share:.1%} "
            f"| {task.n_documents} | {task.n_passages} |"
        )
    print(flush=True)


def _print_concepts(made: Contamination, batches: list[Batch], n_mb: float, rounds: int) -> None:
    concepts = likely_concepts(item.question for item in made.items)
    index = ConceptIndex.build(concepts)
    count_concepts(batches[0].text, index)
    taken = []
    for _ in range(rounds):
        start = time.process_time()
        counts = [count_concepts(batch.text, index) for batch in batches]
        taken.append(time.process_time() - start)
    total = functools.reduce(operator.add, counts)
    n_absent = int((total.documents == 0).sum())
    speed = n_mb / statistics.median(taken)
    print(f"{len(concepts):,} concepts of the items counted at {speed:.0f} MB/s a core;")
    print(f"{n_absent} of them occur in no document\n", flush=True)


def _print_rates(rates: ErrorRates, n_texts: int) -> None:
    print(f"error rates on {n_texts:,} documents (share, found of planted, 95 % interval)\n")
    for title, rows in (
        ("recall", rates.recall),
        ("false hits", rates.false_hits),
        ("precision", rates.precision),
    ):
        lengths = list(dict.fromkeys(rate.length for rate in rows))
        print(f"| {title} | {' | '.join(lengths)} |")
        print("| --- |" + " --- |" * len(lengths))
        for kind in dict.fromkeys(rate.kind for rate in rows):
            cells = {rate.length: rate.share for rate in rows if rate.kind == kind}
            print(f"| {kind} | {' | '.join(_shown(cells.get(length)) for length in lengths)} |")
        print()
    k, n = _total([rate for rate in rates.recall if rate.kind == "light edits"])
    print(f"light edits, all lengths acted upon: {k}/{n} = {k / n:.4f}, goal {GOAL_RECALL}")
    k, n = _total(list(rates.precision))
    print(f"precision, all lengths acted upon: {k}/{n} = {k / n:.4f}, goal {GOAL_PRECISION}\n", flush=True)


def _shown(share: Any) -> str:
    if share is None or share.n == 0:
        return "-"
    return f"{share.estimate:.3f} ({share.k}/{share.n}, {share.low:.3f}-{share.high:.3f})"


def _total(rates: list[Any]) -> tuple[int, int]:
    kept = [rate.share for rate in rates if not rate.length.startswith("below")]
    return sum(share.k for share in kept), sum(share.n for share in kept)


@dataclass
class Sample:
    """Documents that each hold an item (by edit), a decoy, or neither."""

    texts: list[str]
    kinds: list[str]


def _sample(made: Contamination, texts: list[str], n_bytes: float, seed: int) -> Sample:
    """Every third document holds an item, every third a decoy."""
    rng = np.random.default_rng(seed)
    lexicon = Lexicon(words=sorted({word for item in made.items for word in item.question.split()}))
    sample, size = Sample([], []), 0
    while size < n_bytes:
        text = texts[int(rng.integers(0, len(texts)))][:8_000]
        item = made.items[int(rng.integers(0, len(made.items)))]
        kinds = (list(EDITS), list(DECOYS), [])[len(sample.texts) % 3]
        kind = kinds[int(rng.integers(0, len(kinds)))] if kinds else "nothing"
        piece = (EDITS | DECOYS)[kind](item, lexicon, rng) if kinds else None  # type: ignore[operator]
        if piece is None and kinds:
            continue
        sample.texts.append(planted(text, piece, rng) if piece else text)
        sample.kinds.append(kind)
        size += len(text.encode())
    return sample


def _print_peer(made: Contamination, texts: list[str], args: argparse.Namespace) -> None:
    python = os.environ.get("PRILL_PEER_DATATROVE")
    if not python:
        print("datatrove: skipped, PRILL_PEER_DATATROVE is not set")
        return
    clean = [text for text, is_found in zip(texts, _verdicts(made, texts)[0], strict=True) if not is_found]
    sample = _sample(made, clean, args.peer_mb * 1e6, args.seed)
    n_mb = sum(len(text.encode()) for text in sample.texts) / 1e6
    judged = {"prill": _verdicts(made, sample.texts)}
    preset = ContaminationSpec.model_validate({"tasks": [{"paths": ["-"]}], "preset": "datatrove"})
    judged["prill, preset datatrove"] = _verdicts(
        Contamination(spec=preset, items=made.items, digest=made.digest), sample.texts
    )
    with tempfile.TemporaryDirectory() as folder:
        for name, flags in (("datatrove", []), ("datatrove with questions", ["--questions"])):
            judged[name] = _peer_verdicts(python, made, sample, Path(folder), flags)
    print(f"\nthe same sample for all: {len(sample.texts):,} documents, {n_mb:.1f} MB\n")
    kinds = [*EDITS, *DECOYS, "nothing"]
    print(f"| tool | CPU s | MB/s | times datatrove | {' | '.join(kinds)} |")
    print("| --- | --- | --- | --- |" + " --- |" * len(kinds))
    slowest = judged["datatrove"][1]
    for name, (verdicts, cpu_s) in judged.items():
        shares = []
        for kind in kinds:
            own = [verdict for verdict, one in zip(verdicts, sample.kinds, strict=True) if one == kind]
            shares.append(f"{sum(own)}/{len(own)}")
        print(f"| {name} | {cpu_s:.3f} | {n_mb / cpu_s:.2f} | {slowest / cpu_s:.0f} | {' | '.join(shares)} |")


def _verdicts(made: Contamination, texts: list[str]) -> tuple[list[bool], float]:
    """Whether each document would go, and CPU seconds, from text in memory to verdicts."""
    found: list[bool] = []
    batches = [
        Batch(shard=0, first_row=0, columns={"text": pa.array(texts[k : k + 500], pa.large_string())})
        for k in range(0, len(texts), 500)
    ]
    made(batches[0])
    start = time.process_time()
    for batch in batches:
        found += np.any(list(made.drops(pa.table(made(batch))).values()), axis=0).tolist()
    return found, time.process_time() - start


def _peer_verdicts(
    python: str, made: Contamination, sample: Sample, folder: Path, flags: list[str]
) -> tuple[list[bool], float]:
    pq.write_table(pa.table({"text": sample.texts}), folder / "sample.parquet")
    lines = [
        json.dumps({"query": f"{item.passage}\n{item.question}".strip(), "label": item.answer})
        for item in made.items
    ]
    (folder / "items.jsonl").write_text("\n".join(lines))
    command = [
        python,
        str(PEER),
        *(str(folder / name) for name in ("sample.parquet", "items.jsonl", "out.json")),
    ]
    subprocess.run([*command, *flags], check=True, stdout=sys.stderr, env=os.environ | {"PYTHONPATH": ""})
    result = json.loads((folder / "out.json").read_text())
    return result["verdicts"], result["cpu_s"]


def _batches(corpus: Path) -> list[Batch]:
    """The corpus in memory, in batches of the usual size."""
    batches = []
    for path in sorted(corpus.glob("*.parquet")):
        text = (
            pq.read_table(path, columns=["text"])["text"]
            .cast(pa.large_string())
            .combine_chunks()
            .fill_null("")
        )
        rows = max(1, int(len(text) * BATCH_BYTES / max(1, text_bytes(text))))
        for first in range(0, len(text), rows):
            columns = {"text": text.slice(first, rows)}
            batches.append(Batch(shard=0, first_row=first, columns=columns))
    return batches


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--corpus", default="shared")
    parser.add_argument("--tasks", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--every", type=int, default=8, help="documents of the error rates: each n-th")
    parser.add_argument("--peer-mb", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    shared = Path(os.environ.get("PRILL_SHARED_DATA", "shared-data-not-set"))
    args.tasks = args.tasks or shared / "tasks"
    args.corpus = shared / "corpus" if args.corpus == "shared" else Path(args.corpus)
    return args


if __name__ == "__main__":
    main()
