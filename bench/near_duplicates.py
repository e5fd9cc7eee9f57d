"""Near copies end to end, against datatrove and rensa, in one sitting: speed, memory, recall, precision.

    python bench/grown.py GROWN
    python bench/near_duplicates.py --corpus GROWN [--rounds 3] [--peer-mb 6] [--only NAME ...]

GROWN is what `bench/grown.py` made: Parquet files and the truth about planted copies. Peers run in their own
interpreters, given by PRILL_PEER_DATATROVE and PRILL_PEER_MINHASH (which has rensa), on a sample of --peer-mb
as JSON lines, because they are slow: documents of planted pairs, and as many others. Every job is a process
of its own with one thread, run in turn, round by round; figures are CPU seconds (user + system, children
included) after imports and after compiled kernels are loaded, medians over rounds.

Jobs: `prill` reads Parquet, hashes and signs, pairs, compares, clusters and writes columns, on the whole
corpus; `prill_unverified` leaves the comparison out, as the peers do; `prill_sample` has the sample of the
peers, to compare what is found; `datatrove` has its four stages with 14 bands of 8 rows, `rensa` lower-cased
`\\w+` 5-grams made in Python and LSH with 16 bands of 8, to which `prill_16_bands` is the like. A planted
pair is found when not both stay. A document that goes is rightly gone when another document of the sample has
at least 0.7 of its 5-grams (Jaccard similarity, by brute force).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import re
import resource
import shutil
import statistics
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from one_thread import run_alone

GOALS = {"datatrove": 150, "rensa": 6}
PEERS = {"datatrove": "PRILL_PEER_DATATROVE", "rensa": "PRILL_PEER_MINHASH"}
WORD = re.compile(r"\w+")
SIMILAR = 0.7


def main() -> None:
    """Run all jobs round by round and print the tables."""
    args = _arguments()
    if args.job:
        print(json.dumps(JOBS[args.job](args)))
        return
    with tempfile.TemporaryDirectory() as scratch:
        sample = _write_sample(args.corpus, Path(scratch), args.peer_mb)
        names = [name for name in JOBS if (not args.only or name in args.only) and _is_there(name)]
        results: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
        for round_ in range(args.rounds):
            for name in names:
                if name == "prill_ten_times" and round_:
                    continue  # memory does not vary: once is enough
                results[name].append(_run(name, args, scratch))
        _report_speed(results)
        _report_quality(results, sample)


def prill(
    args: argparse.Namespace, *, folder: Path | None = None, copies: int = 1, **settings: Any
) -> dict[str, Any]:
    """The whole job with Prill, one thread; tells what goes when given a folder."""
    import numpy as np
    import pyarrow as pa

    from prill.corpus.columns import read_columns
    from prill.corpus.corpus import Corpus
    from prill.corpus.spec import CorpusSpec
    from prill.engine.local import LocalEngine
    from prill.pipeline.measuring import MeasureShard, ReadDocuments
    from prill.prepare.duplicates.near import NearDuplicates, NearSpec
    from prill.prepare.measure import GroupingInputs

    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    near = NearDuplicates.of(NearSpec(**settings))
    wanted = folder or args.corpus
    paths = [str(wanted / "*.parquet")]
    if copies > 1:
        paths = [str(_copies(args.corpus, Path(args.scratch), copies) / "*.parquet")]

    def whole(paths: list[str], out: Path) -> tuple[Any, list[Path]]:
        corpus = Corpus.open(CorpusSpec(paths=paths))
        parts = {
            name: [out / f"{name}-{i}.parquet" for i in range(len(corpus.shards))]
            for name in ("read", "keys", "near")
        }
        measure = MeasureShard(corpus=corpus, measures=(ReadDocuments(spec=corpus.spec), near.keys))
        for i in range(len(corpus.shards)):
            measure((i, (parts["read"][i], parts["keys"][i])))
        n_rows = [read_columns(path, ["n_bytes"]).num_rows for path in parts["read"]]
        (out / "scratch").mkdir()
        inputs = GroupingInputs(
            corpus=corpus,
            read_parts=parts["read"],
            key_parts=parts["keys"],
            is_kept=lambda shard: np.ones(n_rows[shard], np.bool_),
            parts=parts["near"],
            scratch=out / "scratch",
            engine=LocalEngine(1),
            memory_bytes=args.memory_mb * 1_000_000,
        )
        counts = near.group(inputs)
        return counts, parts["near"]

    with tempfile.TemporaryDirectory() as warm:
        whole([str(Path(args.scratch) / "warm.parquet")], Path(warm))
    with tempfile.TemporaryDirectory() as out:
        watch = _Watch()
        counts, written = whole(paths, Path(out))
        result = watch.result(0, n_docs=counts["n_documents"])
        result["n_bytes"] = _text_bytes(wanted) * copies
        keep = np.concatenate([read_columns(path, ["near_keep"])["near_keep"].to_numpy() for path in written])
    if folder is not None:
        ids = _column(folder, "id")
        result["gone"] = [name for name, kept in zip(ids, keep, strict=True) if not kept]
    return result


def datatrove(args: argparse.Namespace) -> dict[str, Any]:
    """datatrove's four stages with their defaults, one worker."""
    os.environ["LOGURU_LEVEL"] = "ERROR"
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.dedup import MinhashDedupSignature
    from datatrove.pipeline.dedup.minhash import (
        MinhashConfig,
        MinhashDedupBuckets,
        MinhashDedupCluster,
        MinhashDedupFilter,
    )
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.writers.jsonl import JsonlWriter

    config, source = MinhashConfig(), str(Path(args.scratch) / "sample")
    with tempfile.TemporaryDirectory() as out, contextlib.redirect_stdout(sys.stderr):
        watch = _Watch()
        stages = [
            ([JsonlReader(source), MinhashDedupSignature(output_folder=f"{out}/sig", config=config)], 1),
            (
                [MinhashDedupBuckets(input_folder=f"{out}/sig", output_folder=f"{out}/b", config=config)],
                config.num_buckets,
            ),
            ([MinhashDedupCluster(input_folder=f"{out}/b", output_folder=f"{out}/rm", config=config)], 1),
            (
                [
                    JsonlReader(source),
                    MinhashDedupFilter(input_folder=f"{out}/rm"),
                    JsonlWriter(f"{out}/kept", compression=None),
                ],
                1,
            ),
        ]
        for number, (pipeline, tasks) in enumerate(stages):
            LocalPipelineExecutor(
                pipeline=pipeline,
                tasks=tasks,
                workers=1,
                logging_dir=f"{out}/log-{number}",
                skip_completed=False,
            ).run()
        rows = _lines(Path(args.scratch))
        result = watch.result(sum(len(row["text"].encode()) for row in rows), n_docs=len(rows))
        kept = {
            json.loads(line)["id"]
            for path in Path(out, "kept").glob("*.jsonl")
            for line in path.read_text().splitlines()
        }
    return {**result, "gone": [row["id"] for row in rows if row["id"] not in kept]}


