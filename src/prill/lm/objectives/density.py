"""DEFT: fewer active neurons, by a penalty on how many there are.

    loss = task loss + weight mean( h^2 / (h^2 + eps) )

over the feed-forward activations h of all layers: each counts nearly 1 where |h| is well above sqrt(eps) and
nearly 0 below. Activations must be able to reach 0 for the density to be real sparsity; with SwiGLU, as here,
an |h| above some 3e-4 counts as active, so read the penalty as a pull towards small activations.

Source: Runwal et al. 2024, arXiv:2402.01911, section 3. Differs: the penalty acts on all weights, or on the
adapter where the base trains one. (The tuner `deft` of the package peft is another method.)
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from prill.errors import Problem, RecipeError
from prill.lm.catalog import record
from prill.lm.objectives.objective import At, Terms

if TYPE_CHECKING:
    import torch

    from prill.lm.model import Packed

__all__ = ["Density"]


@dataclass(frozen=True, kw_only=True)
class Density:
    """DEFT: a penalty on the share of feed-forward neurons that are active.

    Raises:
        RecipeError: a setting is not positive; tells all problems.
    """

    weight: float = field(
        default=1.0, metadata={"description": "Of the penalty, which lies between 0 and 1."}
    )
    eps: float = field(
        default=1e-7, metadata={"description": "Square of the activation that counts half as active."}
    )

    def __post_init__(self) -> None:
        problems = [
            Problem(message=f"`{name}` must be above 0, found {getattr(self, name)}", where="density")
            for name in ("weight", "eps")
            if not getattr(self, name) > 0
        ]
        if problems:
            raise RecipeError.of(problems)

    def n_extra(self, width: int) -> int:
        return 0

    def terms(self, hidden: torch.Tensor, batch: Packed, extra: torch.Tensor, at: At) -> Terms:
        """Plain cross-entropy and the penalty."""
        return Terms(density=self.weight, density_eps=self.eps)

    def as_record(self) -> dict[str, Any]:
        return record(self, "density", 1)
