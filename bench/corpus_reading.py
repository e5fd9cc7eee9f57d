"""Reading speed of the corpus beside the bare libraries, as ratios within one run.

Usage: python bench/corpus_reading.py FOLDER_OF_PARQUET

Writes the documents once as Parquet (zstd, page checksums) and JSONL into a temporary folder, then reads them
with Prill and with pyarrow or orjson alone, three rounds each. Megabytes of UTF-8 text a CPU second; on a
shared machine only the ratio means anything.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from prill.corpus import CorpusSpec
from prill.corpus.corpus import Corpus
from prill.corpus.writers import write_documents


def prill_reads(path: Path) -> int:
    corpus = Corpus.open(CorpusSpec(paths=[str(path)]))
    return sum(batch.n_rows for shard in corpus.shards for batch in corpus.batches(shard))


def pyarrow_reads(path: Path) -> int:
    file = pq.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20, page_checksum_verification=True)
    return sum(batch.num_rows for batch in file.iter_batches(200, columns=["text"], use_threads=False))


def orjson_reads(path: Path) -> int:
    n_rows = 0
    with path.open("rb") as file:
        texts: list[str] = []
        for line in file:
            texts.append(orjson.loads(line)["text"])
            if len(texts) == 1_000:
                n_rows += len(pa.array(texts, pa.large_string()))
                texts = []
    return n_rows + len(texts)


def speed(read: Callable[[Path], int], path: Path, n_bytes: int) -> float:
    start = time.process_time()
    read(path)
    return n_bytes / 1e6 / (time.process_time() - start)


def main(folder: str) -> None:
    tables = [pq.read_table(path) for path in sorted(Path(folder).glob("*.parquet"))]
    n_bytes = sum(len(text.encode()) for table in tables for text in table["text"].to_pylist())
    with tempfile.TemporaryDirectory() as temporary:
        parquet, jsonl = Path(temporary) / "a.parquet", Path(temporary) / "a.jsonl"
        write_documents(parquet, tables)
        write_documents(jsonl, tables)
        for name, path, bare in (("Parquet", parquet, pyarrow_reads), ("JSONL", jsonl, orjson_reads)):
            rounds = [(speed(prill_reads, path, n_bytes), speed(bare, path, n_bytes)) for _ in range(3)]
            ours, theirs = (statistics.median(values) for values in zip(*rounds, strict=True))
            print(f"{name}: Prill {ours:.0f} MB/s, bare {theirs:.0f} MB/s, ratio {ours / theirs:.2f}")


if __name__ == "__main__":
    main(sys.argv[1])
