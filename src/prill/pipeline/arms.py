"""From an arm of a recipe to the scores it asks for, and what they cost."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from prill.methods.registry import get_method
from prill.methods.scored import Scored, scored
from prill.pipeline.features import Features, closure
from prill.recipe.model import ArmSpec
from prill.select.policy import Policy

__all__ = ["default_policy", "flops_of", "scored_by"]


def scored_by(arm: ArmSpec, targets: Sequence[str], base: Path) -> Scored:
    """The arm's scores for all targets, as a feature.

    Raises:
        PrillError: something that the arm's settings ask for is not there.
    """
    return scored(arm.method, arm.settings, targets, base)


def default_policy(arm: ArmSpec) -> Policy:
    """How the method's scores become a choice when the recipe does not say."""
    return Policy.model_validate(get_method(arm.method).default_policy)


def flops_of(arm: ArmSpec, scores: Scored, features: Features, *, n_bytes: int) -> float:
    """Operations of the arm's scores for all targets: its own a byte of text, and all that its features took.

    What several arms share counts for each of them in full: it is what the arm would cost alone.
    """
    own = get_method(arm.method).operations_per_byte * n_bytes
    return own + sum(features.flops(feature) for _, feature in closure([scores]))
