"""What lies between the matrix products of a small model, compiled: one pass over memory for each part.

On a CPU a proxy spends most of a step not in products but in passes over memory for the small formulas
around them. Each kernel here reads its inputs once and writes its results once. Values are float32, or
bfloat16 as the uint16 of their bits, which are widened on reading and rounded to nearest even on writing;
all arithmetic is float32. Rows are independent, so nothing depends on the number of models.

Axes: M = K N tokens of K models, d width, f feed-forward width, R = K B rows of L tokens, H heads, e head
width.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np
from llvmlite import ir
from numba import extending, types
from numpy.typing import NDArray

__all__ = [
    "add_norm",
    "add_norm_back",
    "gated",
    "gated_back",
    "join_heads",
    "softmax",
    "softmax_back",
    "split_heads",
]

Values = NDArray[Any]  # float32, or the bits of bfloat16
Floats = NDArray[np.float32]
Places = NDArray[np.int64]
F = TypeVar("F", bound=Callable[..., Any])

ONE, HALF, ZERO = np.float32(1), np.float32(0.5), np.float32(0)
LOG2_E, LOWEST = np.float32(1.4426950408889634), np.float32(-87)
# 2^x on [-1/2, 1/2]: the Taylor series to x^6, off by less than 2e-7 of its value
C1, C2, C3 = np.float32(0.6931471805599453), np.float32(0.2402265069591007), np.float32(0.05550410866482158)
C4, C5, C6 = (np.float32(x) for x in (0.009618129107628477, 0.0013333558146428443, 0.00015403530393381608))


def _compiled(function: F) -> F:
    """Compile on first use; the code is kept on the disk. Sums may be regrouped; NaN stays NaN."""
    options: Any = {"nogil": True, "cache": True, "error_model": "numpy"}
    return cast(F, numba.njit(fastmath={"reassoc", "contract", "nsz"}, **options)(function))


def _intrinsic(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function whose code is written out; it is called without the context."""
    return cast(Callable[..., Any], extending.intrinsic(function))


@_intrinsic
def _wide(context: Any, value: Any) -> Any:
    """A stored value as float32."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        if signature.args[0] == types.float32:
            return arguments[0]
        bits = builder.shl(builder.zext(arguments[0], ir.IntType(32)), ir.Constant(ir.IntType(32), 16))
        return builder.bitcast(bits, ir.FloatType())

    return types.float32(value), generate


@_intrinsic
def _narrow(context: Any, value: Any, like: Any) -> Any:
    """A float32 as it is stored where `like` lies."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        if signature.args[1] == types.float32:
            return arguments[0]
        word = ir.IntType(32)
        bits = builder.bitcast(arguments[0], word)
        sixteen = ir.Constant(word, 16)
        odd = builder.and_(builder.lshr(bits, sixteen), ir.Constant(word, 1))
        rounded = builder.add(bits, builder.add(odd, ir.Constant(word, 0x7FFF)))
        return builder.trunc(builder.lshr(rounded, sixteen), ir.IntType(16))

    return like(value, like), generate


@_intrinsic
def _bits(context: Any, value: Any) -> Any:
    """The bits of a float32 as an int32."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.IntType(32))

    return types.int32(types.float32), generate


@_intrinsic
def _of_bits(context: Any, bits: Any) -> Any:
    """The float32 with these bits."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.FloatType())

    return types.float32(types.int32), generate


@_compiled
def _exp(x: Any) -> Any:
    """e^x for x <= 0, to a few parts in 1e7; below -87 as if -87, which is 1e-38."""
    power = (LOWEST if x < LOWEST else x) * LOG2_E
    whole = np.int32(power - HALF)
    y = power - np.float32(whole)
    series = ONE + y * (C1 + y * (C2 + y * (C3 + y * (C4 + y * (C5 + y * C6)))))
    return series * _of_bits((whole + np.int32(127)) << np.int32(23))


@_compiled
def _sigmoid(x: Any) -> Any:
    small = _exp(-abs(x))
    return (small if x < ZERO else ONE) / (ONE + small)


