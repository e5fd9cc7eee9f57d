"""What parts of a preparation found, for its report: copies, items of tasks, personal data, concepts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prill.audit.concepts import ConceptCounts, ConceptIndex, count_concepts, likely_concepts
from prill.audit.copies import CopyFacts, exact_copies, grouped_copies
from prill.corpus.columns import read_columns
from prill.corpus.corpus import Corpus
from prill.engine import Engine
from prill.features.keyed import derive_seed, keyed_uniform
from prill.pipeline.corpus_examples import file_names, read_texts
from prill.pipeline.preparation import Preparation
from prill.prepare.contamination.error_rates import ErrorRates, Rate, estimate_errors
from prill.prepare.contamination.measure import Contamination
from prill.prepare.contamination.report import ItemsReport, merged_reports
from prill.prepare.pii import Pii
from prill.prepare.spans import Spans
from prill.report import corpus_model as page
from prill.report.corpus_evidence import concept_report, copy_report, exact_copy_report
from prill.report.model import Fact

__all__ = ["concept_reports", "copies", "personal", "tasks"]

N_TRIED = 200  # documents that error rates are measured on
N_CONCEPTS = 1_000

_AMONG = "Among the documents that nothing before had dropped."
_GROUPED = {"near": "Near copies", "url_copy": "Documents of one URL"}
_REPEATED = {"lines": ("Repeated lines", "lines"), "substring": ("Repeated passages", "passages")}


def copies(corpus: Corpus, done: Preparation) -> list[page.DuplicateReport]:
    """Copies of every kind that was looked for, exact ones among all documents first."""
    found = [
        _copies(
            corpus, done, "Exact copies", exact_copies(list(done.read.parts), is_counted=_with_text(done))
        )
    ]
    for judged in done.judged:
        names = {info.name for info in judged.judge.columns}
        for prefix, title in _GROUPED.items():
            if f"{prefix}_size" in names:
                facts = grouped_copies(judged.parts, list(done.read.parts), prefix)
                found.append(_copies(corpus, done, title, facts))
        if judged.judge.name in _REPEATED:
            title, what = _REPEATED[judged.judge.name]
            counts = done.grouped[judged.judge.name]
            found.append(
                page.DuplicateReport(
                    title=title,
                    what=what,
                    n_clusters=int(counts.get("n_different", counts["n_repeated"])),
                    n_copies=int(counts["n_repeated"]),
                    n_bytes=int(counts["n_repeated_bytes"]),
                    note=_AMONG,
                )
            )
    return found


def _copies(corpus: Corpus, done: Preparation, title: str, facts: CopyFacts) -> page.DuplicateReport:
    found = read_texts(corpus, done, [(cluster.shard, cluster.row) for cluster in facts.largest])
    texts = {place: text for place, (text, _, _) in found.items()}
    places = file_names(corpus, done)
    if title == "Exact copies":
        return exact_copy_report(facts, texts, places)
    return copy_report(title, facts, texts, places, note=_AMONG)


def _with_text(done: Preparation) -> Callable[[int], NDArray[np.bool_]]:
    """Which documents of a shard have any text, so that bad records are no copies of one another."""

    def has_text(shard: int) -> NDArray[np.bool_]:
        n_bytes = read_columns(done.read.parts[shard], ["n_bytes"])["n_bytes"].to_numpy()
        return np.asarray(n_bytes > 0)

    return has_text


def personal(done: Preparation) -> list[page.Found]:
    """Personal data and secrets of all documents, by kind, and what was done with them."""
    for judged in done.judged:
        if isinstance(judged.judge, Pii):
            counts: dict[str, list[int]] = {}
            for part in judged.parts:
                spans = Spans.of_column(read_columns(part, ["pii"])["pii"])
                documents = np.repeat(np.arange(len(spans.offsets) - 1), np.diff(spans.offsets))
                for number, kind in enumerate(spans.names):
                    mine = documents[spans.kinds == number]
                    count = counts.setdefault(kind, [0, 0])
                    count[0] += len(mine)
                    count[1] += len(np.unique(mine))
            policy = judged.judge.policy
            return [
                page.Found(kind=kind, n_found=n, n_documents=d, action=_action(policy, kind))
                for kind, (n, d) in sorted(counts.items(), key=lambda item: (-item[1][0], item[0]))
                if n
            ]
    return []


def _action(policy: Mapping[str, Any], kind: str) -> str:
    action = policy["actions"].get(kind, "tag")
    done = {"replace": f"replaced by {policy['texts'].get(kind, '')!r}", "drop": "documents dropped"}
    return str(done.get(action, "only told"))


def tasks(corpus: Corpus, done: Preparation, *, seed: int) -> list[page.TaskOverlap]:
    """Items found, task by task; first of all tasks together, with the error rates of the finding."""
    for judged in done.judged:
        if isinstance(judged.judge, Contamination):
            made = judged.judge
            shards = range(len(judged.parts))
            report = merged_reports([ItemsReport.of(made, judged.table(shard)) for shard in shards])
            sample = _sample(corpus, done, derive_seed(seed, "contamination sample"))
            rates = estimate_errors(made, sample, seed=seed) if sample else None
            rows = [
                page.TaskOverlap(
                    task=task.task,
                    n_items=task.n_items,
                    n_dirty_items=task.n_dirty,
                    n_documents=task.n_documents,
                )
                for task in report.by_task()
            ]
            return [_all_tasks(rows, rates), *rows]
    return []


def _all_tasks(rows: Sequence[page.TaskOverlap], rates: ErrorRates | None) -> page.TaskOverlap:
    light = [] if rates is None else [rate for rate in rates.recall if rate.kind == "light edits"]
    precision = [] if rates is None else list(rates.precision)
    return page.TaskOverlap(
        task="all tasks",
        n_items=sum(row.n_items for row in rows),
        n_dirty_items=sum(row.n_dirty_items for row in rows),
        n_documents=sum(row.n_documents for row in rows),
        recall=_share_of_all(light),
        precision=_share_of_all(precision),
        rates=tuple(
            [_fact("recall", rate) for rate in light] + [_fact("precision", rate) for rate in precision]
        ),
    )


def _share_of_all(rates: Sequence[Rate]) -> float | None:
    """The share over all lengths; those that the rule does not act upon are told apart, by `rates`."""
    tried = [rate.share for rate in rates if not rate.length.startswith("below")]
    n = sum(share.n for share in tried)
    return sum(share.k for share in tried) / n if n else None


def _fact(what: str, rate: Rate) -> Fact:
    share = rate.share
    value = f"{share.estimate or 0:.3f} ({share.low:.3f} to {share.high:.3f}), {share.n:,} tried"
    return Fact(label=f"{what}, items of {rate.length} words", value=value)


def _sample(corpus: Corpus, done: Preparation, seed: int) -> list[str]:
    """Some documents of the corpus, the same however it is sharded."""
    found: list[tuple[float, tuple[int, int]]] = []
    for shard, part in enumerate(done.read.parts):
        table = read_columns(part, ["hash_low", "n_bytes"])
        draws = keyed_uniform(seed, table["hash_low"].to_numpy())
        draws[table["n_bytes"].to_numpy() == 0] = 2.0
        few = np.argsort(draws, kind="stable")[:N_TRIED]
        found += [(float(draws[row]), (shard, int(row))) for row in few if draws[row] < 1]
        found = sorted(found)[:N_TRIED]
    texts = read_texts(corpus, done, [place for _, place in found])
    return [texts[place][0] for _, place in found]


def concept_reports(
    corpus: Corpus, engine: Engine, kept: Sequence[NDArray[np.bool_]], targets: Mapping[str, Sequence[str]]
) -> list[page.ConceptReport]:
    """How often the likely concepts of each target occur, before and after, in one pass for all targets."""
    named = {name: likely_concepts(texts, limit=N_CONCEPTS) for name, texts in targets.items()}
    indexes = {name: ConceptIndex.build(concepts) for name, concepts in named.items() if concepts}
    if not indexes:
        return []
    count = _CountConcepts(corpus=corpus, indexes=tuple(indexes.values()), kept=tuple(kept))
    shards = [shard.index for shard in corpus.shards]
    parts = engine.map(count, shards, kind="threads", name="count concepts")
    reports = []
    for number, name in enumerate(indexes):
        before, after = parts[0][number]
        for part in parts[1:]:
            before, after = before + part[number][0], after + part[number][1]
        reports.append(concept_report(name, named[name], before.documents, after.documents))
    return reports


@dataclass(frozen=True, kw_only=True)
class _CountConcepts:
    """Counts the concepts of every target in one shard, in all documents and in those kept."""

    corpus: Corpus
    indexes: tuple[ConceptIndex, ...]
    kept: tuple[NDArray[np.bool_], ...]

    def __call__(self, shard: int) -> list[tuple[ConceptCounts, ConceptCounts]]:
        found = [(_nothing(index), _nothing(index)) for index in self.indexes]
        for batch in self.corpus.batches(self.corpus.shards[shard]):
            rows = np.flatnonzero(self.kept[shard][batch.first_row : batch.first_row + batch.n_rows])
            kept = batch.text.take(rows)
            for number, index in enumerate(self.indexes):
                before, after = found[number]
                found[number] = (
                    before + count_concepts(batch.text, index),
                    after + count_concepts(kept, index),
                )
        return found


def _nothing(index: ConceptIndex) -> ConceptCounts:
    zeros = np.zeros(len(index.concepts), np.int64)
    return ConceptCounts(documents=zeros, occurrences=zeros, together=zeros, n_documents=0, n_words=0)
