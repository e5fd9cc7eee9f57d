"""One checkpoint, many small steps from it at once: K copies that differ in what they learn next.

A checkpoint here is weights with the optimiser's moments, because a first step of a fresh Adam has nothing
to do with the step that training would take. Copies are a stack, so one probe costs what a model's share of
a stacked step costs.

Axes: K models, P parameters, B rows of T tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from prill.errors import DataError
from prill.lm.backend import compute_dtype, resolve_precision
from prill.lm.data import Rows
from prill.lm.model import StackedLlama
from prill.lm.optimizer import AdamSettings, StackedAdamW
from prill.lm.shape import Shape, flops_per_token
from prill.lm.tensorfile import read_tensors, write_tensors

__all__ = ["Copies", "TrainingState", "repeated"]


@dataclass(frozen=True, kw_only=True)
class TrainingState:
    """A model between two steps of its training.

    Attributes:
        shape: of the model.
        flat, first, second: weights and both moments, fp32, (P,).
        n_steps: updates that the moments have seen.
        rate: the learning rate at which it stands.
    """

    shape: Shape
    flat: torch.Tensor
    first: torch.Tensor
    second: torch.Tensor
    n_steps: int
    rate: float

    @classmethod
    def fresh(cls, model: StackedLlama, *, rate: float) -> TrainingState:
        """A model without moments."""
        flat = model.flat[0].clone()
        blank = torch.zeros_like(flat)
        return cls(shape=model.shape, flat=flat, first=blank, second=blank.clone(), n_steps=0, rate=rate)

    def save(self, path: Path) -> None:
        """Write it, whole or not at all."""
        tensors = {"flat": self.flat, "first": self.first, "second": self.second}
        meta = {"shape": asdict(self.shape), "n_steps": self.n_steps, "rate": self.rate}
        write_tensors(path, tensors, meta)

    @classmethod
    def load(cls, path: Path) -> TrainingState:
        """Read it.

        Raises:
            DataError: the file is missing, damaged or not finite.
        """
        tensors, meta = read_tensors(path)
        if not all(bool(torch.isfinite(tensor).all()) for tensor in tensors.values()):
            raise DataError("weights must be finite, found others: training diverged", where=str(path))
        return cls(
            shape=Shape(**meta["shape"]), n_steps=int(meta["n_steps"]), rate=float(meta["rate"]), **tensors
        )


class Copies:
    """K copies of a state, trained and judged as one stack."""

    def __init__(self, state: TrainingState, n_models: int, *, settings: AdamSettings | None = None) -> None:
        dtype = compute_dtype(resolve_precision("auto", torch.device("cpu")))
        self.model = StackedLlama(state.shape, state.flat.repeat(n_models, 1), dtype=dtype)
        self.optimizer = StackedAdamW(
            settings or AdamSettings(),
            n_decayed=self.model.n_decayed,
            first=state.first.repeat(n_models, 1),
            second=state.second.repeat(n_models, 1),
            n_steps=state.n_steps,
        )
        self.n_tokens = 0
        self.n_tokens_read = 0

    def step(self, rows: Rows, rate: float) -> NDArray[np.float64]:
        """One update of every copy on rows of its own, (K, B, T); returns the losses before it, (K,)."""
        losses, gradient = self.model.losses_and_gradient(self.model.pack(rows))
        if not bool(torch.isfinite(losses).all()):
            raise DataError("expected finite losses, found others: training diverged", where="copies")
        self.optimizer.step(self.model.flat, gradient, [rate] * self.model.n_models)
        self.n_tokens += rows.inputs.size
        return np.asarray(losses.numpy())

    def losses(self, exams: Sequence[Rows]) -> NDArray[np.float64]:
        """Mean loss of a token of each exam under every copy, nats, float64, (K, exams).

        Args:
            exams: rows of one model each, (1, B, T), with weights.
        """
        found = np.zeros((self.model.n_models, len(exams)))
        for number, exam in enumerate(exams):
            rows = repeated(exam, self.model.n_models)
            assert rows.weights is not None
            weights = rows.weights.reshape(self.model.n_models, -1).astype(np.float64)
            losses = self.model.token_losses(self.model.pack(rows)).double().numpy()
            found[:, number] = (losses * weights).sum(1) / weights.sum(1)
            self.n_tokens_read += rows.inputs.size
        return found

    def state(self, k: int, *, rate: float) -> TrainingState:
        """Copy k as a state of its own."""
        return TrainingState(
            shape=self.model.shape,
            flat=self.model.flat[k].clone(),
            first=self.optimizer.first[k].clone(),
            second=self.optimizer.second[k].clone(),
            n_steps=self.optimizer.n_steps,
            rate=rate,
        )

    @property
    def flops(self) -> float:
        """Of all steps and judgements so far."""
        shape = self.model.shape
        read = flops_per_token(shape, training=False) * self.n_tokens_read
        return float(flops_per_token(shape) * self.n_tokens + read)


def repeated(rows: Rows, n_models: int) -> Rows:
    """The same rows, (1, B, T), for K models."""

    def wide(values: NDArray[Any]) -> NDArray[Any]:
        return np.repeat(values, n_models, axis=0)

    return Rows(
        inputs=wide(rows.inputs),
        targets=wide(rows.targets),
        positions=wide(rows.positions),
        segments=wide(rows.segments),
        weights=None if rows.weights is None else wide(rows.weights),
    )
