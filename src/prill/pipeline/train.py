"""`prill train`: from a recipe's file to trained models, their losses and the account of what they read."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from prill.corpus.corpus import Corpus
from prill.corpus.tokenizer import TextTokenizer, load_tokenizer, train_bpe
from prill.engine.failure import Retry
from prill.engine.local import LocalEngine
from prill.features.keyed import derive_seed
from prill.features.token_counts import TokenCounter
from prill.lm.samples.swaps import Swaps
from prill.pipeline import train_model
from prill.pipeline.inputs import Attempts, available_cores
from prill.pipeline.place import remember_place
from prill.pipeline.telling import counters, followed
from prill.pipeline.train_feeds import FeedPlan, SourcePlan, share_points
from prill.pipeline.train_job import HeldOut, TrainJob, metrics_folder, run_job
from prill.pipeline.train_results import Trained, publish
from prill.pipeline.train_sources import (
    ASKED,
    HELD_OUT,
    REST,
    TRAIN,
    Share,
    SourceStreams,
    read_source,
    sample_of,
    stream_source,
)
from prill.pipeline.walk import Done, ShardWalk
from prill.recipe import load_train_recipe
from prill.recipe.training import TrainRecipe
from prill.run.atomic import atomic_write
from prill.run.directory import RunDirectory
from prill.run.progress import choose_progress
from prill.run.signals import stop_on_signals

if TYPE_CHECKING:
    from prill.lm.distributed import World
    from prill.lm.plan import TrainSettings

__all__ = ["open_inputs", "train_recipe"]

TRAIN_VERSION = 1
RATE_SAMPLE = 400_000
BYTES_PER_TOKEN = 4.0
"""What a source is taken to need where its sample is empty."""


def train_recipe(
    path: Path, *, output: Path | None, n_workers: int | None, is_quiet: bool, accept_changes: bool
) -> Trained | None:
    """Train the models of a recipe, or go on with it.

    Under torchrun all processes train together: the main one does everything else, and the others return
    None.

    Args:
        path: the recipe's file; its relative paths start from its folder.
        output, n_workers, is_quiet, accept_changes: as for `prill run`.
    Raises:
        PrillError: the recipe or an input is wrong; tells all problems before the first step.
    """
    recipe = load_train_recipe(path)
    if int(os.environ.get("WORLD_SIZE") or 1) <= 1:
        return _train(recipe, path, output, n_workers, is_quiet=is_quiet, accept_changes=accept_changes)
    from prill.lm.backend import require_torch, resolve_device

    require_torch()
    from prill.lm.distributed import joined

    with joined(resolve_device(recipe.device)) as world:
        if not world.is_main:
            while (item := world.told()) is not None:
                run_job(item, world)
            return None
        done = _train(
            recipe, path, output, n_workers, is_quiet=is_quiet, accept_changes=accept_changes, world=world
        )
        world.told(None)
        return done


def _train(
    recipe: TrainRecipe,
    path: Path,
    output: Path | None,
    n_workers: int | None,
    *,
    is_quiet: bool,
    accept_changes: bool,
    world: World | None = None,
) -> Trained:
    base = path.resolve().parent
    folder = output or Path(os.path.normpath(base / recipe.output))
    with stop_on_signals(), choose_progress(is_quiet=is_quiet) as progress:
        corpora = open_inputs(recipe, base)
        with RunDirectory.open(
            folder, recipe.model_dump(mode="json", exclude={"output"}), accept_changes
        ) as run:
            remember_place(folder, path.resolve())

            def retried(retry: Retry) -> None:
                run.events.emit("retry", {"what": str(retry)})
                progress.note(str(retry))

            engine = LocalEngine(n_workers or available_cores(), on_retry=retried)
            walks = {
                name: ShardWalk(run=run, engine=engine, progress=progress, corpus=corpus)
                for name, corpus in corpora.items()
            }
            return _Training(recipe=recipe, base=base, walks=walks, path=path, world=world).finish()


def open_inputs(recipe: TrainRecipe, base: Path) -> dict[str, Corpus]:
    """Every corpus of the recipe, those to measure on under `evaluation: name`."""
    from prill.lm.backend import require_torch

    require_torch()
    specs = {name: spec.corpus for name, spec in recipe.sources.items()}
    specs |= {_evaluation(name): spec for name, spec in recipe.evaluation.items()}
    attempt = Attempts()
    found = {name: attempt(partial(Corpus.open, spec, base)) for name, spec in specs.items()}
    parts = attempt(
        lambda: train_model.choose_parts(recipe, vocab_size=0, n_row=recipe.model.row_tokens or 256)
    )
    for name, corpus in found.items():
        if parts is not None and corpus is not None:
            attempt(partial(train_model.check_columns, name, corpus.fields, parts))
    attempt(lambda: train_model.base_tokenizer_of(recipe, base))
    if recipe.tokenizer.path is not None:
        attempt(partial(load_tokenizer, base / recipe.tokenizer.path))
    attempt.raise_all()
    return {name: corpus for name, corpus in found.items() if corpus is not None}


def _evaluation(name: str) -> str:
    return f"evaluation {name}"


@dataclass(frozen=True, kw_only=True)
class _Training:
    """The whole way, one step after the other."""

    recipe: TrainRecipe
    base: Path
    walks: Mapping[str, ShardWalk]
    path: Path
    world: World | None = None

    @property
    def walk(self) -> ShardWalk:
        """For steps that belong to no single source."""
        return next(iter(self.walks.values()))

    def finish(self) -> Trained:
        reads = {name: read_source(walk, name) for name, walk in self.walks.items()}
        tokenizer = self._tokenizer(reads)
        n_row = train_model.row_tokens(self.recipe, self.base)
        text = load_tokenizer(tokenizer.path, eos=str(tokenizer.record.counts["eos"]))
        n_ids = train_model.n_text_ids(self.recipe, self.base, text)
        parts = train_model.choose_parts(self.recipe, vocab_size=n_ids, n_row=n_row)
        start = train_model.start_of(
            self.recipe, self.base, vocab_size=n_ids, n_tags=parts.n_tags, n_row=n_row
        )
        settings = train_model.train_settings(self.recipe, self.base, start=start, n_row=n_row)
        streams = {
            name: stream_source(
                walk,
                name,
                read=reads[name],
                tokenizer=tokenizer,
                share=self._share(name, reads[name], tokenizer, settings),
                samples=parts.samples.get(name, ()),
                first_tag=parts.first_tags.get(name, 0),
                vocab_size=start.vocab_size,
                seed=derive_seed(self.recipe.seed, f"samples {name}"),
            )
            for name, walk in self.walks.items()
        }
        feeds = self._feeds(streams, settings, text)
        feeds.feed(0)  # a source that is too small is told here, before any training
        trained = self._train(streams, settings, feeds)
        return publish(
            self.walk,
            self.recipe,
            recipe_path=self.path,
            tokenizer=tokenizer,
            streams=[streams[name] for name in self.recipe.sources],
            settings=settings,
            feeds=feeds,
            trained=trained,
        )

    def _tokenizer(self, reads: Mapping[str, Done]) -> Done:
        spec = self.recipe.tokenizer
        given = train_model.base_tokenizer_of(self.recipe, self.base)
        if given is None and spec.path:
            given = load_tokenizer(self.base / spec.path)
        seed = derive_seed(self.recipe.seed, "tokenizer")
        names = list(self.recipe.sources)

        def build(paths: list[Path]) -> Mapping[str, Any]:
            content = given.content if given else None
            if content is None:
                texts = (
                    text
                    for name in names
                    for text in sample_of(
                        self.walks[name], reads[name], n_bytes=spec.sample // len(names), seed=seed
                    )
                )
                content = train_bpe(texts, spec.vocab_size)
            atomic_write(paths[0], content)
            counter = TokenCounter.of(content)
            tokenizer = given or load_tokenizer(content)
            counts: dict[str, Any] = {"vocab_size": tokenizer.vocab_size, "eos": tokenizer.eos}
            for name in names:
                sample = pa.array(
                    list(sample_of(self.walks[name], reads[name], n_bytes=400_000, seed=seed)),
                    pa.large_string(),
                )
                n_bytes = sum(len(text.as_py().encode()) for text in sample)
                counts[f"bytes_per_token {name}"] = n_bytes / max(1, int(counter.count_batch(sample).sum()))
            return counts

        return self.walk.at_once(
            "tokenizer",
            version=1,
            settings={"vocab_size": spec.vocab_size, "sample": spec.sample, "seed": seed}
            if given is None
            else {},
            parents=[reads[name] for name in names],
            inputs=[] if given is None else [{"tokenizer": given.sha256, "eos": given.eos}],
            files=["tokenizer.json"],
            build=build,
            label="train the tokenizer" if given is None else "take the tokenizer",
        )

    def _share(self, name: str, read: Done, tokenizer: Done, settings: TrainSettings) -> Share:
        """Which documents of a source, or of an evaluation corpus (all held out), belong to which part."""
        recipe = self.recipe
        seed = derive_seed(recipe.seed, f"draw {name}")
        if name not in recipe.sources:
            return Share(train=0.0, cooldown=0.0, held_out=1.0, seed=seed)
        most = max(shares[list(recipe.sources).index(name)] for _, shares in self._points())
        n_tokens = most * settings.n_rows * settings.batches.row_tokens
        return Share.of(
            n_documents=int(read.record.counts["n_documents"]),
            n_bytes=int(read.record.counts["n_bytes"]),
            needed_bytes=n_tokens * float(tokenizer.record.counts[f"bytes_per_token {name}"]),
            held_out_bytes=recipe.held_out,
            cooldown=recipe.cooldown.share if recipe.cooldown else 0.0,
            seed=seed,
        )

    def _points(self) -> tuple[tuple[float, tuple[float, ...]], ...]:
        recipe = self.recipe
        return share_points(
            list(recipe.sources),
            {name: spec.weight for name, spec in recipe.sources.items()},
            [(point.at, point.weights) for point in recipe.weights],
        )

    def _feeds(
        self, streams: Mapping[str, SourceStreams], settings: TrainSettings, text: TextTokenizer
    ) -> FeedPlan:
        recipe, n_rows = self.recipe, settings.n_rows
        swaps = None
        if recipe.swaps is not None:
            swaps = Swaps(vocab_size=text.vocab_size, specials=(text.eos_id,), **recipe.swaps.model_dump())
        return FeedPlan(
            sources=tuple(
                SourcePlan(
                    name=name,
                    train=streams[name].path(TRAIN),
                    cooldown=streams[name].path(REST) if recipe.cooldown else None,
                    max_epochs=spec.max_epochs,
                )
                for name, spec in recipe.sources.items()
            ),
            points=self._points(),
            batches=settings.batches,
            n_rows=n_rows,
            cooldown_rows=round(recipe.cooldown.share * n_rows) if recipe.cooldown else 0,
            when_dry="error" if recipe.when_dry == "stop" else "others",
            swaps=swaps,
        )

    def _train(self, streams: Mapping[str, SourceStreams], settings: TrainSettings, feeds: FeedPlan) -> Done:
        recipe, walk = self.recipe, self.walk
        threads = train_model.threads_of(recipe) if settings.device == "cpu" else None
        groups = train_model.jobs_of(recipe, settings)
        step = walk.run.step(
            "train",
            version=TRAIN_VERSION,
            settings={
                "training": settings.as_record(),
                "feeds": [list(feeds.points), feeds.cooldown_rows, feeds.when_dry],
                "swaps": None if recipe.swaps is None else recipe.swaps.model_dump(),
                "max_epochs": [source.max_epochs for source in feeds.sources],
                "threads": threads,
                "groups": [list(group) for group in groups],
            },
            parents=[found.done.record for found in streams.values()],
        )
        parts = [step.part(number) for number in range(len(groups))]
        if step.record is not None:
            walk.progress.reused("train")
            return Done(record=step.record, parts=tuple(parts))
        held_out = tuple(_held_out(found) for found in streams.values() if found.counts["n_held_out_tokens"])
        with counters(len(groups)) as counter_files:
            jobs = [
                TrainJob(
                    seeds=seeds,
                    settings=settings,
                    feeds=feeds,
                    held_out=held_out,
                    folder=step.folder / f"training-{number:05d}",
                    models=step.folder / f"models-{number:05d}",
                    metrics=metrics_folder(walk.run.path, seeds),
                    trackers=recipe.trackers,
                    name=recipe.name,
                    counter=counter_files[number],
                    threads=threads,
                )
                for number, seeds in enumerate(groups)
            ]
            todo = [(job, part) for job, part in zip(jobs, parts, strict=True) if not step.usable_part(part)]
            total = settings.n_tokens * recipe.seeds
            with walk.progress.step("train", total, "tokens") as display:
                display.reused(total - sum(settings.n_tokens * len(job.seeds) for job, _ in todo))

                def finished(position: int, _: None) -> None:
                    step.finish_part(todo[position][1])

                with followed(display, counter_files, walk.progress.note):
                    self._work_off(todo, finished)
        counts = {"n_tokens": settings.n_tokens * recipe.seeds, "flops": float(settings.flops) * recipe.seeds}
        return Done(record=step.finish(parts, counts), parts=tuple(parts))

    def _work_off(self, todo: Sequence[tuple[TrainJob, Path]], finished: Callable[[int, None], None]) -> None:
        """Train every stack: in workers of its own, or together with the processes of torchrun."""
        if self.world is not None:
            for position, item in enumerate(todo):
                self.world.told(item)
                run_job(item, self.world)
                finished(position, None)
            return
        self.walk.engine.map(
            run_job,
            todo,
            kind="processes",
            name="train",
            on_result=finished,
            label=lambda item: item[0].label,
        )


def _held_out(found: SourceStreams) -> HeldOut:
    return HeldOut(
        name=found.name,
        tokens=found.path(HELD_OUT),
        sizes=found.done.parts[-1],
        asked=found.path(ASKED),
    )
