"""How fast the most repeated n-grams and lines of a corpus are found, against counting in plain Python.

    python bench/corpus_repeats.py --corpus shared
    python bench/corpus_repeats.py --corpus folder/of/parquet --sizes 1,2,3,10

Prints a Markdown table: MB of text a CPU second for each kernel and for the whole search (two passes over
the files, reading included), and the same of `collections.Counter` over the same tokens on the first
megabytes. All figures of one run; medians over rounds.
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import statistics
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from prill.audit.top_ngrams import TopSpec, top_repeats
from prill.corpus.batch import text_buffers
from prill.corpus.corpus import Corpus
from prill.corpus.spec import CorpusSpec
from prill.engine.local import LocalEngine
from prill.features._characters import character_table
from prill.features._top_ngrams_kernel import count_lines, count_ngrams

_TOKEN = re.compile(r"\w+|[^\w\s]+")
_PYTHON_BYTES = 4_000_000


def main() -> None:
    """Reads the command line and prints the table."""
    parser = argparse.ArgumentParser(description="Measure the search for repeated n-grams and lines.")
    parser.add_argument("--corpus", default="shared", help="'shared' (PRILL_SHARED_DATA) or a Parquet folder")
    parser.add_argument("--sizes", default="1,2,3,10", help="lengths of the n-grams, words")
    parser.add_argument("--cells", type=int, default=1 << 22, help="cells of each table, a power of two")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=1)
    given = parser.parse_args()
    folder = (
        Path(os.environ["PRILL_SHARED_DATA"]) / "corpus" if given.corpus == "shared" else Path(given.corpus)
    )
    sizes = tuple(int(n) for n in given.sizes.split(","))
    tables = [pq.read_table(path, columns=["text"]) for path in sorted(folder.glob("*.parquet"))]
    text = pa.concat_tables(tables)["text"].cast(pa.large_string()).combine_chunks()
    offsets, data = text_buffers(text)
    n_bytes = int(offsets[-1] - offsets[0])
    cells = np.zeros((len(sizes), given.cells), np.uint32)
    special = np.zeros(len(text), np.bool_)
    corpus = Corpus.open(CorpusSpec(paths=[str(folder / "*.parquet")]), folder)
    spec = TopSpec(sizes=sizes, n_cells=given.cells, sample_bytes=n_bytes)
    few, few_bytes = _first(text, _PYTHON_BYTES)
    works: list[tuple[str, int, Callable[[], object]]] = [
        (
            f"count n-grams of {sizes} words",
            n_bytes,
            lambda: count_ngrams(offsets, data, character_table(), np.array(sizes), cells, special),
        ),
        ("count lines", n_bytes, lambda: count_lines(offsets, data, 8, cells[0])),
        (
            "the whole search, both passes and reading",
            n_bytes,
            lambda: top_repeats(corpus, LocalEngine(given.workers), spec=spec, n_bytes=n_bytes),
        ),
        ("Counter over the same tokens", few_bytes, lambda: _counters(few, sizes)),
    ]
    works[0][2](), works[1][2]()  # compile
    print(f"{n_bytes / 1e6:.1f} MB of text, {len(text):,} documents, {given.rounds} rounds\n")
    print("| work | MB/s a CPU second | wall s |\n| --- | --- | --- |")
    for name, size, work in works:
        measured = [_timed(work) for _ in range(given.rounds)]
        cpu, wall = (statistics.median(column) for column in zip(*measured, strict=True))
        print(f"| {name} | {size / 1e6 / cpu:.1f} | {wall:.2f} |")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    print(f"\npeak memory of this process, corpus held: {peak:.0f} MB")


def _timed(work: Callable[[], object]) -> tuple[float, float]:
    cpu, wall = time.process_time(), time.perf_counter()
    work()
    return time.process_time() - cpu, time.perf_counter() - wall


def _first(text: pa.Array, n_bytes: int) -> tuple[list[str], int]:
    chosen, size = [], 0
    for document in text.to_pylist():
        if size > n_bytes:
            break
        chosen.append(document)
        size += len(document.encode())
    return chosen, size


def _counters(documents: list[str], sizes: tuple[int, ...]) -> list[Counter[tuple[str, ...]]]:
    counts: list[Counter[tuple[str, ...]]] = [Counter() for _ in sizes]
    for document in documents:
        words = _TOKEN.findall(document.lower())
        for n, count in zip(sizes, counts, strict=True):
            count.update(zip(*(words[i:] for i in range(n)), strict=False))
    return counts


if __name__ == "__main__":
    main()
