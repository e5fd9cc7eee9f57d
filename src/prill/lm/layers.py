"""The parts of a block between its matrix products, differentiated by hand.

At proxy size a step is bound by passes over memory, not by arithmetic, and the general backward of these
small formulas makes about twice the passes that are needed. Each function here does the least: sums become
products with a vector of ones (which the matrix unit does at memory speed), results are written straight
into the layout the next product wants, and nothing is concatenated. On a CPU most of them are compiled
(`prill.lm._fused`): one pass over memory each.

Axes: K models, B rows, T tokens a row, N = B T, d width, H heads, e head width, f feed-forward width.
All of them are tested against autograd of the plain formula.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention

from prill.lm._fused import FusedAddNorm, FusedAttention, FusedGated, fuses
from prill.lm.attention import segment_attention
from prill.lm.packed import Packed
from prill.lm.shape import DENSE_ATTENTION_UP_TO

__all__ = ["add_norm", "attend", "attention", "density", "gated", "rms_norm", "split_heads"]


def add_norm(
    stream: torch.Tensor, delta: torch.Tensor | None, gain: torch.Tensor, eps: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """x = stream + delta, (K, N, d) fp32, and x / sqrt(mean x^2 + eps) * g for g (K, d), in the type of g."""
    if stream.dtype == torch.float32 and fuses(stream, gain):
        found: tuple[torch.Tensor, torch.Tensor] = FusedAddNorm.apply(stream, delta, gain, eps)  # type: ignore[no-untyped-call]
        return found
    stream = stream if delta is None else stream + delta
    normed: torch.Tensor = _RmsNorm.apply(stream, gain, eps)  # type: ignore[no-untyped-call]
    return stream, normed


def rms_norm(stream: torch.Tensor, gain: torch.Tensor, eps: float) -> torch.Tensor:
    """x / sqrt(mean x^2 + eps) * g for x (K, N, d) fp32 and g (K, d), in the type of g."""
    return add_norm(stream, None, gain, eps)[1]


def gated(gate_up: torch.Tensor) -> torch.Tensor:
    """silu(gate) * up for (K, N, 2 f) -> (K, N, f)."""
    kind = FusedGated if fuses(gate_up) else _Gated
    found: torch.Tensor = kind.apply(gate_up)  # type: ignore[no-untyped-call]
    return found


def attention(mixed: torch.Tensor, turn: tuple[torch.Tensor, torch.Tensor], batch: Packed) -> torch.Tensor:
    """Rotated causal attention within documents, (K B, T, H e), from the joint projection (K B, T, 3, H, e).

    Args:
        turn: cos and sin of each token's angles, fp32, (K B, T, e / 2).
        batch: says who may see whom.
    """
    cos, sin = turn
    if fuses(mixed) and batch.span is not None and mixed.shape[1] <= DENSE_ATTENTION_UP_TO:
        found: torch.Tensor = FusedAttention.apply(mixed, cos, sin, *batch.span)  # type: ignore[no-untyped-call]
        return found
    heads = split_heads(mixed, cos.to(mixed.dtype), sin.to(mixed.dtype))
    if batch.pieces is not None:
        _, n_heads, _, width = heads[0].shape
        rows = [x.transpose(0, 1).reshape(1, n_heads, -1, width) for x in heads]
        return segment_attention(rows[0], rows[1], rows[2], batch.pieces).view(*mixed.shape[:2], -1)
    seen = attend(*heads, batch.mask)
    return seen.transpose(1, 2).reshape(*mixed.shape[:2], -1)


def split_heads(
    mixed: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Query, key (rotated) and value, each (K B, H, T, e), from the joint projection (K B, T, 3, H, e).

    The rotation turns the pairs (i, i + e / 2) by the angle of the token's position; cos and sin are
    (K B, T, e / 2).
    """
    query_key, value = _SplitHeads.apply(mixed, cos, sin)  # type: ignore[no-untyped-call]
    return query_key[0], query_key[1], value


def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """softmax(q k^T / sqrt(e) + mask) v, (K B, H, T, e); mask (K B, 1, T, T) is 0 or -inf.

    On a CPU the fused kernel's backward is more than twice slower than dense products for short rows.
    """
    if query.device.type == "cpu" and query.shape[2] <= DENSE_ATTENTION_UP_TO:
        found: torch.Tensor = _DenseAttention.apply(query, key, value, mask)  # type: ignore[no-untyped-call]
        return found
    return scaled_dot_product_attention(query, key, value, attn_mask=mask)


