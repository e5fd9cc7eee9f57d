"""How kernels are compiled, and the three machine instructions that numba does not spell.

Kernels release the GIL and are cached on disk, so that only the first run on a machine compiles. They see
plain arrays: `load64` and `store64` move eight bytes from or to any byte position (little-endian, as every
machine that numba supports), `trailing_zeros` finds the lowest set bit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.extending import intrinsic

__all__ = ["kernel", "load64", "store64", "trailing_zeros"]

F = TypeVar("F", bound=Callable[..., Any])


def kernel(function: F) -> F:
    """Compile `function` on first use: no GIL, no Python objects, cached on disk."""
    return cast(F, numba.njit(nogil=True, cache=True, error_model="numpy")(function))


def _load64(typingctx: Any, array: Any, index: Any) -> Any:
    """Eight bytes of a uint8 array at `index`, unaligned; the caller keeps index + 8 <= len."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = _byte_pointer(context, builder, signature, args)
        return builder.load(pointer, align=1)

    return types.uint64(array, types.intp), codegen


def _store64(typingctx: Any, array: Any, index: Any, value: Any) -> Any:
    """Write eight bytes of a uint8 array at `index`, unaligned; the caller keeps index + 8 <= len."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = _byte_pointer(context, builder, signature, args)
        builder.store(args[2], pointer, align=1)
        return context.get_dummy_value()

    return types.void(array, types.intp, types.uint64), codegen


def _trailing_zeros(typingctx: Any, value: Any) -> Any:
    """Number of zero bits below the lowest set bit; 64 for 0."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 0))

    return types.int64(types.uint64), codegen


def _byte_pointer(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    array = context.make_array(signature.args[0])(context, builder, args[0])
    pointer = builder.gep(array.data, [args[1]])
    return builder.bitcast(pointer, ir.IntType(64).as_pointer())


load64: Any = intrinsic(_load64)
store64: Any = intrinsic(_store64)
trailing_zeros: Any = intrinsic(_trailing_zeros)