def rensa(args: argparse.Namespace) -> dict[str, Any]:
    """rensa as its users use it: Python 5-grams, R-MinHash, LSH; a document like an earlier one goes."""
    from rensa import RMinHash, RMinHashLSH

    watch = _Watch()
    rows = _lines(Path(args.scratch))
    lsh = RMinHashLSH(threshold=SIMILAR, num_perm=128, num_bands=16)
    gone = []
    for number, row in enumerate(rows):
        words = WORD.findall(row["text"].lower())
        shingles = {" ".join(words[i : i + 5]) for i in range(max(1, len(words) - 4))}
        sketch = RMinHash(num_perm=128, seed=1)
        sketch.update(list(shingles))
        if lsh.query(sketch):
            gone.append(row["id"])
        lsh.insert(number, sketch)
    result = watch.result(sum(len(row["text"].encode()) for row in rows), n_docs=len(rows))
    return {**result, "gone": gone}


JOBS: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "datatrove": datatrove,
    "rensa": rensa,
    "prill": prill,
    "prill_unverified": lambda args: prill(args, verify=False),
    "prill_16_bands": lambda args: prill(args, bands=16),
    "prill_sample": lambda args: prill(args, folder=Path(args.scratch) / "parquet"),
    "prill_sample_16_bands": lambda args: prill(args, folder=Path(args.scratch) / "parquet", bands=16),
    "prill_ten_times": lambda args: prill(args, copies=10),
}


