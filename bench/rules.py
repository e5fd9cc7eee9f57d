"""Page rules from Parquet to columns and verdicts, against datatrove and NeMo Curator, in one sitting.

    python bench/rules.py [--corpus shared | DIR] [--rounds 3] [--peer-mb 2] [--only NAME ...]

`shared` is `$PRILL_SHARED_DATA/corpus`; DIR is a folder of Parquet files with a `text` column.
PRILL_PEER_DATATROVE and PRILL_PEER_NEMO name the Pythons that have datatrove with spaCy, and nemo-curator; a
peer without its variable is left out. Every job is a process of its own, run in turn, round by round; figures
are CPU seconds (user + system) after imports and after one document has warmed everything up, medians over
rounds. `prill` reads all of the corpus, measures what the rules of Gopher (quality and repetition), C4 and
FineWeb ask, writes all measurements and C4's spans as one Parquet file a shard, reads them again, judges;
`prill 2` is the same with two threads, `prill all` adds mC4 and Dolma, `prill spacy` is the compatible
preset. Peers get the first --peer-mb of the corpus in a shuffled order, as texts in memory: `datatrove` the
chain of its four filters, each of which sees what the one before kept; `datatrove all` each filter on all;
`nemo` its 22 heuristic filters of the Gopher set on every document, which keep one number each.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

GOALS = {"datatrove": 100, "nemo": 30}
PYTHONS = {"datatrove": "PRILL_PEER_DATATROVE", "nemo": "PRILL_PEER_NEMO"}
FAMILIES = ("gopher_repetition", "gopher_quality", "c4", "fineweb")


def main() -> None:
    """Run all jobs round by round and print the tables."""
    args = _arguments()
    if args.job:
        print(json.dumps(JOBS[args.job](args)))
        return
    names = [
        name
        for name in JOBS
        if name != "sample" and (not args.only or name in args.only) and _python(name) is not None
    ]
    for peer, variable in PYTHONS.items():
        if not os.environ.get(variable):
            print(f"{peer} left out: {variable} is not set")
    results: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    with tempfile.TemporaryDirectory() as scratch:
        _run(
            "sample", args, scratch
        )  # in a process of its own: children begin with their parent's peak memory
        for _ in range(args.rounds):
            for name in names:
                results[name].append(_run(name, args, scratch))
    _report(
        {
            name: {key: statistics.median(row[key] for row in rows) for key in rows[0]}
            for name, rows in results.items()
        }
    )


def prill(
    args: argparse.Namespace, *, presets: tuple[str, ...] = FAMILIES, n_threads: int = 1
) -> dict[str, float]:
    """Read, measure, write, judge."""
    import pyarrow as pa

    from prill.corpus.columns import read_columns, write_columns
    from prill.corpus.corpus import Corpus
    from prill.corpus.spec import CorpusSpec
    from prill.prepare.rules import Rules, RulesSpec

    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    rules = Rules.of(RulesSpec.model_validate({"presets": presets}))
    corpus = Corpus.open(CorpusSpec(paths=[str(args.corpus / "*.parquet")]))
    infos = rules.columns

    def work(index: int) -> tuple[int, int, int]:
        shard = corpus.shards[index]
        path = Path(args.scratch) / f"{args.job}-{index}.parquet"
        parts, n_bytes = [], 0
        for batch in corpus.batches(shard, ("text",)):
            offsets, _ = batch.text_buffers()
            n_bytes += int(offsets[-1] - offsets[0])
            parts.append(pa.table(rules(batch)))
        table = pa.concat_tables(parts).combine_chunks()
        write_columns(path, {name: table[name] for name in table.column_names}, infos)
        drops = rules.drops(read_columns(path))
        return n_bytes, table.num_rows, int(sum(drops.values()).astype(bool).sum())

    work(0)
    watch = _Watch()
    with ThreadPoolExecutor(n_threads) as pool:
        done = list(pool.map(work, range(len(corpus.shards))))
    n_bytes, n_docs, n_dropped = (sum(row[k] for row in done) for k in range(3))
    return watch.result(n_bytes, n_docs=n_docs, n_dropped=n_dropped)


def datatrove(args: argparse.Namespace, *, is_chain: bool = True) -> dict[str, float]:
    """datatrove's filters with their defaults."""
    os.environ["LOGURU_LEVEL"] = "ERROR"
    from datatrove.data import Document
    from datatrove.pipeline.filters import (
        C4QualityFilter,
        FineWebQualityFilter,
        GopherQualityFilter,
        GopherRepetitionFilter,
    )

    filters = [GopherRepetitionFilter(), GopherQualityFilter(), C4QualityFilter(), FineWebQualityFilter()]
    texts = _sample(args)
    for one in filters:
        one.filter(Document(text="The quick brown fox jumps. " * 40, id="warm"))
    watch = _Watch()
    n_dropped = 0
    for i, text in enumerate(texts):
        document = Document(text=text, id=str(i))
        verdicts = []
        for one in filters:
            try:
                verdict = one.filter(document if is_chain else Document(text=text, id=str(i)))
            except ZeroDivisionError:  # a page without words
                verdict = False
            verdicts.append(verdict is True)
            if is_chain and verdict is not True:
                break
        n_dropped += not all(verdicts)
    return watch.result(sum(len(t.encode()) for t in texts), n_docs=len(texts), n_dropped=n_dropped)


