"""From an arm of a recipe to the scores it asks for, and what they cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from prill.features.feature import Feature
from prill.methods.registry import get_method
from prill.methods.scored import Scored, scored
from prill.pipeline.features import Features, closure
from prill.recipe.model import ArmSpec
from prill.select.policy import Policy

__all__ = ["LeftOut", "Use", "flops_of", "policy_of", "scored_by", "uses"]


def scored_by(arm: ArmSpec, targets: Sequence[str], base: Path) -> Scored:
    """The arm's scores for all targets, as a feature.

    Raises:
        PrillError: something that the arm's settings ask for is not there.
    """
    return scored(arm.method, arm.settings, targets, base)


def policy_of(arm: ArmSpec) -> Policy:
    """How the arm's scores become a choice.

    The method's default when the recipe does not say; what to do with documents that the method cannot judge
    is the method's to say even then, unless the policy says it.
    """
    default = Policy.model_validate(get_method(arm.method).default_policy)
    if arm.policy is None:
        return default
    if "on_non_finite" in arm.policy.model_fields_set:
        return arm.policy
    return arm.policy.model_copy(update={"on_non_finite": default.on_non_finite})


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """An arm that these data refuse, by its name, and why."""

    arm: str
    why: str

    def __str__(self) -> str:
        return f"`{self.arm}` was left out: {self.why}"


@dataclass(frozen=True, kw_only=True)
class Use:
    """One feature of the graph and the arms that ask for it, themselves or through another."""

    feature: Feature
    arms: tuple[str, ...]


def uses(asked: Mapping[str, Scored]) -> list[Use]:
    """Every feature that the arms need, in the order in which it is computed: once, whoever asks."""
    arms: dict[Feature, list[str]] = {}
    for arm, scores in asked.items():
        for _, feature in closure([scores]):
            arms.setdefault(feature, []).append(arm)
    return [Use(feature=feature, arms=tuple(arms[feature])) for _, feature in closure(asked.values())]


def flops_of(scores: Scored, features: Features, *, n_bytes: int) -> float:
    """Operations of an arm's scores for all targets: a byte of text, and all that its features took.

    Members of a combination count like features. What several arms share counts for each of them in full: it
    is what the arm would cost alone.
    """
    needed = [feature for _, feature in closure([scores])]
    methods = [get_method(f.fitted.method) for f in needed if isinstance(f, Scored)]
    own = n_bytes * sum(method.operations_per_byte for method in methods)
    return own + sum(features.flops(feature) for feature in needed)
