"""Proxies of one shape, scored together: the forward pass with nothing but what scoring needs.

At proxy size a pass over memory costs as much as the arithmetic between two products. So gains are folded
into the matrices that follow them, residual sums into the products, activations are made in place, and all
buffers are kept from row to row. Rotary positions turn neighbouring numbers, as one complex product: the
columns of queries and keys are put in that order once, which changes no score.

Axes: K models, N tokens of a row, d width, H heads, e head width, f feed-forward width, V vocabulary.
Source: the model of `prill.lm.model`, to which this is equal up to rounding (tested).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from prill.lm.attention import segment_attention
from prill.lm.parameters import views
from prill.lm.scoring.token_values import Head, TokenValues, token_values

if TYPE_CHECKING:
    from prill.lm.model import StackedLlama
    from prill.lm.scoring.rows import ScoringRow
    from prill.lm.shape import Shape

__all__ = ["StackedScorer"]


class StackedScorer:
    """K proxies as they are when this is made; a `TokenScorer`. Not for two threads at once."""

    row_tokens = None
    opening_id = None
    gives_moments = True

    def __init__(self, model: StackedLlama) -> None:
        self.shape = model.shape
        self.dtype = model.dtype
        self._device = model.flat.device
        weights = views(model.flat.detach(), model.shape)
        self._embedding = weights["embedding"].to(model.dtype)
        self._layers = [_Layer(weights, f"layers.{i}.", model) for i in range(model.shape.n_layers)]
        table = weights["embedding" if model.shape.tied else "head"]
        folded = (table * weights["final_norm"][:, None]).to(model.dtype)
        self._heads = [Head.of(weight) for weight in folded]
        self._turns = _turns(model.shape).to(self._device)
        self._space = _Workspace(self._device)

    @property
    def n_models(self) -> int:
        """K."""
        return len(self._heads)

    @property
    def vocab_size(self) -> int:
        """V."""
        return self.shape.vocab_size

    @property
    def context(self) -> int:
        """The longest window, tokens."""
        return self.shape.seq_len

    @torch.inference_mode()
    def score(self, row: ScoringRow, *, is_whole: bool, top: int = 0) -> list[TokenValues]:
        """As `TokenScorer.score`."""
        targets = torch.from_numpy(row.targets).to(self._device)
        hidden = self._hidden(row)
        return [
            token_values(states, head, targets, is_whole=is_whole, top=top)
            for states, head in zip(hidden, self._heads, strict=True)
        ]

    def _hidden(self, row: ScoringRow) -> torch.Tensor:
        """Last hidden states, normed but for the gain, which is the head's, (K, N, d)."""
        shape, n_tokens = self.shape, row.n_tokens
        inputs = torch.from_numpy(row.inputs).to(self._device)
        turn = self._turns[torch.from_numpy(row.positions).to(self._device)][:, None]
        stream = self._space.take("stream", self.n_models, n_tokens, shape.d_model)
        stream.copy_(self._embedding.index_select(1, inputs))
        for layer in self._layers:
            mixed = self._product("mixed", self._unit(stream), layer.qkv)
            query, key, value = self._heads_of(mixed, turn)
            seen = segment_attention(query, key, value, row.segments)
            self._add(stream, seen.view(self.n_models, n_tokens, -1), layer.out)
            gate, up = self._product("inner", self._unit(stream), layer.gate_up).chunk(2, dim=2)
            torch.nn.functional.silu(gate, inplace=True).mul_(up)
            self._add(stream, gate, layer.down)
        return self._unit(stream)

    def _unit(self, stream: torch.Tensor) -> torch.Tensor:
        """x / sqrt(mean x^2 + eps), in the compute type."""
        mean_square = torch.linalg.vector_norm(stream, dim=2, keepdim=True).square_().div_(stream.shape[2])
        inverse = mean_square.add_(self.shape.norm_eps).rsqrt_()
        unit = self._space.take("unit", *stream.shape, dtype=self.dtype)
        return torch.mul(stream, inverse, out=unit)

    def _product(self, name: str, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        into = self._space.take(name, left.shape[0], left.shape[1], right.shape[2], dtype=self.dtype)
        return torch.bmm(left, right, out=into)

    def _add(self, stream: torch.Tensor, left: torch.Tensor, right: torch.Tensor) -> None:
        """stream += left @ right."""
        if self.dtype == torch.float32:
            stream.baddbmm_(left, right)
        else:
            stream.add_(self._product("added", left, right))

    def _heads_of(
        self, mixed: torch.Tensor, turn: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Query and key, turned, and value, each (K, H, N, e), from (K, N, 3 d); fp32 is turned in place."""
        n_models, n_tokens, width = mixed.shape[0], mixed.shape[1], self.shape.d_model
        parts = mixed.view(n_models, n_tokens, 3, width)
        pair = parts[:, :, :2]
        if self.dtype != torch.float32:
            pair = self._space.take("pair", *pair.shape).copy_(pair)
        torch.view_as_complex(pair.view(n_models, n_tokens, 2, -1, 2)).mul_(turn)
        if self.dtype != torch.float32:
            pair = parts[:, :, :2].copy_(pair)
        query, key, value = (
            x.view(n_models, n_tokens, self.shape.n_heads, -1).transpose(1, 2)
            for x in (pair[:, :, 0], pair[:, :, 1], parts[:, :, 2])
        )
        return query, key, value


class _Layer:
    """One block's matrices in the compute type, with the gain before each folded in."""

    def __init__(self, weights: dict[str, torch.Tensor], at: str, model: StackedLlama) -> None:
        def folded(name: str, gain: str | None) -> torch.Tensor:
            matrix = weights[at + name]
            return (matrix if gain is None else matrix * weights[at + gain][:, :, None]).to(model.dtype)

        self.qkv = _neighbours(folded("qkv", "attention_norm"), model.shape)
        self.out = folded("out", None)
        self.gate_up = folded("gate_up", "ffn_norm")
        self.down = folded("down", None)


class _Workspace:
    """Buffers that grow to the longest row and stay."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._buffers: dict[tuple[str, torch.dtype], torch.Tensor] = {}

    def take(self, name: str, *shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """A tensor of this shape with anything in it; the same memory at each call with this name."""
        size = math.prod(shape)
        buffer = self._buffers.get((name, dtype))
        if buffer is None or buffer.numel() < size:
            self._buffers.pop((name, dtype), None)
            buffer = torch.empty(size, dtype=dtype, device=self._device)
            self._buffers[name, dtype] = buffer
        return buffer[:size].view(shape)


def _neighbours(qkv: torch.Tensor, shape: Shape) -> torch.Tensor:
    """Columns i and i + e / 2 of every head of queries and keys side by side; (K, d, 3 d)."""
    n_models, width = qkv.shape[:2]
    parts = qkv.view(n_models, width, 3, shape.n_heads, 2, -1)
    pair = parts[:, :, :2].transpose(4, 5).reshape(n_models, width, 2 * width)
    return torch.cat([pair, qkv[:, :, 2 * width :]], dim=2)


def _turns(shape: Shape) -> torch.Tensor:
    """exp(i position frequency), alike for every head, complex64, (seq_len, H e / 2)."""
    half = shape.head_dim // 2
    frequency = shape.rope_theta ** -(torch.arange(half, dtype=torch.float64) / half)
    angle = torch.arange(shape.seq_len, dtype=torch.float64)[:, None] * frequency
    return torch.polar(torch.ones_like(angle), angle).to(torch.complex64).repeat(1, shape.n_heads)
