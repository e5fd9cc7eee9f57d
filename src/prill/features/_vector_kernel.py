"""Bytes to lower case and to bit masks of their classes, and bit masks to positions, 64 bytes a step.

Written as the compiler's own vectors, which fit any processor: a step is about twenty instructions with
vectors of 64 bytes, and still right, only slower, where vectors are narrower.
"""

from __future__ import annotations

import functools
from typing import Any

import llvmlite.binding as llvm
import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from prill.features._jit import inlined, set_bits, trailing_zeros

__all__ = [
    "STEP",
    "bracket_mask",
    "break_flags",
    "class_block",
    "mark_mask",
    "phrase_mask",
    "put_block",
    "put_positions",
    "space_flags",
    "space_mask",
    "special_mask",
    "terminal_flags",
    "word_flags",
    "word_mask",
]

STEP = 64
"""Bytes that `put_block` reads and writes, and that a mask covers."""

_BYTE, _WORD, _LONG = ir.IntType(8), ir.IntType(32), ir.IntType(64)
_VECTOR = ir.VectorType(_BYTE, STEP)
_SIXTEEN = ir.VectorType(_WORD, 16)


def _put_block(typingctx: Any, data: Any, start: Any, low: Any, at: Any) -> Any:
    """Lower data[start:start + STEP] into `low` from `at`; which bytes are not ASCII, and noise in `low`."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        text = builder.load(_pointer(context, builder, signature, args, 0, _VECTOR), align=1)
        upper = _between(builder, text, 0x41, 0x5A)
        lowered = builder.or_(text, builder.select(upper, _all(0x20), _all(0)))
        builder.store(lowered, _pointer(context, builder, signature, args, 2, _VECTOR), align=1)
        return _mask(builder, _is_other(builder, text))

    return types.uint64(data, types.intp, low, types.intp), codegen


def _is_word(builder: Any, text: Any) -> Any:
    letter = _between(builder, text, 0x61, 0x7A)
    return builder.or_(
        builder.or_(letter, _between(builder, text, 0x30, 0x39)),
        builder.icmp_unsigned("==", text, _all(0x5F)),
    )


def _is_space(builder: Any, text: Any) -> Any:
    return builder.or_(_between(builder, text, 0x09, 0x0D), _between(builder, text, 0x1C, 0x20))


def _is_other(builder: Any, text: Any) -> Any:
    return builder.icmp_signed("<", text, _all(0))


def _mask_of(test: Any) -> Any:
    def mask(typingctx: Any, low: Any, start: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            text = builder.load(_pointer(context, builder, signature, args, 0, _VECTOR), align=1)
            return _mask(builder, test(builder, text))

        return types.uint64(low, types.intp), codegen

    return mask


def _any_of(characters: bytes) -> Any:
    """A test for bytes, of which any of `characters` is one."""

    def test(builder: Any, text: Any) -> Any:
        found = [builder.icmp_unsigned("==", text, _all(byte)) for byte in characters]
        return functools.reduce(builder.or_, found)

    return test


def _class_block(typingctx: Any, data: Any, start: Any, classes: Any, at: Any) -> Any:
    """Class bytes of data[start:start + STEP] into `classes` from `at`, right where all of it is ASCII.

    Returns which bytes are not. The bits are those of `_character_classes`.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        text = builder.load(_pointer(context, builder, signature, args, 0, _VECTOR), align=1)
        folded = builder.or_(text, _all(0x20))
        letter = _between(builder, folded, 0x61, 0x7A)
        alphanumeric = builder.or_(letter, _between(builder, text, 0x30, 0x39))
        plain = builder.or_(alphanumeric, _any_of(b"\t\n ")(builder, text))
        word = builder.or_(alphanumeric, builder.icmp_unsigned("==", text, _all(0x5F)))
        breaks = builder.or_(_between(builder, text, 0x0A, 0x0D), _between(builder, text, 0x1C, 0x1E))
        visible = builder.and_(_between(builder, text, 0x21, 0x7E), builder.not_(alphanumeric))
        mark = builder.and_(visible, builder.not_(_any_of(b"$+<=>^`|~")(builder, text)))
        found = _all(0)
        for flag, test in (
            (0x80, word),
            (0x40, _is_space(builder, text)),
            (0x20, letter),
            (0x10, builder.not_(plain)),
            (0x08, _any_of(b".!?")(builder, text)),
            (0x04, breaks),
            (0x01, mark),
        ):
            found = builder.or_(found, builder.select(test, _all(flag), _all(0)))
        builder.store(found, _pointer(context, builder, signature, args, 2, _VECTOR), align=1)
        return _mask(builder, _is_other(builder, text))

    return types.uint64(data, types.intp, classes, types.intp), codegen


