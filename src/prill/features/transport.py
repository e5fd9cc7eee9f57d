"""Entropic optimal transport from a sample of the pool to a target, and what more of a document would do.

Sinkhorn in the log domain: only the potential of the target's side is kept. One pass over the candidates, in
blocks, gives their potentials from it, and the mass that each target document receives, from which its own
potential moves. A matrix of candidates by targets never exists. Once the target's potential is fixed, that of
any other document is a formula of its own vector.

    f(x) = -eps ln sum_j b_j exp((v_j - c(x, y_j)) / eps)
    g(x) = (f(x) - mean f) n / (n - 1)

g is the derivative of the cost when the share of x rises and all others shrink: documents below 0 bring the
pool nearer to the target.

Source: Kang et al. 2024, arXiv:2405.02774, section 3 (GOT-D); Just et al. 2023, arXiv:2305.00054, theorem 2
(calibrated gradients); Cuturi 2013, arXiv:1306.0895 (entropic transport); Peyre and Cuturi 2019,
arXiv:1803.00567, section 4.4 (log domain).

Legend: N candidates, M target documents, D documents, K dimensions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from prill.errors import DataError
from prill.features.feature import Given, WholeFeature
from prill.features.vectors import TargetVectors, Vectors, unit_length
from prill.run.atomic import atomic_write

__all__ = ["Cost", "Potential", "Transport", "median_cost", "transport"]

Cost: TypeAlias = Literal["euclidean", "squared"]

_BLOCK_VALUES = 1 << 20  # costs held at once, 8 MB in float64
_MEDIAN_ROWS = 1024
_LEAST_MASS = 1e-300


@dataclass(frozen=True, kw_only=True)
class Transport:
    """A solved problem.

    Attributes:
        target: vectors, float32, shape (M, K).
        potential: v of the target's documents, float64, shape (M,).
        epsilon: of the entropy, in units of the cost.
        cost: how far two vectors are apart.
        mean: mean of f over the candidates.
        n: N.
        value: the cost of the transport, without the entropy.
        n_iterations: of Sinkhorn.
        error: largest deviation of the mass that a target document receives from its share, relative.
    """

    target: NDArray[np.float32]
    potential: NDArray[np.float64]
    epsilon: float
    cost: Cost
    mean: float
    n: int
    value: float
    n_iterations: int
    error: float

    def gradient(self, vectors_DK: NDArray[np.float32]) -> NDArray[np.float64]:
        """g of any documents, float64, shape (D,); the same bits in any batch."""
        log_b = -np.log(len(self.target))
        f_D = np.empty(len(vectors_DK))
        for rows, cost_BM in _costs(vectors_DK, self.target, self.cost):
            f_D[rows] = _soft_minimum(cost_BM, self.potential, log_b, self.epsilon)[0]
        return (f_D - self.mean) * (self.n / max(1, self.n - 1))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Everything, as arrays that safetensors stores."""
        numbers = [self.epsilon, self.mean, self.n, self.value, self.n_iterations, self.error]
        return {
            "is_squared": np.array([self.cost == "squared"], np.uint8),
            "numbers": np.array(numbers, np.float64),
            "potential": self.potential,
            "target": self.target,
        }

    @staticmethod
    def of(arrays: Mapping[str, NDArray[Any]]) -> Transport:
        """From what `arrays` gave."""
        epsilon, mean, n, value, n_iterations, error = arrays["numbers"].tolist()
        return Transport(
            target=arrays["target"],
            potential=arrays["potential"],
            epsilon=epsilon,
            cost="squared" if arrays["is_squared"][0] else "euclidean",
            mean=mean,
            n=int(n),
            value=value,
            n_iterations=int(n_iterations),
            error=error,
        )


def transport(
    candidates_NK: NDArray[np.float32],
    target_MK: NDArray[np.float32],
    *,
    epsilon: float,
    cost: Cost = "euclidean",
    weight_N: NDArray[np.float64] | None = None,
    tolerance: float = 1e-6,
    max_iterations: int = 1000,
) -> Transport:
    """Solve the problem between two samples.

    Args:
        candidates_NK, target_MK: float32, finite, C-contiguous; every target document counts the same.
        epsilon: in units of the cost; small is exact and slow.
        weight_N: of the candidates, adding up to 1; all alike when not given.
        tolerance: `Transport.error` at which to stop.
        max_iterations: or after so many; `Transport.error` tells how far it came.
    """
    n, m = len(candidates_NK), len(target_MK)
    weight_N = np.full(n, 1 / n) if weight_N is None else weight_N
    log_b, v_M = -np.log(m), np.zeros(m)
    n_iterations, error = 0, np.inf
    while True:
        mass_M, mean, value = np.zeros(m), 0.0, 0.0
        for rows, cost_BM in _costs(candidates_NK, target_MK, cost):
            f_B, plan_BM = _soft_minimum(cost_BM, v_M, log_b, epsilon)
            plan_BM *= weight_N[rows, None]
            mass_M += plan_BM.sum(axis=0)
            mean += float(f_B.sum()) / n
            value += float((plan_BM * cost_BM).sum())
        error = float(np.abs(mass_M * m - 1).max())
        if error <= tolerance or n_iterations >= max_iterations:
            break
        v_M = v_M - epsilon * (np.log(np.maximum(mass_M, _LEAST_MASS)) - log_b)
        n_iterations += 1
    return Transport(
        target=target_MK,
        potential=v_M,
        epsilon=epsilon,
        cost=cost,
        mean=mean,
        n=n,
        value=value,
        n_iterations=n_iterations,
        error=error,
    )


