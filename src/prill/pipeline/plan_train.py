"""`prill plan` for a training: what each source holds and is asked for, models, work, memory and time."""

from __future__ import annotations

from pathlib import Path

from prill.corpus.corpus import Corpus
from prill.pipeline import train_model
from prill.pipeline.estimates import duration, probe
from prill.pipeline.train import open_inputs
from prill.pipeline.train_feeds import share_points
from prill.recipe.training import TrainRecipe

__all__ = ["plan_training"]

TRAIN_FLOPS = 45e9  # of one thread on small models in bf16
PREPARE_RATE = 15e6  # text bytes a second and core: hash, tokenise, pack
BYTES_PER_TOKEN = 3.0  # of a trained vocabulary of a few thousand entries
WORKER_BYTES = 400_000_000
GUESSED_IDS = 4096


def plan_training(recipe: TrainRecipe, base: Path, *, n_workers: int) -> list[str]:
    """What a training needs, a line a fact.

    Raises:
        PrillError: the recipe or an input is wrong; tells all problems.
    """
    from prill.lm.shape import memory_bytes

    corpora = open_inputs(recipe, base)
    text = train_model.base_tokenizer_of(recipe, base)
    n_row = train_model.row_tokens(recipe, base)
    n_ids = train_model.n_text_ids(recipe, base, text) if text else recipe.tokenizer.vocab_size or GUESSED_IDS
    parts = train_model.choose_parts(recipe, vocab_size=n_ids, n_row=n_row)
    start = train_model.start_of(recipe, base, vocab_size=n_ids, n_tags=parts.n_tags, n_row=n_row)
    settings = train_model.train_settings(recipe, base, start=start, n_row=n_row)
    sources, n_bytes = _sources(recipe, corpora, settings.n_rows * n_row)
    n_jobs = len(train_model.jobs_of(recipe, settings))
    work = float(settings.flops) * recipe.seeds / (TRAIN_FLOPS * min(n_workers, n_jobs))
    shape = getattr(start, "shape", None)
    n_rows, work_done = settings.batches.largest, float(settings.flops) * recipe.seeds
    memory = (
        memory_bytes(shape, n_models=recipe.stack or 1, n_rows=n_rows)
        if shape is not None
        else 28 * start.n_params
    )
    reading = n_bytes / PREPARE_RATE / n_workers
    return [
        *sources,
        f"model      {start.n_params / 1e6:,.2f} M parameters beside the embedding, rows of {n_row} tokens, "
        f"{n_rows} a step",
        f"training   {recipe.seeds} x {settings.n_tokens:,} tokens in {settings.n_steps:,} steps, decays "
        f"included; peak rate {settings.peak_rate:.3g}; {work_done:.2g} operations",
        f"evaluated  after {', '.join(f'{n:,}' for n in settings.branch_tokens)} tokens",
        f"memory     about {(WORKER_BYTES + memory) * min(n_workers, n_jobs) / 1e9 + 0.4:.1f} GB",
        f"time       about {duration(10 + reading + work)} with {n_workers} workers: "
        f"{duration(reading)} to read and tokenise, {duration(work)} to train",
    ]


def _sources(recipe: TrainRecipe, corpora: dict[str, Corpus], n_tokens: int) -> tuple[list[str], int]:
    """A line a source, and the bytes of all of them."""
    points = share_points(
        list(recipe.sources),
        {name: spec.weight for name, spec in recipe.sources.items()},
        [(point.at, point.weights) for point in recipe.weights],
    )
    lines, total = [], 0
    for number, name in enumerate(recipe.sources):
        n_documents, n_bytes = probe(corpora[name])
        asked = max(shares[number] for _, shares in points) * n_tokens
        held = max(1.0, n_bytes / BYTES_PER_TOKEN)
        lines.append(
            f"source     {name}: about {n_documents:,} documents, {n_bytes / 1e6:,.1f} MB, {held:,.0f} "
            f"tokens; at most {asked:,.0f} are asked for, {asked / held:.2f} passes"
        )
        total += n_bytes
    return lines, total
