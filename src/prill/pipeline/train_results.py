"""What a training leaves: models to load, the losses they reached, and exactly what they read."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
import pyarrow as pa

from prill.corpus.columns import read_columns
from prill.corpus.writers import write_parquet
from prill.errors import DataError
from prill.pipeline.dataset import write_lineage
from prill.pipeline.train_feeds import FeedPlan
from prill.pipeline.train_job import metrics_folder
from prill.pipeline.train_model import jobs_of
from prill.pipeline.train_report import TrainFindings, training_report
from prill.pipeline.train_sources import SourceStreams
from prill.pipeline.walk import Done, ShardWalk
from prill.recipe.training import TrainRecipe
from prill.report.training_render import write_training_report
from prill.run.atomic import atomic_write
from prill.run.directory import read_run
from prill.stats.intervals import mean_interval

if TYPE_CHECKING:
    from prill.lm.plan import TrainSettings

__all__ = ["Trained", "publish"]

RESULTS_VERSION = 2


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A finished training: where it lies, and the words that close it."""

    folder: Path
    models: tuple[Path, ...]
    summary: str


def publish(
    walk: ShardWalk,
    recipe: TrainRecipe,
    *,
    recipe_path: Path,
    tokenizer: Done,
    streams: Sequence[SourceStreams],
    settings: TrainSettings,
    feeds: FeedPlan,
    trained: Done,
) -> Trained:
    """Write models, account, results, lineage and report."""
    models = _export(walk, recipe, trained, tokenizer)
    account = _account(walk, recipe, settings, feeds, trained)
    folder = walk.run.path
    metrics = [metrics_folder(folder, seeds) for seeds in jobs_of(recipe, settings)]

    def build(paths: list[Path]) -> None:
        losses = pa.concat_tables(read_columns(part) for part in trained.parts)
        found = {
            "name": recipe.name,
            "n_params": settings.start.n_params,
            "n_seeds": recipe.seeds,
            "n_tokens": settings.n_tokens,
            "flops": float(settings.flops),
            "peak_rate": settings.peak_rate,
            "precision": settings.precision,
            "results": _results(losses),
            "sources": read_columns(account.parts[0]).to_pylist(),
        }
        atomic_write(paths[0], orjson.dumps(found, option=orjson.OPT_INDENT_2) + b"\n")
        atomic_write(paths[1], _summary(recipe, settings, found).encode())
        records = [r for r in read_run(folder).records if r.step != "results"]
        write_lineage(paths[2], records, {"models": models})
        told = TrainFindings(
            recipe=recipe,
            recipe_path=recipe_path,
            settings=settings,
            feeds=feeds,
            results=found["results"],
            sources=found["sources"],
            records=records,
            metrics=metrics,
        )
        write_training_report(paths[3], training_report(told))

    done = walk.at_once(
        "results",
        version=RESULTS_VERSION,
        settings={"recipe": recipe_path.read_text(encoding="utf-8")},
        parents=[trained, account, models],
        files=["training.json", "summary.txt", "lineage.json", "report.html"],
        folder=folder,
        build=build,
        label="write the results",
    )
    folders = sorted({path.parent for path in models.parts})
    return Trained(folder=folder, models=tuple(folders), summary=done.parts[1].read_text(encoding="utf-8"))


def _export(walk: ShardWalk, recipe: TrainRecipe, trained: Done, tokenizer: Done) -> Done:
    """Every evaluated model as a folder that `transformers` opens, in `models/`."""
    merges = recipe.model.lora is not None and recipe.model.lora.merge
    parents = [trained.record, tokenizer.record]
    step = walk.run.step("models", version=1, settings={"merges": merges}, parents=parents)
    root = walk.run.path / "models"
    if step.record is None:
        from prill.lm.exports import export_model

        files: list[Path] = []
        sources = sorted(trained.parts[0].parent.glob("models-*/*"))
        if not sources:
            raise DataError(
                "trained models expected, found none",
                where=str(trained.parts[0].parent),
                hint="they were exported and let go; delete this folder to train them again",
            )
        with walk.progress.step("export the models", len(sources), "models") as display:
            for source in sources:
                files += export_model(source, root, tokenizer=tokenizer.path, merges=merges)
                display.advance(1)
        record = step.finish(files, {"n_models": len(sources)})
        for source in sources:
            shutil.rmtree(source)
        return Done(record=record, parts=tuple(files))
    walk.progress.reused("export the models")
    return Done(record=step.record, parts=tuple(sorted(path for path in root.rglob("*") if path.is_file())))


