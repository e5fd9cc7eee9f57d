"""The whole chain on the same documents: rules, near copies, DSIR, classifier; Prill against the usual tools.

    python bench/chain.py --data DIR [--rounds 3] [--peer-mb 2] [--only NAME ...]

DIR holds `corpus/*.parquet` (a `text` column) and `targets/*.jsonl`; default: PRILL_SHARED_DATA.
PRILL_PEER_DATATROVE names a Python that has datatrove with spaCy, PRILL_PEER_FASTTEXT one that has
data-selection and fastText. Every job is a process of its own with one thread, run in turn, round by round;
figures are CPU milliseconds (user + system, children included) a megabyte of text, after imports and after
compiled kernels are loaded, medians over rounds. Every step sees every document, on both sides.

`prill` reads the whole corpus from zstd Parquet and writes its columns: one pass for the rules of Gopher, C4
and FineWeb and the signatures of near copies; pairs, comparison and clusters; verdicts; a pass that counts
n-grams; a pass that gives DSIR's weights and the classifier's log odds; DSIR's choice. The peers get the
first --peer-mb in an order by hash, as JSON lines: datatrove's four filters as a chain that stops at the
first that drops, its four MinHash stages, data-selection's whole job, and fastText's prediction, a document a
call.
`commands` is all of it by `prill prepare` and `prill run`, which do more: start-up, language and script,
personal data, exact copies, a tokenizer and token counts, the data set written, and reports.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from one_thread import run_alone

GOAL = 100
TARGET = "science_textbook"
PEERS = {"datatrove": "PRILL_PEER_DATATROVE"} | dict.fromkeys(("dsir", "fasttext"), "PRILL_PEER_FASTTEXT")
PREPARE = """\
corpus: {{paths: ['{data}/corpus/*.parquet']}}
prepare: {{rules: {{presets: [gopher_repetition, gopher_quality, c4, fineweb]}}, age: null}}
output: {output}
"""
RUN = """\
corpus: {{paths: ['{data}/corpus/*.parquet']}}
targets: {{t: {{paths: ['{data}/targets/{target}.jsonl']}}}}
budget: 10%
trials: null
arms: [{{method: dsir}}, {{method: dclm, settings: {{model: '{model}', label: x}}}}]
output: {output}
"""


def main() -> None:
    """Run all jobs round by round and print the table."""
    args = _arguments()
    if args.job:
        print(json.dumps(JOBS[args.job](args)))
        return
    names = [name for name in JOBS if name != "model" and (not args.only or name in args.only)]
    names = [name for name in names if name not in PEERS or os.environ.get(PEERS[name])]
    with tempfile.TemporaryDirectory() as scratch:
        args.scratch = Path(scratch)
        _write_sample(args)
        _run("model", args)
        found: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
        for _ in range(args.rounds):
            for name in names:
                found[name].append(_run(name, args))
    _report({name: _medians(rows) for name, rows in found.items()})


def prill(args: argparse.Namespace) -> dict[str, float]:
    """The whole chain with Prill; step by step."""
    import pyarrow as pa

    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    from prill.features.fasttext_model import read_fasttext

    model = read_fasttext(args.scratch / "model.bin")
    with tempfile.TemporaryDirectory() as warm:
        _chain([str(args.scratch / "warm.parquet")], args, Path(warm), model)
    with tempfile.TemporaryDirectory() as out:
        return _chain([str(args.data / "corpus" / "*.parquet")], args, Path(out), model)


def _chain(paths: list[str], args: argparse.Namespace, out: Path, model: Any) -> dict[str, float]:
    import numpy as np
    import pyarrow as pa

    from prill.corpus.columns import ColumnInfo, read_columns, write_columns
    from prill.corpus.corpus import Corpus
    from prill.corpus.spec import CorpusSpec
    from prill.engine.local import LocalEngine
    from prill.features.keyed import keyed_gumbel
    from prill.features.ngram_counts import unicode_version
    from prill.methods.dsir import DSIR, DSIRSettings, log_ratios
    from prill.pipeline.measuring import MeasureShard, ReadDocuments
    from prill.prepare.duplicates.near import NearDuplicates, NearSpec
    from prill.prepare.measure import GroupingInputs
    from prill.prepare.rules import Rules, RulesSpec

    watch = _Watch()
    corpus = Corpus.open(CorpusSpec(paths=paths))
    shards = range(len(corpus.shards))
    rules = Rules.of(
        RulesSpec.model_validate({"presets": ["gopher_repetition", "gopher_quality", "c4", "fineweb"]})
    )
    near = NearDuplicates.of(NearSpec())
    parts = {
        name: [out / f"{name}-{i}" for i in shards] for name in ("read", "rules", "keys", "near", "score")
    }
    measure = MeasureShard(corpus=corpus, measures=(ReadDocuments(spec=corpus.spec), rules, near.keys))
    for i in shards:
        measure((i, (parts["read"][i], parts["rules"][i], parts["keys"][i])))
    watch.step("rules and signatures")
    n_rows = [read_columns(path, ["n_bytes"]).num_rows for path in parts["read"]]
    (out / "scratch").mkdir()
    near.group(
        GroupingInputs(
            corpus=corpus,
            read_parts=parts["read"],
            key_parts=parts["keys"],
            is_kept=lambda shard: np.ones(n_rows[shard], np.bool_),
            parts=parts["near"],
            scratch=out / "scratch",
            engine=LocalEngine(1),
            memory_bytes=256_000_000,
        )
    )
    for path in parts["rules"]:
        rules.drops(read_columns(path))
    watch.step("near copies and verdicts")
    dsir = DSIR(DSIRSettings())
    pool_B, n_bytes = np.zeros(10_000, np.int64), 0
    for shard in corpus.shards:
        for batch in corpus.batches(shard):
            pool_B += dsir.counts(batch.text)
            n_bytes += int(batch.text_buffers()[0][-1] - batch.text_buffers()[0][0])
    target = pa.array(_target(args), pa.large_string())
    weights = log_ratios(dsir.counts(target), pool_B, prior="pool", prior_ngrams=10_000.0)
    state = {"log_ratio": weights[None], "unicode": unicode_version()}
    watch.step("DSIR: counts")
    infos = [ColumnInfo(name="dsir"), ColumnInfo(name="classifier")]
    noisy = []
    for i, shard in enumerate(corpus.shards):
        scores: dict[str, list[Any]] = {"dsir": [], "classifier": []}
        for batch in corpus.batches(shard):
            scores["dsir"].append(dsir.score_text(state, batch.text)[0])
            scores["classifier"].append(model.log_odds(batch.text, 1))
        columns = {name: np.concatenate(found) for name, found in scores.items()}
        write_columns(parts["score"][i], columns, infos)
        keys = read_columns(parts["read"][i], ["hash_low"])["hash_low"].to_numpy()
        noisy.append(columns["dsir"] + keyed_gumbel(0, keys))
    everything = np.concatenate(noisy)
    np.save(
        out / "chosen.npy",
        np.sort(np.argpartition(-everything, len(everything) // 10)[: len(everything) // 10]),
    )
    watch.step("DSIR: weights; classifier")
    return watch.result(n_bytes)


def commands(args: argparse.Namespace) -> dict[str, float]:
    """The same by two commands, with all else that they do."""
    from prill.corpus.batch import text_bytes
    from prill.corpus.corpus import Corpus
    from prill.corpus.spec import CorpusSpec

    corpus = Corpus.open(CorpusSpec(paths=[str(args.data / "corpus" / "*.parquet")]))
    n_bytes = sum(text_bytes(batch.text) for shard in corpus.shards for batch in corpus.batches(shard))
    watch = _Watch()
    with tempfile.TemporaryDirectory() as out:
        for name, recipe in (("prepare", PREPARE), ("run", RUN)):
            path = Path(out) / f"{name}.yaml"
            path.write_text(
                recipe.format(
                    data=args.data, target=TARGET, model=args.scratch / "model.bin", output=Path(out) / name
                )
            )
            command = [sys.executable, "-m", "prill", name, str(path), "-q", "-j", "1"]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            watch.step(f"prill {name}")
    return watch.result(n_bytes)


def datatrove(args: argparse.Namespace) -> dict[str, float]:
    """Its filters in a chain, and its near copies."""
    os.environ["LOGURU_LEVEL"] = "ERROR"
    from datatrove.data import Document
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline import filters
    from datatrove.pipeline.dedup import MinhashDedupSignature, minhash
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.writers.jsonl import JsonlWriter

    rules = [
        filters.GopherRepetitionFilter(),
        filters.GopherQualityFilter(),
        filters.C4QualityFilter(),
        filters.FineWebQualityFilter(),
    ]
    for rule in rules:
        rule.filter(Document(text="The quick brown fox jumps. " * 40, id="warm"))
    config, source = minhash.MinhashConfig(), str(args.scratch / "sample")
    with tempfile.TemporaryDirectory() as out, contextlib.redirect_stdout(sys.stderr):

        def run(name: str, pipeline: list[Any], tasks: int = 1) -> None:
            logs = f"{out}/log-{name}"
            LocalPipelineExecutor(
                pipeline=pipeline, tasks=tasks, workers=1, logging_dir=logs, skip_completed=False
            ).run()

        watch = _Watch()
        run("rules", [JsonlReader(source), *rules, JsonlWriter(f"{out}/ruled", compression=None)])
        watch.step("datatrove: filters")
        run("sign", [JsonlReader(source), MinhashDedupSignature(output_folder=f"{out}/sig", config=config)])
        buckets = minhash.MinhashDedupBuckets(f"{out}/sig", f"{out}/buckets", config=config)
        run("buckets", [buckets], config.num_buckets)
        run("cluster", [minhash.MinhashDedupCluster(f"{out}/buckets", f"{out}/remove", config=config)])
        kept = JsonlWriter(f"{out}/kept", compression=None)
        run("filter", [JsonlReader(source), minhash.MinhashDedupFilter(f"{out}/remove"), kept])
        watch.step("datatrove: MinHash")
    return watch.result(_sample_bytes(args))


def dsir(args: argparse.Namespace) -> dict[str, float]:
    """data-selection's whole job, one process, with Python's `re` as published."""
    from data_selection import HashedNgramDSIR

    texts, n_bytes = _lines(args), _sample_bytes(args)
    share = n_bytes / args.corpus_bytes
    target = _target(args)[: max(1, round(share * len(_target(args))))]  # as much target to pool as in ours
    with tempfile.TemporaryDirectory() as out, contextlib.redirect_stdout(sys.stderr):
        Path(out, "target.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in target))
        shutil.copy(args.scratch / "sample" / "0.jsonl", Path(out, "raw.jsonl"))
        watch = _Watch()
        job = HashedNgramDSIR([f"{out}/raw.jsonl"], [f"{out}/target.jsonl"], f"{out}/cache", num_proc=1)
        job.tokenizer = re.compile(r"\w+|[^\w\s]+").findall
        job.fit_importance_estimator(num_tokens_to_fit="all")
        job.compute_importance_weights()
        job.resample(f"{out}/out", num_to_sample=max(1, len(texts) // 10), cache_dir=f"{out}/resampled")
        watch.step("data-selection: whole job")
    return watch.result(n_bytes)


def fasttext(args: argparse.Namespace) -> dict[str, float]:
    """The prediction of every document, a call each, from lines to lines."""
    import fasttext as package

    model = package.load_model(str(args.scratch / "model.bin"))
    model.f.predict("warm up\n", 1, 0.0, "strict")
    watch = _Watch()
    with (args.scratch / "fasttext.jsonl").open("w") as file:
        for text in _lines(args):
            line = " ".join(text.strip().splitlines())
            ((p, name),) = model.f.predict(line + "\n", 1, 0.0, "strict")
            file.write(json.dumps({"label": name, "p": p}) + "\n")
    watch.step("fastText: predict")
    return watch.result(_sample_bytes(args))


def model(args: argparse.Namespace) -> dict[str, float]:
    """The model that both sides apply, trained by fastText on the sample: its size is what matters."""
    import fasttext as package

    path = args.scratch / "train.txt"
    lines = [" ".join(text.strip().splitlines()) for text in _lines(args)]
    path.write_text("".join(f"__label__{'xy'[i % 2]} {line}\n" for i, line in enumerate(lines)))
    trained = package.train_supervised(str(path), dim=100, epoch=1, wordNgrams=2, thread=1, verbose=0)
    trained.save_model(str(args.scratch / "model.bin"))
    return {}


JOBS: dict[str, Callable[[argparse.Namespace], dict[str, float]]] = {
    "model": model,
    "datatrove": datatrove,
    "dsir": dsir,
    "fasttext": fasttext,
    "prill": prill,
    "commands": commands,
}


def _report(rows: dict[str, dict[str, float]]) -> None:
    print("| job | step | CPU ms a MB |\n| --- | --- | ---: |")
    totals = {}
    for name, row in rows.items():
        mb = row.pop("n_bytes") / 1e6
        totals[name] = 1000 * sum(row.values()) / mb
        for step, cpu_s in row.items():
            print(f"| {name} | {step} | {1000 * cpu_s / mb:.2f} |")
        print(f"| {name} | all, {mb:.1f} MB | {totals[name]:.2f} |")
    if {*PEERS, "prill"} <= set(totals):
        peers = sum(totals[name] for name in PEERS)
        times = f"{peers / totals['prill']:.0f} times (goal {GOAL})"
        print(f"\npeers {peers:.0f} ms, prill {totals['prill']:.1f} ms a MB: {times}")
        if "commands" in totals:
            print(f"by commands, with all else that they do: {peers / totals['commands']:.0f} times")


def _write_sample(args: argparse.Namespace) -> None:
    """The first documents in an order by hash, as JSON lines, and a few as Parquet to warm up with."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    texts = [
        text
        for path in sorted((args.data / "corpus").glob("*.parquet"))
        for text in pq.read_table(path, columns=["text"])["text"].to_pylist()
    ]
    args.corpus_bytes = sum(len(text.encode()) for text in texts)
    texts.sort(key=lambda text: hashlib.sha256(text.encode()).digest())
    (args.scratch / "sample").mkdir()
    n_bytes = 0
    with (args.scratch / "sample" / "0.jsonl").open("w") as file:
        for i, text in enumerate(texts):
            if n_bytes > args.peer_mb * 1e6:
                break
            file.write(json.dumps({"id": str(i), "text": text}) + "\n")
            n_bytes += len(text.encode())
    pq.write_table(pa.table({"text": texts[:50]}), args.scratch / "warm.parquet", compression="zstd")


