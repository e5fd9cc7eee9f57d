"""From a finished training to what its report says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prill import __version__
from prill.lm.objectives.registry import OBJECTIVES
from prill.lm.samples.registry import SAMPLES
from prill.lm.steplaw import LAW_FROM, MEASURED_UP_TO, advise
from prill.pipeline.findings import lineage_step
from prill.pipeline.train_curves import incidents_of, paths_of
from prill.pipeline.train_feeds import COOLDOWN, FeedPlan
from prill.pipeline.train_job import ASKED, SIZE
from prill.pipeline.train_model import BASE_RATE, threads_of
from prill.recipe.training import TrainRecipe
from prill.report import numbers
from prill.report import training_model as page
from prill.report.corpus_words import plural
from prill.report.model import Fact, InputFile, MethodNote, StepCost
from prill.run.fingerprint import safe_name
from prill.run.record import Record

if TYPE_CHECKING:
    from prill.lm.plan import TrainSettings

__all__ = ["TrainFindings", "training_report"]

PLAIN_OBJECTIVE = "cross-entropy"


@dataclass(frozen=True, kw_only=True)
class TrainFindings:
    """What a training report is made of.

    Attributes:
        results: rows of `training.json`: every held-out set at every checkpoint.
        sources: rows of the account by source, every seed.
        records: of all finished steps.
        metrics: one folder a stack.
    """

    recipe: TrainRecipe
    recipe_path: Path
    settings: TrainSettings
    feeds: FeedPlan
    results: Sequence[Mapping[str, Any]]
    sources: Sequence[Mapping[str, Any]]
    records: Sequence[Record]
    metrics: Sequence[Path]


def training_report(found: TrainFindings) -> page.TrainingReport:
    """Fill the report."""
    recipe, settings = found.recipe, found.settings
    incidents = [note for folder in found.metrics for note in incidents_of(folder)]
    return page.TrainingReport(
        title=recipe.name,
        recipe=found.recipe_path.name,
        model=_model(recipe),
        n_models=recipe.seeds,
        n_params=settings.start.n_params,
        n_tokens=_longest(settings),
        n_steps=settings.n_steps,
        is_plain_loss=recipe.objective is None,
        reached=tuple(_reached(found.results)),
        paths=tuple(path for folder in found.metrics for path in paths_of(folder)),
        sources=tuple(_sources(found)),
        incidents=tuple(sorted(incidents, key=lambda note: (note.step, note.run))),
        facts=tuple(_facts(found)),
        settings=tuple(_settings(found)),
        warnings=tuple(_warnings(recipe)),
        methods=tuple(_methods(recipe)),
        costs=tuple(_costs(found)),
        lineage=tuple(lineage_step(record) for record in found.records),
        inputs=tuple(_inputs(found)),
        versions=(Fact(label="Prill", value=__version__),),
        seeds=tuple(range(recipe.seeds)),
        recipe_text=found.recipe_path.read_text(encoding="utf-8"),
        repeat_command=f"prill train {found.recipe_path.name}",
        repeat_notes=(
            "The same recipe, inputs and versions give the same bytes on the same processor with the same "
            "number of threads, however often the run was killed.",
            "How long each step took on this machine: prill report RUN --timings.",
        ),
    )


def _longest(settings: TrainSettings) -> int:
    """Tokens that the last model has seen."""
    return settings.batches.n_tokens(settings.course.branches[-1].stop)


def _model(recipe: TrainRecipe) -> str:
    spec = recipe.model
    if spec.base is not None:
        name = Path(spec.base).name
        how = f" with low-rank adapters of rank {spec.lora.rank}" if spec.lora else ", all of its weights"
        return f"Continued from “{name}”{how}"
    kind = f"Fresh {spec.size}"
    if spec.nested is not None:
        kind += " with smaller sizes inside"
    if spec.sparsity is not None:
        kind += f", {numbers.percent(spec.sparsity)} of its weights at zero"
    return kind


def _reached(results: Sequence[Mapping[str, Any]]) -> Iterator[page.Reached]:
    for row in results:
        yield page.Reached(
            eval_set=row["set"],
            n_tokens=row["n_tokens"],
            n_documents=row["n_documents"],
            bpb=row["bits_per_byte"],
            low=row["low"],
            high=row["high"],
            by_seed=tuple(row["by_seed"]),
            is_aside=any(mark in row["set"] for mark in (ASKED, SIZE)),
        )


def _sources(found: TrainFindings) -> Iterator[page.SourceRead]:
    wanted = wanted_shares(found.feeds)
    first = [row for row in found.sources if row["seed"] == 0]
    for row in first:
        tokens = {r["n_tokens"] for r in found.sources if r["source"] == row["source"]}
        yield page.SourceRead(
            source=row["source"],
            wanted_share=wanted.get(row["source"], 0.0),
            n_tokens=row["n_tokens"],
            n_trained_tokens=row["n_trained_tokens"],
            passes=row["passes"],
            most_passes=row["max_document_passes"],
            n_documents=row["n_documents"],
            n_documents_read=row["n_documents_read"],
            is_same=len(tokens) == 1,
        )


def wanted_shares(feeds: FeedPlan) -> dict[str, float]:
    """Share of all tokens that the weights ask of each source; a cooldown's fresh documents count apart."""
    last = feeds.cooldown_rows / feeds.n_rows
    names = [source.name for source in feeds.sources]
    points = [(min(at, 1 - last), shares) for at, shares in feeds.points]
    points.append((1 - last, points[-1][1]))
    totals = dict.fromkeys(names, 0.0)
    for (start, left), (stop, right) in pairwise(points):
        for name, one, other in zip(names, left, right, strict=True):
            totals[name] += (stop - start) * (one + other) / 2
    if last:
        shares = zip(names, feeds.points[-1][1], strict=True)
        totals |= {f"{name}, {COOLDOWN}": last * share for name, share in shares}
    return totals


