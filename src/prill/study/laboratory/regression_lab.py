"""Laboratory C, regression in context: what the best predictors reach, to compare a trained model with.

A sequence is x_1, y_1, ..., x_K with y = w'x + noise. If tasks w come from a pool of M vectors, the best
predictor weighs those vectors by how well they explain what was seen (dMMSE); if they come from all of
N(0, I), it is ridge regression with the noise's variance as penalty. With few tasks the first is perfect on
them and bad on new ones.

With groups of tasks, w ~ N(m_g, t2 I), the best predictor weighs a ridge around each mean by its evidence;
a rare group of share s costs at most ln(1 / s) nats a sequence, however rare.

Source: Raventos et al. 2023, arXiv:2306.15063 (set-up). Axes: M tasks, B sequences, K places, D dimensions,
G groups.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["RegressionLab", "TaskGroups"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class RegressionLab:
    """D dimensions, K places, variance of the noise."""

    n_dimensions: int = 8
    n_places: int = 16
    noise: float = 0.25

    def sequences(self, tasks: Floats, rng: np.random.Generator) -> tuple[Floats, Floats]:
        """x (B, K, D) and y (B, K), a sequence for each row of `tasks` (B, D)."""
        x = rng.standard_normal((len(tasks), self.n_places, self.n_dimensions))
        clean = np.einsum("bkd,bd->bk", x, tasks)
        return x, clean + np.sqrt(self.noise) * rng.standard_normal(clean.shape)

    def from_pool(self, pool: Floats, x: Floats, y: Floats) -> Floats:
        """dMMSE: the prediction of the last y from the pairs before it, (B,), for tasks `pool` (M, D)."""
        errors = y[:, :-1, None] - x[:, :-1] @ pool.T
        fit = -(errors**2).sum(1) / (2 * self.noise)
        weights = np.exp(fit - fit.max(1, keepdims=True))
        weights /= weights.sum(1, keepdims=True)
        return np.asarray(np.einsum("bm,md,bd->b", weights, pool, x[:, -1]))

    def ridge(self, x: Floats, y: Floats) -> Floats:
        """The prediction of the last y for tasks of N(0, I), (B,)."""
        seen, answers = x[:, :-1], y[:, :-1]
        gram = seen.transpose(0, 2, 1) @ seen + self.noise * np.eye(self.n_dimensions)
        found = np.linalg.solve(gram, seen.transpose(0, 2, 1) @ answers[:, :, None])[:, :, 0]
        return np.asarray(np.einsum("bd,bd->b", found, x[:, -1]))

    def errors(self, n_tasks: int, n_sequences: int, rng: np.random.Generator) -> tuple[float, ...]:
        """Squared error a dimension at the last place: dMMSE and ridge on pool tasks, then on new ones.

        Every sequence has a pool of its own, so the values are means over pools; against w'x without noise.
        """
        sums = np.zeros(4)
        for _ in range(n_sequences):
            pool = rng.standard_normal((n_tasks, self.n_dimensions))
            tasks = np.stack([pool[0], rng.standard_normal(self.n_dimensions)])
            x, y = self.sequences(tasks, rng)
            truth = np.einsum("bd,bd->b", tasks, x[:, -1])
            found = np.stack([self.from_pool(pool, x, y), self.ridge(x, y)], axis=1)
            sums += ((found - truth[:, None]) ** 2).ravel()
        return tuple((sums / n_sequences / self.n_dimensions).tolist())


@dataclass(frozen=True, kw_only=True, eq=False)
class TaskGroups:
    """Groups of tasks: w ~ N(m_g, t2 I) with means (G, D) and shares (G,)."""

    lab: RegressionLab
    means: Floats
    shares: Floats
    spread: float

    def tasks(self, group: int, n: int, rng: np.random.Generator) -> Floats:
        """Tasks of one group, (n, D)."""
        around = rng.standard_normal((n, self.lab.n_dimensions))
        return np.asarray(self.means[group] + np.sqrt(self.spread) * around)

    def evidence(self, x: Floats, y: Floats) -> Floats:
        """ln p(y | x) of whole sequences under each group, (B, G)."""
        n = y.shape[1]
        covariance = self.spread * x @ x.transpose(0, 2, 1) + self.lab.noise * np.eye(n)
        lower = np.linalg.cholesky(covariance)
        away = y[:, :, None] - x @ self.means.T
        white = np.linalg.solve(lower, away)
        volume = np.log(np.diagonal(lower, axis1=1, axis2=2)).sum(1)
        return np.asarray(-0.5 * (white**2).sum(1) - volume[:, None] - 0.5 * n * np.log(2 * np.pi))

    def predict(self, x: Floats, y: Floats) -> Floats:
        """The prediction of the last y: a ridge around each mean, weighed by share and evidence, (B,)."""
        lab, seen = self.lab, x[:, :-1]
        logs = np.log(self.shares) + self.evidence(seen, y[:, :-1])
        weights = np.exp(logs - logs.max(1, keepdims=True))
        weights /= weights.sum(1, keepdims=True)
        gram = seen.transpose(0, 2, 1) @ seen + lab.noise / self.spread * np.eye(lab.n_dimensions)
        away = y[:, :-1, None] - seen @ self.means.T
        around = self.means.T + np.linalg.solve(gram, seen.transpose(0, 2, 1) @ away)
        return np.asarray(np.einsum("bg,bdg,bd->b", weights, around, x[:, -1]))

    def regret(self, group: int, n_sequences: int, rng: np.random.Generator) -> float:
        """Nats a sequence that sharing with the other groups costs one of them; at most ln(1 / share)."""
        x, y = self.lab.sequences(self.tasks(group, n_sequences, rng), rng)
        logs = self.evidence(x, y)
        mixed = np.logaddexp.reduce(logs + np.log(self.shares), axis=1)
        return float((logs[:, group] - mixed).mean())
