"""SPDF: train with a static share of the weights held at zero, then release them and train on.

A mask is drawn once for every matrix of every block (query, key, value, output, gate, up, down); embeddings,
head and gains stay dense. It is the same for all models of a stack: keyed by (seed, matrix), so arms that
are compared have equal masks. Only the gradient is masked after the start: the moments of a masked weight
then stay 0, weight decay has nothing to act on, and the weight stays exactly 0. Gradient norms are those of
the weights that train. Saved models are plain ones, so dense continuation is a training that starts
from that folder; its first loss is the sparse model's, bit for bit.

On hardware without unstructured sparsity this saves nothing: it simulates what would be saved.

Source: Thangarasu et al. 2023, arXiv:2303.10464; no code of it was released. Differs: gradients are masked
too, because momentum gathers behind a mask of weights alone; which matrices are masked is the usual reading.
K models, P parameters, E extra.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prill.errors import RecipeError
from prill.lm.shape import Shape

if TYPE_CHECKING:
    import torch

    from prill.lm.data import Rows
    from prill.lm.learner import Learner, Start
    from prill.lm.objectives.objective import At, Objective
    from prill.lm.packed import Packed

__all__ = ["Sparse", "SparseLearner", "forward_flops", "kept_weights", "masks"]

PARTS = {"qkv": 3, "gate_up": 2, "out": 1, "down": 1}
"""Matrices of a block as they are stored, and how many the paper would count in each."""


def forward_flops(
    *, n_layers: int, d_model: int, seq_len: int, vocab_size: int, sparsity: float = 0.0
) -> float:
    """Forward floating-point operations a token of a GPT with d_ff = 4 d; training is three times that.

    24 L d^2 (1 - s) + 4 L T d + 2 V d: linear layers, attention over a full row, head.

    >>> gpt3_xl = {"n_layers": 24, "d_model": 2048, "seq_len": 2048, "vocab_size": 50_257}
    >>> round(forward_flops(**gpt3_xl) / forward_flops(**gpt3_xl, sparsity=0.75), 3)
    2.494
    """
    linear = 24 * n_layers * d_model**2 * (1 - sparsity)
    return linear + 4 * n_layers * seq_len * d_model + 2 * vocab_size * d_model


def kept_weights(n_weights: int, sparsity: float) -> int:
    """How many of a matrix's weights train: (1 - s) of them, rounded once."""
    return round((1 - sparsity) * n_weights)


@dataclass(frozen=True, kw_only=True)
class Sparse:
    """Models with masked weights; a `Start`.

    Args:
        start: proxies or nested proxies, fresh or stored: models with a `shape`.
        sparsity: share of every matrix held at zero, 0 <= s < 1.
        seed: of the masks.
    Raises:
        RecipeError: the share is out of bounds, or the models are no proxies.
    """

    start: Start
    sparsity: float
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.sparsity < 1:
            raise RecipeError(
                f"`sparsity` must be a share of at least 0 and below 1, found {self.sparsity}",
                where="sparse model",
            )
        if not isinstance(getattr(self.start, "shape", None), Shape):
            raise RecipeError(
                f"sparse masks need Prill's own proxies, found {type(self.start).__name__}",
                where="sparse model",
                hint="leave `sparsity` out, or start from a size of the ladder",
            )

    @property
    def shape(self) -> Shape:
        """Of the models."""
        found: Shape = self.start.shape  # type: ignore[attr-defined]  # checked above
        return found

    @property
    def vocab_size(self) -> int:
        """Ids must be below it."""
        return self.start.vocab_size

    @property
    def context(self) -> int:
        """The longest row, tokens."""
        return self.start.context

    @property
    def flops_per_token(self) -> int:
        """What this machine computes: zeros are multiplied like any number."""
        return self.start.flops_per_token

    @property
    def simulated_flops_per_token(self) -> int:
        """What training would cost if zeros were skipped."""
        n_masked = self.shape.n_params - self.n_params
        return self.flops_per_token - 6 * n_masked

    @property
    def n_params(self) -> int:
        """Parameters that train, without embedding and head: what to match when sparsities are compared."""
        shape = self.shape
        matrices = [shape.d_model**2] * 4 + [shape.d_model * shape.d_ff] * 3
        masked = sum(n - kept_weights(n, self.sparsity) for n in matrices)
        return shape.n_params - shape.n_layers * masked

    def width(self) -> int:
        """Width of the hidden states."""
        return self.start.width()

    def learner(
        self, seeds: Sequence[int], *, n_extra: int, dtype: torch.dtype, device: torch.device
    ) -> SparseLearner:
        """The models of `start` with their masked weights at zero."""
        inner = self.start.learner(seeds, n_extra=n_extra, dtype=dtype, device=device)
        keep = masks(self.shape, sparsity=self.sparsity, seed=self.seed).to(device)
        learner = SparseLearner(inner, keep, self.as_record())
        learner.mask(inner.flat)
        return learner

    def as_record(self) -> dict[str, Any]:
        """What decides the models beside their seeds."""
        return {
            "start": "sparse",
            "version": 1,
            "sparsity": self.sparsity,
            "seed": self.seed,
            "of": self.start.as_record(),
        }


