"""SHA-256 of short messages, sixteen at a time, reduced modulo a number of buckets.

The reference's n-gram buckets are sha256(n-gram) mod n_buckets; a corpus has millions of distinct n-grams,
and Python's hashlib would cost ten times the pass over the text. Messages of at most 55 bytes are one block:
sixteen of them go through the rounds side by side, as vectors of the compiler that fit any processor. Longer
ones take their blocks through one lane.

Source: FIPS 180-4, section 6.2.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from prill.features._jit import copy_block, inlined, load64, store64, swap_bytes

__all__ = [
    "LANES",
    "LANE_BYTES",
    "SHORT_BYTES",
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
SHORT_BYTES = 192
"""Buffer for a message of at most LANE_BYTES, written 64 bytes at a time."""


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


_slot: Any = cgutils.alloca_once
_INITIAL_WORDS = np.array(_fractional_bits(2, 8), dtype=np.uint32)
_ROUND_WORDS = np.array(_fractional_bits(3, 64), dtype=np.uint32)


def _compress_lanes(typingctx: Any, blocks: Any, states: Any, constants: Any) -> Any:
    """One block in each lane: blocks uint32[16 words, LANES] into states uint32[8 words, LANES].

    `constants` are the 64 round constants. The rounds are a loop over whole vectors, LANES words each.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointers = [
            context.make_array(array_type)(context, builder, array).data
            for array_type, array in zip(signature.args, args, strict=True)
        ]
        word, vector = ir.IntType(32), ir.VectorType(ir.IntType(32), LANES)
        block, state = (builder.bitcast(pointer, vector.as_pointer()) for pointer in pointers[:2])
        rows = [builder.gep(state, [ir.IntType(64)(i)]) for i in range(8)]
        start = [builder.load(row, align=4) for row in rows]
        slots = [_slot(builder, vector) for _ in range(8)]
        for slot, value in zip(slots, start, strict=True):
            builder.store(value, slot)
        ring = _slot(builder, vector, size=16)
        with cgutils.for_range(builder, ir.IntType(64)(64)) as loop:
            w = _message_word(builder, block, ring, loop.index)
            constant = builder.load(builder.gep(pointers[2], [loop.index]), align=4)
            first = builder.insert_element(ir.Constant(vector, ir.Undefined), constant, word(0))
            lanes = ir.Constant(ir.VectorType(word, LANES), [0] * LANES)
            constant = builder.shuffle_vector(first, ir.Constant(vector, ir.Undefined), lanes)
            new = _round(builder, [builder.load(slot) for slot in slots], builder.add(w, constant))
            for slot, value in zip(slots, new, strict=True):
                builder.store(value, slot)
        for row, slot, value in zip(rows, slots, start, strict=True):
            builder.store(builder.add(value, builder.load(slot)), row, align=4)
        return context.get_dummy_value()

    return types.void(blocks, states, constants), codegen


def _message_word(builder: Any, block: Any, ring: Any, index: Any) -> Any:
    """Word `index` of the schedule: of the block itself, then from the ring of the last sixteen."""

    def at(distance: int) -> Any:
        place = builder.and_(builder.sub(index, ir.IntType(64)(distance)), ir.IntType(64)(15))
        return builder.gep(ring, [place])

    with builder.if_else(builder.icmp_unsigned("<", index, ir.IntType(64)(16))) as (then, otherwise):
        with then:
            builder.store(builder.load(builder.gep(block, [index]), align=4), at(16))
        with otherwise:
            x, y = builder.load(at(15)), builder.load(at(2))
            s0 = builder.xor(_rotated(builder, x, 7, 18), builder.lshr(x, _splat(x, 3)))
            s1 = builder.xor(_rotated(builder, y, 17, 19), builder.lshr(y, _splat(y, 10)))
            builder.store(_sum(builder, builder.load(at(16)), s0, builder.load(at(7)), s1), at(16))
    return builder.load(at(16))


def _round(builder: Any, state: list[Any], word: Any) -> list[Any]:
    """One round; `word` is the schedule's word plus the round's constant."""
    a, b, c, d, e, f, g, h = state
    choice = builder.xor(g, builder.and_(e, builder.xor(f, g)))
    majority = builder.or_(builder.and_(a, b), builder.and_(c, builder.or_(a, b)))
    t1 = _sum(builder, h, _rotated(builder, e, 6, 11, 25), choice, word)
    t2 = builder.add(_rotated(builder, a, 2, 13, 22), majority)
    return [builder.add(t1, t2), a, b, c, builder.add(d, t1), e, f, g]


def _rotated(builder: Any, x: Any, *n_bits: int) -> Any:
    """Exclusive or of x rotated right by each of n_bits."""
    parts = [builder.or_(builder.lshr(x, _splat(x, n)), builder.shl(x, _splat(x, 32 - n))) for n in n_bits]
    return functools.reduce(builder.xor, parts)


def _sum(builder: Any, *parts: Any) -> Any:
    return functools.reduce(builder.add, parts)


def _splat(like: Any, value: int) -> Any:
    return ir.Constant(like.type, [value] * LANES)


_compress: Any = intrinsic(_compress_lanes)


@inlined
def compress_lanes(blocks: NDArray[np.uint32], states: NDArray[np.uint32]) -> None:
    """One block in each lane: blocks uint32[16 words, LANES] into states uint32[8 words, LANES]."""
    _compress(blocks, states, _ROUND_WORDS)


@inlined
def fill_lane(
    message: NDArray[np.uint8],
    n_bytes: int,
    zeros: NDArray[np.uint8],
    lane: int,
    blocks: NDArray[np.uint32],
) -> None:
    """Pad message[:n_bytes], at most LANE_BYTES in a buffer of SHORT_BYTES, and put it into one lane.

    `zeros` are 64.
    """
    store64(message, n_bytes, np.uint64(0x80))
    copy_block(zeros, 0, message, n_bytes + 8)
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
