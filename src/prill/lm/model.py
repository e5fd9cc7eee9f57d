"""K Llama-style models of one shape, run as one.

Every parameter has a leading model axis: a linear layer is one batched matrix product, the embedding is a
gather, attention folds the model axis into the batch. The head and its cross-entropy are fused: logits
exist for one chunk of tokens and are folded at once into the gradients of the hidden states and of the head,
so memory does not grow with tokens x vocabulary and nothing is computed twice. The autograd tape covers the
blocks only; the embedding and the head are differentiated by hand.

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
from prill.lm.layers import attend, gated, rms_norm, split_heads
from prill.lm.parameters import init_flat, views
from prill.lm.shape import Shape

__all__ = ["Packed", "StackedLlama"]

CHUNK_BYTES = 2 << 20  # of logits: half of them and a chunk of W fit a core's second-level cache
ACCELERATOR_CHUNK_BYTES = 256 << 20
SAFE_LOGIT = 60.0  # exp of it, summed over a vocabulary, is far from overflow
SUM_GROUP = 64

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
        stream = _gather(weights["embedding"], batch.inputs).float().requires_grad_()
        hidden = self._blocks(blocks, stream, batch)
        head = "embedding" if self.shape.tied else "head"
        if not self.shape.tied:
            into["embedding"].zero_()
        losses, hidden_gradient = _head_backward(hidden.detach(), weights[head], batch.targets, into[head])
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
        hidden = self._blocks(weights, _gather(weights["embedding"], batch.inputs).float(), batch)
        head = weights["embedding" if self.shape.tied else "head"].transpose(1, 2)
        losses = torch.empty(batch.targets.shape, dtype=torch.float32, device=self.flat.device)
        for part in _chunks(hidden, head.shape[2]):
            logits = torch.bmm(hidden[:, part], head).float()
            chosen = logits.gather(2, batch.targets[:, part, None]).squeeze(2)
            losses[:, part] = torch.logsumexp(logits, 2) - chosen
        return losses

    @torch.no_grad()
    def logits(self, batch: Packed) -> torch.Tensor:
        """All logits, fp32, (K, N, V): for tests and small inputs."""
        weights = self._weights()
        hidden = self._blocks(weights, _gather(weights["embedding"], batch.inputs).float(), batch)
        head = weights["embedding" if self.shape.tied else "head"]
        return torch.bmm(hidden, head.transpose(1, 2)).float()

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


def _gather(embedding: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
    """Row `inputs[k, n]` of each model's table, (K, N, d)."""
    return torch.stack([table.index_select(0, ids) for table, ids in zip(embedding, inputs, strict=True)])


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


def _chunks(hidden: torch.Tensor, vocab_size: int) -> list[slice]:
    """Slices of the token axis whose logits take about `CHUNK_BYTES`."""
    n_models, n_tokens, _ = hidden.shape
    room = CHUNK_BYTES if hidden.device.type == "cpu" else ACCELERATOR_CHUNK_BYTES
    size = max(16, room // (n_models * vocab_size * hidden.element_size()))
    return [slice(start, min(n_tokens, start + size)) for start in range(0, n_tokens, size)]


def _head_backward(
    hidden: torch.Tensor, head: torch.Tensor, targets: torch.Tensor, into: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean cross-entropy of each model (K,), its gradient for `hidden` and, written to `into`, for `head`.

    An accelerator takes all models at once; a CPU takes one after the other, so that a chunk of logits stays
    in its cache.
    """
    n_models, n_tokens, _ = hidden.shape
    hidden_gradient = torch.empty_like(hidden)
    losses = torch.zeros(n_models, dtype=torch.float64, device=hidden.device)
    group = 1 if hidden.device.type == "cpu" else n_models
    for first in range(0, n_models, group):
        k = slice(first, first + group)
        losses[k] = _group_backward(hidden[k], head[k], targets[k], into[k], hidden_gradient[k])
    into.div_(n_tokens)
    return losses / n_tokens, hidden_gradient.div_(n_tokens)


def _group_backward(
    hidden: torch.Tensor, head: torch.Tensor, targets: torch.Tensor, into: torch.Tensor, below: torch.Tensor
) -> torch.Tensor:
    """Summed cross-entropy of each model; its gradients go to `into` (head) and `below` (hidden).

    With w = exp(h W^T) and s its row sums, the loss is log s - h W_t and its gradients are (w W) / s - W_t
    for h and w^T (h / s) - onehot^T h for W. Dividing the small factors by s instead of w saves two
    passes over the logits. Where a logit could overflow, the row's maximum is taken out first.
    """
    losses = torch.zeros(hidden.shape[0], dtype=torch.float64, device=hidden.device)
    longest = torch.linalg.vector_norm(head, dim=2, dtype=torch.float32).amax(1)
    for number, part in enumerate(_chunks(hidden, head.shape[1])):
        here, wanted = hidden[:, part], targets[:, part]
        weight, shift = _exponentials(here, head, longest)
        total = _row_sums(weight)
        answer = _gather(head, wanted)
        losses += (total.log() + shift - (here.float() * answer).sum(2)).sum(1, dtype=torch.float64)
        below[:, part] = (torch.bmm(weight, head) / total[:, :, None]).sub_(answer)
        scaled = (here / total[:, :, None]).to(here.dtype)
        head_gradient = torch.bmm(weight.transpose(1, 2), scaled)
        into.add_(head_gradient) if number else into.copy_(head_gradient)
        for k, ids in enumerate(wanted):
            into[k].index_add_(0, ids, here[k].float(), alpha=-1.0)
    return losses


def _exponentials(
    hidden: torch.Tensor, head: torch.Tensor, longest: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """exp(h W^T - shift), (K, n, V), and the shift, (K, n), which is 0 unless |h| max|W_v| is large."""
    logits = torch.bmm(hidden, head.transpose(1, 2))
    bound = torch.linalg.vector_norm(hidden, dim=2, dtype=torch.float32) * longest[:, None]
    shift = torch.zeros_like(bound)
    if bool((bound > SAFE_LOGIT).any()):
        shift = torch.where(bound > SAFE_LOGIT, logits.amax(2).float(), shift)
        logits.sub_(shift[:, :, None])
    return logits.exp_(), shift


def _row_sums(weight: torch.Tensor) -> torch.Tensor:
    """Sums of the last axis in fp32; in bf16 by groups as products with ones, then the groups in fp32."""
    n_models, n_rows, size = weight.shape
    if weight.dtype == torch.float32 or size % SUM_GROUP:
        return weight.sum(2, dtype=torch.float32)
    groups = weight.view(n_models, -1, SUM_GROUP)
    sums = torch.bmm(groups, weight.new_ones(n_models, SUM_GROUP, 1))
    return sums.view(n_models, n_rows, -1).sum(2, dtype=torch.float32)