def median_cost(
    candidates_NK: NDArray[np.float32], target_MK: NDArray[np.float32], cost: Cost = "euclidean"
) -> float:
    """The median cost between the first 1,024 candidates and the target."""
    blocks = [block.ravel() for _, block in _costs(candidates_NK[:_MEDIAN_ROWS], target_MK, cost)]
    return float(np.median(np.concatenate(blocks)))


def _costs(
    x_DK: NDArray[np.float32], target_MK: NDArray[np.float32], cost: Cost
) -> Iterator[tuple[slice, NDArray[np.float64]]]:
    """Costs of blocks of rows with the whole target, float64, shape (B, M)."""
    from prill.features._products_kernel import multiply, pack

    packed = pack(target_MK)
    y_square_M = (target_MK.astype(np.float64) ** 2).sum(axis=1)
    n_block = max(1, _BLOCK_VALUES // len(target_MK))
    for first in range(0, len(x_DK), n_block):
        rows = slice(first, min(first + n_block, len(x_DK)))
        block = np.ascontiguousarray(x_DK[rows])
        product_BM = np.empty((len(block), len(target_MK)), np.float32)
        multiply(block, packed, product_BM)
        x_square_B = (block.astype(np.float64) ** 2).sum(axis=1)
        square_BM = np.maximum(x_square_B[:, None] + y_square_M - 2.0 * product_BM, 0.0)
        yield rows, np.sqrt(square_BM) if cost == "euclidean" else square_BM


def _soft_minimum(
    cost_BM: NDArray[np.float64], v_M: NDArray[np.float64], log_b: float, epsilon: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """f of every row, and how its mass spreads over the target, rows adding up to 1."""
    spread_BM = (v_M - cost_BM) / epsilon
    top_B = spread_BM.max(axis=1)
    spread_BM -= top_B[:, None]
    np.exp(spread_BM, out=spread_BM)
    total_B = spread_BM.sum(axis=1)
    spread_BM /= total_B[:, None]
    return -epsilon * (top_B + np.log(total_B) + log_b), spread_BM


@dataclass(frozen=True, kw_only=True)
class Potential(WholeFeature):
    """The transport from the pool to one target, solved on a keyed sample of the pool.

    Attributes:
        vectors: of the pool.
        target: of the target.
        n_candidates: of the sample.
        n_targets: at most so many documents of the target, the first ones.
        epsilon: of the entropy, in median costs.
        cost: how far two vectors are apart.
        is_centred: the mean of the candidates is taken off all vectors, which then get length one.
        max_iterations, tolerance: where Sinkhorn stops.
    """

    kind: ClassVar[str] = "transport"
    is_apart: ClassVar[bool] = True
    vectors: Vectors
    target: TargetVectors
    n_candidates: int = 10_000
    n_targets: int = 2_000
    epsilon: float = 0.02
    cost: Cost = "euclidean"
    is_centred: bool = True
    max_iterations: int = 1_000
    tolerance: float = 1e-4

    @property
    def label(self) -> str:
        return f"optimal transport to {self.target.targets[0]}"

    @property
    def files(self) -> tuple[str, ...]:
        return ("transport.safetensors",)

    def build(self, given: Given, paths: Sequence[Path]) -> Mapping[str, Any]:
        from safetensors.numpy import save

        sample = self.vectors.sample(given, n_documents=self.n_candidates, use="transport")
        sample_NK, stored_MK = sample.vectors[:, 0], self.target.read(given).vectors[:, 0]
        target_MK = stored_MK[np.any(stored_MK != 0, axis=1)][: self.n_targets]
        self._check(len(sample_NK), len(target_MK))
        mean_K = sample_NK.mean(axis=0, dtype=np.float64) * self.is_centred
        candidates_NK, target_MK = self.prepared(sample_NK, mean_K), self.prepared(target_MK, mean_K)
        median = median_cost(candidates_NK, target_MK, self.cost)
        solved = transport(
            candidates_NK,
            target_MK,
            epsilon=self.epsilon * max(median, 1e-6),
            cost=self.cost,
            tolerance=self.tolerance,
            max_iterations=self.max_iterations,
        )
        atomic_write(paths[0], save({"centre": mean_K, **solved.arrays()}))
        n_costs = len(candidates_NK) * len(target_MK) * (solved.n_iterations + 1)
        return {
            "candidates": len(candidates_NK),
            "target_documents": len(target_MK),
            "iterations": solved.n_iterations,
            "marginal_error": solved.error,
            "cost": solved.value,
            "median_cost": median,
            "flops": float(n_costs) * (2 * self.vectors.n_dimensions + 40),
        }

    def prepared(self, vectors_DK: NDArray[np.float32], mean_K: NDArray[np.float64]) -> NDArray[np.float32]:
        """Vectors as they are compared."""
        return unit_length((vectors_DK - mean_K).astype(np.float32)) if self.is_centred else vectors_DK

    def gradients(self, given: Given) -> Callable[[NDArray[np.float32]], NDArray[np.float64]]:
        """g of vectors as the pool has them, NaN for vectors of zeros; more negative is wanted more."""
        from safetensors.numpy import load_file

        stored = load_file(given.file(self))
        solved = Transport.of(stored)

        def gradient(vectors_DK: NDArray[np.float32]) -> NDArray[np.float64]:
            prepared_DK = np.ascontiguousarray(self.prepared(vectors_DK, stored["centre"]))
            g_D = solved.gradient(prepared_DK)
            g_D[~np.any(vectors_DK != 0, axis=1)] = np.nan
            return g_D

        return gradient

    def _check(self, n: int, m: int) -> None:
        name = self.target.targets[0]
        if m == 0:
            raise DataError(f"expected at least one document with words in target {name!r}, found none")
        if n < 2:
            raise DataError(f"expected at least 2 documents with words in the pool, found {n}")
