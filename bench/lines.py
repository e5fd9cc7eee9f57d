"""Below documents: repeated lines, repeated passages and lists of words, in one sitting with their peers.

    python bench/lines.py --corpus shared [--rounds 3] [--only NAME ...]
    python bench/lines.py --corpus GROWN   (a folder of Parquet files, such as bench/grown.py makes)

Jobs with Prill read zstd Parquet and write columns; every job is a process of its own with one thread, run in
turn, round by round. Figures are CPU seconds (user + system, children included) after imports and after
compiled kernels are loaded, medians over rounds, and the peak memory of the process.

- `dolma`: `dolma dedupe` by paragraphs, which are lines there, in its own interpreter (PRILL_PEER_DOLMA), on
  its own gzip JSON lines; the cost of its start (`dolma --help`) is taken off.
- `lines_like_dolma`: the same rule with Prill: lines byte for byte, every one after the first is marked.
- `lines`, `paragraphs`, `passages`: Prill's defaults of lines, of paragraphs, and of repeated substrings.
- `words_*`, `phrases_*`, `substrings_*`: a list of so many patterns searched for in text in memory; `re_400`
  is the usual way, one expression `\\b(?:...)\\b` with 400 alternatives, on --peer-mb of the text.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import json
import os
import random
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from one_thread import run_alone

PEER = "PRILL_PEER_DOLMA"


def main() -> None:
    """Run all jobs round by round and print the table."""
    args = _arguments()
    if args.job:
        print(json.dumps(JOBS[args.job](args)))
        return
    names = [name for name in JOBS if not args.only or name in args.only]
    if "dolma" in names and not os.environ.get(PEER):
        print(f"dolma is left out: {PEER} is not set\n")
        names.remove("dolma")
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    with tempfile.TemporaryDirectory() as scratch:
        if "dolma" in names:
            _write_gzip(args.corpus, Path(scratch) / "documents")
        for _ in range(args.rounds):
            for name in names:
                results[name].append(_run(name, args, scratch))
    _report(results)


def grouped(args: argparse.Namespace, kind: str, **settings: Any) -> dict[str, Any]:
    """A whole grouping with Prill, one thread: read, hash, group, write."""
    import numpy as np
    import pyarrow as pa

    from prill.corpus.columns import ColumnInfo, read_columns, write_columns
    from prill.corpus.corpus import Corpus
    from prill.corpus.spec import CorpusSpec
    from prill.engine.local import LocalEngine
    from prill.prepare.duplicates.lines import LineDuplicates, LineSpec
    from prill.prepare.duplicates.substring import SubstringDuplicates, SubstringSpec
    from prill.prepare.measure import Grouping, GroupingInputs

    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    grouping: Grouping = (
        LineDuplicates.of(LineSpec(**settings))
        if kind == "lines"
        else SubstringDuplicates.of(SubstringSpec(**settings))
    )

    def whole(paths: list[str], out: Path) -> tuple[Any, list[Path]]:
        corpus = Corpus.open(CorpusSpec(paths=paths))
        names = ("read", "keys", "found")
        parts = {n: [out / f"{n}-{i}.parquet" for i in range(len(corpus.shards))] for n in names}
        keys = grouping.keys
        for shard in corpus.shards:
            sizes, made = [], []
            for batch in corpus.batches(shard):
                sizes.append(np.diff(batch.text_buffers()[0]))
                made += [] if keys is None else [pa.table(keys(batch))]
            read = {"n_bytes": np.concatenate(sizes)}
            write_columns(parts["read"][shard.index], read, [ColumnInfo(name="n_bytes", unit="bytes")])
            if keys is not None:
                table = pa.concat_tables(made)
                found = {name: table[name] for name in table.column_names}
                write_columns(parts["keys"][shard.index], found, keys.columns)
        n_rows = [read_columns(path, ["n_bytes"]).num_rows for path in parts["read"]]
        (out / "scratch").mkdir()
        inputs = GroupingInputs(
            corpus=corpus,
            read_parts=parts["read"],
            key_parts=[] if keys is None else parts["keys"],
            is_kept=lambda shard: np.ones(n_rows[shard], np.bool_),
            parts=parts["found"],
            scratch=out / "scratch",
            engine=LocalEngine(1),
            memory_bytes=args.memory_mb * 1_000_000,
        )
        return grouping.group(inputs), parts["read"]

    first = sorted(args.corpus.glob("*.parquet"))[0]
    with tempfile.TemporaryDirectory() as warm:
        whole([str(first)], Path(warm))
    with tempfile.TemporaryDirectory() as out:
        begin = _cpu()
        counts, read = whole([str(args.corpus / "*.parquet")], Path(out))
        seconds = _cpu() - begin
        n_bytes = sum(int(read_columns(path, ["n_bytes"])["n_bytes"].to_numpy().sum()) for path in read)
    found = f"{counts['n_repeated']} repeated, {counts['n_repeated_bytes'] / 1e6:.2f} MB"
    return _result(seconds, n_bytes, found)


def dolma(args: argparse.Namespace) -> dict[str, Any]:
    """`dolma dedupe` by paragraphs with one process."""
    program = Path(os.environ[PEER]).parent / "dolma"
    documents = Path(args.scratch) / "documents"
    with tempfile.TemporaryDirectory(dir=args.scratch) as out:
        copy = Path(out) / "documents"
        copy.symlink_to(documents)
        config = {
            "documents": [f"{copy}/*.gz"],
            "dedupe": {"name": "dd", "skip_empty": True, "paragraphs": {"attribute_name": "dup"}},
            "bloom_filter": {
                "file": f"{out}/filter.bin",
                "read_only": False,
                "estimated_doc_count": 5_000_000,
                "desired_false_positive_rate": 1e-5,
            },
            "processes": 1,
        }
        Path(out, "config.json").write_text(json.dumps(config))
        quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        begin = _cpu()
        subprocess.run([program, "--help"], check=True, **quiet)
        start = _cpu() - begin
        begin = _cpu()
        subprocess.run([program, "-c", f"{out}/config.json", "dedupe"], check=True, **quiet)
        seconds = _cpu() - begin - start
        n_repeated = n_documents = 0
        for path in sorted(Path(out).rglob("attributes/**/*.gz")):
            with gzip.open(path, "rt") as lines:
                for line in lines:
                    n_documents += 1
                    n_repeated += sum(
                        1 for _, _, score in json.loads(line)["attributes"]["dup"] if score == 1.0
                    )
    n_bytes = json.loads((documents / "size.json").read_text())
    return _result(seconds, n_bytes, f"{n_repeated} repeated")


def listed(args: argparse.Namespace, n_patterns: int, mode: str, n_words: int = 1) -> dict[str, Any]:
    """Search text in memory for a list of so many patterns, some of them words of the text."""
    from prill.features.patterns import Patterns

    text, words = _text(args.corpus), _words(args.corpus)
    rng = random.Random(n_patterns)
    letters = "abcdefghijklmnopqrstuvwxyz"
    made = {"".join(rng.choices(letters, k=rng.randint(6, 12))) for _ in range(n_patterns * n_words)}
    n_real = min(2000, n_patterns * n_words // 10)
    pool = sorted(made)[: n_patterns * n_words - n_real] + rng.sample(words, n_real)
    rng.shuffle(pool)
    patterns = Patterns.of(
        [" ".join(pool[i : i + n_words]) for i in range(0, len(pool) - n_words + 1, n_words)], mode=mode
    )
    begin = _cpu()
    patterns.find(text[0].slice(0, 1))
    built = _cpu() - begin
    begin = _cpu()
    n_found = sum(len(patterns.find(batch).starts) for batch in text)
    seconds = _cpu() - begin
    n_bytes = sum(batch.nbytes for batch in text)
    return _result(seconds, n_bytes, f"{n_found} found, tables in {built:.2f} s")


def expression(args: argparse.Namespace) -> dict[str, Any]:
    """The same 400 words as alternatives of one expression."""
    words = _words(args.corpus)
    rng = random.Random(400)
    letters = "abcdefghijklmnopqrstuvwxyz"
    listed = ["".join(rng.choices(letters, k=rng.randint(6, 12))) for _ in range(360)] + rng.sample(words, 40)
    pattern = re.compile(r"\b(?:" + "|".join(map(re.escape, listed)) + r")\b", re.IGNORECASE)
    documents, size = [], 0
    for batch in _text(args.corpus):
        for document in batch.to_pylist():
            if size < args.peer_mb * 1e6:
                documents.append(document)
                size += len(document.encode())
    begin = _cpu()
    n_found = sum(1 for document in documents for _ in pattern.finditer(document))
    return _result(_cpu() - begin, size, f"{n_found} found")


JOBS: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "dolma": dolma,
    "lines_like_dolma": lambda a: grouped(a, "lines", normal="exact", min_characters=1),
    "lines": lambda a: grouped(a, "lines"),
    "paragraphs": lambda a: grouped(a, "lines", unit="paragraph"),
    "passages": lambda a: grouped(a, "passages"),
    "re_400": expression,
    "words_400": lambda a: listed(a, 400, "token"),
    "words_1m": lambda a: listed(a, 1_000_000, "token"),
    "phrases_10k": lambda a: listed(a, 10_000, "phrase", n_words=3),
    "substrings_400": lambda a: listed(a, 400, "substring"),
    "substrings_100k": lambda a: listed(a, 100_000, "substring"),
}


def _text(corpus: Path) -> list[Any]:
    """Every fourth file, in batches of about four megabytes."""
    from prill.corpus.corpus import Corpus
    from prill.corpus.spec import CorpusSpec

    paths = [str(path) for path in sorted(corpus.glob("*.parquet"))[::4]]
    opened = Corpus.open(CorpusSpec(paths=paths))
    return [batch.text for shard in opened.shards for batch in opened.batches(shard)]


def _words(corpus: Path) -> list[str]:
    """Different words of five letters and more, from the start of the text."""
    found = {
        word.lower()
        for batch in _text(corpus)[:8]
        for document in batch.to_pylist()
        for word in re.findall(r"[^\W\d_]{5,}", document)
    }
    return sorted(found)


def _write_gzip(corpus: Path, folder: Path) -> None:
    """The corpus as dolma reads it, two files."""
    import pyarrow.parquet as pq

    folder.mkdir()
    n_bytes = number = 0
    with contextlib.ExitStack() as stack:
        names = [folder / f"{k}.json.gz" for k in range(2)]
        files = [stack.enter_context(gzip.open(name, "wt", compresslevel=1)) for name in names]
        for path in sorted(corpus.glob("*.parquet")):
            for text in pq.read_table(path, columns=["text"])["text"].to_pylist():
                files[number % 2].write(json.dumps({"id": str(number), "text": text, "source": "x"}) + "\n")
                n_bytes += len(text.encode())
                number += 1
    (folder / "size.json").write_text(json.dumps(n_bytes))


def _cpu() -> float:
    """User and system seconds of this process and of its finished children."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


