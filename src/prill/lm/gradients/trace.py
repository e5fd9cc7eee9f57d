"""One pass of a proxy that keeps, for every linear layer of its blocks, what went in and what came back.

For y = x W with inputs x_t and the gradients d_t of the summed loss for y_t, the gradient of a set of tokens
for W is the sum of x_t d_t' over them. So inputs and output gradients hold every document's gradient, in the
memory of the activations.

The layers are the joint q/k/v projection, the attention's output, the joint gate and up projection, and down,
of every block; embedding, head and gains are not among them: they hold what a document is about word by
word, and a Kronecker factor over the vocabulary would be as large as the vocabulary squared.

Axes: N tokens, V vocabulary, I inputs and O outputs of a layer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from prill.lm.gradients.chunks import ChunkRows
from prill.lm.head import gather, head_backward
from prill.lm.layers import add_norm, attention, gated
from prill.lm.model import StackedLlama, rotary_tables
from prill.lm.objectives.objective import Terms
from prill.lm.packed import Packed
from prill.lm.parameters import views

__all__ = ["Layer", "Trace", "layer_names", "layer_sizes", "trace"]

_Linear = Callable[[torch.Tensor, str], torch.Tensor]

LOGITS_AT_A_TIME = 512
"""Tokens whose logits exist at once where labels are drawn from the model."""


@dataclass(frozen=True, kw_only=True)
class Layer:
    """What one linear layer read, (N, I), and the gradient of the summed loss for what it gave, (N, O)."""

    inputs: torch.Tensor
    above: torch.Tensor


@dataclass(frozen=True, kw_only=True)
class Trace:
    """One pass.

    Attributes:
        loss: summed over all trained tokens, nats.
        layers: by name, in the order of the model.
        owner: the chunk of each token, int64, (N,); -1: none, and its `above` is 0.
        n_rows: rows that the N tokens are of.
    """

    loss: float
    layers: Mapping[str, Layer]
    owner: torch.Tensor
    n_rows: int


def layer_names(model: StackedLlama) -> tuple[str, ...]:
    """The linear layers of the blocks: `layers.0.qkv`, ..."""
    parts = ("qkv", "out", "gate_up", "down")
    return tuple(f"layers.{i}.{part}" for i in range(model.shape.n_layers) for part in parts)


def layer_sizes(model: StackedLlama) -> dict[str, tuple[int, int]]:
    """(I, O) of each."""
    weights = views(model.flat, model.shape)
    return {name: (weights[name].shape[1], weights[name].shape[2]) for name in layer_names(model)}


def trace(model: StackedLlama, chunk_rows: ChunkRows, *, draw: torch.Generator | None = None) -> Trace:
    """Forward and backward over packed rows; weights get no gradient.

    Args:
        model: a stack of one.
        chunk_rows: what to read.
        draw: labels are drawn from the model's own distribution (the Fisher's); None: the text's.
    """
    assert model.n_models == 1, "one model is traced at a time"
    batch = model.pack(chunk_rows.rows)
    weights = {name: w.to(model.dtype) for name, w in views(model.flat.detach(), model.shape).items()}
    stream = gather(weights["embedding"], batch.inputs).float().requires_grad_()
    inputs: dict[str, torch.Tensor] = {}
    outputs: dict[str, torch.Tensor] = {}

    def linear(x: torch.Tensor, name: str) -> torch.Tensor:
        inputs[name], outputs[name] = x, torch.bmm(x, weights[name])
        return outputs[name]

    hidden = _forward(model, weights, stream, batch, linear)
    head = weights["embedding" if model.shape.tied else "head"]
    below = hidden.detach()
    targets = batch.targets if draw is None else _drawn(below[0], head[0], draw)
    terms = Terms(weights=batch.weights)
    loss, above = head_backward(below, head, targets, None, terms=terms)
    n_trained = int((chunk_rows.owner >= 0).sum())
    found = torch.autograd.grad([hidden], list(outputs.values()), [above * n_trained])
    layers = {
        name: Layer(inputs=inputs[name].detach()[0].float(), above=gradient[0].float())
        for name, gradient in zip(outputs, found, strict=True)
    }
    return Trace(
        loss=float(loss[0]) * n_trained,
        layers=layers,
        owner=torch.from_numpy(chunk_rows.owner),
        n_rows=batch.n_rows,
    )


def _forward(
    model: StackedLlama,
    weights: Mapping[str, torch.Tensor],
    stream: torch.Tensor,
    batch: Packed,
    linear: _Linear,
) -> torch.Tensor:
    """The last hidden states; the model's blocks with their linear layers in sight."""
    shape = model.shape
    heads = (batch.n_rows, batch.length, 3, shape.n_heads, shape.head_dim)
    turn = _turn(model, batch)
    stream, normed = add_norm(stream, None, weights["layers.0.attention_norm"], shape.norm_eps)
    for i in range(shape.n_layers):
        block = f"layers.{i}."
        mixed = linear(normed, block + "qkv").view(heads)
        seen = attention(mixed, turn, batch).reshape(1, -1, shape.d_model)
        update = linear(seen, block + "out")
        stream, normed = add_norm(stream, update, weights[block + "ffn_norm"], shape.norm_eps)
        update = linear(gated(linear(normed, block + "gate_up")), block + "down")
        following = f"layers.{i + 1}.attention_norm" if i + 1 < shape.n_layers else "final_norm"
        stream, normed = add_norm(stream, update, weights[following], shape.norm_eps)
    return normed


def _turn(model: StackedLlama, batch: Packed) -> tuple[torch.Tensor, torch.Tensor]:
    cos, sin = rotary_tables(model.shape, dtype=torch.float32, device=model.flat.device)
    return cos[batch.positions], sin[batch.positions]


def _drawn(hidden: torch.Tensor, head: torch.Tensor, draw: torch.Generator) -> torch.Tensor:
    """One label a token from the model's distribution, (1, N), by the Gumbel maximum."""
    parts = []
    for part in torch.split(hidden, LOGITS_AT_A_TIME):
        logits = (part @ head.T).float()
        uniform = torch.rand(logits.shape, generator=draw).clamp_(1e-20, 1 - 1e-7)
        parts.append((logits - (-uniform.log()).log()).argmax(1))
    return torch.cat(parts)[None]