@_compiled
def _largest(row: Any) -> Any:
    """The largest value of a row: as integers of the same order, whose maximum is found side by side."""
    highest = np.int32(-(2**31))
    for i in range(len(row)):
        bits = _bits(_wide(row[i]))
        highest = max(highest, bits ^ ((bits >> 31) & np.int32(0x7FFFFFFF)))
    return _of_bits(highest ^ ((highest >> 31) & np.int32(0x7FFFFFFF)))


@_compiled
def add_norm(
    stream: Floats,
    delta: Values,
    gain: Values,
    eps: float,
    total: Floats,
    normed: Values,
    inverse: Floats,
) -> None:
    """total = stream + delta, (M, d); inverse = 1 / sqrt(mean total^2 + eps), (M,); normed = total inverse g.

    `delta` without rows is 0, and `total` is then left alone. g (K, d) belongs to M / K rows each.
    """
    n_rows, width = stream.shape
    each = n_rows // gain.shape[0]
    adds = delta.shape[0] > 0
    for m in range(n_rows):
        before, g, out = stream[m], gain[m // each], normed[m]
        square = ZERO
        if adds:
            more, after = delta[m], total[m]
            for i in range(width):
                value = before[i] + _wide(more[i])
                after[i] = value
                square += value * value
            before = after
        else:
            for i in range(width):
                square += before[i] * before[i]
        scale = ONE / np.sqrt(square / np.float32(width) + np.float32(eps))
        inverse[m] = scale
        for i in range(width):
            out[i] = _narrow(before[i] * scale * _wide(g[i]), out[i])


@_compiled
def add_norm_back(
    total: Floats,
    inverse: Floats,
    gain: Values,
    above: Values,
    above_total: Floats,
    below: Floats,
    below_delta: Values,
    gain_sum: Floats,
) -> None:
    """Gradients of `add_norm`: of the stream, (M, d), the same rounded for delta, and of the gain, (K, d).

    `above_total` without rows is 0; `below_delta` without rows is not wanted.
    """
    n_rows, width = total.shape
    each = n_rows // gain.shape[0]
    adds, wanted = above_total.shape[0] > 0, below_delta.shape[0] > 0
    for m in range(n_rows):
        x, a, g, out, sums = total[m], above[m], gain[m // each], below[m], gain_sum[m // each]
        scale = inverse[m]
        along = ZERO
        for i in range(width):
            product = _wide(a[i]) * x[i] * scale
            sums[i] += product
            along += product * _wide(g[i])
        along *= scale * scale / np.float32(width)
        for i in range(width):
            out[i] = _wide(a[i]) * _wide(g[i]) * scale - x[i] * along
        if adds:
            more = above_total[m]
            for i in range(width):
                out[i] += more[i]
        if wanted:
            small = below_delta[m]
            for i in range(width):
                small[i] = _narrow(out[i], small[i])


@_compiled
def gated(gate_up: Values, out: Values) -> None:
    """silu(gate) up: (M, 2 f) -> (M, f)."""
    n_rows, width = out.shape
    for m in range(n_rows):
        gate, up, here = gate_up[m, :width], gate_up[m, width:], out[m]
        for i in range(width):
            x = _wide(gate[i])
            here[i] = _narrow(x * _sigmoid(x) * _wide(up[i]), here[i])


@_compiled
def gated_back(above: Values, gate_up: Values, below: Values) -> None:
    """Gradient of `gated`: (M, f) -> (M, 2 f)."""
    n_rows, width = above.shape
    for m in range(n_rows):
        gate, up, a = gate_up[m, :width], gate_up[m, width:], above[m]
        gate_below, up_below = below[m, :width], below[m, width:]
        for i in range(width):
            x, given = _wide(gate[i]), _wide(a[i])
            share = _sigmoid(x)
            up_below[i] = _narrow(given * x * share, up_below[i])
            slope = share * (ONE + x * (ONE - share))
            gate_below[i] = _narrow(given * _wide(up[i]) * slope, gate_below[i])


@_compiled
def split_heads(
    mixed: Values, cos: Floats, sin: Floats, scale: float, query: Values, key: Values, value: Values
) -> None:
    """(R, L, 3, H, e) -> query (rotated, times scale), key (rotated) and value, each (R, H, L, e)."""
    n_rows, length, _, n_heads, width = mixed.shape
    half, factor = width // 2, np.float32(scale)
    for r in range(n_rows):
        for t in range(length):
            c, s = cos[r, t], sin[r, t]
            for h in range(n_heads):
                source = mixed[r, t, 0, h]
                out = query[r, h, t]
                for i in range(half):
                    a, b = _wide(source[i]) * factor, _wide(source[i + half]) * factor
                    out[i] = _narrow(a * c[i] - b * s[i], out[i])
                    out[i + half] = _narrow(b * c[i] + a * s[i], out[i])
                source = mixed[r, t, 1, h]
                out = key[r, h, t]
                for i in range(half):
                    a, b = _wide(source[i]), _wide(source[i + half])
                    out[i] = _narrow(a * c[i] - b * s[i], out[i])
                    out[i + half] = _narrow(b * c[i] + a * s[i], out[i])
                source = mixed[r, t, 2, h]
                out = value[r, h, t]
                for i in range(width):
                    out[i] = source[i]


@_compiled
def join_heads(
    query: Values, key: Values, value: Values, cos: Floats, sin: Floats, scale: float, mixed: Values
) -> None:
    """The gradient of `split_heads`: the other way, rotating back."""
    n_rows, length, _, n_heads, width = mixed.shape
    half, factor = width // 2, np.float32(scale)
    for r in range(n_rows):
        for t in range(length):
            c, s = cos[r, t], sin[r, t]
            for h in range(n_heads):
                source = query[r, h, t]
                out = mixed[r, t, 0, h]
                for i in range(half):
                    a, b = _wide(source[i]) * factor, _wide(source[i + half]) * factor
                    out[i] = _narrow(a * c[i] + b * s[i], out[i])
                    out[i + half] = _narrow(b * c[i] - a * s[i], out[i])
                source = key[r, h, t]
                out = mixed[r, t, 1, h]
                for i in range(half):
                    a, b = _wide(source[i]), _wide(source[i + half])
                    out[i] = _narrow(a * c[i] + b * s[i], out[i])
                    out[i + half] = _narrow(b * c[i] - a * s[i], out[i])
                source = value[r, h, t]
                out = mixed[r, t, 2, h]
                for i in range(width):
                    out[i] = source[i]


@_compiled
def softmax(scores: Values, first: Places, last: Places) -> None:
    """Over the columns `first[r, t]` to `last[r, t]`, inclusive, in place, (R, H, L, L); 0 elsewhere."""
    n_rows, n_heads, length, _ = scores.shape
    scratch = np.empty(length, np.float32)
    for r in range(n_rows):
        for h in range(n_heads):
            for t in range(length):
                row, start, stop = scores[r, h, t], first[r, t], last[r, t] + 1
                here = row[start:stop]
                highest = _largest(here)
                total = ZERO
                for j in range(len(here)):
                    scratch[j] = _exp(_wide(here[j]) - highest)
                for j in range(len(here)):  # apart: beside a store the order of a sum depends on addresses
                    total += scratch[j]
                total = ONE / total
                for j in range(len(here)):
                    here[j] = _narrow(scratch[j] * total, here[j])
                row[:start] = 0
                row[stop:] = 0


@_compiled
def softmax_back(above: Values, share: Values, first: Places, last: Places) -> None:
    """Gradient of `softmax`: share (above - sum of share x above), in place of `above`."""
    n_rows, n_heads, length, _ = share.shape
    for r in range(n_rows):
        for h in range(n_heads):
            for t in range(length):
                row, start, stop = above[r, h, t], first[r, t], last[r, t] + 1
                a, p = row[start:stop], share[r, h, t, start:stop]
                along = ZERO
                for j in range(len(a)):
                    along += _wide(a[j]) * _wide(p[j])
                for j in range(len(a)):
                    a[j] = _narrow(_wide(p[j]) * (_wide(a[j]) - along), a[j])
                row[:start] = 0
                row[stop:] = 0
