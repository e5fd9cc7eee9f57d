"""From a finished preparation to what its corpus report says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from prill import __version__
from prill.audit.statistics import CorpusFacts, FactsPlan
from prill.audit.top_ngrams import TopSpec, top_repeats
from prill.corpus.columns import read_columns
from prill.corpus.corpus import Corpus
from prill.features.keyed import derive_seed
from prill.pipeline.corpus_examples import (
    Chosen,
    Place,
    choose_examples,
    read_examples,
)
from prill.pipeline.corpus_found import concept_reports, copies, personal, tasks
from prill.pipeline.findings import lineage_step
from prill.pipeline.preparation import NOTHING_LEFT, Preparation, prepared_spec
from prill.pipeline.walk import ShardWalk
from prill.prepare.rules.measure import Rules
from prill.prepare.rules.table import Rule
from prill.prepare.verdict import ReasonCount
from prill.recipe import PrepareRecipe
from prill.report import corpus_model as page
from prill.report.corpus_evidence import (
    breakdown_of,
    length_histogram,
    repeat_lists,
)
from prill.report.model import Fact, InputFile, MethodNote, StepCost
from prill.run.record import Record
from prill.targets.target import read_target

__all__ = ["CorpusFindings", "corpus_report", "without_texts"]

_CATEGORIES = {  # column by title, of whichever judge has it
    "source": "source",
    "language": "language",
    "script": "script",
    "year": "year",
    "domain": "url_domain",
}


_STAGES = {  # what readers call the parts
    "read": "reading",
    "urls": "URLs",
    "pii": "personal data",
    "contamination": "benchmark items",
    "exact": "exact copies",
    "url": "same URL",
    "near": "near copies",
    "lines": "repeated lines",
    "substring": "repeated passages",
    "semantic": "same sense",
    "refine": "cleaning programs",
    "token_counts": "tokens",
}


@dataclass(frozen=True, kw_only=True)
class CorpusFindings:
    """What a corpus report is made of."""

    walk: ShardWalk
    recipe: PrepareRecipe
    recipe_path: Path
    done: Preparation
    records: Sequence[Record]

    def kept(self, shard: int) -> NDArray[np.bool_]:
        """Which documents of a shard are kept, bool, shape (D,)."""
        reasons = read_columns(self.done.verdict.parts[shard], ["drop_reason"])["drop_reason"]
        kept: NDArray[np.bool_] = pc.is_null(reasons).to_numpy()
        return kept


def corpus_report(found: CorpusFindings) -> page.CorpusReport:
    """Fill the report."""
    done, recipe = found.done, found.recipe
    read, kept = done.read.record.counts, done.prepared.record.counts
    chosen = choose_examples(done, seed=derive_seed(recipe.seed, "corpus examples"))
    examples = read_examples(found.walk.corpus, done, chosen.places())
    before, after = _facts(found)
    n_kept_bytes = kept["n_bytes"] + kept["n_bytes_cut"] - kept["n_bytes_put"]
    return page.CorpusReport(
        title=recipe.name,
        recipe=found.recipe_path.name,
        before=page.Amount(n_documents=read["n_documents"], n_bytes=read["n_bytes"]),
        kept=page.Amount(n_documents=kept["n_documents"], n_bytes=n_kept_bytes),
        prepared=page.Amount(n_documents=kept["n_documents"], n_bytes=kept["n_bytes"]),
        rules=tuple(_rules(found, chosen, examples)),
        edits=tuple(_edits(chosen, examples)),
        n_bytes_cut=kept["n_bytes_cut"],
        n_bytes_put=kept["n_bytes_put"],
        n_documents_edited=kept["n_edited"],
        lengths=tuple(_lengths(before, after)),
        breakdowns=tuple(
            breakdown_of(title, before, after, is_ordered=title == "year") for title in before.categories
        ),
        duplicates=tuple(copies(found.walk.corpus, done)),
        contamination=tuple(tasks(found.walk.corpus, done, seed=recipe.seed)),
        personal=tuple(personal(done)),
        concepts=tuple(_concepts(found)),
        repeats=_repeats(found, read["n_bytes"]),
        methods=tuple(_methods(done)),
        costs=tuple(_costs(found)),
        lineage=tuple(lineage_step(record) for record in found.records),
        inputs=tuple(_inputs(found)),
        versions=(Fact(label="Prill", value=__version__),),
        seeds=(recipe.seed,),
        recipe_text=found.recipe_path.read_text(encoding="utf-8"),
        repeat_command=f"prill prepare {found.recipe_path.name}",
        repeat_notes=(
            "The same recipe, inputs and version give the same bytes, whatever the number of workers.",
            "How long each step took on this machine: prill report RUN --timings.",
        ),
    )


def without_texts(data: page.CorpusReport) -> page.CorpusReport:
    """The report's numbers: without the documents that it shows."""
    return replace(
        data,
        rules=tuple(replace(rule, examples=()) for rule in data.rules),
        edits=tuple(replace(edit, examples=()) for edit in data.edits),
        personal=tuple(replace(kind, examples=()) for kind in data.personal),
        contamination=tuple(replace(task, examples=()) for task in data.contamination),
        duplicates=tuple(replace(kind, largest=()) for kind in data.duplicates),
        examples=(),
    )


