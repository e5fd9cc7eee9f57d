"""K Llama-style models of one shape, run as one.

Every parameter has a leading model axis: a linear layer is one batched matrix product, the embedding is a
gather, attention folds the model axis into the batch. The autograd tape covers the blocks only; the embedding
and the head are differentiated by hand (`prill.lm.head`), so that logits never exist as a whole.

The loss of a model is the mean over its tokens and the stack's loss is the sum over models, so each
model's gradient is exactly its own.

Axes: K models, B rows, T tokens a row, N = B T, d width, f feed-forward width, V vocabulary, P parameters,
E parameters of the objective.
Source: Touvron et al. 2023, arXiv:2302.13971 (shape); Su et al. 2021, arXiv:2104.09864 (rotary positions).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from prill.lm.data import Rows
from prill.lm.head import gather, head_backward, head_losses, terms_of
from prill.lm.layers import attend, density, gated, rms_norm, split_heads
from prill.lm.packed import Packed, pack
from prill.lm.parameters import init_flat, n_decayed, views
from prill.lm.shape import Shape

if TYPE_CHECKING:
    from prill.lm.objectives.objective import At, Objective

__all__ = ["Packed", "StackedLlama", "rotary_tables"]

Weights = dict[str, torch.Tensor]


class StackedLlama:
    """K models of one shape with fp32 weights `flat`, (K, P + E), computing in `dtype`; a `Learner`."""

    def __init__(self, shape: Shape, flat: torch.Tensor, *, dtype: torch.dtype = torch.float32) -> None:
        self.shape = shape
        self.flat = flat
        self.dtype = dtype
        self._cos, self._sin = rotary_tables(shape, dtype=dtype, device=flat.device)

    @classmethod
    def init(
        cls,
        shape: Shape,
        seeds: Sequence[int],
        *,
        n_extra: int = 0,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> StackedLlama:
        """Fresh models, one a seed, with E = `n_extra` zeros; a seed's model is the same in any stack."""
        return cls(shape, init_flat(shape, seeds, n_extra=n_extra).to(device), dtype=dtype)

    @property
    def n_models(self) -> int:
        """K."""
        return int(self.flat.shape[0])

    @property
    def n_decayed(self) -> int:
        """Leading columns of `flat` that weight decay acts on."""
        return n_decayed(self.shape)

    @property
    def extra(self) -> torch.Tensor:
        """The objective's own parameters, a view of the last columns of `flat`, (K, E)."""
        return self.flat[:, self.shape.n_total :]

    def copy(self) -> StackedLlama:
        """The same models with weights of their own."""
        return StackedLlama(self.shape, self.flat.clone(), dtype=self.dtype)

    def pack(self, rows: Rows) -> Packed:
        """Rows of shape (K, B, T) on the device, ready for the model."""
        return pack(rows, dtype=self.dtype, device=self.flat.device)

    def losses_and_gradient(
        self, batch: Packed, objective: Objective | None = None, at: At | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Loss of each model, nats, fp64, (K,), and the gradient of their sum, fp32, (K, P + E).

        The loss is what is minimised (`prill.lm.objectives.objective`); without an objective it is the mean
        cross-entropy over the tokens whose weight is not 0, 0 where there is none.
        """
        weights = self._weights()
        gradient = torch.empty_like(self.flat)
        into = views(gradient, self.shape)
        blocks = {
            name: w.requires_grad_() for name, w in weights.items() if name.startswith(("layers", "final"))
        }
        stream = gather(weights["embedding"], batch.inputs).float().requires_grad_()
        active: list[torch.Tensor] = []
        hidden = self._blocks(blocks, stream, batch, active)
        head = "embedding" if self.shape.tied else "head"
        if not self.shape.tied:
            into["embedding"].zero_()
        below = hidden.detach()
        terms = terms_of(objective, below, batch, self.extra, at)
        losses, above = head_backward(
            below, weights[head], batch.targets, into[head], terms=terms, soft=batch.soft
        )
        outputs, gradients = [hidden], [above]
        if terms.density:
            for layer in active:
                scale = terms.density / len(active)
                share, slope = density(layer.detach(), eps=terms.density_eps)
                losses += scale * share
                outputs.append(layer)
                gradients.append(slope.mul_(scale).to(layer.dtype))
        found = torch.autograd.grad(outputs, [stream, *blocks.values()], gradients)
        for name, part in zip(blocks, found[1:], strict=True):
            into[name].copy_(part)
        for k, part in enumerate(found[0]):
            into["embedding"][k].index_add_(0, batch.inputs[k], part.float())
        own = gradient[:, self.shape.n_total :]
        own.zero_() if terms.extra_gradient is None else own.copy_(terms.extra_gradient)
        return losses, gradient

    def save(self, folder: Path, k: int, meta: Mapping[str, Any]) -> list[Path]:
        """Write model k, without the objective's parameters; returns the files."""
        from prill.lm.checkpoint import save_model

        return list(save_model(folder, self, k, meta))

    @torch.no_grad()
    def token_losses(self, batch: Packed) -> torch.Tensor:
        """Loss of every target token, nats, fp32, (K, N)."""
        weights = self._weights()
        hidden = self._blocks(weights, gather(weights["embedding"], batch.inputs).float(), batch)
        head = weights["embedding" if self.shape.tied else "head"]
        return head_losses(hidden, head, batch.targets)

    def logits(self, batch: Packed) -> torch.Tensor:
        """All logits, fp32, (K, N, V): for tests and small inputs."""
        return self.states_and_logits(batch)[1]

    @torch.no_grad()
    def states_and_logits(self, batch: Packed) -> tuple[torch.Tensor, torch.Tensor]:
        """Last hidden states behind the final norm, (K, N, d), and all logits, (K, N, V), both fp32."""
        weights = self._weights()
        hidden = self._blocks(weights, gather(weights["embedding"], batch.inputs).float(), batch)
        head = weights["embedding" if self.shape.tied else "head"]
        return hidden.float(), torch.bmm(hidden, head.transpose(1, 2)).float()

    @torch.no_grad()
    def states(self, batch: Packed) -> torch.Tensor:
        """Last hidden states behind the final norm, (K, N, d), in the compute type; only they are computed."""
        weights = self._weights()
        return self._blocks(weights, gather(weights["embedding"], batch.inputs).float(), batch)

    def head_matrix(self) -> torch.Tensor:
        """The head, whose product with a hidden state is its logits, (K, V, d), in the compute type."""
        name = "embedding" if self.shape.tied else "head"
        return views(self.flat.detach(), self.shape)[name].to(self.dtype)

    def _weights(self) -> Weights:
        """One cast of all weights to the compute type, then views of it."""
        return views(self.flat.detach().to(self.dtype), self.shape)

    def _blocks(
        self, weights: Weights, stream: torch.Tensor, batch: Packed, active: list[torch.Tensor] | None = None
    ) -> torch.Tensor:
        """The residual stream through all blocks and the final norm, (K, N, d) in the compute type.

        The feed-forward activations of each block, (K, N, f), are appended to `active`.
        """
        turn = self._cos[batch.positions], self._sin[batch.positions]
        for i in range(self.shape.n_layers):
            here = {
                name.rpartition(".")[2]: w for name, w in weights.items() if name.startswith(f"layers.{i}.")
            }
            stream = stream + self._attention(here, stream, batch, turn)
            inner = gated(torch.bmm(self._norm(stream, here["ffn_norm"]), here["gate_up"]))
            if active is not None:
                active.append(inner)
            stream = stream + torch.bmm(inner, here["down"])
        return self._norm(stream, weights["final_norm"])

    def _attention(
        self, here: Weights, stream: torch.Tensor, batch: Packed, turn: tuple[torch.Tensor, torch.Tensor]
    ) -> torch.Tensor:
        n_models, n_tokens, width = stream.shape
        n_heads, head_dim = self.shape.n_heads, self.shape.head_dim
        mixed = torch.bmm(self._norm(stream, here["attention_norm"]), here["qkv"])
        heads = mixed.view(n_models * batch.n_rows, batch.length, 3, n_heads, head_dim)
        seen = attend(*split_heads(heads, *turn), batch.mask)
        return torch.bmm(seen.transpose(1, 2).reshape(n_models, n_tokens, width), here["out"])

    def _norm(self, stream: torch.Tensor, gain: torch.Tensor) -> torch.Tensor:
        return rms_norm(stream, gain, self.shape.norm_eps)


def rotary_tables(
    shape: Shape, *, dtype: torch.dtype, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """cos and sin of position x frequency, each (seq_len, head_dim / 2)."""
    half = shape.head_dim // 2
    frequency = shape.rope_theta ** -(torch.arange(half, dtype=torch.float64) / half)
    angle = torch.arange(shape.seq_len, dtype=torch.float64)[:, None] * frequency
    return angle.cos().to(device, dtype), angle.sin().to(device, dtype)
