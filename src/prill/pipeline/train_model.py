"""What a training starts from and how it goes: the recipe's words as settings of the laboratory."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prill.corpus.tokenizer import load_tokenizer
from prill.errors import PrillError, Problem, RecipeError
from prill.lm.batches import BatchTable
from prill.lm.objectives.objective import Objective
from prill.lm.objectives.registry import OBJECTIVES
from prill.lm.ramps import length_curriculum, step_law_ramp
from prill.lm.samples.chain import tags_added
from prill.lm.samples.registry import SAMPLES
from prill.lm.samples.transform import SampleTransform
from prill.lm.schedules.span import Length
from prill.lm.tracking.health import HealthPolicy
from prill.pipeline.training import stack_size
from prill.recipe.training import ModelSpec, TrainRecipe

if TYPE_CHECKING:
    from prill.lm.learner import Start
    from prill.lm.plan import TrainSettings

__all__ = [
    "Parts",
    "choose_parts",
    "jobs_of",
    "row_tokens",
    "start_of",
    "threads_of",
    "tokenizer_of",
    "train_settings",
]


@dataclass(frozen=True, kw_only=True)
class Parts:
    """The parts that a recipe names: sample transforms by source, and what becomes of their tags.

    Attributes:
        samples: transforms of each source, in order.
        first_tags: id of each source's first tag, counted from the end of the tokenizer's vocabulary; two
            sources with the same transforms share their tags.
        n_tags: of all sources.
    """

    samples: Mapping[str, tuple[SampleTransform, ...]]
    first_tags: Mapping[str, int]
    n_tags: int


def choose_parts(recipe: TrainRecipe, *, vocab_size: int, n_row: int) -> Parts:
    """Build the transforms of every source; all problems are told at once.

    Raises:
        RecipeError: a name or a setting is unknown or refused.
    """
    given = {"row_tokens": n_row}
    samples: dict[str, tuple[SampleTransform, ...]] = {}
    problems: list[Problem] = []
    for source, spec in recipe.sources.items():
        built = []
        for number, named in enumerate(spec.samples):
            ((name, settings),) = named.items()
            where = f"sources.{source}.samples.{number}.{name}"
            try:
                built.append(SAMPLES.build(name, settings, where=where, offered=given))
            except PrillError as error:
                problems += error.problems
        samples[source] = tuple(built)
    if problems:
        raise RecipeError.of(problems)
    places: dict[str, int] = {}
    first_tags: dict[str, int] = {}
    n_tags = 0
    for source, transforms in samples.items():
        key = repr([transform.as_record() for transform in transforms])
        if key not in places:
            places[key] = n_tags
            n_tags += tags_added(transforms)
        first_tags[source] = vocab_size + places[key]
    return Parts(samples=samples, first_tags=first_tags, n_tags=n_tags)


def tokenizer_of(model: ModelSpec, base: Path) -> Path | None:
    """The tokenizer.json that a base brings; None for a fresh model."""
    if model.base is None:
        return None
    path = base / model.base / "tokenizer.json"
    if not path.is_file():
        raise RecipeError(
            "a base needs its own tokenizer.json, found none",
            where=str(base / model.base),
            hint="save the tokenizer beside the model, in the fast format",
        )
    load_tokenizer(path)
    return path


def row_tokens(recipe: TrainRecipe, base: Path) -> int:
    """Tokens of the longest row."""
    from prill.lm.shape import LADDER

    spec = recipe.model
    if spec.row_tokens is not None:
        return spec.row_tokens
    if spec.size is not None:
        return LADDER[spec.size].seq_len
    return min(1024, start_of(recipe, base, vocab_size=None, n_row=None).context)


def start_of(recipe: TrainRecipe, base: Path, *, vocab_size: int | None, n_row: int | None) -> Start:
    """Where the models come from.

    Args:
        vocab_size: ids that the streams may hold; None: not known yet, only for a base.
        n_row: tokens of a row; None: not known yet, only for a base.
    Raises:
        PrillError: the base cannot be used, or does not suit the tokenizer.
    """
    from prill.lm.starts import continued, fresh

    spec = recipe.model
    if spec.base is not None:
        lora = None if spec.lora is None else spec.lora.model_dump()
        return continued(base / spec.base, vocab_size=vocab_size, lora=lora)
    assert spec.size is not None
    assert vocab_size is not None
    nested = None if spec.nested is None else spec.nested.model_dump()
    return fresh(
        spec.size,
        vocab_size=vocab_size,
        row_tokens=n_row,
        nested=nested,
        sparsity=spec.sparsity,
        seed=recipe.seed,
    )


def train_settings(recipe: TrainRecipe, base: Path, *, start: Start, n_row: int) -> TrainSettings:
    """The settings that all seeds share, resolved to recorded values."""
    from prill.lm.backend import resolve_device, resolve_precision
    from prill.lm.plan import TrainSettings
    from prill.lm.steplaw import advise

    device = resolve_device(recipe.device)
    advice = advise(start.n_params, recipe.tokens, n_row)
    n_rows = recipe.rows or advice.n_rows
    return TrainSettings(
        start=start,
        branch_tokens=tuple(sorted({round(share * recipe.tokens) for share in recipe.checkpoints})),
        batches=_batches(recipe, n_rows, n_row),
        schedule=recipe.schedule,
        objective=_objective(recipe, base, str(device)),
        peak_rate=recipe.learning_rate or advice.peak_rate,
        weight_decay=recipe.weight_decay,
        clip_norm=recipe.clip_norm,
        precision=resolve_precision(recipe.precision, device),
        device=str(device),
        health=HealthPolicy(not_finite=recipe.on_divergence),
    )


def threads_of(recipe: TrainRecipe) -> int:
    """Threads of one training on a processor: part of what decides the last bits."""
    if recipe.threads is not None:
        return recipe.threads
    return 1 if recipe.model.size is not None else len(os.sched_getaffinity(0))


def jobs_of(recipe: TrainRecipe, settings: TrainSettings) -> list[tuple[int, ...]]:
    """Which seeds train as one stack."""
    size = 1 if recipe.model.base is not None else stack_size(recipe.stack, settings)
    seeds = range(recipe.seeds)
    return [tuple(seeds[first : first + size]) for first in range(0, len(seeds), size)]


def _objective(recipe: TrainRecipe, base: Path, device: str) -> Objective | None:
    if recipe.objective is None:
        return None
    ((name, settings),) = recipe.objective.items()
    offered: dict[str, Any] = {}
    if recipe.model.teacher is not None:
        offered["teacher"] = str(base / recipe.model.teacher)
    return OBJECTIVES.build(name, settings, where=f"objective.{name}", offered=offered)


def _batches(recipe: TrainRecipe, n_rows: int, n_row: int) -> BatchTable:
    over = _tokens_of(recipe, recipe.batch_ramp, n_rows * n_row)
    rows = step_law_ramp(n_rows=n_rows, total_tokens=over) if over else ((n_rows, None),)
    over = _tokens_of(recipe, recipe.length_ramp, n_rows * n_row)
    lengths = length_curriculum(row_tokens=n_row, over_tokens=over) if over else None
    return BatchTable.merged(row_tokens=n_row, n_rows=rows, lengths=lengths)


def _tokens_of(recipe: TrainRecipe, span: Length | None, step_tokens: int) -> int:
    """A length in tokens; 0 for none."""
    if span is None:
        return 0
    if span.unit == "share":
        return round(span.amount * recipe.tokens)
    return int(span.amount) * (step_tokens if span.unit == "steps" else 1)
