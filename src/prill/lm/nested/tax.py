"""Losses of every size, and what nesting costs them: may nested curves rank data?

The *nesting tax* of a size is its loss as a sub-model minus the loss of a model of that shape trained alone
on the same data. Sub-models share data order and seed and are no independent replicates, so nested curves
rank data only where the tax does not depend on the data: every difference between two arms has the same sign
nested and alone, and the taxes of a size lie within `tolerance` of their mean.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from prill.errors import DataError
from prill.lm.nested.sizes import size_name

if TYPE_CHECKING:
    from prill.lm.nested.learner import NestedLearner
    from prill.lm.score import EvalSet

__all__ = ["NestingTax", "losses_by_size"]

Losses = Mapping[str, Sequence[float]]


def losses_by_size(learner: NestedLearner, evals: EvalSet) -> dict[str, NDArray[np.float64]]:
    """Summed loss of every document under every model of every size, nats: size name -> (K, D)."""
    from prill.lm.score import score_documents

    return {size_name(size): score_documents(learner.extract(size), evals) for size in learner.nested.sizes}


@dataclass(frozen=True, kw_only=True)
class NestingTax:
    """Losses of sizes trained together and alone, on the same data arms.

    Args:
        nested, alone: loss of each arm by size, nats a token or any one unit.
        tolerance: largest deviation of a tax from the mean of its size, in the same unit.
    Raises:
        DataError: sizes or numbers of arms differ, or there are fewer than two arms.
    """

    nested: Losses
    alone: Losses
    tolerance: float = 0.01

    def __post_init__(self) -> None:
        arms = {len(losses) for losses in (*self.nested.values(), *self.alone.values())}
        if set(self.nested) != set(self.alone) or len(arms) != 1 or min(arms) < 2:
            raise DataError(
                f"a nesting tax needs the same sizes nested and alone, each on the same two or more arms, "
                f"found {sorted(self.nested)} and {sorted(self.alone)} on {sorted(arms)} arms",
                where="nesting tax",
            )

    @property
    def tax(self) -> dict[str, tuple[float, ...]]:
        """Nested minus alone, by size and arm."""
        return {
            size: tuple(a - b for a, b in zip(losses, self.alone[size], strict=True))
            for size, losses in self.nested.items()
        }

    @property
    def spread(self) -> float:
        """Largest deviation of a tax from the mean over the arms of its size."""
        return max(float(np.abs(np.array(taxes) - np.mean(taxes)).max()) for taxes in self.tax.values())

    @property
    def n_agreements(self) -> tuple[int, int]:
        """Differences between two arms at one size with the same sign nested and alone, and all of them."""
        signs = [
            (losses[a] - losses[b]) * (self.alone[size][a] - self.alone[size][b]) > 0
            for size, losses in self.nested.items()
            for a, b in combinations(range(len(losses)), 2)
        ]
        return sum(signs), len(signs)

    @property
    def can_rank(self) -> bool:
        """Nested losses of these sizes may rank data."""
        same, total = self.n_agreements
        return same == total and self.spread <= self.tolerance
