"""What a run starts from: the machine's cores, the corpus and the targets, all problems told at once."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

from prill.corpus.corpus import Corpus
from prill.corpus.tokenizer import load_tokenizer
from prill.errors import PrillError, Problem, RecipeError
from prill.features.keyed import derive_seed
from prill.methods.scored import made, scored
from prill.recipe import Recipe
from prill.recipe.model import ArmSpec
from prill.targets.target import Target, read_target

__all__ = ["Attempts", "available_cores", "check_inputs"]

T = TypeVar("T")


def available_cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def check_inputs(recipe: Recipe, base: Path) -> tuple[Corpus, dict[str, Target]]:
    """Open the corpus and the targets, and tell every problem of all of them at once."""
    attempt = Attempts()
    corpus = attempt(lambda: Corpus.open(recipe.corpus, base))
    seed = derive_seed(recipe.seed, "targets")
    targets = {
        name: attempt(partial(read_target, name, spec, seed=seed, base=base))
        for name, spec in recipe.targets.items()
    }
    for arm in recipe.arms:
        attempt(partial(scored, arm.method, arm.settings, list(recipe.targets), base))
        attempt(partial(_check_strata, arm))
    if recipe.tokenizer.path is not None:
        attempt(partial(load_tokenizer, base / recipe.tokenizer.path))
    if recipe.trials is not None:
        from prill.lm.backend import require_torch

        attempt(require_torch)
    attempt.raise_all()
    assert corpus is not None
    return corpus, {name: target for name, target in targets.items() if target is not None}


def _check_strata(arm: ArmSpec) -> None:
    """Strata of a method need one that tells them."""
    strata = (arm.policy and arm.policy.strata) or ""
    if "method" in strata and made(arm.method, arm.settings).strata() is None:
        raise RecipeError(
            f"`strata: {strata}` needs a method that tells strata beside its scores, found "
            f"{arm.method}, which with these settings tells none",
            where=f"arm `{arm.label}`",
            hint="DataMan, perplexity with `buckets` and combinations by levels do; or use `strata: source`",
        )


class Attempts:
    """Things that are tried one after the other, so that all their problems are told at once."""

    def __init__(self) -> None:
        self._errors: list[PrillError] = []

    def __call__(self, build: Callable[[], T]) -> T | None:
        """What `build` makes; None when it fails, and the failure is kept."""
        try:
            return build()
        except PrillError as error:
            self._errors.append(error)
            return None

    def raise_all(self) -> None:
        """Raise every problem met so far as one error, if there are any."""
        if self._errors:
            told: list[Problem] = [problem for error in self._errors for problem in error.problems]
            raise type(self._errors[0]).of(told)
