"""How kernels are compiled, and the few machine instructions that numba does not spell.

Kernels release the GIL and are cached on disk, so that only the first run on a machine compiles. They see
plain arrays: `load64` and `store64` move eight bytes from or to any byte position (little-endian, as every
machine that numba supports), `copy_block` copies 64 bytes, `trailing_zeros` finds the lowest set bit,
`set_bits` counts them, `swap_bytes` reverses eight bytes, `prefetch` starts to load a cache line that is
needed soon, `match_line` compares eight words at once, `fold` multiplies to 128 bits and folds them to 64.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

__all__ = [
    "copy_block",
    "fold",
    "inlined",
    "inlined_bare",
    "kernel",
    "load64",
    "match_line",
    "prefetch",
    "set_bits",
    "store64",
    "swap_bytes",
    "trailing_zeros",
]

_PACKAGE = Path(__file__).parent.parent
_IMPORTED = re.compile(rb"^\s*from (prill\.\w+\._\w+) import", re.MULTILINE)

_njit: Any = numba.njit  # its annotations leave out the options of a part
_part = _njit(nogil=True, no_cpython_wrapper=True, no_cfunc_wrapper=True, error_model="numpy")
_bare_part = _njit(
    nogil=True, no_cpython_wrapper=True, no_cfunc_wrapper=True, error_model="numpy", _nrt=False
)

F = TypeVar("F", bound=Callable[..., Any])


def kernel(function: F) -> F:
    """Compile `function` on first use: no GIL, no Python objects, cached on disk.

    numba takes cached code for fresh while the file of the function keeps its time and size, but a kernel
    holds the code of the kernels that it calls from other files. The stamp is therefore the hash of all files
    that it imports from.
    """
    dispatcher = _njit(nogil=True, cache=True, error_model="numpy")(function)
    dispatcher._cache._cache_file._source_stamp = _sources_digest(function.__module__)
    return cast(F, dispatcher)


def inlined(function: F) -> F:
    """Compile `function` as a part of the kernels that call it; it has no entry from Python of its own."""
    return cast(F, _part(function))


def inlined_bare(function: F) -> F:
    """As `inlined`, for parts that make no array: they do not count references.

    numba counts the references to arrays where a part is not inlined, with two locked instructions a call;
    in small parts that call each other that is most of the time.
    """
    return cast(F, _bare_part(function))


@functools.cache
def _sources_digest(module: str) -> str:
    """Hash of a module's file and of all files of this package that it imports, directly or not."""
    digest, waiting, seen = hashlib.sha256(), [module], {module}
    while waiting:
        path = _PACKAGE.joinpath(*waiting.pop().split(".")[1:]).with_suffix(".py")
        source = path.read_bytes() if path.exists() else b""
        digest.update(source)
        found = {name.decode() for name in _IMPORTED.findall(source)} - seen
        seen |= found
        waiting = sorted({*waiting, *found})
    return digest.hexdigest()


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


def _copy_block(typingctx: Any, source: Any, start: Any, target: Any, at: Any) -> Any:
    """Copy 64 bytes, source[start:] to target[at:]; the caller keeps both within their arrays."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        block = ir.VectorType(ir.IntType(8), 64).as_pointer()
        places = []
        for k in (0, 2):
            data = context.make_array(signature.args[k])(context, builder, args[k]).data
            places.append(builder.bitcast(builder.gep(data, [args[k + 1]]), block))
        builder.store(builder.load(places[0], align=1), places[1], align=1)
        return context.get_dummy_value()

    return types.void(source, types.intp, target, types.intp), codegen


def _trailing_zeros(typingctx: Any, value: Any) -> Any:
    """Number of zero bits below the lowest set bit; 64 for 0."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 0))

    return types.int64(types.uint64), codegen


def _set_bits(typingctx: Any, value: Any) -> Any:
    """Number of set bits."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.ctpop(args[0])

    return types.int64(types.uint64), codegen


def _swap_bytes(typingctx: Any, value: Any) -> Any:
    """Eight bytes in reverse order."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bswap(args[0])

    return types.uint64(types.uint64), codegen


def _prefetch(typingctx: Any, array: Any, index: Any) -> Any:
    """Ask for the cache line of array[index]; changes nothing."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        pointer = builder.bitcast(builder.gep(data, [args[1]]), ir.IntType(8).as_pointer())
        i32 = ir.IntType(32)
        hint = ir.FunctionType(ir.VoidType(), [pointer.type, i32, i32, i32])
        function = builder.module.declare_intrinsic("llvm.prefetch", [pointer.type], hint)
        builder.call(function, [pointer, i32(0), i32(3), i32(1)])
        return context.get_dummy_value()

    return types.void(array, types.uint64), codegen


def _match_line(typingctx: Any, array: Any, index: Any, value: Any, ignored: Any) -> Any:
    """Bit i is set when array[index + i] and `value` differ at most in the `ignored` bits; i = 0..7."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vector = ir.VectorType(ir.IntType(64), 8)
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        line = builder.load(builder.bitcast(builder.gep(data, [args[1]]), vector.as_pointer()), align=8)
        difference = builder.xor(line, _eight_times(builder, args[2]))
        masked = builder.and_(difference, _eight_times(builder, builder.not_(args[3])))
        equal = builder.icmp_unsigned("==", masked, ir.Constant(vector, [0] * 8))
        return builder.zext(builder.bitcast(equal, ir.IntType(8)), ir.IntType(64))

    return types.uint64(array, types.uint64, types.uint64, types.uint64), codegen


def _eight_times(builder: Any, word: Any) -> Any:
    vector = ir.VectorType(ir.IntType(64), 8)
    first = builder.insert_element(ir.Constant(vector, ir.Undefined), word, ir.IntType(32)(0))
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), 8), [0] * 8)
    return builder.shuffle_vector(first, ir.Constant(vector, ir.Undefined), zeros)


def _fold(typingctx: Any, a: Any, b: Any) -> Any:
    """Upper half of the 128-bit product of a and b, exclusive-or its lower half."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        wide, word = ir.IntType(128), ir.IntType(64)
        product = builder.mul(builder.zext(args[0], wide), builder.zext(args[1], wide))
        return builder.xor(builder.trunc(product, word), builder.trunc(builder.lshr(product, wide(64)), word))

    return types.uint64(types.uint64, types.uint64), codegen


def _byte_pointer(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    array = context.make_array(signature.args[0])(context, builder, args[0])
    pointer = builder.gep(array.data, [args[1]])
    return builder.bitcast(pointer, ir.IntType(64).as_pointer())


copy_block: Any = intrinsic(_copy_block)
fold: Any = intrinsic(_fold)
load64: Any = intrinsic(_load64)
store64: Any = intrinsic(_store64)
match_line: Any = intrinsic(_match_line)
prefetch: Any = intrinsic(_prefetch)
set_bits: Any = intrinsic(_set_bits)
swap_bytes: Any = intrinsic(_swap_bytes)
trailing_zeros: Any = intrinsic(_trailing_zeros)