class SparseLearner:
    """K models some of whose weights stay at zero; a `Learner`."""

    def __init__(self, inner: Learner, keep: torch.Tensor, record: Mapping[str, Any]) -> None:
        self.inner = inner
        self.keep = keep
        self.record = dict(record)

    @property
    def flat(self) -> torch.Tensor:
        """All weights, zeros included, fp32, (K, P + E)."""
        return self.inner.flat

    @property
    def shape(self) -> Shape:
        """Of the models."""
        found: Shape = self.inner.shape  # type: ignore[attr-defined]  # `Sparse` checks it
        return found

    @property
    def n_decayed(self) -> int:
        """Leading columns of `flat` that weight decay acts on."""
        return self.inner.n_decayed

    @property
    def n_models(self) -> int:
        """K."""
        return self.inner.n_models

    def copy(self) -> SparseLearner:
        """The same models with weights of their own."""
        return SparseLearner(self.inner.copy(), self.keep, self.record)

    def mask(self, values: torch.Tensor) -> None:
        """Set the masked columns of something laid out like `flat` to zero, in place."""
        values[:, : len(self.keep)].masked_fill_(~self.keep, 0.0)

    def pack(self, rows: Rows) -> Packed:
        """Rows of shape (K, B, T) on the device."""
        return self.inner.pack(rows)

    def losses_and_gradient(
        self, batch: Packed, objective: Objective | None = None, at: At | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Loss of each model (K,) and the gradient of their sum for the weights that train, else 0."""
        losses, gradient = self.inner.losses_and_gradient(batch, objective, at)
        self.mask(gradient)
        return losses, gradient

    def token_losses(self, batch: Packed) -> torch.Tensor:
        """Plain cross-entropy of every target, nats, fp32, (K, N)."""
        return self.inner.token_losses(batch)

    def save(self, folder: Path, k: int, meta: Mapping[str, Any]) -> list[Path]:
        """Write model k as a plain one, zeros included; `meta` tells of the mask."""
        return self.inner.save(folder, k, {**meta, "sparse": self.record})


def masks(shape: Shape, *, sparsity: float, seed: int) -> torch.Tensor:
    """Which weights train, bool, (P,); exactly `kept_weights` of each matrix."""
    import torch

    from prill.lm.parameters import layout

    keep = torch.ones(shape.n_total, dtype=torch.bool)
    for spec in layout(shape):
        kind = spec.name.rpartition(".")[2]
        if kind in PARTS:
            whole = keep[spec.start : spec.stop].view(spec.shape)
            for number, part in enumerate(whole.chunk(PARTS[kind], dim=1)):
                part.copy_(_drawn(part.numel(), sparsity, f"{seed}:{spec.name}:{number}").view(part.shape))
    return keep


def _drawn(n_weights: int, sparsity: float, key: str) -> torch.Tensor:
    """A uniformly random mask with an exact count, keyed by text."""
    import torch

    digest = hashlib.sha256(f"prill-sparse-1:{key}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "little", signed=True))
    keep = torch.zeros(n_weights, dtype=torch.bool)
    keep[torch.randperm(n_weights, generator=generator)[: kept_weights(n_weights, sparsity)]] = True
    return keep
