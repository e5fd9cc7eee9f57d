"""Token counts and ids: Prill against the tokenizers library and tiktoken, the same merges, in one sitting.

    python bench/token_counts.py [--corpus shared | --corpus DIR] [--mb 40] [--rounds 3] [--vocab 16384]

The corpus is a folder of Parquet files with a `text` column; `shared` is `corpus` in the folder that the
environment variable PRILL_SHARED_DATA names. A byte-level BPE is trained on every eighth document. Each job
is a process of its own, run in turn, round by round; figures are CPU seconds (user + system, all threads)
after imports, loading and compiling, medians over rounds. Prill starts from Arrow text with empty memos; the
others are handed lists of Python strings that were made before the clock started. Peers run with the
interpreter named by PRILL_PEER_TOKENIZERS (needs tokenizers, tiktoken and pyarrow), or this one.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

BATCH = 800
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


def main() -> None:
    """Run all jobs round by round and print the table."""
    args = _arguments()
    if args.job:
        print(json.dumps(JOBS[args.job](args)))
        return
    peer = os.environ.get("PRILL_PEER_TOKENIZERS", sys.executable)
    results: dict[tuple[str, int], list[dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        tokenizer = args.tokenizer or Path(scratch) / "tokenizer.json"
        if args.tokenizer is None:
            _run("train", 1, args, tokenizer, sys.executable)
        for _ in range(args.rounds):
            for job in ("count", "encode", "library", "tiktoken"):
                for n_threads in (1, 2):
                    interpreter = sys.executable if job in ("count", "encode") else peer
                    row = _run(job, n_threads, args, tokenizer, interpreter)
                    if row is not None:
                        results.setdefault((job, n_threads), []).append(row)
    _report(results)


def train(args: argparse.Namespace) -> dict[str, Any]:
    """Train the tokenizer that all jobs use."""
    from prill.corpus.tokenizer import train_bpe

    args.tokenizer.write_bytes(train_bpe(_texts(args, every=8).to_pylist(), args.vocab))
    return {}


def ours(args: argparse.Namespace, *, wants_ids: bool) -> dict[str, Any]:
    """Counts or ids with Prill."""
    from concurrent.futures import ThreadPoolExecutor

    import numpy as np
    import pyarrow as pa

    from prill.features import token_counts

    texts, content = _texts(args), args.tokenizer.read_bytes()
    loading = time.process_time()
    counter = token_counts.TokenCounter.of(content)
    load_s = time.process_time() - loading
    _ = counter.encode(texts.slice(0, 1)), counter.count(texts.slice(0, 1))
    token_counts._counter.cache_clear()
    counter = token_counts.TokenCounter.of(content)
    batches = [texts.slice(first, BATCH) for first in range(0, len(texts), BATCH)]

    def work(batch: pa.Array) -> tuple[int, np.ndarray | None]:
        if not wants_ids:
            return int(counter.count(batch)[0].sum()), None
        tokens = counter.encode(batch)
        return len(tokens.ids), tokens.ids

    with ThreadPoolExecutor(args.threads) as pool:
        return {
            **_measure(lambda: sum(n for n, _ in pool.map(work, batches)), texts.nbytes),
            "load_s": load_s,
        }


def library(args: argparse.Namespace) -> dict[str, Any]:
    """`encode_batch_fast` of the tokenizers library."""
    from tokenizers import Tokenizer

    tokenizer, texts = Tokenizer.from_file(str(args.tokenizer)), _texts(args)
    tokenizer.encode_special_tokens = True
    lists = [texts.slice(first, BATCH).to_pylist() for first in range(0, len(texts), BATCH)]

    def work() -> int:
        return sum(
            len(found)
            for batch in lists
            for found in tokenizer.encode_batch_fast(batch, add_special_tokens=False)
        )

    return _measure(work, texts.nbytes)


def tiktoken(args: argparse.Namespace) -> dict[str, Any]:
    """`encode_ordinary_batch` of tiktoken with the same merges and pattern."""
    import tiktoken

    texts = _texts(args)
    ranks = _ranks(json.loads(args.tokenizer.read_bytes())["model"]["merges"])
    encoding = tiktoken.Encoding("same", pat_str=GPT2, mergeable_ranks=ranks, special_tokens={})
    lists = [texts.slice(first, BATCH).to_pylist() for first in range(0, len(texts), BATCH)]

    def work() -> int:
        return sum(
            len(ids)
            for batch in lists
            for ids in encoding.encode_ordinary_batch(batch, num_threads=args.threads)
        )

    return _measure(work, texts.nbytes)


def _ranks(merges: list[Any]) -> dict[bytes, int]:
    own = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [b for b in range(256) if b not in set(own)]
    letters = {**{chr(b): b for b in own}, **{chr(256 + k): b for k, b in enumerate(others)}}
    ranks = {bytes([b]): b for b in range(256)}
    for pair in merges:
        word = "".join(pair.split(" ") if isinstance(pair, str) else pair)
        ranks.setdefault(bytes(letters[letter] for letter in word), len(ranks))
    return ranks


def _texts(args: argparse.Namespace, *, every: int = 1) -> Any:
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = Path(os.environ["PRILL_SHARED_DATA"], "corpus") if args.corpus == "shared" else Path(args.corpus)
    tables = [pq.read_table(path, columns=["text"]) for path in sorted(folder.glob("*.parquet"))]
    texts = pa.concat_tables(tables)["text"].combine_chunks().cast(pa.large_string())
    rows = np.random.default_rng(0).permutation(len(texts))[::every]
    sizes = np.diff(np.frombuffer(texts.buffers()[1], np.int64)[: len(texts) + 1])[rows]
    return texts.take(pa.array(np.sort(rows[np.cumsum(sizes) <= args.mb * 1e6])))


def _measure(work: Callable[[], int], n_bytes: int) -> dict[str, Any]:
    before, wall = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    n_tokens = work()
    wall = time.perf_counter() - wall
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    peak_mb = after.ru_maxrss / 1024
    return {"cpu": n_bytes / 1e6 / cpu, "wall": n_bytes / 1e6 / wall, "n": n_tokens, "peak_mb": peak_mb}


def _run(
    job: str, n_threads: int, args: argparse.Namespace, tokenizer: Path, interpreter: str
) -> dict[str, Any] | None:
    needed = {"library": "tokenizers", "tiktoken": "tiktoken"}.get(job, "")
    if needed and interpreter == sys.executable and importlib.util.find_spec(needed) is None:
        print(f"{job} is left out: {needed} is not installed here, and PRILL_PEER_TOKENIZERS is not set")
        return None
    command = [
        interpreter,
        __file__,
        "--job",
        job,
        "--threads",
        str(n_threads),
        "--tokenizer",
        str(tokenizer),
    ]
    command += ["--corpus", str(args.corpus), "--mb", str(args.mb), "--vocab", str(args.vocab)]
    env = {**os.environ, "RAYON_NUM_THREADS": str(n_threads), "TOKENIZERS_PARALLELISM": "true"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"{job} failed: {done.stderr.strip().splitlines()[-1:]}")
        return None
    return dict(json.loads(done.stdout))


def _report(results: dict[tuple[str, int], list[dict[str, Any]]]) -> None:
    base = statistics.median(row["cpu"] for row in results["library", 1])
    print("| job | threads | MB a CPU second | against the library | MB a second, wall | tokens | peak MB |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for (job, n_threads), rows in results.items():
        cpu, wall, peak = (statistics.median(row[key] for row in rows) for key in ("cpu", "wall", "peak_mb"))
        tokens = "/".join(sorted({f"{row['n']:,}" for row in rows}))
        print(f"| {job} | {n_threads} | {cpu:.1f} | {cpu / base:.1f}x | {wall:.1f} | {tokens} | {peak:.0f} |")
    loads = [row["load_s"] for row in results.get(("count", 1), [])]
    print(f"\nreading the tokenizer into tables: {statistics.median(loads):.2f} s" if loads else "")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--corpus", default="shared")
    parser.add_argument("--mb", type=float, default=40)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--vocab", type=int, default=16384)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--tokenizer", type=Path)
    parser.add_argument("--job", choices=JOBS)
    return parser.parse_args()


JOBS: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "train": train,
    "count": lambda args: ours(args, wants_ids=False),
    "encode": lambda args: ours(args, wants_ids=True),
    "library": library,
    "tiktoken": tiktoken,
}

if __name__ == "__main__":
    main()