def nemo(args: argparse.Namespace) -> dict[str, float]:
    """NeMo Curator's heuristic filters of the Gopher set with their defaults."""
    from nemo_curator.stages.text.filters import heuristic
    from nemo_curator.stages.text.filters.heuristic import repetition

    names = (  # noqa: SIM905
        "WordCountFilter MeanWordLengthFilter SymbolsToWordsFilter WordsWithoutAlphabetsFilter BulletsFilter "
        "CommonEnglishWordsFilter EllipsisFilter PunctuationFilter NonAlphaNumericFilter RepeatedLinesFilter "
        "RepeatedParagraphsFilter RepeatedLinesByCharFilter RepeatedParagraphsByCharFilter"
    ).split()
    filters = [getattr(heuristic if hasattr(heuristic, name) else repetition, name)() for name in names]
    filters += [repetition.RepeatingTopNGramsFilter(n=n) for n in (2, 3, 4)]
    filters += [repetition.RepeatingDuplicateNGramsFilter(n=n) for n in range(5, 11)]
    texts = _sample(args)
    for one in filters:
        one.keep_document(one.score_document("The quick brown fox jumps. " * 40))
    watch = _Watch()
    n_dropped = 0
    for text in texts:
        n_dropped += len(filters) > sum(one.keep_document(one.score_document(text)) for one in filters)
    return watch.result(sum(len(t.encode()) for t in texts), n_docs=len(texts), n_dropped=n_dropped)


JOBS: dict[str, Callable[[argparse.Namespace], dict[str, float]]] = {
    "datatrove": datatrove,
    "datatrove all": lambda args: datatrove(args, is_chain=False),
    "nemo": nemo,
    "prill": prill,
    "prill 2": lambda args: prill(args, n_threads=2),
    "prill all": lambda args: prill(args, presets=(*FAMILIES, "mc4", "dolma")),
    "sample": lambda args: write_sample(args),
    "prill spacy": lambda args: prill(args, presets=("fineweb_datatrove",)),
}


class _Watch:
    """CPU and wall seconds since it was made, and the peak resident memory of this process."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def result(self, n_bytes: int, *, n_docs: int, n_dropped: int) -> dict[str, float]:
        cpu_s, wall_s = time.process_time() - self._cpu, time.perf_counter() - self._wall
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        sizes = {"n_bytes": n_bytes, "n_docs": n_docs, "n_dropped": n_dropped}
        return {**sizes, "cpu_s": cpu_s, "wall_s": wall_s, "memory_bytes": memory}


def write_sample(args: argparse.Namespace) -> dict[str, float]:
    """The peers' texts."""
    import pyarrow.parquet as pq

    texts = [
        t or ""
        for p in sorted(args.corpus.glob("*.parquet"))
        for t in pq.read_table(p, columns=["text"])["text"].to_pylist()
    ]
    random.Random(0).shuffle(texts)
    n_bytes, sample = 0, []
    for text in texts:
        if n_bytes >= args.peer_mb * 1e6:
            break
        sample.append(text)
        n_bytes += len(text.encode())
    (Path(args.scratch) / "sample.json").write_text(json.dumps(sample))
    return {"n_bytes": n_bytes}


def _sample(args: argparse.Namespace) -> list[str]:
    texts: list[str] = json.loads((Path(args.scratch) / "sample.json").read_text())
    return texts


def _python(name: str) -> str | None:
    variable = PYTHONS.get(name.split()[0])
    return os.environ.get(variable) or None if variable else sys.executable


def _run(name: str, args: argparse.Namespace, scratch: str) -> dict[str, float]:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    python = _python(name) or sys.executable
    command = [python, __file__, "--job", name, "--scratch", scratch, "--corpus", str(args.corpus)]
    command += ["--peer-mb", str(args.peer_mb)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr}")
    row: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return row


def _report(medians: dict[str, dict[str, float]]) -> None:
    peers = [name for name in ("datatrove", "datatrove all", "nemo") if name in medians]
    rates = {name: row["n_bytes"] / 1e6 / row["cpu_s"] for name, row in medians.items()}
    print(
        "| job | MB | CPU s | wall s | MB/CPU s | peak MB | dropped | " + "".join(f"x {p} | " for p in peers)
    )
    print("|" + "---|" * (7 + len(peers)))
    for name, row in medians.items():
        ratios = "".join(f" {rates[name] / rates[peer]:.1f} |" for peer in peers)
        print(
            f"| {name} | {row['n_bytes'] / 1e6:.1f} | {row['cpu_s']:.2f} | {row['wall_s']:.2f} | "
            f"{rates[name]:.2f} | {row['memory_bytes'] / 1e6:.0f} | "
            f"{row['n_dropped'] / row['n_docs']:.1%} |{ratios}"
        )
    for peer, goal in GOALS.items():
        if peer in medians and "prill" in medians:
            print(f"prill: {rates['prill'] / rates[peer]:.0f} times {peer} in CPU (goal {goal})")
    if "prill" in medians and "prill 2" in medians:
        ratio = medians["prill"]["wall_s"] / medians["prill 2"]["wall_s"]
        print(f"prill: two threads {ratio:.2f} times one in wall (goal 1.8)")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--corpus", default="shared", help="`shared`, or a folder of Parquet files")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peer-mb", type=float, default=2.0, help="text that peers get, MB")
    parser.add_argument("--only", nargs="*", choices=list(JOBS), help="jobs to run")
    parser.add_argument("--job", choices=list(JOBS), help=argparse.SUPPRESS)
    parser.add_argument("--scratch", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.corpus == "shared":
        shared = os.environ.get("PRILL_SHARED_DATA")
        if not shared:
            parser.error("set PRILL_SHARED_DATA, or give --corpus DIR")
        args.corpus = Path(shared) / "corpus"
    args.corpus = Path(args.corpus)
    return args


if __name__ == "__main__":
    main()
