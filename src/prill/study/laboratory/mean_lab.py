"""Laboratory A, means: the risk of a mixture in closed form, bias against noise.

Source k gives points around mu_k with variance s2_k; the learner is the average of N points drawn with
shares w; the target is a mean. Its risk is a convex quadratic on the simplex, and at finite N the best shares
are not those that match the target. No training, nothing random.

Source: none, derived here. Axes: S sources, d dimensions.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["MeanLab", "card_lab"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class MeanLab:
    """Sources with means (S, d) and variances a dimension (S,), and the target's mean (d,)."""

    means: Floats
    variances: Floats
    target: Floats

    def risk(self, shares: Floats, n_points: float) -> float:
        """|sum_k w_k mu_k - mu_T|^2 + (d / N) sum_k w_k s2_k."""
        bias = shares @ self.means - self.target
        noise = len(self.target) / n_points * (shares @ self.variances)
        return float(bias @ bias + noise)

    def best(self, n_points: float) -> Floats:
        """The shares of least risk, exactly: the optimum of every set of sources, the best feasible one."""
        n_sources = len(self.means)
        sets = (
            chosen
            for size in range(1, n_sources + 1)
            for chosen in itertools.combinations(range(n_sources), size)
        )
        found = [shares for chosen in sets if (shares := self._within(list(chosen), n_points)) is not None]
        return min(found, key=lambda shares: self.risk(shares, n_points))

    def _within(self, chosen: list[int], n_points: float) -> Floats | None:
        """Where the gradient is the same for all chosen sources, if that is a mixture of them."""
        means, n = self.means[chosen], len(chosen)
        system = np.ones((n + 1, n + 1))
        system[:n, :n] = 2 * means @ means.T
        system[n, n] = 0.0
        noise = len(self.target) / n_points * self.variances[chosen]
        right = np.append(2 * means @ self.target - noise, 1.0)
        inside = np.linalg.lstsq(system, right, rcond=None)[0][:n]
        if inside.min() < -1e-12 or abs(inside.sum() - 1) > 1e-9:
            return None
        shares = np.zeros(len(self.means))
        shares[chosen] = np.maximum(inside, 0.0)
        return shares


def card_lab() -> MeanLab:
    """Three sources in the plane: a noisy one at the origin and two quiet ones off the target."""
    return MeanLab(
        means=np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]]),
        variances=np.array([4.0, 1.0, 1.0]),
        target=np.array([0.2, 0.0]),
    )
