"""What datatrove's n-gram decontamination says about each document of a sample.

    PEER_PYTHON bench/peer_datatrove_decontamination.py SAMPLE.parquet ITEMS.jsonl OUT.json [--questions]

Runs in an interpreter that has datatrove with spaCy, not in Prill's. SAMPLE has a column `text`; ITEMS has an
object {query, label} a line. Its indexer asks for lighteval even when items are given, so its hashing is
called directly; the filter is used as it is, n = 12. --questions also indexes the n-grams of questions alone.
OUT holds the verdicts (true = contaminated), CPU seconds of the filter alone, and peak memory in MB.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import time
from pathlib import Path

os.environ.setdefault("LOGURU_LEVEL", "ERROR")


def main() -> None:
    """Build the index, judge each document, write the verdicts."""
    import pyarrow.parquet as pq
    from datatrove.data import Document
    from datatrove.pipeline.decont.n_grams import (
        NGramsDecontConfig,
        NGramsDecontFilter,
        NGramsDecontIndexer,
    )

    parser = argparse.ArgumentParser()
    parser.add_argument("sample", type=Path)
    parser.add_argument("items", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--questions", action="store_true")
    args = parser.parse_args()
    config = NGramsDecontConfig(find_query_ngrams=args.questions)
    NGramsDecontIndexer._requires_dependencies = []
    indexer = NGramsDecontIndexer(output_folder=str(args.out.parent / "unused"), config=config)
    hashes = {}
    for line in args.items.read_text().splitlines():
        item = json.loads(line)
        hashes.update(dict.fromkeys(indexer.compute_hashes(item["label"], item["query"]), "items"))
    filter_ = NGramsDecontFilter(index_folder=str(args.out.parent), config=config)
    filter_._index_hashes = hashes
    texts = pq.read_table(args.sample, columns=["text"])["text"].to_pylist()
    filter_.filter(Document(text="a first call loads the words", id="0"))
    start = time.process_time()
    verdicts = [
        filter_.filter(Document(text=text, id=str(row))) is not True for row, text in enumerate(texts)
    ]
    cpu_s = time.process_time() - start
    memory_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    args.out.write_text(json.dumps({"verdicts": verdicts, "cpu_s": cpu_s, "memory_mb": memory_mb}))


if __name__ == "__main__":
    main()