def _rules(
    found: CorpusFindings, chosen: Chosen, examples: Mapping[Place, page.Example]
) -> list[page.RuleOutcome]:
    done = found.done
    counts = {count.reason: count for count in done.account()}
    stages = _stages(done)
    thresholds = {r.reason: f"{r.column} {r.comparison} {r.threshold:g}" for r in _quality_rules(done)}
    grouped = {_STAGES.get(name, name) for name in done.grouped}
    left, outcomes = done.read.record.counts["n_documents"], []
    n_judged: dict[str, int | None] = {}
    for reason, count in counts.items():
        stage = stages.get(reason, _STAGES["read"])
        n_judged.setdefault(stage, left if stage in grouped else None)
        left -= count.first
        rule = _rule(count, stage, n_judged[stage], chosen, examples)
        outcomes.append(replace(rule, threshold=thresholds.get(reason, "")))
    return outcomes


def _quality_rules(done: Preparation) -> list[Rule]:
    """The quality rules that judged, in order."""
    return [rule for judged in done.judged if isinstance(judged.judge, Rules) for rule in judged.judge.table]


def _methods(done: Preparation) -> list[MethodNote]:
    """Where the quality rules come from, family by family."""
    rules = _quality_rules(done)
    sources = {rule.family: rule.source for rule in rules}
    return [
        MethodNote(name=family, title=f"{sum(r.family == family for r in rules)} rules", paper=source)
        for family, source in sources.items()
    ]


def _stages(done: Preparation) -> dict[str, str]:
    """Which part of the preparation each reason belongs to, in words; quality rules by their family."""
    stages: dict[str, str] = {}
    for judged in done.judged:
        name = judged.judge.name
        reasons = list(judged.judge.drops(judged.nothing()))
        families = [reason.partition(":")[0] for reason in reasons]
        runs = [family for family, _ in groupby(families)]
        if name == "rules" and len(set(runs)) == len(runs):
            stages |= dict(zip(reasons, families, strict=True))
        else:
            stages |= dict.fromkeys(reasons, _STAGES.get(name, name))
    stages[NOTHING_LEFT] = "edits"
    return stages


def _rule(
    count: ReasonCount,
    stage: str,
    n_judged: int | None,
    chosen: Chosen,
    examples: Mapping[Place, page.Example],
) -> page.RuleOutcome:
    return page.RuleOutcome(
        reason=count.reason,
        stage=stage,
        n_fired=count.fired,
        n_alone=count.alone,
        first=page.Amount(n_documents=count.first, n_bytes=count.first_bytes),
        n_judged=n_judged,
        examples=tuple(examples[place] for place in chosen.reasons.get(count.reason, ())),
    )


def _edits(chosen: Chosen, examples: Mapping[Place, page.Example]) -> list[page.EditOutcome]:
    return [
        page.EditOutcome(
            kind=kind,
            stage=stage,
            n_documents=count.n_documents,
            n_spans=count.n_spans,
            n_bytes=count.n_bytes,
            replacement=count.replacement,
            examples=tuple(examples[place] for _, place in count.places),
        )
        for (stage, kind), count in chosen.edits.items()
        if count.n_spans
    ]