def _facts(found: TrainFindings) -> Iterator[Fact]:
    recipe, settings = found.recipe, found.settings
    work = float(settings.flops) * recipe.seeds
    yield Fact(label="Models", value=f"{recipe.seeds:,}")
    yield Fact(label="Parameters", value=numbers.compact(settings.start.n_params))
    yield Fact(label="Tokens each", value=numbers.compact(_longest(settings)))
    yield Fact(label="Tokens of all work", value=numbers.compact(settings.n_tokens * recipe.seeds))
    yield Fact(label="FLOP", value=numbers.power(work))
    yield Fact(label="Precision", value=f"{settings.precision}, {settings.device}")


def _settings(found: TrainFindings) -> Iterator[Fact]:
    recipe, settings = found.recipe, found.settings
    batches = settings.batches
    largest = max(phase.n_rows for phase in batches.phases)
    ramps = "" if len(batches.phases) == 1 else f", reached over {len(batches.phases)} phases"
    law = "as the recipe says" if recipe.rows else "after the Step Law's batch"
    yield Fact(label="Model", value=_model(recipe))
    yield Fact(label="Vocabulary", value=f"{settings.start.vocab_size:,} tokens, tags included")
    yield Fact(label="Batch", value=f"{largest:,} rows of {batches.row_tokens:,} tokens{ramps}; {law}")
    yield Fact(label="Steps", value=f"{settings.n_steps:,} of one model, decays included")
    yield Fact(label="Peak learning rate", value=f"{settings.peak_rate:.4g}; {rate_origin(recipe, settings)}")
    yield Fact(label="Schedule", value=_named(settings.schedule.as_record()))
    yield Fact(label="Objective", value=_named(recipe.objective) if recipe.objective else PLAIN_OBJECTIVE)
    for name, spec in recipe.sources.items():
        if spec.samples:
            told = ", then ".join(_named(sample) for sample in spec.samples)
            yield Fact(label=f"Samples of {name}", value=told)
    beta = f"betas {settings.beta1:g} and {settings.beta2:g}"
    decay = f"decay {settings.weight_decay:g} of matrices and embeddings"
    yield Fact(label="Optimiser", value=f"AdamW, {beta}, {decay}")
    yield Fact(label="Largest gradient norm", value=f"{settings.clip_norm:g}")
    yield Fact(label="Precision", value=f"{settings.precision} products, fp32 weights")
    threads = f", {plural(threads_of(recipe), 'thread')} a training" if settings.device == "cpu" else ""
    yield Fact(label="Device", value=f"{settings.device}{threads}")
    stack = -(-recipe.seeds // len(found.metrics)) if found.metrics else 1
    yield Fact(label="Models that train as one", value=f"{stack:,}")
    cooldown = f", the last {numbers.percent(recipe.cooldown.share)} fresh" if recipe.cooldown else ""
    dry = "stops" if recipe.when_dry == "stop" else "gives its weight to the others"
    yield Fact(label="Order", value=f"drawn by seed{cooldown}; a source that is used up {dry}")


def rate_origin(recipe: TrainRecipe, settings: TrainSettings) -> str:
    """Where the peak rate comes from, in words."""
    if recipe.learning_rate is not None:
        return "as the recipe says"
    origin = advise(settings.start.n_params, recipe.tokens, settings.batches.row_tokens).origin
    said = {
        "law": "the Step Law",
        "measured": f"measured for models up to {MEASURED_UP_TO / 1e6:g} M parameters, below the Step Law's "
        "range",
        "interpolated": f"between the rate measured up to {MEASURED_UP_TO / 1e6:g} M parameters and the Step "
        f"Law from {LAW_FROM / 1e6:g} M",
    }[origin]
    is_gentle = recipe.model.base is not None and recipe.model.lora is None
    return f"{said}, times {BASE_RATE:g} for a model that is continued" if is_gentle else said


def _named(part: Mapping[str, Any]) -> str:
    """`wsd (warmup 30 steps, curve linear)`"""
    said = []
    for name, settings in part.items():
        shown = [f"{key} {value}" for key, value in (settings or {}).items() if value is not None]
        said.append(f"{name} ({', '.join(shown)})" if shown else name)
    return ", ".join(said)


def _warnings(recipe: TrainRecipe) -> Iterator[str]:
    if recipe.model.nested is not None:
        yield "Smaller sizes of one training share its weights: they are no replicates of each other."
    if recipe.model.sparsity is not None:
        yield "Sparsity is simulated: weights are held at zero, and no time is saved."


def _methods(recipe: TrainRecipe) -> Iterator[MethodNote]:
    """The objective and the transforms, once each."""
    for catalog, names in (
        (OBJECTIVES, list(recipe.objective or ())),
        (SAMPLES, [name for spec in recipe.sources.values() for sample in spec.samples for name in sample]),
    ):
        for name in dict.fromkeys(names):
            if name in catalog.names:
                about = catalog.entry(name).description
                yield MethodNote(
                    name=name,
                    title=name.replace("_", " ").capitalize(),
                    summary=f"{about.rstrip('.')}. Formula, source and settings: `prill objectives {name}`.",
                )


def _costs(found: TrainFindings) -> Iterator[StepCost]:
    labels = _labels(found.recipe)
    for record in found.records:
        if record.step in labels:
            yield StepCost(
                step=f"read {labels[record.step][1]}",
                what="read, hash and account every document",
                n_documents=int(record.counts["n_documents"]),
                n_bytes=int(record.counts["n_bytes"]),
            )
    yield StepCost(
        step="train",
        what=f"{found.recipe.seeds:,} {'model' if found.recipe.seeds == 1 else 'models'}, decays included",
        n_tokens=found.settings.n_tokens * found.recipe.seeds,
        flops=float(found.settings.flops) * found.recipe.seeds,
    )


def _inputs(found: TrainFindings) -> Iterator[InputFile]:
    labels = _labels(found.recipe)
    for record in found.records:
        role, name = labels.get(record.step, ("", ""))
        for file in record.inputs if role else ():
            yield InputFile(
                path=str(file.get("path", "")),
                n_bytes=int(file.get("size", 0)),
                sha256=str(file.get("sha256", "")),
                role=f"{role} {name}",
            )


def _labels(recipe: TrainRecipe) -> dict[str, tuple[str, str]]:
    """What the steps that read are of: role and name."""
    found = {f"read-{safe_name(name)}": ("source", name) for name in recipe.sources}
    return found | {
        f"read-{safe_name(f'evaluation {name}')}": ("evaluation", name) for name in recipe.evaluation
    }
