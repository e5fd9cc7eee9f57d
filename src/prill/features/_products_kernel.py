"""Inner products of rows with a table, and the nearest row of a table: fast, and the same bits always.

A matrix product of a library may sum in another order when a batch has another size or another row comes
first. Here every product is one chain of fused multiplications and additions over k = 0, 1, 2, ..., so it
depends on its row and its column alone. Eight rows meet sixteen columns at a time, in registers.

Tables are packed by `pack`: tiles of 16 columns, each K x 16. On AVX-512 a tile runs at about two thirds of
the processor's peak.

Legend: D rows, C columns of the table, K dimensions, T tiles.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from prill.features._jit import kernel

__all__ = ["add_rows", "centre_rows", "multiply", "nearest_column", "pack"]

LANES = 16
ROWS = 8
_FLOATS = ir.VectorType(ir.FloatType(), LANES)
_LONG = ir.IntType(64)


def pack(table_CK: NDArray[np.float32]) -> NDArray[np.float32]:
    """A table as tiles, float32, shape (T, K, 16), zeros behind the last column."""
    n_columns, n_dimensions = table_CK.shape
    n_tiles = -(-n_columns // LANES)
    padded = np.zeros((n_tiles * LANES, n_dimensions), np.float32)
    padded[:n_columns] = table_CK
    return np.ascontiguousarray(padded.reshape(n_tiles, LANES, n_dimensions).transpose(0, 2, 1))


def _tile(typingctx: Any, x: Any, rows: Any, n_k: Any, table: Any, first: Any, out: Any) -> Any:
    """out[r * 16 + c] = sum over k of x[rows[r] + k] * table[first + 16 * k + c], for 8 r and 16 c."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        def data(position: int) -> Any:
            return context.make_array(signature.args[position])(context, builder, args[position]).data

        kind = ir.FunctionType(_FLOATS, [_FLOATS, _FLOATS, _FLOATS])
        multiply_add = builder.module.declare_intrinsic("llvm.fmuladd.v16f32", (), kind)
        starts = [builder.load(builder.gep(data(1), [_LONG(r)])) for r in range(ROWS)]
        pointers = [builder.gep(data(0), [start]) for start in starts]
        columns = builder.gep(data(3), [args[4]])
        sums = [cgutils.alloca_once(builder, _FLOATS) for _ in range(ROWS)]
        for place in sums:
            builder.store(ir.Constant(_FLOATS, [0.0] * LANES), place)
        with cgutils.for_range(builder, args[2]) as loop:
            at = builder.gep(columns, [builder.mul(loop.index, _LONG(LANES))])
            column = builder.load(builder.bitcast(at, _FLOATS.as_pointer()), align=4)
            for pointer, place in zip(pointers, sums, strict=True):
                value = builder.load(builder.gep(pointer, [loop.index]))
                one = builder.insert_element(ir.Constant(_FLOATS, ir.Undefined), value, ir.IntType(32)(0))
                zeros = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
                all_lanes = builder.shuffle_vector(one, one, zeros)
                builder.store(builder.call(multiply_add, [all_lanes, column, builder.load(place)]), place)
        for r, place in enumerate(sums):
            at = builder.gep(data(5), [_LONG(r * LANES)])
            builder.store(builder.load(place), builder.bitcast(at, _FLOATS.as_pointer()), align=4)
        return context.get_dummy_value()

    return types.void(x, rows, types.intp, table, types.intp, out), codegen


tile: Any = intrinsic(_tile)


