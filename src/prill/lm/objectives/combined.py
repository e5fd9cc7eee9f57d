"""A weighted sum of objectives: sum of c_i L_i, each L_i the whole loss of one objective.

Token losses, auxiliary losses and their gradients add up. With one teacher, of share s in a part of
coefficient c, the sum is again of the contract's form

    (1 - S) T + S CE(teacher, model)
    S = c s,    T = [sum of c_i x token loss, the teacher's part by 1 - s] / (1 - S)

Axes: K models, N tokens.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from prill.errors import RecipeError
from prill.lm.objectives.objective import At, Objective, Terms, TokenLoss
from prill.lm.objectives.phased import own_parameters, placed

if TYPE_CHECKING:
    import torch

    from prill.lm.packed import Packed

__all__ = ["Combined"]

Parts = list[tuple[float, Terms]]


@dataclass(frozen=True, kw_only=True)
class Combined:
    """A weighted sum of objectives.

    Args:
        parts: (coefficient, objective).
    Raises:
        RecipeError: there are none, or a coefficient is not a finite number of at least 0.
    """

    parts: tuple[tuple[float, Objective], ...] = field(
        metadata={"description": "A list of {weight, objective}: each objective's loss counts by its weight."}
    )

    def __post_init__(self) -> None:
        if not self.parts or not all(0 <= c < math.inf for c, _ in self.parts):
            raise RecipeError(
                f"expected coefficients that are finite and at least 0, found {[c for c, _ in self.parts]}",
                where="objective",
            )

    def n_extra(self, width: int) -> int:
        return sum(objective.n_extra(width) for _, objective in self.parts)

    def terms(self, hidden: torch.Tensor, batch: Packed, extra: torch.Tensor, at: At) -> Terms:
        """The terms of the sum.

        Raises:
            RecipeError: two parts have a teacher or different `density_eps`, one weighs tokens in place of
                the data, or the teacher's share leaves nothing to the others.
        """
        slices = own_parameters([objective for _, objective in self.parts], int(hidden.shape[2]))
        found: Parts = []
        extra_gradient = None
        for part, (coefficient, objective) in zip(slices, self.parts, strict=True):
            terms = objective.terms(hidden, batch, extra[:, part], at)
            found.append((coefficient, terms))
            whole = placed(terms.extra_gradient, extra, part)
            if whole is not None:
                scaled = coefficient * whole
                extra_gradient = scaled if extra_gradient is None else extra_gradient + scaled
        teacher = _check(found)
        share = 0.0 if teacher is None else teacher[0] * teacher[1].teacher_share
        dense = [terms for _, terms in found if terms.density]
        return Terms(
            token_loss=_summed(found, share),
            teacher_share=share,
            teacher=None if teacher is None else teacher[1].teacher,
            auxiliary=_total(found, "auxiliary"),
            hidden_gradient=_total(found, "hidden_gradient"),
            extra_gradient=extra_gradient,
            density=sum(c * terms.density for c, terms in found),
            density_eps=dense[0].density_eps if dense else Terms().density_eps,
        )

    def as_record(self) -> dict[str, Any]:
        parts = [{"weight": c, "objective": part.as_record()} for c, part in self.parts]
        return {"name": "combined", "version": 1, "settings": {"parts": parts}}


def _check(found: Parts) -> tuple[float, Terms] | None:
    """The part with a teacher, if any."""
    teachers = [(c, terms) for c, terms in found if c * terms.teacher_share > 0]
    share = sum(c * terms.teacher_share for c, terms in teachers)
    eps = {terms.density_eps for _, terms in found if terms.density}
    trouble = (
        "more than one has a teacher" if len(teachers) > 1
        else "densities of different eps" if len(eps) > 1
        else "one weighs tokens in place of the data" if any(t.weights is not None for _, t in found)
        else "the teacher's share is 1 or more" if share >= 1
        else None
    )  # fmt: skip
    if trouble:
        raise RecipeError(f"expected objectives that can be summed, found that {trouble}", where="objective")
    return teachers[0] if teachers else None


def _summed(found: Parts, share: float) -> TokenLoss:
    coefficients = [c * (1 - terms.teacher_share) / (1 - share) for c, terms in found]

    def token_loss(nll: torch.Tensor, k: slice, n: slice) -> tuple[torch.Tensor, torch.Tensor]:
        loss, slope = nll.new_zeros(nll.shape), nll.new_zeros(nll.shape)
        for coefficient, (_, terms) in zip(coefficients, found, strict=True):
            own = (nll, nll.new_ones(nll.shape)) if terms.token_loss is None else terms.token_loss(nll, k, n)
            loss += coefficient * own[0]
            slope += coefficient * own[1]
        return loss, slope

    return token_loss


def _total(found: Parts, name: str) -> torch.Tensor | None:
    values = [c * getattr(terms, name) for c, terms in found if getattr(terms, name) is not None]
    return sum(values[1:], values[0]) if values else None
