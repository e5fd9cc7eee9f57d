"""`prill plan` for a preparation: documents, temporary space, memory, time, and how near copies are found."""

from __future__ import annotations

from pathlib import Path

from prill.corpus.corpus import Corpus
from prill.pipeline.estimates import duration, probe
from prill.prepare.spec import PrepareSpec, groupings, measures

__all__ = ["plan_preparation", "preparation_seconds"]

# Measured rates of one core, text bytes a second, and what a document costs on disk.
MEASURE_RATE = 25e6
GROUP_RATE = 80e6
WRITE_RATE = 60e6
REPORT_RATE = 30e6
COLUMN_BYTES = 700  # a document: all measures
WORKER_BYTES = 400_000_000
STORED_SHARE = 0.4  # of text in compressed Parquet


def plan_preparation(spec: PrepareSpec, corpus: Corpus, base: Path, *, n_workers: int) -> list[str]:
    """What a preparation needs, a line a fact.

    Raises:
        PrillError: a list, an index or a package that a part needs is missing or wrong.
    """
    n_documents, n_bytes = probe(corpus)
    first, second = measures(spec, base), groupings(spec, base)
    scratch = max((grouping.scratch_bytes(n_documents, n_bytes) for grouping in second), default=0)
    disk = n_documents * COLUMN_BYTES + STORED_SHARE * n_bytes
    memory = spec.memory + n_workers * WORKER_BYTES
    names = [one.name for one in (*first, *second)]
    return [
        f"prepare    about {n_documents:,} documents, {n_bytes / 1e6:,.1f} MB of text: {', '.join(names)}",
        *(f"copies     {line}" for grouping in second for line in grouping.plan_lines()),
        f"temporary  at most about {scratch / 1e6:,.0f} MB",
        f"disk       at most about {disk / 1e6:,.0f} MB for columns and the prepared documents",
        f"memory     about {memory / 1e9:.1f} GB",
        f"time       about {duration(preparation_seconds(n_bytes, n_workers))} with {n_workers} workers",
    ]


def preparation_seconds(n_bytes: int, n_workers: int) -> float:
    """About how long a preparation takes, seconds."""
    rates = (MEASURE_RATE, GROUP_RATE, WRITE_RATE, REPORT_RATE)
    return 10 + n_bytes * sum(1 / rate for rate in rates) / n_workers
