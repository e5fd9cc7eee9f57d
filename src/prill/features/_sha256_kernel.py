"""SHA-256 of short messages, sixteen at a time, reduced modulo a number of buckets.

The reference's n-gram buckets are sha256(n-gram) mod n_buckets; a corpus has millions of distinct n-grams,
and Python's hashlib would cost ten times the pass over the text. Messages of at most 55 bytes are one block:
sixteen of them go through the rounds side by side, as vectors of the compiler that fit any processor. Longer
ones take their blocks through one lane.

Source: FIPS 180-4, section 6.2.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from prill.features._jit import inlined, load64, store64, swap_bytes

__all__ = [
    "LANES",
    "LANE_BYTES",
    "compress_lanes",
    "compress_long",
    "fill_lane",
    "lane_modulo",
    "start_lanes",
]

LANES = 16
"""Messages hashed side by side."""
LANE_BYTES = 55
"""Longest message that fits a lane: one block without its end mark and length."""


def _fractional_bits(power: int, n_primes: int) -> list[int]:
    """First 32 bits of the fractional parts of the roots of the first primes, by exact integer search."""
    primes = [p for p in range(2, 320) if all(p % q for q in range(2, p))][:n_primes]
    words = []
    for prime in primes:
        scaled, low, high = prime << (32 * power), 0, 1 << 40
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if middle**power <= scaled else (low, middle)
        words.append(low & 0xFFFFFFFF)
    return words


_INITIAL = _fractional_bits(2, 8)
_ROUND = _fractional_bits(3, 64)
_INITIAL_WORDS = np.array(_INITIAL, dtype=np.uint32)


def _compress_lanes(typingctx: Any, blocks: Any, states: Any) -> Any:
    """One block in each lane: blocks uint32[16 words, LANES] into states uint32[8 words, LANES]."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vector = ir.VectorType(ir.IntType(32), LANES)
        rows = []
        for array_type, array in zip(signature.args, args, strict=True):
            data = context.make_array(array_type)(context, builder, array).data
            rows.append(builder.bitcast(data, vector.as_pointer()))
        at = [ir.Constant(ir.IntType(64), i) for i in range(16)]
        words = [builder.load(builder.gep(rows[0], [at[i]]), align=4) for i in range(16)]
        start = [builder.load(builder.gep(rows[1], [at[i]]), align=4) for i in range(8)]
        end = _rounds(builder, start, words, lambda value: ir.Constant(vector, [value] * LANES))
        for i, word in enumerate(end):
            builder.store(word, builder.gep(rows[1], [at[i]]), align=4)
        return context.get_dummy_value()

    return types.void(blocks, states), codegen


def _rounds(builder: Any, start: list[Any], w: list[Any], constant: Callable[[int], Any]) -> list[Any]:
    """The 64 rounds from state `start` with message words `w`, as instructions on whole vectors."""

    def rotated(x: Any, *n_bits: int) -> Any:
        parts = [builder.or_(builder.lshr(x, constant(n)), builder.shl(x, constant(32 - n))) for n in n_bits]
        return xor(*parts)

    def xor(*parts: Any) -> Any:
        result = parts[0]
        for part in parts[1:]:
            result = builder.xor(result, part)
        return result

    def add(*parts: Any) -> Any:
        result = parts[0]
        for part in parts[1:]:
            result = builder.add(result, part)
        return result

    a, b, c, d, e, f, g, h = start
    for i in range(64):
        if i >= 16:
            x, y = w[1], w[14]
            s0 = xor(rotated(x, 7, 18), builder.lshr(x, constant(3)))
            s1 = xor(rotated(y, 17, 19), builder.lshr(y, constant(10)))
            w = [*w[1:], add(w[0], s0, w[9], s1)]
        word = w[i] if i < 16 else w[15]
        choice = xor(g, builder.and_(e, xor(f, g)))
        majority = builder.or_(builder.and_(a, b), builder.and_(c, builder.or_(a, b)))
        t1 = add(h, rotated(e, 6, 11, 25), choice, constant(_ROUND[i]), word)
        t2 = add(rotated(a, 2, 13, 22), majority)
        a, b, c, d, e, f, g, h = add(t1, t2), a, b, c, builder.add(d, t1), e, f, g
    return [builder.add(x, y) for x, y in zip(start, (a, b, c, d, e, f, g, h), strict=True)]


compress_lanes: Any = intrinsic(_compress_lanes)


@inlined
def fill_lane(message: NDArray[np.uint8], n_bytes: int, lane: int, blocks: NDArray[np.uint32]) -> None:
    """Pad message[:n_bytes], at most LANE_BYTES long in a buffer of 72, and put it into one lane."""
    store64(message, n_bytes, np.uint64(0x80))
    for i in range(n_bytes + 8, 64, 8):
        store64(message, i, np.uint64(0))
    for i in range(7):
        word = swap_bytes(load64(message, 8 * i))
        blocks[2 * i, lane] = np.uint32(word >> np.uint64(32))
        blocks[2 * i + 1, lane] = np.uint32(word & np.uint64(0xFFFFFFFF))
    blocks[14, lane] = np.uint32(0)
    blocks[15, lane] = np.uint32(8 * n_bytes)


@inlined
def lane_modulo(
    states: NDArray[np.uint32], lane: int, powers: NDArray[np.uint64], modulus: np.uint64
) -> np.uint64:
    """The digest of one lane as a number, modulo `modulus` <= 2^24; powers[i] = 2^(224 - 32 i) % modulus."""
    total = np.uint64(0)
    for i in range(8):
        total += np.uint64(states[i, lane]) * powers[i]
    return total % modulus


@inlined
def start_lanes(states: NDArray[np.uint32]) -> None:
    """Set every lane to the initial state."""
    for i in range(8):
        for lane in range(LANES):
            states[i, lane] = _INITIAL_WORDS[i]


@inlined
def compress_long(
    message: NDArray[np.uint8], n_bytes: int, blocks: NDArray[np.uint32], states: NDArray[np.uint32]
) -> None:
    """Digest of message[:n_bytes], in a buffer of n_bytes + 80, into lane 0; other lanes are noise."""
    n_padded = ((n_bytes + 8) // 64 + 1) * 64
    store64(message, n_bytes, np.uint64(0x80))
    for i in range(n_bytes + 8, n_padded, 8):
        store64(message, i, np.uint64(0))
    store64(message, n_padded - 8, swap_bytes(np.uint64(n_bytes) << np.uint64(3)))
    start_lanes(states)
    for at in range(0, n_padded, 64):
        for i in range(8):
            word = swap_bytes(load64(message, at + 8 * i))
            blocks[2 * i, 0] = np.uint32(word >> np.uint64(32))
            blocks[2 * i + 1, 0] = np.uint32(word & np.uint64(0xFFFFFFFF))
        compress_lanes(blocks, states)
