"""ZIP-FIT's scores and its best documents against the published package, in one sitting.

    python bench/zip_fit.py --data DIR --peer-python VENV/bin/python [--target NAME ...] [--documents 2000]
        [--texts 48] [--share 0.05] [--level 6] [--rounds 3]

DIR holds `corpus/*.parquet` (a `text` column) and `targets/*.jsonl`; default: the environment variable
PRILL_SHARED_DATA. VENV has `zip-fit`, `zstandard`, `brotli` and `lz4` (the package imports them and declares
two of them). All jobs get the same documents, drawn from the corpus, and the same target texts, and are
processes of their own with one worker, run in turn, round by round. Figures are CPU seconds (user + system,
children included) after imports and after compiled kernels are loaded; ratios are medians over the rounds.
`exact` scores every document with every text; `screened` finds the best share of the documents, with their
exact scores in order. Deviations are the largest over all scores, and documents missed of the best.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

GOALS = {"exact": 1.4, "screened": 5.0}


def main() -> None:
    """Run all jobs round by round and print the table."""
    args = _arguments()
    if args.job:
        print(json.dumps(JOBS[args.job](args)))
        return
    print("| target | job | CPU s, package | CPU s, Prill | times | goal | deviation | missed |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for target in args.target:
        _report(target, _rounds(args, target))


def package(args: argparse.Namespace) -> dict[str, Any]:
    """The published package, one worker."""
    import contextlib
    import io

    os.environ["HF_HUB_OFFLINE"] = "1"
    import zip_fit.zipfit as module

    module.cpu_count = lambda: 1
    texts = json.loads(Path(args.texts_file).read_text())
    ranker = module.ZIPFIT(
        None, None, k=len(texts["pool"]), compression_algorithm="gzip", compress_level=args.level
    )
    before = _cpu()
    with contextlib.redirect_stdout(io.StringIO()):
        ranked = ranker.rank_sequences_by_alignment(texts["pool"], texts["target"])
    spent = _cpu() - before
    scores = dict(ranked)
    return {"cpu_s": spent, "scores": [float(scores[text]) for text in texts["pool"]]}


def exact(args: argparse.Namespace) -> dict[str, Any]:
    """Every document with every text."""
    import numpy as np

    pool, target, compressor = _prepared(args)
    from prill.features.compression_similarity import Reference

    before = _cpu()
    reference = Reference(target, compressor)
    alone = compressor.lengths(pool)
    every = np.arange(len(pool))
    scores = reference.similarity(pool, alone, every, 0, len(reference)).mean(axis=1)
    return {"cpu_s": _cpu() - before, "scores": scores.tolist()}


def screened(args: argparse.Namespace) -> dict[str, Any]:
    """The best share of the documents."""
    import numpy as np

    pool, target, compressor = _prepared(args)
    from prill.features.compression_race import top_exactly
    from prill.features.compression_similarity import Reference

    k = round(args.share * len(pool))
    draws = np.random.default_rng(0).random(len(pool))
    before = _cpu()
    reference = Reference(target, compressor)
    alone = compressor.lengths(pool)
    order, scores = top_exactly(reference, pool, alone, k, draws_D=draws)
    return {"cpu_s": _cpu() - before, "order": order.tolist(), "scores": scores.tolist()}


JOBS = {"package": package, "exact": exact, "screened": screened}


def _prepared(args: argparse.Namespace) -> tuple[Any, Any, Any]:
    """Documents, target texts and the compressor, its kernels loaded."""
    import pyarrow as pa

    from prill.features.compression import Compressor, TargetTexts

    texts = json.loads(Path(args.texts_file).read_text())
    compressor = Compressor(level=args.level)
    warm = pa.array(["load the kernels"], pa.large_string())
    compressor.lengths(warm)
    import numpy as np

    TargetTexts(warm, compressor).joint_lengths(warm, np.arange(1), np.arange(1))
    return (
        pa.array(texts["pool"], pa.large_string()),
        pa.array(texts["target"], pa.large_string()),
        compressor,
    )


def _rounds(args: argparse.Namespace, target: str) -> dict[str, list[dict[str, Any]]]:
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in JOBS}
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "texts.json"
        path.write_text(json.dumps(_texts(args, target)))
        for _ in range(args.rounds):
            for name in JOBS:
                python = args.peer_python if name == "package" else sys.executable
                command = [python, "-P", __file__, "--job", name, "--texts-file", str(path)]
                command += ["--level", str(args.level), "--share", str(args.share)]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                results[name].append(json.loads(done.stdout.splitlines()[-1]))
    return results


def _texts(args: argparse.Namespace, target: str) -> dict[str, list[str]]:
    import numpy as np
    import pyarrow.parquet as pq

    texts: dict[str, None] = {}
    for path in sorted((args.data / "corpus").glob("*.parquet")):
        texts.update(dict.fromkeys(pq.read_table(path, columns=["text"])["text"].to_pylist()))
    pool = list(texts)
    rng = np.random.default_rng(0)
    chosen = rng.permutation(len(pool))[: args.documents]
    lines = (args.data / "targets" / f"{target}.jsonl").read_text(encoding="utf-8").splitlines()
    every = list(dict.fromkeys(json.loads(line)["text"] for line in lines))
    drawn = rng.permutation(len(every))[: args.texts]
    return {"pool": [pool[i] for i in chosen], "target": [every[i] for i in drawn]}


def _report(target: str, results: dict[str, list[dict[str, Any]]]) -> None:
    theirs = results["package"][0]["scores"]
    ours = results["exact"][0]["scores"]
    best = results["screened"][0]
    rank = sorted(range(len(ours)), key=lambda i: -ours[i])[: len(best["order"])]
    deviations = {
        "exact": max(abs(a - b) for a, b in zip(ours, theirs, strict=True)),
        "screened": max(abs(theirs[i] - s) for i, s in zip(best["order"], best["scores"], strict=True)),
    }
    missed = {"exact": "", "screened": str(len(set(rank) - set(best["order"])))}
    package_s = statistics.median(row["cpu_s"] for row in results["package"])
    for name, goal in GOALS.items():
        ratios = [a["cpu_s"] / b["cpu_s"] for a, b in zip(results["package"], results[name], strict=True)]
        own = statistics.median(row["cpu_s"] for row in results[name])
        print(
            f"| {target} | {name} | {package_s:.1f} | {own:.2f} | {statistics.median(ratios):.1f} | {goal} | "
            f"{deviations[name]:.1e} | {missed[name]} |",
            flush=True,
        )


def _cpu() -> float:
    spent = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in spent)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    shared = os.environ.get("PRILL_SHARED_DATA")
    parser.add_argument("--data", type=Path, default=Path(shared) if shared else None)
    parser.add_argument("--peer-python", default=sys.executable)
    targets = ["fiction", "medical_qa", "python_code", "science_textbook"]
    parser.add_argument("--target", nargs="+", default=targets)
    parser.add_argument("--documents", type=int, default=2000)
    parser.add_argument("--texts", type=int, default=48)
    parser.add_argument("--share", type=float, default=0.05)
    parser.add_argument("--level", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--job", choices=JOBS, help=argparse.SUPPRESS)
    parser.add_argument("--texts-file", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
