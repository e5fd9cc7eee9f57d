"""The linear classifier against fastText: prediction, memory, identical labels, training, held-out accuracy.

    python bench/classifier.py --corpus DIR [--rounds 3] [--mb 20] [--held-out-mb 10]

DIR is a folder of Parquet files with `text` and `source` (default: `$PRILL_SHARED_DATA/corpus`).
PRILL_PEER_FASTTEXT names a Python that has fastText. Documents come in an order by hash: --mb of them are
trained on, and predicted; the next --held-out-mb tell the accuracy. Labels: `two` says whether the source is
among PROSE, `many` is the source. Both sides train with the same epochs, learning rate, 2-grams and
2,000,000 buckets on one thread; fastText has 100 dimensions, its default, ours has 16. Every job is a process
of its own, run in turn, round by round; figures are CPU seconds (user + system), medians over rounds.

`train` begins with texts in memory (fastText: in a file, as it needs) and ends with a model that can predict;
`apply` predicts every document with the model that fastText trained: by the package a document a call, here
folded, from Arrow. Memory is what the process grows by from before the model is read until all is predicted.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from one_thread import run_alone

PEER = "PRILL_PEER_FASTTEXT"
PROSE = ("books", "encyclopedia", "legal", "news", "textbook")
CASES = {"two": (5, 0.5), "many": (10, 0.5)}
GOALS = {"prediction": 15.0, "memory": 50.0, "training": 1.0, "accuracy": -0.01}


def main() -> None:
    """Run all jobs round by round and print the tables."""
    args = _arguments()
    if args.job:
        print(json.dumps(JOBS[args.job](args)))
        return
    if not os.environ.get(PEER):
        raise SystemExit(f"set {PEER} to a Python that has fastText")
    with tempfile.TemporaryDirectory() as scratch:
        args.scratch = Path(scratch)
        _write_sample(args)
        for case in args.cases:
            found: dict[str, list[dict[str, Any]]] = {name: [] for name in JOBS}
            for _ in range(args.rounds):
                for name in JOBS:
                    found[name].append(_run(name, args, case))
            _report(case, {name: _median(rows) for name, rows in found.items()})


def fasttext_train(args: argparse.Namespace) -> dict[str, Any]:
    """The package: train, store, and say how many held-out documents it gets right."""
    import fasttext

    epochs, rate = CASES[args.case]
    rows, path = _rows(args, "train"), args.scratch / "train.txt"
    path.write_text("".join(f"__label__{_label(row, args.case)} {row['line']}\n" for row in rows))
    begin = time.process_time()
    model = fasttext.train_supervised(
        str(path), dim=100, epoch=epochs, lr=rate, wordNgrams=2, bucket=2_000_000, thread=1, verbose=0
    )
    cpu_s = time.process_time() - begin
    model.save_model(str(args.scratch / "model.bin"))
    held_out = _rows(args, "held_out")
    found = [model.f.predict(row["line"] + "\n", 1, 0.0, "strict")[0][1] for row in held_out]
    right = sum(
        name == "__label__" + _label(row, args.case) for name, row in zip(found, held_out, strict=True)
    )
    return {"cpu_s": cpu_s, "mb": _mb(rows), "accuracy": right / len(held_out)}


def prill_train(args: argparse.Namespace) -> dict[str, Any]:
    """Ours, with the same settings."""
    import numpy as np
    import pyarrow as pa

    from prill.features.classifier import train_linear

    epochs, rate = CASES[args.case]
    rows, held_out = _rows(args, "train"), _rows(args, "held_out")
    names = sorted({_label(row, args.case) for row in rows})
    text = pa.array([row["text"] for row in rows], pa.large_string())
    labels = np.array([names.index(_label(row, args.case)) for row in rows])
    train_linear(text.slice(0, 99), labels[:99], n_labels=len(names), epochs=1, n_buckets=99)  # loads kernels
    begin = time.process_time()
    model, _ = train_linear(text, labels, n_labels=len(names), label_names=names, epochs=epochs, lr=rate)
    cpu_s = time.process_time() - begin
    p = model.predict(pa.array([row["text"] for row in held_out], pa.large_string()))
    right = sum(
        names[best] == _label(row, args.case) for best, row in zip(p.argmax(axis=1), held_out, strict=True)
    )
    return {"cpu_s": cpu_s, "mb": _mb(rows), "accuracy": right / len(held_out)}


def fasttext_apply(args: argparse.Namespace) -> dict[str, Any]:
    """The package's label of every document, and what the process grew by."""
    import fasttext

    rows = _rows(args, "train")
    lines, before = [row["line"] for row in rows], _resident()
    model = fasttext.load_model(str(args.scratch / "model.bin"))
    model.f.predict("warm up\n", 1, 0.0, "strict")
    begin = time.process_time()
    found = [model.f.predict(line + "\n", 1, 0.0, "strict") for line in lines]
    cpu_s = time.process_time() - begin
    memory = _resident() - before
    (args.scratch / "labels.json").write_text(json.dumps([[one[0][1], one[0][0]] for one in found]))
    return {"cpu_s": cpu_s, "mb": _mb(rows), "memory_mb": memory / 1e6}


def prill_fold(args: argparse.Namespace) -> dict[str, Any]:
    """Our reading of the file that the package wrote."""
    from prill.features.fasttext_model import read_fasttext

    begin = time.process_time()
    model = read_fasttext(args.scratch / "model.bin")
    cpu_s = time.process_time() - begin
    model.save(args.scratch / "folded")
    return {
        "cpu_s": cpu_s,
        "mb": (args.scratch / "model.bin").stat().st_size / 1e6,
        "tables_mb": model.n_bytes / 1e6,
    }


