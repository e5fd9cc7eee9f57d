"""K Llama-style models of one shape, run as one.

Every parameter has a leading model axis: a linear layer is one batched matrix product, the embedding is a
gather, attention folds the model axis into the batch. The autograd tape covers the blocks only; the embedding
and the head are differentiated by hand (`prill.lm.head`), so that logits never exist as a whole.

The loss of a model is the mean over its tokens and the stack's loss is the sum over models, so each
model's gradient is exactly its own.

Axes: K models, B rows, T tokens a row, N = B T, d width, V vocabulary.
Source: Touvron et al. 2023, arXiv:2302.13971 (shape); Su et al. 2021, arXiv:2104.09864 (rotary positions).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from prill.lm.data import Rows
from prill.lm.head import gather, head_backward, head_losses
from prill.lm.layers import attend, gated, rms_norm, split_heads
from prill.lm.parameters import init_flat, views
from prill.lm.shape import Shape

__all__ = ["Packed", "StackedLlama"]

Weights = dict[str, torch.Tensor]


@dataclass(frozen=True, kw_only=True)
class Packed:
    """Rows of K models on the device, with what attention needs to know about them.

    Attributes:
        inputs, targets: token ids, (K, N) int64.
        cos, sin: rotary factors, (K B, T, head_dim / 2).
        mask: 0 where attention is allowed, else -inf, (K B, 1, T, T).
        n_rows: B.
    """

    inputs: torch.Tensor
    targets: torch.Tensor
    cos: torch.Tensor
    sin: torch.Tensor
    mask: torch.Tensor
    n_rows: int


class StackedLlama:
    """K models of one shape with fp32 weights `flat`, (K, P), computing in `dtype`."""

    def __init__(self, shape: Shape, flat: torch.Tensor, *, dtype: torch.dtype = torch.float32) -> None:
        self.shape = shape
        self.flat = flat
        self.dtype = dtype
        self._cos, self._sin = _rotary_tables(shape, dtype=dtype, device=flat.device)

    @classmethod
    def init(
        cls,
        shape: Shape,
        seeds: Sequence[int],
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> StackedLlama:
        """Fresh models, one a seed; a seed's model is the same in any stack."""
        return cls(shape, init_flat(shape, seeds).to(device), dtype=dtype)

    @property
    def n_models(self) -> int:
        """K."""
        return int(self.flat.shape[0])

    def copy(self) -> StackedLlama:
        """The same models with weights of their own."""
        return StackedLlama(self.shape, self.flat.clone(), dtype=self.dtype)

    def pack(self, rows: Rows) -> Packed:
        """Rows of shape (K, B, T) on the device, ready for the model."""
        n_models, n_rows, length = rows.inputs.shape
        device = self.flat.device
        segments = torch.from_numpy(np.ascontiguousarray(rows.segments)).to(device).view(-1, length)
        positions = torch.from_numpy(np.ascontiguousarray(rows.positions)).to(device).view(-1)
        half = self.shape.head_dim // 2
        return Packed(
            inputs=torch.from_numpy(np.ascontiguousarray(rows.inputs)).to(device).view(n_models, -1),
            targets=torch.from_numpy(np.ascontiguousarray(rows.targets)).to(device).view(n_models, -1),
            cos=self._cos[positions].view(-1, length, half),
            sin=self._sin[positions].view(-1, length, half),
            mask=_block_causal(segments, self.dtype),
            n_rows=n_rows,
        )

    def losses_and_gradient(self, batch: Packed) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean loss of each model, nats, (K,), and the gradient of their sum, fp32, (K, P)."""
        weights = self._weights()
        gradient = torch.empty_like(self.flat)
        into = views(gradient, self.shape)
        blocks = {
            name: w.requires_grad_() for name, w in weights.items() if name.startswith(("layers", "final"))
        }
        stream = gather(weights["embedding"], batch.inputs).float().requires_grad_()
        hidden = self._blocks(blocks, stream, batch)
        head = "embedding" if self.shape.tied else "head"
        if not self.shape.tied:
            into["embedding"].zero_()
        losses, hidden_gradient = head_backward(hidden.detach(), weights[head], batch.targets, into[head])
        found = torch.autograd.grad(hidden, [stream, *blocks.values()], hidden_gradient)
        for name, part in zip(blocks, found[1:], strict=True):
            into[name].copy_(part)
        for k, part in enumerate(found[0]):
            into["embedding"][k].index_add_(0, batch.inputs[k], part.float())
        return losses, gradient

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

    def _weights(self) -> Weights:
        """One cast of all weights to the compute type, then views of it."""
        return views(self.flat.detach().to(self.dtype), self.shape)

    def _blocks(self, weights: Weights, stream: torch.Tensor, batch: Packed) -> torch.Tensor:
        """The residual stream through all blocks and the final norm, (K, N, d) in the compute type."""
        for i in range(self.shape.n_layers):
            here = {
                name.rpartition(".")[2]: w for name, w in weights.items() if name.startswith(f"layers.{i}.")
            }
            stream = stream + self._attention(here, stream, batch)
            stream = stream + self._feed_forward(here, stream)
        return self._norm(stream, weights["final_norm"])

    def _attention(self, here: Weights, stream: torch.Tensor, batch: Packed) -> torch.Tensor:
        n_models, n_tokens, width = stream.shape
        n_heads, head_dim = self.shape.n_heads, self.shape.head_dim
        length = n_tokens // batch.n_rows
        mixed = torch.bmm(self._norm(stream, here["attention_norm"]), here["qkv"])
        heads = mixed.view(n_models * batch.n_rows, length, 3, n_heads, head_dim)
        seen = attend(*split_heads(heads, batch.cos, batch.sin), batch.mask)
        return torch.bmm(seen.transpose(1, 2).reshape(n_models, n_tokens, width), here["out"])

    def _feed_forward(self, here: Weights, stream: torch.Tensor) -> torch.Tensor:
        mixed = torch.bmm(self._norm(stream, here["ffn_norm"]), here["gate_up"])
        return torch.bmm(gated(mixed), here["down"])

    def _norm(self, stream: torch.Tensor, gain: torch.Tensor) -> torch.Tensor:
        return rms_norm(stream, gain, self.shape.norm_eps)


def _rotary_tables(
    shape: Shape, *, dtype: torch.dtype, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """cos and sin of position x frequency, each (seq_len, head_dim / 2)."""
    half = shape.head_dim // 2
    frequency = shape.rope_theta ** -(torch.arange(half, dtype=torch.float64) / half)
    angle = torch.arange(shape.seq_len, dtype=torch.float64)[:, None] * frequency
    return angle.cos().to(device, dtype), angle.sin().to(device, dtype)


def _block_causal(segments: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """(rows, T) segment ids -> (rows, 1, T, T): 0 where attention is allowed, -inf elsewhere."""
    length = segments.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool, device=segments.device).tril_()
    allowed = (segments[:, :, None] == segments[:, None, :]) & causal
    return torch.zeros(allowed.shape, dtype=dtype, device=segments.device).masked_fill_(~allowed, -torch.inf)[
        :, None
    ]
