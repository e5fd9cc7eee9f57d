"""Bytes to lower case and class, and classes to bit masks, 32 and 64 bytes a step.

Written as the compiler's own vectors, which fit any processor: a step is about twenty instructions with
vectors of 32 bytes, and still right, only slower, where vectors are narrower.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

__all__ = ["STEP", "put_block", "space_mask", "word_mask"]

STEP = 32
"""Bytes that `put_block` reads and writes."""

_BYTE = ir.IntType(8)


def _put_block(typingctx: Any, data: Any, start: Any, low: Any, at: Any, cls: Any, place: Any) -> Any:
    """Lower and classify data[start:start + STEP]; the number of ASCII bytes before the first other one.

    Writes STEP bytes to `low` from `at` and to `cls` from `place`; what lies behind the ASCII bytes is noise.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vector = ir.VectorType(_BYTE, STEP)
        pointers = [_vector_pointer(context, builder, signature, args, k, vector) for k in (0, 2, 4)]
        text = builder.load(pointers[0], align=1)
        upper = _between(builder, text, 0x41, 0x5A)
        lowered = builder.or_(text, builder.select(upper, _all(vector, 0x20), _all(vector, 0)))
        letter, digit = _between(builder, lowered, 0x61, 0x7A), _between(builder, text, 0x30, 0x39)
        word = builder.or_(builder.or_(letter, digit), _between(builder, text, 0x5F, 0x5F))
        space = builder.or_(_between(builder, text, 0x09, 0x0D), _between(builder, text, 0x1C, 0x20))
        flags = builder.select(space, _all(vector, 0x40), _all(vector, 0))
        builder.store(lowered, pointers[1], align=1)
        builder.store(builder.select(word, _all(vector, 0x80), flags), pointers[2], align=1)
        other = builder.bitcast(builder.icmp_signed("<", text, _all(vector, 0)), ir.IntType(STEP))
        return builder.zext(builder.cttz(other, ir.IntType(1)(0)), ir.IntType(64))

    return types.int64(data, types.intp, low, types.intp, cls, types.intp), codegen


def _mask_of(bit: int) -> Any:
    def mask(typingctx: Any, cls: Any, start: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            vector = ir.VectorType(_BYTE, 64)
            flags = builder.load(_vector_pointer(context, builder, signature, args, 0, vector), align=1)
            chosen = builder.and_(flags, _all(vector, bit))
            return builder.bitcast(builder.icmp_unsigned("!=", chosen, _all(vector, 0)), ir.IntType(64))

        return types.uint64(cls, types.intp), codegen

    return mask


def _vector_pointer(context: Any, builder: Any, signature: Any, args: Any, k: int, vector: Any) -> Any:
    """Pointer to a vector in array argument k, at the index that follows it."""
    data = context.make_array(signature.args[k])(context, builder, args[k]).data
    return builder.bitcast(builder.gep(data, [args[k + 1]]), vector.as_pointer())


def _between(builder: Any, text: Any, first: int, last: int) -> Any:
    shifted = builder.sub(text, _all(text.type, first))
    return builder.icmp_unsigned("<=", shifted, _all(text.type, last - first))


def _all(vector: Any, value: int) -> Any:
    return ir.Constant(vector, [value] * vector.count)


put_block: Any = intrinsic(_put_block)
word_mask: Any = intrinsic(_mask_of(0x80))
space_mask: Any = intrinsic(_mask_of(0x40))