def _lines(args: argparse.Namespace) -> list[str]:
    with (args.scratch / "sample" / "0.jsonl").open() as file:
        return [json.loads(line)["text"] for line in file]


def _sample_bytes(args: argparse.Namespace) -> int:
    return sum(len(text.encode()) for text in _lines(args))


def _target(args: argparse.Namespace) -> list[str]:
    lines = (args.data / "targets" / f"{TARGET}.jsonl").read_text().splitlines()
    return [json.loads(line)["text"] for line in lines]


class _Watch:
    """CPU seconds, children included, step by step."""

    def __init__(self) -> None:
        self.steps: dict[str, float] = {}
        self.last = _cpu()

    def step(self, name: str) -> None:
        """The time since the last step was `name`'s."""
        self.steps[name] = _cpu() - self.last
        self.last = _cpu()

    def result(self, n_bytes: int) -> dict[str, float]:
        return {**self.steps, "n_bytes": n_bytes}


def _cpu() -> float:
    use = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in use)


def _medians(rows: list[dict[str, float]]) -> dict[str, float]:
    return {key: statistics.median(row[key] for row in rows) for key in rows[0]}


def _run(name: str, args: argparse.Namespace) -> dict[str, float]:
    variable = PEERS.get("fasttext" if name == "model" else name)
    python = os.environ[variable] if variable else sys.executable
    command = [python, __file__, "--job", name, "--scratch", str(args.scratch), "--data", str(args.data)]
    command += ["--corpus-bytes", str(args.corpus_bytes)]
    return run_alone(name, command)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    shared = os.environ.get("PRILL_SHARED_DATA")
    parser.add_argument("--data", type=Path, default=Path(shared) if shared else None)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peer-mb", type=float, default=2.0, help="text that the peers get, MB")
    parser.add_argument("--only", nargs="*", choices=list(JOBS), help="jobs to run")
    parser.add_argument("--job", choices=list(JOBS), help=argparse.SUPPRESS)
    parser.add_argument("--scratch", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--corpus-bytes", type=int, default=0, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.data is None:
        parser.error("give --data, or set PRILL_SHARED_DATA")
    return args


if __name__ == "__main__":
    main()
