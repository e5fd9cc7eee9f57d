"""The whole of preparation, end to end: megabytes of text a CPU second, where the time goes, memory.

python bench/preparation.py --corpus FOLDER --tasks 'TASKS/*.jsonl' [--rounds 3]

Runs `prill prepare` in processes of their own: rules, language and script, personal data, decontamination,
exact and near copies, reading and writing included. "steps" leaves out start-up and the report; "process"
is everything, compiled kernels loaded from the disk. One worker, then two. Then each measure alone.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from prill.corpus.batch import text_bytes
from prill.corpus.corpus import Corpus
from prill.pipeline.measuring import ReadDocuments
from prill.prepare.spec import groupings, measures
from prill.recipe import PrepareRecipe, load_any_recipe
from prill.run.events import timings

RECIPE = """\
corpus: {{paths: ['{corpus}/*.parquet']}}
prepare:
  rules: {{presets: [gopher_repetition, gopher_quality, c4, fineweb]}}
  age: null
  contamination: {{tasks: [{{paths: ['{tasks}']}}]}}
output: {output}
"""
STEPS_APART = {"report", "lineage"}


def run(recipe: Path, output: Path, workers: int) -> dict[str, float]:
    """CPU and wall seconds of one whole preparation, and its peak memory."""
    code = "from prill.cli import main; main()"
    command = [
        sys.executable,
        "-c",
        code,
        "prepare",
        str(recipe),
        "-q",
        "-j",
        str(workers),
        "-o",
        str(output),
    ]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begun = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env={**os.environ, "NO_COLOR": "1"})
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    steps = {t.step: t for t in timings(output)}
    shared = {t.cpu_s for t in steps.values() if t.step in {"read", "rules", "pii"}}  # one pass, told thrice
    apart = STEPS_APART | {"language", "rules", "pii", "contamination", "near_keys", "read"}
    rest = [t for name, t in steps.items() if name not in apart]
    walls = max(t.elapsed_s for t in steps.values() if t.step == "read") + sum(t.elapsed_s for t in rest)
    return {
        "measure": max(shared),
        "groups": sum(t.cpu_s for t in rest if t.step not in {"verdict", "prepared"}),
        "verdict": sum(t.cpu_s for t in rest if t.step == "verdict"),
        "write": sum(t.cpu_s for t in rest if t.step == "prepared"),
        "report": steps["report"].cpu_s,
        "process": spent,
        "steps_wall": walls,
        "wall": time.perf_counter() - begun,
        "peak_mb": max(t.peak_memory_bytes for t in steps.values() if t.step not in STEPS_APART) / 1e6,
    }


def alone(recipe: PrepareRecipe, base: Path, n_shards: int) -> list[tuple[str, float]]:
    """CPU milliseconds a megabyte of reading and of each measure, over the first shards, warm."""
    corpus = Corpus.open(recipe.corpus, base)
    shards = corpus.shards[:n_shards]
    begun = time.process_time()
    batches = [batch for shard in shards for batch in corpus.batches(shard, corpus.fields)]
    found = [("reading", time.process_time() - begun)]
    made = [ReadDocuments(spec=recipe.corpus), *measures(recipe.prepare, base)]
    made += [g.keys for g in groupings(recipe.prepare, base) if g.keys is not None]
    for measure in made:
        measure(batches[0])
        rounds = []
        for _ in range(3):
            begun = time.process_time()
            for batch in batches:
                measure(batch)
            rounds.append(time.process_time() - begun)
        found.append((measure.name, min(rounds)))
    n_megabytes = sum(text_bytes(batch.text) for batch in batches) / 1e6
    return [(name, 1000 * seconds / n_megabytes) for name, seconds in found]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--corpus", required=True, type=Path, help="folder of Parquet files")
    parser.add_argument("--tasks", required=True, help="glob of task items")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        recipe = Path(folder) / "recipe.yaml"
        recipe.write_text(
            RECIPE.format(corpus=arguments.corpus.resolve(), tasks=arguments.tasks, output="none")
        )
        made = load_any_recipe(recipe)
        assert isinstance(made, PrepareRecipe)
        corpus = Corpus.open(made.corpus)
        n_megabytes = sum(text_bytes(b.text) for s in corpus.shards for b in corpus.batches(s)) / 1e6
        print(f"{arguments.corpus}: {n_megabytes:,.1f} MB of text, {len(corpus.shards)} shards")
        run(recipe, Path(folder) / "warm", 2)
        rows = {1: [], 2: []}  # type: dict[int, list[dict[str, float]]]
        for number in range(arguments.rounds):
            for workers in rows:
                rows[workers].append(run(recipe, Path(folder) / f"run-{number}-{workers}", workers))
        _table(rows, n_megabytes)
        print("\n| alone, warm | ms a MB |\n| --- | ---: |")
        for name, milliseconds in alone(made, Path(folder), 12):
            print(f"| {name} | {milliseconds:.2f} |")


def _table(rows: dict[int, list[dict[str, float]]], n_megabytes: float) -> None:
    print("\n| CPU seconds (medians) | 1 worker | 2 workers |\n| --- | ---: | ---: |")
    middle = {w: {k: statistics.median(row[k] for row in rows[w]) for k in rows[w][0]} for w in rows}
    for key in ("measure", "groups", "verdict", "write", "report", "process"):
        print(f"| {key} | {middle[1][key]:.2f} | {middle[2][key]:.2f} |")
    steps = {w: sum(middle[w][k] for k in ("measure", "groups", "verdict", "write")) for w in rows}
    print(f"| **steps, MB a CPU second** | **{n_megabytes / steps[1]:.1f}** | {n_megabytes / steps[2]:.1f} |")
    whole = {w: n_megabytes / (middle[w]["process"] - middle[w]["report"]) for w in rows}
    print(f"| process without report, MB a CPU second | {whole[1]:.1f} | {whole[2]:.1f} |")
    print(f"| steps, wall seconds | {middle[1]['steps_wall']:.2f} | {middle[2]['steps_wall']:.2f} |")
    print(f"| peak memory, MB | {middle[1]['peak_mb']:.0f} | {middle[2]['peak_mb']:.0f} |")


if __name__ == "__main__":
    main()