def density(active: torch.Tensor, *, eps: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean of h^2 / (h^2 + eps) for each model of h (K, N, f): (K,), and its gradient for h, fp32.

    Source: the density loss of DEFT (arXiv:2402.01911), a smooth count of the
    activations that are not 0.
    """
    square = active.float().square()
    inverse = (square + eps).reciprocal_()
    share = square.mul_(inverse).mean((1, 2))
    slope = inverse.square_().mul_(active).mul_(2 * eps / active[0].numel())
    return share, slope


class _RmsNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, stream: torch.Tensor, gain: torch.Tensor, eps: float) -> torch.Tensor:
        mean_square = torch.linalg.vector_norm(stream, dim=2, keepdim=True).square_().div_(stream.shape[2])
        inverse = mean_square.add_(eps).rsqrt_()
        unit = (stream * inverse).to(gain.dtype)
        ctx.save_for_backward(unit, inverse, gain)
        normed: torch.Tensor = unit * gain[:, None]
        return normed

    @staticmethod
    def backward(ctx: Any, above: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None]:
        unit, inverse, gain = ctx.saved_tensors
        n_models, n_tokens, width = unit.shape
        product = above * unit
        gain_gradient = torch.bmm(product.new_ones(n_models, 1, n_tokens), product)[:, 0]
        along = torch.bmm(product, gain[:, :, None]).div_(width)
        inner = torch.addcmul(above * gain[:, None], unit, along, value=-1.0)
        return inner.float().mul_(inverse), gain_gradient, None


class _Gated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate_up: torch.Tensor) -> torch.Tensor:
        gate, up = gate_up.chunk(2, dim=2)
        active = torch.nn.functional.silu(gate)
        ctx.save_for_backward(gate_up, active)
        return active * up

    @staticmethod
    def backward(ctx: Any, above: torch.Tensor) -> torch.Tensor:
        gate_up, active = ctx.saved_tensors
        gate, up = gate_up.chunk(2, dim=2)
        below = torch.empty_like(gate_up)
        gate_below, up_below = below.chunk(2, dim=2)
        torch.mul(above, active, out=up_below)
        gate_below.copy_(torch.ops.aten.silu_backward(above * up, gate))
        return below


class _SplitHeads(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, mixed: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        rows, length, _, n_heads, width = mixed.shape
        cos, sin = cos[:, :, None, None], sin[:, :, None, None]
        ctx.save_for_backward(cos, sin)
        query_key = mixed.new_empty(2, rows, n_heads, length, width)
        _turn(mixed[:, :, :2], cos, sin, out=query_key.permute(1, 3, 0, 2, 4))
        return query_key, mixed[:, :, 2].transpose(1, 2).contiguous()

    @staticmethod
    def backward(ctx: Any, above: torch.Tensor, value: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        cos, sin = ctx.saved_tensors
        _, rows, n_heads, length, width = above.shape
        below = above.new_empty(rows, length, 3, n_heads, width)
        _turn(above.permute(1, 3, 0, 2, 4), cos, -sin, out=below[:, :, :2])
        below[:, :, 2].copy_(value.transpose(1, 2))
        return below, None, None


def _turn(pairs: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, *, out: torch.Tensor) -> None:
    """out = (a cos - b sin, b cos + a sin) for the halves a, b of the last axis."""
    half = pairs.shape[-1] // 2
    first, second = pairs[..., :half], pairs[..., half:]
    out_first, out_second = out[..., :half], out[..., half:]
    torch.mul(first, cos, out=out_first)
    out_first.addcmul_(second, sin, value=-1.0)
    torch.mul(second, cos, out=out_second)
    out_second.addcmul_(first, sin)


class _DenseAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor
    ) -> torch.Tensor:
        rows, n_heads, length, width = query.shape
        query, key, value = (x.reshape(rows * n_heads, length, width) for x in (query, key, value))
        query = query * width**-0.5
        scores = torch.bmm(query, key.transpose(1, 2)).view(rows, n_heads, length, length)
        share = torch.softmax(scores.add_(mask), dim=3).view(rows * n_heads, length, length)
        ctx.save_for_backward(query, key, value, share)
        return torch.bmm(share, value).view(rows, n_heads, length, width)

    @staticmethod
    def backward(ctx: Any, above: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, None]:
        query, key, value, share = ctx.saved_tensors
        shape = above.shape
        above = above.reshape(query.shape)
        value_below = torch.bmm(share.transpose(1, 2), above)
        below = torch._softmax_backward_data(torch.bmm(above, value.transpose(1, 2)), share, 2, share.dtype)
        query_below = torch.bmm(below, key).mul_(shape[3] ** -0.5)
        key_below = torch.bmm(below.transpose(1, 2), query)
        return query_below.view(shape), key_below.view(shape), value_below.view(shape), None