@kernel
def multiply(x_DK: NDArray[np.float32], packed: NDArray[np.float32], out_DC: NDArray[np.float32]) -> None:
    """out[d, c] = x[d] . table[c].

    Args:
        x_DK: C-contiguous.
        packed: the table from `pack`.
        out_DC: C columns, as many as the table had.
    """
    n_rows, n_k = x_DK.shape
    n_columns = out_DC.shape[1]
    x, table = x_DK.reshape(-1), packed.reshape(-1)
    rows, out = np.empty(ROWS, np.int64), np.empty(ROWS * LANES, np.float32)
    for d in range(0, n_rows, ROWS):
        for r in range(ROWS):
            rows[r] = min(d + r, n_rows - 1) * n_k
        for t in range(packed.shape[0]):
            tile(x, rows, n_k, table, t * n_k * LANES, out)
            for r in range(min(ROWS, n_rows - d)):
                for c in range(min(LANES, n_columns - t * LANES)):
                    out_DC[d + r, t * LANES + c] = out[r * LANES + c]


@kernel
def nearest_column(
    x_DK: NDArray[np.float32],
    order_D: NDArray[np.int64],
    parent_D: NDArray[np.int64],
    tables: NDArray[np.float32],
    half_square: NDArray[np.float32],
    chosen_D: NDArray[np.int64],
    product_D: NDArray[np.float32],
) -> None:
    """The column of its parent's table that is nearest to each row; the first of equals.

    Nearest is the largest x . c - |c|^2 / 2. Rows of one parent share a tile.

    Args:
        x_DK: C-contiguous.
        order_D: the rows, those of one parent together.
        parent_D: which table each row looks at.
        tables: packed, shape (P, T, K, 16).
        half_square: |c|^2 / 2, shape (P, T * 16), infinite where there is no column.
        chosen_D, product_D: the column, and its product with the row; written here.
    """
    n_rows, n_k = x_DK.shape
    n_tiles = tables.shape[1]
    x, table = x_DK.reshape(-1), tables.reshape(-1)
    rows, out = np.empty(ROWS, np.int64), np.empty(ROWS * LANES, np.float32)
    best, best_c, best_x = np.empty(ROWS, np.float32), np.empty(ROWS, np.int64), np.empty(ROWS, np.float32)
    i = 0
    while i < n_rows:
        parent = parent_D[order_D[i]]
        n = 1
        while n < ROWS and i + n < n_rows and parent_D[order_D[i + n]] == parent:
            n += 1
        for r in range(ROWS):
            rows[r] = order_D[i + min(r, n - 1)] * n_k
            best[r], best_c[r], best_x[r] = -np.inf, 0, 0.0
        for t in range(n_tiles):
            tile(x, rows, n_k, table, (parent * n_tiles + t) * n_k * LANES, out)
            for r in range(n):
                for c in range(LANES):
                    value = out[r * LANES + c] - half_square[parent, t * LANES + c]
                    if value > best[r]:
                        best[r], best_c[r], best_x[r] = value, t * LANES + c, out[r * LANES + c]
        for r in range(n):
            chosen_D[order_D[i + r]], product_D[order_D[i + r]] = best_c[r], best_x[r]
        i += n


@kernel
def add_rows(
    x_DK: NDArray[np.float32],
    chosen_D: NDArray[np.int64],
    sums_CK: NDArray[np.float64],
    counts_C: NDArray[np.int64],
) -> None:
    """Add every row to the sum of its column, in order."""
    for d in range(x_DK.shape[0]):
        c = chosen_D[d]
        counts_C[c] += 1
        for k in range(x_DK.shape[1]):
            sums_CK[c, k] += np.float64(x_DK[d, k])


@kernel
def centre_rows(x_DK: NDArray[np.float32], mean_K: NDArray[np.float64], out_DK: NDArray[np.float32]) -> None:
    """Every row without the mean, divided by its length; a row of zeros stays one."""
    for d in range(x_DK.shape[0]):
        square, is_seen = 0.0, False
        for k in range(x_DK.shape[1]):
            left = np.float64(x_DK[d, k]) - mean_K[k]
            square += left * left
            is_seen |= x_DK[d, k] != 0
        factor = 1 / np.sqrt(square) if is_seen and square > 0 else 0.0
        for k in range(x_DK.shape[1]):
            out_DK[d, k] = np.float32((np.float64(x_DK[d, k]) - mean_K[k]) * factor)
