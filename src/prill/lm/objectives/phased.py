"""One objective after another, switched by progress.

Each stage lasts to a share of the plan. The stages' own parameters stand side by side; those of a stage that
is not on get no gradient, though the optimiser's momentum still moves them for a while.

Axes: K models, E extra parameters of all stages.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from prill.errors import RecipeError
from prill.lm.objectives.objective import At, Objective, Terms

if TYPE_CHECKING:
    import torch

    from prill.lm.packed import Packed

__all__ = ["Phased", "own_parameters", "placed"]


@dataclass(frozen=True, kw_only=True)
class Phased:
    """Objectives one after another, switched by progress.

    Args:
        stages: (until, objective) in order: the objective holds while progress is below `until`, a share of
            the plan; the last one until its end, 1.
    Raises:
        RecipeError: the shares do not rise from above 0 to 1.
    """

    stages: tuple[tuple[float, Objective], ...] = field(
        metadata={
            "description": "A list of {until, objective}: each objective holds until this share of the plan; "
            "the last share is 1."
        }
    )

    def __post_init__(self) -> None:
        ends = [0.0, *(until for until, _ in self.stages)]
        rises = all(a < b for a, b in itertools.pairwise(ends))
        if not self.stages or not rises or ends[-1] != 1:
            raise RecipeError(
                f"stages must end at rising shares of the plan, the last at 1, found {ends[1:]}",
                where="objective",
            )

    def stage(self, progress: float) -> int:
        """The number of the stage that holds."""
        ends = [until for until, _ in self.stages]
        return min(bisect.bisect_right(ends, progress), len(ends) - 1)

    def n_extra(self, width: int) -> int:
        return sum(objective.n_extra(width) for _, objective in self.stages)

    def terms(self, hidden: torch.Tensor, batch: Packed, extra: torch.Tensor, at: At) -> Terms:
        """The terms of the stage that holds."""
        number = self.stage(at.progress)
        objectives = [objective for _, objective in self.stages]
        part = own_parameters(objectives, int(hidden.shape[2]))[number]
        terms = objectives[number].terms(hidden, batch, extra[:, part], at)
        return replace(terms, extra_gradient=placed(terms.extra_gradient, extra, part))

    def as_record(self) -> dict[str, Any]:
        stages = [{"until": until, "objective": part.as_record()} for until, part in self.stages]
        return {"name": "phased", "version": 1, "settings": {"stages": stages}}


def own_parameters(objectives: Sequence[Objective], width: int) -> list[slice]:
    """Where each objective's parameters are among those of all."""
    found: list[slice] = []
    for objective in objectives:
        first = found[-1].stop if found else 0
        found.append(slice(first, first + objective.n_extra(width)))
    return found


def placed(gradient: torch.Tensor | None, extra: torch.Tensor, part: slice) -> torch.Tensor | None:
    """The gradient of one part as one of all parameters, 0 elsewhere."""
    if gradient is None:
        return None
    whole = extra.new_zeros(extra.shape)
    whole[:, part] = gradient
    return whole
