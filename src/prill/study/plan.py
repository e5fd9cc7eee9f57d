"""Which models a study trains: every arm with every seed, and one decayed branch for each token count.

A run has one trunk at a constant learning rate; each token count branches off and decays over its last part,
so a shorter budget is a finished model of its own and not a glimpse of a longer one. Runs of the same seed
share initialisation and the seed of their data order: their difference is paired.

Source: the branch layout of Hu et al. 2024, arXiv:2404.06395 (warm-up, stable, decay).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from prill.errors import RecipeError
from prill.features.keyed import derive_seed
from prill.study.arms import Arm, check_arms

__all__ = ["Branch", "Run", "StudyPlan", "plan_trials"]


@dataclass(frozen=True, kw_only=True)
class Branch:
    """One finished model: the trunk up to `n_trunk_tokens`, then decay until `n_tokens` have been seen."""

    n_tokens: int
    n_trunk_tokens: int

    @property
    def n_decay_tokens(self) -> int:
        """Tokens trained after leaving the trunk."""
        return self.n_tokens - self.n_trunk_tokens


@dataclass(frozen=True, kw_only=True)
class Run:
    """One arm with one seed: a trunk and its branches, the longest last."""

    arm: str
    seed: int
    init_seed: int
    """Of the weights: the same for every arm of this seed."""
    order_seed: int
    """Of the order of documents: the same for every arm of this seed."""
    branches: tuple[Branch, ...]

    @property
    def n_tokens(self) -> int:
        """Tokens trained in all: the trunk to the longest branch's start, and every branch's decay."""
        return self.branches[-1].n_trunk_tokens + sum(branch.n_decay_tokens for branch in self.branches)

    @property
    def n_data_tokens(self) -> int:
        """Tokens of training data the run reads: branches read on from where they leave the trunk."""
        return self.branches[-1].n_tokens


@dataclass(frozen=True, kw_only=True)
class StudyPlan:
    """Every run of a study, in the order (seed, arm): a study stopped early has whole pairs."""

    arms: tuple[Arm, ...]
    runs: tuple[Run, ...]

    @property
    def n_tokens(self) -> int:
        """Tokens trained in all runs together."""
        return sum(run.n_tokens for run in self.runs)

    def minutes(self, tokens_per_s: float) -> float:
        """Predicted training time at this many tokens a second over all workers together, without evaluation.

        Raises:
            RecipeError: the rate is not above 0.
        """
        if not tokens_per_s > 0:
            raise RecipeError(f"a training rate must be above 0 tokens a second, found {tokens_per_s}")
        return self.n_tokens / tokens_per_s / 60

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "arms": [arm.to_json() for arm in self.arms],
            "runs": [
                {**vars(run), "branches": [dict(vars(b)) for b in run.branches], "n_tokens": run.n_tokens}
                for run in self.runs
            ],
            "n_tokens": self.n_tokens,
        }


def plan_trials(
    arms: Sequence[Arm],
    seeds: Sequence[int],
    checkpoints: Sequence[int],
    *,
    longer: Mapping[str, Sequence[int]] | None = None,
    step_tokens: int = 1,
    decay_share: float = 0.2,
) -> StudyPlan:
    """Lays out every run.

    Args:
        seeds: at least one; two or more are needed to conclude anything.
        checkpoints: token counts at which every arm is evaluated; rounded down to whole steps.
        longer: further token counts for some arms, by name: a random control trained longer shows how many
            tokens it needs to match.
        step_tokens: tokens of one optimiser step.
        decay_share: share of each branch's tokens over which the learning rate decays, from 0 to 1.
    Raises:
        RecipeError: there is no arm, seed or checkpoint, one is doubled, a count is below one step, or
            `longer` names an unknown arm.
    """
    listed = tuple(arms)
    _check(listed, seeds, checkpoints, step_tokens, decay_share)
    further = {name: tuple(counts) for name, counts in (longer or {}).items()}
    if unknown := sorted(set(further) - {arm.name for arm in listed}):
        raise RecipeError(f"longer checkpoints need an arm of the study, found {unknown[0]!r}", where="study")
    runs = [
        Run(
            arm=arm.name,
            seed=seed,
            init_seed=derive_seed(seed, "study.init"),
            order_seed=derive_seed(seed, "study.order"),
            branches=_branches((*checkpoints, *further.get(arm.name, ())), step_tokens, decay_share),
        )
        for seed in sorted(seeds)
        for arm in listed
    ]
    return StudyPlan(arms=listed, runs=tuple(runs))


def _branches(counts: Sequence[int], step_tokens: int, decay_share: float) -> tuple[Branch, ...]:
    steps = sorted({count // step_tokens for count in counts})
    if steps[0] < 1:
        raise RecipeError(
            f"a checkpoint needs at least one step of {step_tokens:,} tokens, found {min(counts):,}",
            where="study",
        )
    return tuple(
        Branch(n_tokens=n * step_tokens, n_trunk_tokens=(n - round(decay_share * n)) * step_tokens)
        for n in steps
    )


def _check(
    arms: tuple[Arm, ...],
    seeds: Sequence[int],
    checkpoints: Sequence[int],
    step_tokens: int,
    decay_share: float,
) -> None:
    check_arms(arms)
    for name, given in (("arms", arms), ("seeds", seeds), ("checkpoints", checkpoints)):
        if not given:
            raise RecipeError(f"a study needs at least one of its {name}, found none", where=f"study {name}")
    if len(set(seeds)) < len(seeds):
        raise RecipeError(f"seeds must differ, found {sorted(seeds)}", where="study seeds")
    if step_tokens < 1 or not 0 <= decay_share <= 1:
        raise RecipeError(
            "a step needs 1 token or more and a decay share from 0 to 1, "
            f"found {step_tokens} and {decay_share}",
            where="study",
        )
