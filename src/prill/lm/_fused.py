"""The compiled kernels of a CPU as differentiable functions of torch.

Each saves what its backward reads and allocates its results; the arithmetic is in `prill.lm._fused_kernel`.
Attention works through a few rows at a time, so that their scores stay in a core's cache between the two
products and the softmax.

Axes: K models, M = K N tokens, d width, f feed-forward width, R = K B rows of L tokens, H heads, e head
width.
"""

from __future__ import annotations

from typing import Any

import torch
from numpy.typing import NDArray

from prill.lm import _fused_kernel as kernel

__all__ = ["FusedAddNorm", "FusedAttention", "FusedGated", "fuses"]

SCORE_BYTES = 1 << 20  # of attention scores that are worked on at a time


def fuses(*tensors: torch.Tensor) -> bool:
    """Whether the compiled kernels take these."""
    return all(t.device.type == "cpu" and t.dtype in (torch.float32, torch.bfloat16) for t in tensors)


def _array(tensor: torch.Tensor) -> NDArray[Any]:
    """The same memory for a kernel; bfloat16 as its bits."""
    plain = (tensor.detach() if tensor.requires_grad else tensor).contiguous()
    return (plain.view(torch.uint16) if plain.dtype == torch.bfloat16 else plain).numpy()


class FusedAddNorm(torch.autograd.Function):
    """(stream, delta or None, gain, eps) -> stream + delta, and its norm times gain; (K, N, d)."""

    @staticmethod
    def forward(
        ctx: Any, stream: torch.Tensor, delta: torch.Tensor | None, gain: torch.Tensor, eps: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        ctx.set_materialize_grads(False)
        width = stream.shape[2]
        total = stream if delta is None else torch.empty_like(stream)
        normed = torch.empty(stream.shape, dtype=gain.dtype)
        inverse = torch.empty(stream.shape[:2])
        kernel.add_norm(
            _array(stream).reshape(-1, width),
            _array(gain[:0] if delta is None else delta).reshape(-1, width),
            _array(gain),
            eps,
            _array(total).reshape(-1, width),
            _array(normed).reshape(-1, width),
            _array(inverse).reshape(-1),
        )
        ctx.save_for_backward(total, inverse, gain)
        ctx.adds = delta is not None
        return total, normed

    @staticmethod
    def backward(
        ctx: Any, above_total: torch.Tensor | None, above: torch.Tensor | None
    ) -> tuple[torch.Tensor | None, torch.Tensor | None, torch.Tensor | None, None]:
        total, inverse, gain = ctx.saved_tensors
        width = total.shape[2]
        if above is None:
            above = torch.zeros(total.shape, dtype=gain.dtype)
        below, gain_sum = torch.empty_like(total), torch.zeros(gain.shape)
        below_delta = torch.empty(total.shape, dtype=gain.dtype) if ctx.adds else gain[:0]
        kernel.add_norm_back(
            _array(total).reshape(-1, width),
            _array(inverse).reshape(-1),
            _array(gain),
            _array(above).reshape(-1, width),
            _array(inverse.new_empty(0, width) if above_total is None else above_total).reshape(-1, width),
            _array(below).reshape(-1, width),
            _array(below_delta).reshape(-1, width),
            _array(gain_sum),
        )
        return below, below_delta if ctx.adds else None, gain_sum.to(gain.dtype), None


class FusedGated(torch.autograd.Function):
    """silu(gate) up: (K, N, 2 f) -> (K, N, f)."""

    @staticmethod
    def forward(ctx: Any, gate_up: torch.Tensor) -> torch.Tensor:
        width = gate_up.shape[2] // 2
        found = gate_up.new_empty(*gate_up.shape[:2], width)
        kernel.gated(_array(gate_up).reshape(-1, 2 * width), _array(found).reshape(-1, width))
        ctx.save_for_backward(gate_up)
        return found

    @staticmethod
    def backward(ctx: Any, above: torch.Tensor) -> torch.Tensor:
        (gate_up,) = ctx.saved_tensors
        width = above.shape[2]
        below = torch.empty(gate_up.shape, dtype=gate_up.dtype)
        kernel.gated_back(
            _array(above).reshape(-1, width),
            _array(gate_up).reshape(-1, 2 * width),
            _array(below).reshape(-1, 2 * width),
        )
        return below


class FusedAttention(torch.autograd.Function):
    """Joint projection (R, L, 3, H, e), cos and sin fp32 (R, L, e / 2), span (R, L) -> seen (R, L, H e)."""

    @staticmethod
    def forward(
        ctx: Any,
        mixed: torch.Tensor,
        cos: torch.Tensor,
        sin: torch.Tensor,
        first: torch.Tensor,
        last: torch.Tensor,
    ) -> torch.Tensor:
        n_rows, length, _, n_heads, width = mixed.shape
        parts = mixed.new_empty(3, n_rows, n_heads, length, width)
        share = mixed.new_empty(n_rows, n_heads, length, length)
        seen = mixed.new_empty(n_rows, length, n_heads, width)
        query, key, value = parts.view(3, -1, length, width)
        kernel.split_heads(
            _array(mixed), _array(cos), _array(sin), width**-0.5, *(_array(part) for part in parts)
        )
        for rows, heads in _portions(share):
            scores = share[rows].view(-1, length, length)
            torch.bmm(query[heads], key[heads].transpose(1, 2), out=scores)
            kernel.softmax(_array(share[rows]), _array(first[rows]), _array(last[rows]))
            part = torch.bmm(scores, value[heads]).view(-1, n_heads, length, width)
            seen[rows].copy_(part.transpose(1, 2))
        ctx.save_for_backward(parts, share, cos, sin, first, last)
        return seen.view(n_rows, length, n_heads * width)

    @staticmethod
    def backward(ctx: Any, above: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        parts, share, cos, sin, first, last = ctx.saved_tensors
        _, n_rows, n_heads, length, width = parts.shape
        query, key, value = parts.view(3, -1, length, width)
        above = above.reshape(n_rows, length, n_heads, width).transpose(1, 2).reshape(-1, length, width)
        below = torch.empty_like(parts)
        query_below, key_below, value_below = below.view(3, -1, length, width)
        for rows, heads in _portions(share):
            here = share[rows].view(-1, length, length)
            torch.bmm(here.transpose(1, 2), above[heads], out=value_below[heads])
            scores = torch.bmm(above[heads], value[heads].transpose(1, 2))
            kernel.softmax_back(
                _array(scores.view(share[rows].shape)),
                _array(share[rows]),
                _array(first[rows]),
                _array(last[rows]),
            )
            torch.bmm(scores, key[heads], out=query_below[heads])
            torch.bmm(scores.transpose(1, 2), query[heads], out=key_below[heads])
        mixed = parts.new_empty(n_rows, length, 3, n_heads, width)
        query, key, value = below
        kernel.join_heads(
            _array(query), _array(key), _array(value), _array(cos), _array(sin), width**-0.5, _array(mixed)
        )
        return mixed, None, None, None, None


def _portions(share: torch.Tensor) -> list[tuple[slice, slice]]:
    """Slices of the rows and of rows x heads whose scores are worked on together."""
    n_rows, n_heads = share.shape[:2]
    each = max(1, SCORE_BYTES // (share[0].numel() * share.element_size()))
    return [(slice(r, r + each), slice(r * n_heads, (r + each) * n_heads)) for r in range(0, n_rows, each)]