def _account(
    walk: ShardWalk, recipe: TrainRecipe, settings: TrainSettings, feeds: FeedPlan, trained: Done
) -> Done:
    """Tokens by source, and by document for the first seed."""

    def build(paths: list[Path]) -> None:
        from prill.lm.feed.account import account

        tables = []
        for seed in range(recipe.seeds):
            found = account(feeds.feed(seed), settings.n_rows, row_tokens=settings.batches.row_tokens)
            column = pa.array(np.full(found.sources.num_rows, seed, np.int64))
            tables.append(found.sources.add_column(0, "seed", column))
            if seed == 0:
                write_parquet(paths[1], found.documents)
        write_parquet(paths[0], pa.concat_tables(tables))

    return walk.at_once(
        "account",
        version=1,
        settings={},
        parents=[trained],
        files=["sources.parquet", "documents.parquet"],
        folder=walk.run.path / "account",
        build=build,
        label="account the tokens",
    )


def _results(losses: pa.Table) -> list[dict[str, Any]]:
    """Bits per byte of every set at every token count: each seed's, and their mean with its interval."""
    sums = losses.group_by(["eval_set", "n_tokens", "seed"]).aggregate(
        [("loss_nats", "sum"), ("n_bytes", "sum"), ("doc", "count")]
    )
    found: dict[tuple[str, int], dict[int, tuple[float, int]]] = {}
    for row in sums.to_pylist():
        bpb = row["loss_nats_sum"] / (np.log(2) * row["n_bytes_sum"])
        key = (row["eval_set"], row["n_tokens"])
        found.setdefault(key, {})[row["seed"]] = (float(bpb), row["doc_count"])
    rows = []
    for (name, n_tokens), seeds in sorted(found.items()):
        values = [seeds[seed][0] for seed in sorted(seeds)]
        kept = [value for value in values if np.isfinite(value)]
        interval = mean_interval(kept) if len(kept) > 1 else None
        rows.append(
            {
                "set": name,
                "n_tokens": n_tokens,
                "n_documents": seeds[min(seeds)][1],
                "bits_per_byte": float(np.mean(kept)) if kept else None,
                "low": interval.low if interval else None,
                "high": interval.high if interval else None,
                "by_seed": [value if np.isfinite(value) else None for value in values],
            }
        )
    return rows


def _summary(recipe: TrainRecipe, settings: TrainSettings, found: dict[str, Any]) -> str:
    """The closing words as plain text, columns aligned."""
    models = "1 model" if recipe.seeds == 1 else f"{recipe.seeds} models"
    lines = [
        f"{recipe.name}: {models} of {settings.start.n_params / 1e6:,.2f} M parameters, "
        f"{settings.n_tokens:,} tokens each",
        "",
    ]
    table = [("measured on", "tokens", "bits per byte", "95 % interval over seeds")]
    for row in found["results"]:
        value = "diverged" if row["bits_per_byte"] is None else f"{row['bits_per_byte']:.4f}"
        interval = "-" if row["low"] is None else f"{row['low']:.4f} to {row['high']:.4f}"
        table.append((row["set"], f"{row['n_tokens']:,}", value, interval))
    lines += [*_aligned(table), ""]
    read = [("source", "tokens read", "trained on", "passes")]
    for row in found["sources"]:
        if row["seed"] == 0:
            tokens = (f"{row['n_tokens']:,}", f"{row['n_trained_tokens']:,}")
            read.append((row["source"], *tokens, f"{row['passes']:.2f}"))
    return "\n".join([*lines, *_aligned(read)]) + "\n"


def _aligned(table: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in table]
