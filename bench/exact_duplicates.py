"""Exact copies of documents, against dolma's Bloom-filter deduper, in one sitting.

    python bench/grown.py GROWN
    python bench/exact_duplicates.py --corpus GROWN [--rounds 5] [--peer-mb 100]

Prill reads zstd Parquet, hashes every text, finds equal hashes over all shards and writes the columns of the
read step and of the grouping; `prill_normal` compares normal forms as well. dolma (its interpreter in
PRILL_PEER_DOLMA) reads gzip JSONL and writes an attribute file a document file, as it does for its users; it
gets the first --peer-mb. Every job is a process of its own with one thread, in turn, round by round; figures
are CPU seconds (user + system, children included) without start-up: dolma's own is measured with `--help` and
taken off, Prill's jobs begin after imports and after compiled kernels are loaded. Medians over rounds.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from one_thread import run_alone

GOAL = 6
PEER = "PRILL_PEER_DOLMA"


def main() -> None:
    """Run all jobs round by round and print the table."""
    args = _arguments()
    if args.job:
        print(json.dumps(JOBS[args.job](args)))
        return
    with tempfile.TemporaryDirectory() as scratch:
        _write_sample(args.corpus, Path(scratch), args.peer_mb)
        names = [name for name in JOBS if name != "dolma" or os.environ.get(PEER)]
        if "dolma" not in names:
            print(f"dolma is left out: {PEER} is not set", file=sys.stderr)
        results: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
        for _ in range(args.rounds):
            for name in names:
                results[name].append(_run(name, args, scratch))
    _report(results, json.loads((args.corpus / "truth.json").read_text()))


def prill(args: argparse.Namespace, **settings: Any) -> dict[str, Any]:
    """The read step and the grouping, one thread."""
    import numpy as np
    import pyarrow as pa

    from prill.corpus.columns import read_columns
    from prill.corpus.corpus import Corpus
    from prill.corpus.spec import CorpusSpec
    from prill.engine.local import LocalEngine
    from prill.pipeline.measuring import MeasureShard, ReadDocuments
    from prill.prepare.duplicates.exact import ExactDuplicates, ExactSpec
    from prill.prepare.measure import GroupingInputs

    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    exact = ExactDuplicates.of(ExactSpec(**settings))

    def whole(paths: list[str], out: Path) -> dict[str, Any]:
        corpus = Corpus.open(CorpusSpec(paths=paths))
        keys = [exact.keys] if exact.keys else []
        parts = {
            name: [out / f"{name}-{i}.parquet" for i in range(len(corpus.shards))]
            for name in ("read", "keys", "exact")
        }
        measure = MeasureShard(corpus=corpus, measures=(ReadDocuments(spec=corpus.spec), *keys))
        for i in range(len(corpus.shards)):
            measure((i, tuple(parts[name][i] for name in ("read", "keys")[: 1 + len(keys)])))
        n_rows = [read_columns(path, ["n_bytes"]).num_rows for path in parts["read"]]
        (out / "scratch").mkdir()
        inputs = GroupingInputs(
            corpus=corpus,
            read_parts=parts["read"],
            key_parts=parts["keys"] if keys else [],
            is_kept=lambda shard: np.ones(n_rows[shard], np.bool_),
            parts=parts["exact"],
            scratch=out / "scratch",
            engine=LocalEngine(1),
            memory_bytes=256_000_000,
        )
        counts = dict(exact.group(inputs))
        n_bytes = sum(
            int(read_columns(path, ["n_bytes"])["n_bytes"].to_numpy().sum()) for path in parts["read"]
        )
        return {"n_docs": sum(n_rows), "n_bytes": n_bytes, "n_copies": counts["n_copies"]}

    with tempfile.TemporaryDirectory() as warm:
        whole([str(Path(args.scratch) / "warm.parquet")], Path(warm))
    with tempfile.TemporaryDirectory() as out:
        before = _cpu()
        found = whole([str(args.corpus / "*.parquet")], Path(out))
        cpu_s = _cpu() - before
    return {**found, "cpu_s": cpu_s, "memory_bytes": _peak()}


def dolma(args: argparse.Namespace) -> dict[str, Any]:
    """`dolma dedupe` of documents, one process; runs in the interpreter of dolma, which has no Prill."""
    program = Path(sys.executable).parent / "dolma"
    scratch = Path(args.scratch)
    about = json.loads((scratch / "sample.json").read_text())
    with tempfile.TemporaryDirectory() as out:
        folder = Path(out) / "documents"
        folder.mkdir()
        for path in (scratch / "sample").iterdir():
            (folder / path.name).symlink_to(path)
        config = {
            "documents": [f"{folder}/*.gz"],
            "dedupe": {
                "name": "copies",
                "skip_empty": True,
                "documents": {"attribute_name": "copy", "key": "$.text"},
            },
            "bloom_filter": {
                "file": f"{out}/filter.bin",
                "read_only": False,
                "estimated_doc_count": 5_000_000,
                "desired_false_positive_rate": 1e-5,
            },
            "processes": 1,
        }
        (Path(out) / "config.json").write_text(json.dumps(config))
        before = _cpu()
        subprocess.run([program, "--help"], capture_output=True, check=True)
        start_up, before = _cpu() - before, _cpu()
        subprocess.run([program, "-c", f"{out}/config.json", "dedupe"], capture_output=True, check=True)
        cpu_s = _cpu() - before - start_up
        n_copies = 0
        for path in Path(out).rglob("attributes/**/*.gz"):
            with gzip.open(path, "rt") as file:
                n_copies += sum(bool(json.loads(line)["attributes"].get("copy")) for line in file)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    return {**about, "n_copies": n_copies, "cpu_s": cpu_s, "memory_bytes": peak}


JOBS: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "dolma": dolma,
    "prill": prill,
    "prill_normal": lambda args: prill(args, by="normal"),
}


def _write_sample(corpus: Path, scratch: Path, mb: float) -> None:
    """The first documents of the corpus as gzip JSONL in two files."""
    import pyarrow.parquet as pq

    (scratch / "sample").mkdir()
    rows: list[dict[str, str]] = []
    n_bytes = 0
    for path in sorted(corpus.glob("*.parquet")):
        table = pq.read_table(path, columns=["id", "text", "source"])
        if not rows:
            pq.write_table(table.slice(0, 50), scratch / "warm.parquet")
        for row in table.to_pylist() if n_bytes < mb * 1e6 else ():
            if n_bytes < mb * 1e6:
                rows.append(row)
                n_bytes += len(row["text"].encode())
    for k in range(2):
        with gzip.open(scratch / "sample" / f"{k}.json.gz", "wt", compresslevel=1) as file:
            file.writelines(json.dumps(row) + "\n" for row in rows[k::2])
    (scratch / "sample.json").write_text(json.dumps({"n_bytes": n_bytes, "n_docs": len(rows)}))


def _report(results: dict[str, list[dict[str, Any]]], truth: dict[str, Any]) -> None:
    print("| job | documents | MB | CPU s | MB a CPU s | peak MB | copies |\n| --- " + "| ---: " * 6 + "|")
    medians = {
        name: {key: statistics.median(row[key] for row in rows) for key in rows[0]}
        for name, rows in results.items()
    }
    rates = {name: row["n_bytes"] / 1e6 / row["cpu_s"] for name, row in medians.items()}
    for name, row in medians.items():
        size, peak = row["n_bytes"] / 1e6, row["memory_bytes"] / 1e6
        print(
            f"| {name} | {row['n_docs']:.0f} | {size:.1f} | {row['cpu_s']:.2f} | {rates[name]:.1f} "
            f"| {peak:.0f} | {row['n_copies']:.0f} |"
        )
    planted = sum(pair["kind"] == "exact" for pair in truth["pairs"])
    print(f"\nplanted exact copies in the whole corpus: {planted}")
    if "dolma" in rates:
        print(f"\nprill is {rates['prill'] / rates['dolma']:.1f} times dolma (goal {GOAL})")


def _cpu() -> float:
    use = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in use)


def _peak() -> int:
    status = Path("/proc/self/status").read_text()  # getrusage keeps the peak of the process before exec
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def _run(name: str, args: argparse.Namespace, scratch: str) -> dict[str, Any]:
    python = os.environ[PEER] if name == "dolma" else sys.executable
    command = [python, __file__, "--job", name, "--scratch", scratch, "--corpus", str(args.corpus)]
    return run_alone(name, command)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--corpus", type=Path, required=True, help="folder that bench/grown.py wrote")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peer-mb", type=float, default=100.0, help="text that dolma gets, MB")
    parser.add_argument("--job", choices=list(JOBS), help=argparse.SUPPRESS)
    parser.add_argument("--scratch", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
