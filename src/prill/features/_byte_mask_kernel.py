"""Which of 64 raw bytes are of a class, as one mask; and decoding, for kernels that do not lower the text.

The classes are those that find candidates: bytes beyond ASCII, ASCII letters and digits, and any single byte.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from prill.features._jit import inlined

__all__ = [
    "BLOCK",
    "byte_mask",
    "code_at",
    "digit_mask",
    "first_bits",
    "high_mask",
    "letter_mask",
    "odd_mask",
    "upper_mask",
]

BLOCK = 64
"""Bytes that a mask covers; the caller keeps index + BLOCK <= len."""

_BYTE, _LONG = ir.IntType(8), ir.IntType(64)
_VECTOR = ir.VectorType(_BYTE, BLOCK)


def _all(value: int) -> Any:
    return ir.Constant(_VECTOR, [value] * BLOCK)


def _between(builder: Any, text: Any, first: int, last: int) -> Any:
    return builder.icmp_unsigned("<=", builder.sub(text, _all(first)), _all(last - first))


def _block(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    data = context.make_array(signature.args[0])(context, builder, args[0]).data
    pointer = builder.bitcast(builder.gep(data, [args[1]]), _VECTOR.as_pointer())
    return builder.load(pointer, align=1)


def _mask_of(test: Any) -> Any:
    """A mask of the bytes of data[index:index + BLOCK] for which `test` holds."""

    def mask(typingctx: Any, data: Any, index: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return builder.bitcast(test(builder, _block(context, builder, signature, args)), _LONG)

        return types.uint64(data, types.intp), codegen

    return mask


def _equal(typingctx: Any, data: Any, index: Any, byte: Any) -> Any:
    """A mask of the bytes of data[index:index + BLOCK] that equal `byte`, uint8."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        text = _block(context, builder, signature, args)
        first = builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), args[2], ir.IntType(32)(0))
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), BLOCK), [0] * BLOCK)
        wanted = builder.shuffle_vector(first, ir.Constant(_VECTOR, ir.Undefined), zeros)
        return builder.bitcast(builder.icmp_unsigned("==", text, wanted), _LONG)

    return types.uint64(data, types.intp, types.uint8), codegen


def _is_letter(builder: Any, text: Any) -> Any:
    return _between(builder, builder.or_(text, _all(0x20)), 0x61, 0x7A)


def _is_odd(builder: Any, text: Any) -> Any:
    """Beyond ASCII, or a control character other than tab and line feed."""
    low = builder.icmp_unsigned("<", text, _all(0x20))
    plain = _between(builder, text, 0x09, 0x0A)
    return builder.or_(builder.and_(low, builder.not_(plain)), builder.icmp_unsigned(">=", text, _all(0x7F)))


byte_mask: Any = intrinsic(_equal)
digit_mask: Any = intrinsic(_mask_of(lambda builder, text: _between(builder, text, 0x30, 0x39)))
high_mask: Any = intrinsic(_mask_of(lambda builder, text: builder.icmp_signed("<", text, _all(0))))
letter_mask: Any = intrinsic(_mask_of(_is_letter))
odd_mask: Any = intrinsic(_mask_of(_is_odd))
upper_mask: Any = intrinsic(_mask_of(lambda builder, text: _between(builder, text, 0x41, 0x5A)))


@inlined
def first_bits(n: int) -> np.uint64:
    """A mask of the lowest n bits, n = 0 to 64."""
    return np.uint64(0) if n == 0 else ~np.uint64(0) >> np.uint64(64 - n)


@inlined
def code_at(data: NDArray[np.uint8], at: int, stop: int) -> tuple[int, int]:
    """Code point at `at` and the next position; never reads at or beyond `stop`, whatever the bytes are."""
    lead = int(data[at])
    if lead < 0x80:
        return lead, at + 1
    if lead < 0xE0:
        n, code = 2, lead & 0x1F
    elif lead < 0xF0:
        n, code = 3, lead & 0x0F
    else:
        n, code = 4, lead & 0x07
    end = min(at + n, stop)
    for i in range(at + 1, end):
        code = (code << 6) | int(data[i] & 0x3F)
    return min(code, 0x10FFFF), end