def _special(typingctx: Any, data: Any, start: Any) -> Any:
    """Where U+0130 (C4 B0) or U+03A3 (CE A3) begins in data[start:start + STEP]; reads one byte more."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        here = _pointer(context, builder, signature, args, 0, _VECTOR)
        after = builder.gep(builder.bitcast(here, _BYTE.as_pointer()), [_LONG(1)])
        first, second = (builder.load(p, align=1) for p in (here, builder.bitcast(after, here.type)))
        pairs = [
            builder.and_(
                builder.icmp_unsigned("==", first, _all(lead)),
                builder.icmp_unsigned("==", second, _all(tail)),
            )
            for lead, tail in ((0xC4, 0xB0), (0xCE, 0xA3))
        ]
        return _mask(builder, builder.or_(*pairs))

    return types.uint64(data, types.intp), codegen


def _flags(bit: int) -> Any:
    """A test for classes, of which `bit` is one."""
    return lambda builder, classes: builder.icmp_unsigned("!=", builder.and_(classes, _all(bit)), _all(0))


def _compress(typingctx: Any, mask: Any, positions: Any, at: Any, base: Any) -> Any:
    """Write base + i for every set bit i of `mask` into uint32 `positions` from `at`, and noise behind them.

    Writes 16, 32, 48 or 64 words, the fewest that hold all.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = ir.FunctionType(_VECTOR, [_VECTOR, ir.VectorType(ir.IntType(1), STEP), _VECTOR])
        squeeze = builder.module.declare_intrinsic("llvm.experimental.vector.compress.v64i8", (), kind)
        numbers = ir.Constant(_VECTOR, list(range(STEP)))
        chosen = builder.bitcast(args[0], ir.VectorType(ir.IntType(1), STEP))
        places = builder.call(squeeze, [numbers, chosen, ir.Constant(_VECTOR, ir.Undefined)])
        first = builder.insert_element(ir.Constant(_SIXTEEN, ir.Undefined), args[3], _WORD(0))
        bases = builder.shuffle_vector(first, first, ir.Constant(_SIXTEEN, [0] * 16))
        target = _pointer(context, builder, signature, args, 1, _SIXTEEN)
        count = builder.ctpop(args[0])

        def put(part: int) -> None:
            lanes = ir.Constant(_SIXTEEN, list(range(16 * part, 16 * part + 16)))
            bytes_16 = builder.shuffle_vector(places, places, lanes)
            wide = builder.add(builder.zext(bytes_16, _SIXTEEN), bases)
            builder.store(wide, builder.gep(target, [_LONG(part)]), align=4)

        put(0)
        with builder.if_then(builder.icmp_unsigned(">", count, _LONG(16)), likely=False):
            put(1)
            with builder.if_then(builder.icmp_unsigned(">", count, _LONG(32)), likely=False):
                put(2)
                put(3)
        return count

    return types.int64(types.uint64, positions, types.intp, types.uint32), codegen


@inlined
def _put_eights(mask: np.uint64, positions: NDArray[np.uint32], at: int, base: np.uint32) -> int:
    """As `_compress`, for other processors: eight positions a round, so that few branches are missed."""
    n = set_bits(mask)
    for first in range(0, n, 8):
        for i in range(first, first + 8):
            positions[at + i] = base + np.uint32(trailing_zeros(mask))
            mask &= mask - np.uint64(1)
    return int(n)


def _can_compress() -> bool:
    config = numba.config
    if config.CPU_NAME or config.CPU_FEATURES:  # the user has chosen a processor: take the portable way
        return False
    return bool(llvm.get_host_cpu_features().get("avx512vbmi2", False))


def _pointer(context: Any, builder: Any, signature: Any, args: Any, k: int, vector: Any) -> Any:
    """Pointer to a vector in array argument k, at the index that follows it."""
    data = context.make_array(signature.args[k])(context, builder, args[k]).data
    return builder.bitcast(builder.gep(data, [args[k + 1]]), vector.as_pointer())


def _mask(builder: Any, flags: Any) -> Any:
    return builder.bitcast(flags, _LONG)


def _between(builder: Any, text: Any, first: int, last: int) -> Any:
    return builder.icmp_unsigned("<=", builder.sub(text, _all(first)), _all(last - first))


def _all(value: int) -> Any:
    return ir.Constant(_VECTOR, [value] * STEP)


put_block: Any = intrinsic(_put_block)
word_mask: Any = intrinsic(_mask_of(_is_word))
space_mask: Any = intrinsic(_mask_of(_is_space))
special_mask: Any = intrinsic(_special)
word_flags: Any = intrinsic(_mask_of(_flags(0x80)))
space_flags: Any = intrinsic(_mask_of(_flags(0x40)))
terminal_flags: Any = intrinsic(_mask_of(_flags(0x08)))
break_flags: Any = intrinsic(_mask_of(_flags(0x04)))
class_block: Any = intrinsic(_class_block)
bracket_mask: Any = intrinsic(_mask_of(_any_of(b"]")))
mark_mask: Any = intrinsic(_mask_of(_any_of(b"#.\xe2")))
phrase_mask: Any = intrinsic(_mask_of(_any_of(b"{jJvVmMkK\xe2")))
put_positions: Any = intrinsic(_compress) if _can_compress() else _put_eights