def _result(seconds: float, n_bytes: int, found: str) -> dict[str, Any]:
    most = max(resource.getrusage(w).ru_maxrss for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return {"mb_s": n_bytes / 1e6 / max(seconds, 1e-9), "memory_mb": most / 1e3, "found": found}


def _run(name: str, args: argparse.Namespace, scratch: str) -> dict[str, Any]:
    command = [sys.executable, __file__, "--job", name, "--scratch", scratch, "--corpus", str(args.corpus)]
    command += ["--memory-mb", str(args.memory_mb), "--peer-mb", str(args.peer_mb)]
    result = run_alone(name, command)
    print(f"{time.strftime('%H:%M:%S')} {name} {result['mb_s']:.1f} MB/s", file=sys.stderr)
    return result


def _report(results: dict[str, list[dict[str, Any]]]) -> None:
    print("| job | MB a CPU second | all rounds | peak MB | found |")
    print("|---|---:|---|---:|---|")
    medians = {}
    for name, rows in results.items():
        medians[name] = statistics.median(row["mb_s"] for row in rows)
        shown = ", ".join(f"{row['mb_s']:.1f}" for row in rows)
        memory = max(row["memory_mb"] for row in rows)
        print(f"| {name} | {medians[name]:.1f} | {shown} | {memory:.0f} | {rows[0]['found']} |")
    for ours, peer in (("lines_like_dolma", "dolma"), ("words_400", "re_400")):
        if ours in medians and peer in medians:
            ratios = [a["mb_s"] / b["mb_s"] for a, b in zip(results[ours], results[peer], strict=True)]
            print(f"\n{ours} over {peer}: {statistics.median(ratios):.1f} times")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--corpus", default="shared", help="`shared` (PRILL_SHARED_DATA) or a Parquet folder")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--memory-mb", type=int, default=256, help="what a grouping may hold")
    parser.add_argument("--peer-mb", type=float, default=3, help="text that the expression gets")
    parser.add_argument("--job", help=argparse.SUPPRESS)
    parser.add_argument("--scratch", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.corpus == "shared":
        shared = os.environ.get("PRILL_SHARED_DATA")
        if not shared:
            sys.exit("set PRILL_SHARED_DATA, or give --corpus a folder of Parquet files")
        args.corpus = Path(shared) / "corpus"
    args.corpus = Path(args.corpus)
    return args


if __name__ == "__main__":
    main()
