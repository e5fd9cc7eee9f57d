"""Language, script, personal data, URLs, age and repair: speed beside other tools in one run.

Usage: python bench/pii_language.py [--corpus shared|FOLDER_OF_PARQUET] [--megabytes 20] [--rounds 3]

`shared` reads `corpus/` under PRILL_SHARED_DATA. Each round runs every tool once, on one thread, over the
same batches of 4 MB; the figure is the median, in megabytes of UTF-8 text a CPU second, start and reading
taken off. Peers get 200 of the same documents, since they are slow: py3langid in this interpreter (the same
beginnings), our own patterns as plain regular expressions, and datatrove's PIIFormatter in the interpreter
that PRILL_PEER_DATATROVE names (skipped when unset).
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from prill.corpus.batch import Batch, Piece, regroup, text_buffers, text_bytes
from prill.features._pii_oracle import plain_spans
from prill.features.html import is_html
from prill.features.language import identify_languages
from prill.features.repair import repair_texts
from prill.features.scripts import count_scripts
from prill.prepare.age import Age, AgeSpec
from prill.prepare.language import Language, LanguageSpec
from prill.prepare.pii import Pii, PiiSpec
from prill.prepare.urls import Urls, UrlSpec

_FIELDS = ("text", "url", "timestamp")
_PEER = """
import sys, time
import pyarrow.parquet as pq
from datatrove.pipeline.formatters.pii import PIIFormatter
texts = pq.read_table(sys.argv[1])["text"].to_pylist()
formatter = PIIFormatter()
start = time.process_time()
for text in texts:
    formatter.format(text)
print(time.process_time() - start)
"""


def read_batches(corpus: str, n_bytes: int) -> list[Batch]:
    """Batches of documents drawn evenly from all files, at most n_bytes of text."""
    folder = Path(os.environ["PRILL_SHARED_DATA"]) / "corpus" if corpus == "shared" else Path(corpus)
    tables = []
    for path in sorted(folder.glob("*.parquet")):
        table = pq.read_table(path)
        names = [name for name in _FIELDS if name in table.column_names]
        tables.append(table.select(names).cast(pa.schema([(name, pa.large_string()) for name in names])))
    whole = pa.concat_tables(tables, promote_options="default").combine_chunks()
    order = np.random.default_rng(0).permutation(len(whole))
    sizes = np.cumsum(np.diff(text_buffers(whole["text"].combine_chunks())[0])[order])
    chosen = whole.take(np.sort(order[: max(1, int(np.searchsorted(sizes, n_bytes)))]))
    columns = {name: chosen[name].combine_chunks() for name in chosen.column_names}
    return list(regroup([Piece(columns=columns)], 0))


def timed(work: Callable[[Batch], object], batches: Sequence[Batch]) -> float:
    start = time.process_time()
    for batch in batches:
        work(batch)
    return time.process_time() - start


def measures() -> dict[str, Callable[[Batch], object]]:
    """What is timed, by name; the rows of the table."""
    return {
        "language, 256 then 1024 bytes": lambda batch: identify_languages(batch.text),
        "language, 1024 bytes": lambda batch: identify_languages(batch.text, quick_bytes=0),
        "script": lambda batch: count_scripts(batch.text),
        "measure `language`": Language.of(LanguageSpec()),
        "measure `pii`": Pii.of(PiiSpec()),
        "pii, e-mail and IP only": Pii.of(PiiSpec(kinds=("email", "ip address"))),
        "measure `urls`": Urls.of(UrlSpec()),
        "measure `age`": Age.of(AgeSpec()),
        "repair of texts": lambda batch: repair_texts(batch.text),
        "HTML or not": lambda batch: is_html(batch.text),
    }


def peer_language(batch: Batch) -> None:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    if not hasattr(peer_language, "model"):
        peer_language.model = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)  # type: ignore[attr-defined]
    for text in batch.text.to_pylist():
        peer_language.model.classify(text[:1024])  # type: ignore[attr-defined]


def plain_patterns(batch: Batch) -> None:
    for text in batch.text.to_pylist():
        plain_spans(text)


def peer_datatrove(batch: Batch) -> float | None:
    """Seconds of datatrove's formatter, e-mail and IP only; None without its interpreter."""
    python = os.environ.get("PRILL_PEER_DATATROVE")
    if not python:
        return None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sample.parquet"
        pq.write_table(pa.table({"text": batch.text}), path)
        run = subprocess.run([python, "-c", _PEER, str(path)], capture_output=True, text=True, check=True)
    return float(run.stdout.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--corpus", default="shared")
    parser.add_argument("--megabytes", type=float, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    batches = read_batches(arguments.corpus, int(arguments.megabytes * 1e6))
    sample = Batch(shard=0, first_row=0, columns={"text": batches[0].text.slice(0, 200)})
    n_bytes, n_sample = sum(text_bytes(batch.text) for batch in batches), text_bytes(sample.text)
    found: dict[str, list[float]] = {}
    tools = measures()
    for work in tools.values():
        work(batches[0])
    peer_language(sample)
    for _ in range(arguments.rounds):
        for name, work in tools.items():
            found.setdefault(name, []).append(n_bytes / 1e6 / timed(work, batches))
        found.setdefault("py3langid, 1024 characters", []).append(
            n_sample / 1e6 / timed(peer_language, [sample])
        )
        found.setdefault("our patterns as regex", []).append(n_sample / 1e6 / timed(plain_patterns, [sample]))
        seconds = peer_datatrove(sample)
        if seconds is not None:
            found.setdefault("datatrove PIIFormatter", []).append(n_sample / 1e6 / seconds)
    if "datatrove PIIFormatter" not in found:
        print("datatrove skipped: PRILL_PEER_DATATROVE is not set", file=sys.stderr)
    n_documents = sum(batch.n_rows for batch in batches)
    print(f"{n_bytes / 1e6:.1f} MB, {n_documents} documents, {arguments.rounds} rounds\n")
    print("| what | MB a CPU second | ms a MB |\n| --- | ---: | ---: |")
    for name, speeds in found.items():
        speed = statistics.median(speeds)
        print(f"| {name} | {speed:,.2f} | {1000 / speed:,.2f} |")


if __name__ == "__main__":
    main()