def _facts(found: CorpusFindings) -> tuple[CorpusFacts, CorpusFacts]:
    """Facts of all documents as they were read, and of those kept as they are now."""
    columns: dict[str, tuple[int, str]] = {}
    for number, judged in enumerate(found.done.judged):
        for info in judged.judge.columns:
            columns.setdefault(info.name, (number, info.name))
    categories = {title: column for title, column in _CATEGORIES.items() if column in columns}
    words = next((name for name in ("gopher_n_words", "n_words") if name in columns), None)
    lengths = {"words": words} if words else {}
    first = FactsPlan(categories=categories, lengths={"bytes": "n_bytes", **lengths})
    second = FactsPlan(
        n_bytes="n_bytes_after", categories=categories, lengths={"bytes": "n_bytes_after", **lengths}
    )

    def of_shard(shard: int) -> tuple[CorpusFacts, CorpusFacts]:
        table = _table(found, [*first.columns, "n_bytes_after"], columns, shard)
        kept = found.kept(shard)
        return first.of(table, shard=shard), second.of(table, shard=shard, is_counted_D=kept)

    shards = [shard.index for shard in found.walk.corpus.shards]
    parts = found.walk.engine.map(of_shard, shards, kind="threads", name="facts")
    before, after = parts[0]
    for old, new in parts[1:]:
        before, after = before.merge(old), after.merge(new)
    return before, after


def _lengths(before: CorpusFacts, after: CorpusFacts) -> list[page.Histogram]:
    units = before.lengths
    drawn = [length_histogram(units[u], after.lengths[u], unit=f"{u} a document") for u in units]
    return [histogram for histogram in drawn if histogram is not None]


def _table(
    found: CorpusFindings, names: Sequence[str], columns: Mapping[str, tuple[int, str]], shard: int
) -> pa.Table:
    table = {}
    for name in dict.fromkeys(names):
        if name == "n_bytes_after":
            part = found.done.verdict.parts[shard]
        else:
            part = found.done.judged[columns[name][0]].parts[shard]
        table[name] = read_columns(part, [name])[name]
    return pa.table(table)


def _repeats(found: CorpusFindings, n_bytes: int) -> tuple[page.RepeatList, ...]:
    walk, spec = found.walk, TopSpec()
    if not found.done.prepared.record.counts["n_documents"]:
        return ()
    before = top_repeats(walk.corpus, walk.engine, spec=spec, n_bytes=n_bytes)
    left = Corpus.open(prepared_spec(walk.run.path, walk.corpus.spec))
    after = top_repeats(left, walk.engine, spec=spec, n_bytes=n_bytes, also=before)
    return repeat_lists(before, after)


def _concepts(found: CorpusFindings) -> list[page.ConceptReport]:
    walk, base = found.walk, found.recipe_path.parent
    seed = derive_seed(found.recipe.seed, "targets")
    targets = {
        name: read_target(name, spec, seed=seed, base=base).fit.to_pylist()
        for name, spec in found.recipe.targets.items()
    }
    kept = [found.kept(shard.index) for shard in walk.corpus.shards] if targets else []
    return concept_reports(walk.corpus, walk.engine, kept, targets)


def _costs(found: CorpusFindings) -> list[StepCost]:
    read, kept = found.done.read.record.counts, found.done.prepared.record.counts
    whole = {"n_documents": read["n_documents"], "n_bytes": read["n_bytes"]}
    names = ", ".join(judged.judge.name for judged in found.done.judged if judged.judge.name != "read")
    return [
        StepCost(step="measure", what=f"one pass over the text: {names}", **whole),
        StepCost(
            step="prepared",
            what="cut and write what is kept",
            n_documents=kept["n_documents"],
            n_bytes=kept["n_bytes"],
        ),
    ]


def _inputs(found: CorpusFindings) -> list[InputFile]:
    return [
        InputFile(
            path=str(f.get("path", "")),
            n_bytes=int(f.get("size", 0)),
            sha256=str(f.get("sha256", "")),
            role="corpus",
        )
        for f in found.done.read.record.inputs
    ]
