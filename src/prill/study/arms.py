"""An arm of a study: one way of choosing the training data, with the name it has in every table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from prill.errors import RecipeError

__all__ = ["Arm", "ArmKind", "check_arms"]

ArmKind = Literal["selected", "control", "random", "oracle"]


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One way of choosing the training data.

    Args:
        name: the key in every table, unique in the study.
        kind: `selected` by a method for a target; `random` is the control at equal tokens; `control` is any
            other baseline; `oracle` knows what the target's own documents are and only marks what is
            possible.
        target: what it was selected for; None for an arm that serves every target.
        method: the method's registered name; None where no method chose.
        label: how sentences call it, fitting "... reached 2.01 bits per byte": "DSIR's choice".
    """

    name: str
    kind: ArmKind
    target: str | None = None
    method: str | None = None
    label: str = ""

    @property
    def shown(self) -> str:
        """The label, or the name where there is none."""
        return self.label or self.name

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return dict(vars(self))


def check_arms(arms: tuple[Arm, ...]) -> None:
    """Refuses doubled names, and selected or oracle arms without a target.

    Raises:
        RecipeError: for the first arm that does not fit.
    """
    seen: set[str] = set()
    for arm in arms:
        if arm.name in seen:
            raise RecipeError(f"arms need different names, found {arm.name!r} twice", where="study arms")
        if arm.kind in ("selected", "oracle") and arm.target is None:
            raise RecipeError(
                f"an arm of kind {arm.kind} needs a target, found none", where=f"arm {arm.name!r}"
            )
        seen.add(arm.name)