def prill_apply(args: argparse.Namespace) -> dict[str, Any]:
    """Our labels under the same model, folded."""
    import numpy as np
    import pyarrow as pa

    from prill.features.linear_model import LinearModel

    rows = _rows(args, "train")
    text = pa.array([row["text"] for row in rows], pa.large_string())
    tiny = np.zeros((2, 1), np.float32)
    small = LinearModel.of_values(np.ones(2, np.uint64), tiny, tiny, labels=("a", "b"), word_ngrams=2)
    small.save(args.scratch / "small")
    LinearModel.load(args.scratch / "small").predict(
        text.slice(0, 99)
    )  # the code is there, as the package's is
    before = _resident()
    model = LinearModel.load(args.scratch / "folded")
    model.predict(text.slice(0, 1))
    begin = time.process_time()
    p = model.predict(text)
    cpu_s = time.process_time() - begin
    memory = _resident() - before
    expected = json.loads((args.scratch / "labels.json").read_text())
    places = np.array([model.labels.index(name.removeprefix("__label__")) for name, _ in expected])
    reported = model.reported(text)[np.arange(len(rows)), places]
    return {
        "cpu_s": cpu_s,
        "mb": _mb(rows),
        "memory_mb": memory / 1e6,
        "n_documents": len(rows),
        "n_differ": int((p.argmax(axis=1) != places).sum()),
        "largest_p": float(np.abs(reported - np.array([p for _, p in expected])).max()),
    }


JOBS: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "fasttext_train": fasttext_train,
    "prill_train": prill_train,
    "fasttext_apply": fasttext_apply,
    "prill_fold": prill_fold,
    "prill_apply": prill_apply,
}


def _report(case: str, rows: dict[str, dict[str, Any]]) -> None:
    rates = {name: row["mb"] / row["cpu_s"] for name, row in rows.items()}
    ours, peer = rows["prill_apply"], rows["fasttext_apply"]
    print(f"\n{case} labels, {CASES[case][0]} epochs, lr {CASES[case][1]}\n")
    print("| job | MB a CPU s | memory MB | held-out accuracy |\n| --- | ---: | ---: | ---: |")
    for name, row in rows.items():
        memory, accuracy = row.get("memory_mb"), row.get("accuracy")
        cells = ["-" if memory is None else f"{memory:.1f}", "-" if accuracy is None else f"{accuracy:.4f}"]
        print(f"| {name} | {rates[name]:.2f} | {' | '.join(cells)} |")
    print(f"\nlabels that differ: {ours['n_differ']:.0f} of {ours['n_documents']:.0f}; ", end="")
    print(f"largest difference of the reported p: {ours['largest_p']:.2g}")
    fold = rows["prill_fold"]
    print(f"file {fold['mb']:.0f} MB, our tables {fold['tables_mb']:.1f} MB, folded in {fold['cpu_s']:.1f} s")
    ratios = {
        "prediction": rates["prill_apply"] / rates["fasttext_apply"],
        "memory": peer["memory_mb"] / ours["memory_mb"],
        "training": rates["prill_train"] / rates["fasttext_train"],
        "accuracy": rows["prill_train"]["accuracy"] - rows["fasttext_train"]["accuracy"],
    }
    for name, value in ratios.items():
        print(f"{name}: {value:.3g} (goal {GOALS[name]:g}{', two labels' * (name == 'memory')})")


def _write_sample(args: argparse.Namespace) -> None:
    import pyarrow.parquet as pq

    rows = [
        row
        for path in sorted(args.corpus.glob("*.parquet"))
        for row in pq.read_table(path, columns=["text", "source"]).to_pylist()
    ]
    rows.sort(key=lambda row: hashlib.sha256(row["text"].encode()).digest())
    at = 0
    for name, mb in (("train", args.mb), ("held_out", args.held_out_mb)):
        n_bytes = 0
        with (args.scratch / f"{name}.jsonl").open("w") as file:
            while at < len(rows) and n_bytes < mb * 1e6:
                row = {**rows[at], "line": " ".join(rows[at]["text"].strip().splitlines())}
                file.write(json.dumps(row) + "\n")
                n_bytes += len(row["text"].encode())
                at += 1


def _rows(args: argparse.Namespace, name: str) -> list[dict[str, str]]:
    with (args.scratch / f"{name}.jsonl").open() as file:
        return [json.loads(line) for line in file]


def _label(row: dict[str, str], case: str) -> str:
    return row["source"] if case == "many" else str(row["source"] in PROSE)


def _mb(rows: list[dict[str, str]]) -> float:
    return sum(len(row["text"].encode()) for row in rows) / 1e6


def _resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def _median(rows: list[dict[str, Any]]) -> dict[str, float]:
    return {key: statistics.median(row[key] for row in rows) for key in rows[0]}


def _run(name: str, args: argparse.Namespace, case: str) -> dict[str, Any]:
    python = os.environ[PEER] if name.startswith("fasttext") else sys.executable
    command = [python, __file__, "--job", name, "--case", case, "--scratch", str(args.scratch)]
    return run_alone(name, command)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    shared = os.environ.get("PRILL_SHARED_DATA")
    parser.add_argument("--corpus", type=Path, default=Path(shared) / "corpus" if shared else None)
    parser.add_argument("--cases", nargs="*", choices=list(CASES), default=list(CASES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--mb", type=float, default=20.0, help="text to train on and to predict, MB")
    parser.add_argument("--held-out-mb", type=float, default=10.0)
    parser.add_argument("--job", choices=list(JOBS), help=argparse.SUPPRESS)
    parser.add_argument("--case", choices=list(CASES), default="two", help=argparse.SUPPRESS)
    parser.add_argument("--scratch", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.corpus is None and not args.job:
        parser.error("give --corpus, or set PRILL_SHARED_DATA")
    return args


if __name__ == "__main__":
    main()
