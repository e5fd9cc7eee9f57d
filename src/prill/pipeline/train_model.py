"""What a training starts from and how it goes: the recipe's words as settings of the laboratory."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from prill.corpus.tokenizer import TextTokenizer
from prill.errors import PrillError, Problem, RecipeError
from prill.lm.batches import BatchTable
from prill.lm.objectives.objective import Objective
from prill.lm.ramps import length_curriculum, step_law_ramp
from prill.lm.samples.chain import columns_needed, tags_added
from prill.lm.samples.registry import SAMPLES
from prill.lm.samples.transform import SampleTransform
from prill.lm.schedules.span import Length
from prill.lm.steplaw import BATCH_POWER_D
from prill.lm.tracking.health import HealthPolicy
from prill.pipeline.parts import objective_of
from prill.pipeline.training import stack_size
from prill.recipe.training import TrainRecipe

if TYPE_CHECKING:
    from prill.lm.learner import Start
    from prill.lm.objectives.teacher import FrozenTeacher
    from prill.lm.plan import TrainSettings

__all__ = [
    "Parts",
    "base_tokenizer_of",
    "choose_parts",
    "jobs_of",
    "n_text_ids",
    "row_tokens",
    "start_of",
    "threads_of",
    "train_settings",
]


FULL_BATCH_AT = 2 ** (0.5 / BATCH_POWER_D)
"""A ramp along the Step Law reaches the full batch at one over this of the tokens that it is laid out for."""

BASE_RATE = 0.1
"""Peak rate of a continued model over a fresh one's: a judgement, on the side of what the base knows."""

MOST_ROW_TOKENS = 1024
"""Rows of a base are no longer than this unless the recipe says so."""


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
        if recipe.length_ramp is not None and any(getattr(part, "row_tokens", None) for part in built):
            problems.append(
                Problem(
                    message="samples that fill whole rows would be cut by rows that grow",
                    where=f"sources.{source}.samples",
                    hint="leave out `length_ramp`",
                )
            )
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


def check_columns(source: str, fields: Sequence[str], parts: Parts) -> None:
    """Whether a source's corpus has the columns that its transforms read.

    Raises:
        RecipeError: it lacks one.
    """
    lacking = [name for name in columns_needed(parts.samples.get(source, ())) if name not in fields]
    if lacking:
        raise RecipeError(
            f"the sample transforms read the column {lacking[0]!r}, found {', '.join(fields)}",
            where=f"sources.{source}.samples",
            hint="say in `corpus.fields` where it is, for example `meta: scores` for a column of your own",
        )


def base_tokenizer_of(recipe: TrainRecipe, base: Path) -> TextTokenizer | None:
    """The tokenizer that a base brings, checked against the base; None for a fresh model.

    Raises:
        DataError: there is none, or it is another model's.
    """
    from prill.lm.bases.folder import base_tokenizer
    from prill.lm.starts import continued

    if recipe.model.base is None:
        return None
    folder = base / recipe.model.base
    return base_tokenizer(folder, vocab_size=continued(folder).vocab_size)


def row_tokens(recipe: TrainRecipe, base: Path) -> int:
    """Tokens of the longest row."""
    from prill.lm.shape import LADDER
    from prill.lm.starts import continued

    spec = recipe.model
    if spec.row_tokens is not None:
        return spec.row_tokens
    if spec.size is not None:
        return LADDER[spec.size].seq_len
    assert spec.base is not None
    context: int = continued(base / spec.base).context
    return min(MOST_ROW_TOKENS, context)


def start_of(recipe: TrainRecipe, base: Path, *, vocab_size: int, n_tags: int, n_row: int) -> Start:
    """Where the models come from.

    Args:
        vocab_size: ids of the tokenizer; a base's own are at least as many.
        n_tags: ids that sample transforms add.
        n_row: tokens of the longest row.
    Raises:
        PrillError: the base cannot be used.
    """
    from prill.lm.bases.adapters import Lora
    from prill.lm.starts import Grid, continued, fresh

    spec = recipe.model
    if spec.base is not None:
        lora = None if spec.lora is None else Lora(**spec.lora.model_dump(exclude={"merge"}))
        return continued(
            base / spec.base, n_tags=n_tags, max_context=n_row, lora=lora, recompute=spec.recompute
        )
    assert spec.size is not None
    return fresh(
        spec.size,
        vocab_size=vocab_size + n_tags,
        row_tokens=n_row,
        nested=None if spec.nested is None else Grid(**spec.nested.model_dump()),
        sparsity=spec.sparsity,
        seed=recipe.seed,
        recompute=spec.recompute,
    )


def n_text_ids(recipe: TrainRecipe, base: Path, tokenizer: TextTokenizer) -> int:
    """Ids before the first tag: the tokenizer's, or those of a base that has more."""
    from prill.lm.starts import continued

    if recipe.model.base is None:
        return int(tokenizer.vocab_size)
    return max(int(tokenizer.vocab_size), int(continued(base / recipe.model.base).vocab_size))


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
        objective=_objective(recipe, base, str(device), start.vocab_size),
        peak_rate=recipe.learning_rate or _rate(recipe, advice.peak_rate),
        weight_decay=recipe.weight_decay,
        clip_norm=recipe.clip_norm,
        precision=resolve_precision(recipe.precision, device),
        device=str(device),
        health=HealthPolicy(not_finite=recipe.on_divergence),
    )


def _rate(recipe: TrainRecipe, fresh_rate: float) -> float:
    """The default peak rate: a base that trains all its weights takes a share of a fresh model's."""
    return fresh_rate * (BASE_RATE if recipe.model.base is not None and recipe.model.lora is None else 1.0)


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


def _objective(recipe: TrainRecipe, base: Path, device: str, vocab_size: int) -> Objective | None:
    offered: dict[str, Any] = {}
    if recipe.model.teacher is not None:
        teacher = _teacher(base / recipe.model.teacher, device)
        teacher.require(vocab_size=vocab_size)
        offered["teacher"] = teacher
    return objective_of(recipe.objective, offered)


def _teacher(folder: Path, device: str) -> FrozenTeacher:
    """The frozen model that an objective learns from."""
    import torch

    from prill.lm.bases.stored import load_scorer
    from prill.lm.objectives.teacher import FrozenTeacher

    model = load_scorer(folder, dtype=torch.float32, device=torch.device(device))
    return FrozenTeacher(model=cast(Any, model))


def _batches(recipe: TrainRecipe, n_rows: int, n_row: int) -> BatchTable:
    over = _tokens_of(recipe, recipe.batch_ramp, n_rows * n_row)
    rows = (
        step_law_ramp(n_rows=n_rows, total_tokens=round(over * FULL_BATCH_AT)) if over else ((n_rows, None),)
    )
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
