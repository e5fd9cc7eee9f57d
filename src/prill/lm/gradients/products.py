"""Inner products, norms and projections of chunk gradients, from what the linear layers read and got back.

With x_t, d_t of the tokens of chunk i, g_i = sum_t x_t d_t' for a layer. Then

    <g_i, G>  = sum_t d_t' G' x_t                     one product of the size of a forward pass
    |g_i|^2   = sum_ts (x_t x_s) (d_t d_s)            two Gram matrices a chunk
    A' g_i B  = sum_t (A' x_t) (B' d_t)'              a projection, from projected inputs and gradients

and none of them forms g_i. Sums run over all linear layers.

Axes: N tokens, C chunks, R gradients, I inputs and O outputs of a layer, a, b projected widths.
Source: Li et al. 2022, arXiv:2110.05679, section 4 (ghost norms); Choe et al. 2024, arXiv:2405.13954,
section 3 (projections with Kronecker structure); Park et al. 2023, arXiv:2303.14186 (random projections).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch

from prill.lm.gradients.trace import Trace

__all__ = ["Projection", "inner_products", "squared_norms", "sum_gradient"]

Gradients = Mapping[str, torch.Tensor]
"""By layer: (R, I, O), or (I, O)."""


def inner_products(trace: Trace, gradients: Gradients, *, n_chunks: int) -> torch.Tensor:
    """<g_i, G_r> of every chunk's summed gradient with R gradients, fp64, (C, R)."""
    per_token: torch.Tensor | None = None
    for name, layer in trace.layers.items():
        part = _per_token(layer.inputs, layer.above, gradients[name])
        per_token = part if per_token is None else per_token + part
    assert per_token is not None
    return _by_chunk(per_token.double(), trace.owner, n_chunks)


def squared_norms(trace: Trace, *, n_chunks: int) -> torch.Tensor:
    """|g_i|^2 of every chunk's summed gradient, fp64, (C,)."""
    rows = trace.owner.view(trace.n_rows, -1)
    same = rows[:, :, None] == rows[:, None, :]
    gram = torch.zeros(same.shape)
    for layer in trace.layers.values():
        x, d = (t.view(trace.n_rows, rows.shape[1], -1) for t in (layer.inputs, layer.above))
        gram += torch.bmm(x, x.transpose(1, 2)).mul_(torch.bmm(d, d.transpose(1, 2)))
    per_token = (gram * same).sum(2, dtype=torch.float64).view(-1, 1)
    return _by_chunk(per_token, trace.owner, n_chunks)[:, 0]


def sum_gradient(trace: Trace) -> dict[str, torch.Tensor]:
    """The gradient of the summed loss of all tokens, by layer, (I, O), fp64."""
    return {name: (layer.inputs.T @ layer.above).double() for name, layer in trace.layers.items()}


@dataclass(frozen=True, kw_only=True)
class Projection:
    """A random linear map of gradients that keeps inner products in the mean: E <P g, P h> = <g, h>.

    Of every layer g becomes A' g B with independent entries of mean 0 and variance 1 / a and 1 / b, so that
    only (I, a) and (O, b) numbers exist. Matrices are a function of seed and layer name alone.

    Attributes:
        seed: of all matrices.
        width: a = b; a layer has width^2 numbers.
        kind: of the entries.
    """

    seed: int
    width: int
    kind: Literal["rademacher", "gaussian"] = "rademacher"

    def of_chunks(self, trace: Trace, *, n_chunks: int) -> torch.Tensor:
        """Projected gradients of all chunks, fp64, (C, layers a b)."""
        found = []
        for name, layer in trace.layers.items():
            left, right = self.matrices(name, layer.inputs.shape[1], layer.above.shape[1])
            outer = (layer.inputs @ left)[:, :, None] * (layer.above @ right)[:, None, :]
            found.append(_by_chunk(outer.flatten(1).double(), trace.owner, n_chunks))
        return torch.cat(found, dim=1)

    def of_gradient(self, gradients: Gradients) -> torch.Tensor:
        """Projected gradients, fp64, (layers a b,) of one or (R, layers a b) of R."""
        found = []
        for name, gradient in gradients.items():
            left, right = self.matrices(name, gradient.shape[-2], gradient.shape[-1])
            found.append((left.T.double() @ gradient.double() @ right.double()).flatten(-2))
        return torch.cat(found, dim=-1)

    def matrices(self, name: str, n_inputs: int, n_outputs: int) -> tuple[torch.Tensor, torch.Tensor]:
        """A (I, a) and B (O, b) of one layer."""
        return self._matrix(f"{name}:inputs", n_inputs), self._matrix(f"{name}:outputs", n_outputs)

    def _matrix(self, use: str, size: int) -> torch.Tensor:
        key = hashlib.sha256(f"prill-projection-1:{self.seed}:{use}".encode()).digest()
        draw = torch.Generator().manual_seed(int.from_bytes(key[:8], "little", signed=True))
        if self.kind == "gaussian":
            entries = torch.randn(size, self.width, generator=draw)
        else:
            entries = torch.randint(0, 2, (size, self.width), generator=draw).float().mul_(2).sub_(1)
        matrix: torch.Tensor = entries.div_(self.width**0.5)
        return matrix


def _per_token(inputs: torch.Tensor, above: torch.Tensor, gradients: torch.Tensor) -> torch.Tensor:
    """d_t' G_r' x_t, (N, R); the wider of x and d is multiplied, so that less is written between."""
    if gradients.shape[1] > gradients.shape[2]:
        return torch.stack([((inputs @ one) * above).sum(1) for one in gradients], dim=1)
    return torch.stack([((above @ one.T) * inputs).sum(1) for one in gradients], dim=1)


def _by_chunk(per_token: torch.Tensor, owner: torch.Tensor, n_chunks: int) -> torch.Tensor:
    """Sums over the tokens of each chunk, (C, ...)."""
    total = torch.zeros(n_chunks + 1, *per_token.shape[1:], dtype=per_token.dtype)
    total.index_add_(0, torch.where(owner < 0, n_chunks, owner), per_token)
    return total[:n_chunks]