def _write_sample(corpus: Path, scratch: Path, mb: float) -> dict[str, Any]:
    """Half of the sample are planted pairs, spread over all edit rates, half are other documents."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    truth = json.loads((corpus / "truth.json").read_text())
    texts = dict(zip(_column(corpus, "id"), _column(corpus, "text"), strict=True))
    chosen: dict[str, None] = {}
    n_bytes, pairs = 0, []
    planted = {pair[side] for pair in truth["pairs"] for side in ("copy", "original")}
    for pair in random.Random(0).sample(truth["pairs"], len(truth["pairs"])):
        if n_bytes > mb * 5e5:
            break
        pairs.append(pair)
        for name in (pair["original"], pair["copy"]):
            n_bytes += len(texts[name].encode())
            chosen[name] = None
    for name in texts:
        if n_bytes > mb * 1e6:
            break
        if name not in planted:
            n_bytes += len(texts[name].encode())
            chosen[name] = None
    rows = [{"id": name, "text": texts[name]} for name in sorted(chosen)]
    for folder in ("sample", "parquet"):
        (scratch / folder).mkdir()
    (scratch / "sample" / "0.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    table = pa.table({key: [row[key] for row in rows] for key in ("id", "text")})
    pq.write_table(table, scratch / "parquet" / "0.parquet", compression="zstd")
    pq.write_table(table.slice(0, 50), scratch / "warm.parquet")
    return {"rows": rows, "pairs": pairs}


def _report_speed(results: dict[str, list[dict[str, Any]]]) -> None:
    print("| job | documents | MB | CPU s | MB a CPU s | peak MB | times |\n| --- " + "| ---: " * 6 + "|")
    medians = {
        name: {key: statistics.median(row[key] for row in rows) for key in rows[0] if key != "gone"}
        for name, rows in results.items()
        if rows
    }
    rates = {name: row["n_bytes"] / 1e6 / row["cpu_s"] for name, row in medians.items()}
    for name, row in medians.items():
        ratio = f"{rates['prill'] / rates[name]:.1f}" if "prill" in rates else "-"
        size, peak = row["n_bytes"] / 1e6, row["memory_bytes"] / 1e6
        print(
            f"| {name} | {row['n_docs']:.0f} | {size:.1f} | {row['cpu_s']:.2f} | {rates[name]:.2f} "
            f"| {peak:.0f} | {ratio} |"
        )
    for name, goal in GOALS.items():
        if name in rates and "prill" in rates:
            print(f"\nprill is {rates['prill'] / rates[name]:.1f} times {name} (goal {goal})")
    if "prill" in medians and "prill_ten_times" in medians:
        ratio = medians["prill_ten_times"]["memory_bytes"] / medians["prill"]["memory_bytes"]
        print(f"\npeak memory at ten times the corpus: {ratio:.2f} times")


def _report_quality(results: dict[str, list[dict[str, Any]]], sample: dict[str, Any]) -> None:
    print("\n| job | planted pairs found at 0.7 to 0.8 | 0.8 to 0.9 | 0.9 to 1 | gone | rightly |")
    print("| --- " + "| ---: " * 5 + "|")
    best = _best_similarity(sample["rows"])
    for name, runs in results.items():
        if not runs or "gone" not in runs[-1]:
            continue
        gone = set(runs[-1]["gone"])
        cells = []
        for low, high in ((0.7, 0.8), (0.8, 0.9), (0.9, 1.01)):
            pairs = [pair for pair in sample["pairs"] if low <= pair["jaccard_words"] < high]
            found = sum(pair["copy"] in gone or pair["original"] in gone for pair in pairs)
            cells.append(f"{found} of {len(pairs)}")
        right = sum(best[name] >= SIMILAR for name in gone)
        print(f"| {name} | {' | '.join(cells)} | {len(gone)} | {right / max(1, len(gone)):.3f} |")


def _best_similarity(rows: list[dict[str, str]]) -> dict[str, float]:
    """The largest Jaccard similarity of each document to any other, by all shared 5-grams."""
    sets = []
    for row in rows:
        words = WORD.findall(row["text"].lower())
        sets.append({hash(tuple(words[i : i + 5])) for i in range(max(1, len(words) - 4))})
    holders: dict[int, list[int]] = {}
    for number, shingles in enumerate(sets):
        for shingle in shingles:
            holders.setdefault(shingle, []).append(number)
    best = {}
    for number, shingles in enumerate(sets):
        shared = Counter(other for shingle in shingles for other in holders[shingle] if other != number)
        similar = (n / (len(shingles) + len(sets[other]) - n) for other, n in shared.items())
        best[rows[number]["id"]] = max(similar, default=0.0)
    return best


def _column(folder: Path, name: str) -> list[str]:
    import pyarrow.parquet as pq

    return [
        value
        for path in sorted(folder.glob("*.parquet"))
        for value in pq.read_table(path, columns=[name])[name].to_pylist()
    ]


def _text_bytes(folder: Path) -> int:
    return sum(len(text.encode()) for text in _column(folder, "text"))


def _lines(scratch: Path) -> list[dict[str, str]]:
    with (scratch / "sample" / "0.jsonl").open() as file:
        return [json.loads(line) for line in file]


def _copies(corpus: Path, scratch: Path, copies: int) -> Path:
    folder = scratch / "copies"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for path in sorted(corpus.glob("*.parquet")):
        for copy in range(copies):
            (folder / f"{copy}-{path.name}").symlink_to(path.resolve())
    return folder


class _Watch:
    """CPU seconds since it was made, children included, and the peak resident memory of this process."""

    def __init__(self) -> None:
        self.cpu = _cpu()

    def result(self, n_bytes: int, *, n_docs: int) -> dict[str, Any]:
        cpu_s = _cpu() - self.cpu
        status = Path("/proc/self/status").read_text()  # getrusage keeps the peak of the process before exec
        peak = int(status.split("VmHWM:")[1].split()[0]) * 1024
        return {"n_bytes": n_bytes, "n_docs": n_docs, "memory_bytes": peak, "cpu_s": cpu_s}


def _cpu() -> float:
    use = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in use)


def _is_there(name: str) -> bool:
    if name in PEERS and not os.environ.get(PEERS[name]):
        print(f"{name} is left out: {PEERS[name]} is not set", file=sys.stderr)
        return False
    return True


def _run(name: str, args: argparse.Namespace, scratch: str) -> dict[str, Any]:
    python = os.environ[PEERS[name]] if name in PEERS else sys.executable
    command = [python, __file__, "--job", name, "--scratch", scratch, "--corpus", str(args.corpus)]
    command += ["--memory-mb", str(args.memory_mb)]
    return run_alone(name, command)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--corpus", type=Path, required=True, help="folder that bench/grown.py wrote")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peer-mb", type=float, default=6.0, help="text that the peers get, MB")
    parser.add_argument("--memory-mb", type=int, default=256, help="memory that the grouping may hold, MB")
    parser.add_argument("--only", nargs="*", choices=list(JOBS), help="jobs to run")
    parser.add_argument("--job", choices=list(JOBS), help=argparse.SUPPRESS)
    parser.add_argument("--scratch", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
