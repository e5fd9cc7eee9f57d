"""Words between white space, and their two hashes: fastText's own, and a fingerprint that tells words apart.

Boundaries come from masks of 64 bytes. The hash of n-grams is FNV-1a over sign-extended bytes, which takes
one multiplication a byte: sixteen words are hashed at once, a vector lane each, and only the bytes beyond the
sixteenth one by one. The fingerprint takes 64 bits of the same sixteen bytes in one multiplication.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from prill.features._byte_mask_kernel import byte_mask, first_bits
from prill.features._jit import fold, inlined, kernel, load64
from prill.features._vector_kernel import put_positions

__all__ = ["ROOM", "UNUSUAL_BREAKS", "Words", "find_unusual", "next_words", "room_for_words"]

ROOM = 512
"""Words that are found before they are worked on, so that all about them stays in the first-level cache."""

UNUSUAL_BREAKS = ("\x1c", "\x1d", "\x1e", "\x1f", "\x85", "\u2028", "\u2029")
"""Characters beyond ASCII's plain white space that Python splits lines at or strips."""

_STEP, _LANES = 64, 16
_BYTE, _WORD, _LONG = ir.IntType(8), ir.IntType(32), ir.IntType(64)
_BYTES = ir.VectorType(_BYTE, _STEP)
_WORDS, _LONGS = ir.VectorType(_WORD, _LANES), ir.VectorType(_LONG, _LANES)
_OFFSET_BASIS, _PRIME = 2166136261, 16777619
_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)
_MIX_A = np.uint64(0x9E3779B97F4A7C15)
_MIX_B = np.uint64(0xD6E8FEB86659FD93)
_MIX_C = np.uint64(0xBF58476D1CE4E5B9)
_LABEL = np.uint64(int.from_bytes(b"__label_", "little"))
_UNDERSCORE = np.uint64(ord("_"))
_END = np.uint64(int.from_bytes(b"</s>", "little"))
_END_BYTES = np.frombuffer(b"</s>", np.uint8)

Words = tuple[
    NDArray[np.uint32],
    NDArray[np.uint32],
    NDArray[np.uint64],
    NDArray[np.uint64],
    NDArray[np.uint32],
    NDArray[np.int64],
    NDArray[np.uint64],
]


def _gap(typingctx: Any, data: Any, index: Any) -> Any:
    """A mask of the bytes of data[index:index + 64] that stand between words: white space and zeros."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, args[0])
        pointer = builder.bitcast(builder.gep(array.data, [args[1]]), _BYTES.as_pointer())
        text = builder.load(pointer, align=1)

        def among(first: int, last: int) -> Any:
            shifted = builder.sub(text, ir.Constant(_BYTES, [first] * _STEP))
            return builder.icmp_unsigned("<=", shifted, ir.Constant(_BYTES, [last - first] * _STEP))

        found = builder.or_(builder.or_(among(0x09, 0x0D), among(0x20, 0x20)), among(0x00, 0x00))
        return builder.bitcast(found, _LONG)

    return types.uint64(data, types.intp), codegen


def _fnv(typingctx: Any, low: Any, high: Any, sizes: Any, at: Any, hashes: Any) -> Any:
    """FNV-1a of the first sixteen bytes of sixteen words, as fastText has it: bytes are signed.

    low, high: uint64, bytes 0..7 and 8..15 of each word; sizes, hashes: uint32. All from `at` on.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        def place(k: int, kind: Any) -> Any:
            data = context.make_array(signature.args[k])(context, builder, args[k]).data
            return builder.bitcast(builder.gep(data, [args[3]]), kind.as_pointer())

        def every(value: int) -> Any:
            return ir.Constant(_WORDS, [value] * _LANES)

        size = builder.load(place(2, _WORDS), align=4)
        hashed = every(_OFFSET_BASIS)
        for k in range(16):
            if k % 4 == 0:
                eight = builder.load(place(k // 8, _LONGS), align=8)
                shift = ir.Constant(_LONGS, [32 * (k // 4 % 2)] * _LANES)
                four = builder.trunc(builder.lshr(eight, shift), _WORDS)
            byte = builder.ashr(builder.shl(four, every(24 - 8 * (k % 4))), every(24))
            after = builder.mul(builder.xor(hashed, byte), every(_PRIME))
            hashed = builder.select(builder.icmp_unsigned(">", size, every(k)), after, hashed)
        builder.store(hashed, place(4, _WORDS), align=4)
        return context.get_dummy_value()

    return types.void(low, high, sizes, types.intp, hashes), codegen


gap_mask: Any = intrinsic(_gap)
fnv_of_sixteen: Any = intrinsic(_fnv)


@inlined
def room_for_words() -> Words:
    """Arrays for `next_words`: starts, ends, low, high, sizes, hashes, fingerprints."""
    n = ROOM + 3 * _STEP
    return (
        np.empty(n, np.uint32),
        np.empty(n, np.uint32),
        np.zeros(n, np.uint64),
        np.zeros(n, np.uint64),
        np.zeros(n, np.uint32),
        np.empty(n, np.int64),
        np.empty(n, np.uint64),
    )


@inlined
def _block_gaps(data: NDArray[np.uint8], at: int, stop: int) -> np.uint64:
    """Gaps among the 64 bytes from `at`; whatever lies at or beyond `stop` is one."""
    n = min(_STEP, stop - at)
    beyond = ~first_bits(n)
    if at + _STEP <= data.shape[0]:
        return np.uint64(gap_mask(data, at) | beyond)
    gaps = beyond
    for i in range(n):
        byte = data[at + i]
        if byte == 0x20 or byte == 0 or (byte >= 0x09 and byte <= 0x0D):
            gaps |= np.uint64(1) << np.uint64(i)
    return np.uint64(gaps)


@inlined
def _eight_bytes(data: NDArray[np.uint8], at: int, n: int) -> np.uint64:
    """The first n, at most 8, bytes from `at`, zeros above them."""
    if n <= 0:
        return np.uint64(0)
    if at + 8 <= data.shape[0]:
        return np.uint64(load64(data, at) & (_ALL >> np.uint64(64 - 8 * min(n, 8))))
    word = np.uint64(0)
    for i in range(min(n, 8)):
        word |= np.uint64(data[at + i]) << np.uint64(8 * i)
    return word


@inlined
def _find(
    data: NDArray[np.uint8],
    begin: int,
    at: int,
    stop: int,
    starts: NDArray[np.uint32],
    ends: NDArray[np.uint32],
    n_open: int,
) -> tuple[int, int, int]:
    """Bounds of the words from `at` on, relative to `begin`, until `stop` or ROOM is full.

    Returns where it stopped, the number of whole words, and whether starts[that number] began another.
    """
    n_starts, n_ends = n_open, 0
    was_word = np.uint64(n_open)
    while at < stop and n_ends < ROOM:
        words = ~_block_gaps(data, at, stop)
        before = (words << np.uint64(1)) | was_word
        was_word = words >> np.uint64(63)
        base = np.uint32(at - begin)
        n_starts += put_positions(words & ~before, starts, n_starts, base)
        n_ends += put_positions(before & ~words, ends, n_ends, base)
        at += _STEP
    if at >= stop and n_starts > n_ends:  # the last word fills its block
        ends[n_ends] = np.uint32(stop - begin)
        n_ends += 1
    return min(at, stop), n_ends, n_starts - n_ends


@inlined
def next_words(
    data: NDArray[np.uint8], begin: int, at: int, stop: int, n_open: int, words: Words
) -> tuple[int, int, int, int]:
    """Some more words of the document data[begin:stop], at most ROOM + 64, and their hashes.

    Labels are left out, and a document ends at the word `</s>`, as in fastText;
    behind all others comes that word.

    Args:
        at: where the last call stopped; `begin` at first.
        n_open: what the last call returned; 0 at first.
        words: of `room_for_words`; hashes (signed 32-bit FNV-1a) and fingerprints come in the last two.
    Returns:
        Where it stopped, n_open, the number of words, and 1 when the document is at its end.
    """
    starts, ends, low, high, sizes, _, _ = words
    at, n, n_open = _find(data, begin, at, stop, starts, ends, n_open)
    padded = data.shape[0] - 16
    for t in range(np.uint64(n)):
        start = begin + int(np.int64(starts[t]))
        size = int(np.int64(ends[t]) - np.int64(starts[t]))
        sizes[t] = np.uint32(size)
        if start <= padded:
            many = min(size, 16)
            less = np.uint64(max(8 - many, 0)) * np.uint64(8)
            more = np.uint64(min(16 - many, 8)) * np.uint64(8)
            low[t] = load64(data, start) & (_ALL >> less)
            kept = _ALL >> (more & np.uint64(63)) if more < 64 else np.uint64(0)
            high[t] = load64(data, start + 8) & kept
        else:
            low[t] = _eight_bytes(data, start, size)
            high[t] = _eight_bytes(data, start + 8, size - 8)
    return _finish_words(data, begin, at, stop, n, n_open, words)


@inlined
def _finish_words(
    data: NDArray[np.uint8], begin: int, at: int, stop: int, n: int, n_open: int, words: Words
) -> tuple[int, int, int, int]:
    starts, _, low, high, sizes, hashes, prints = words
    fnv = words[1]  # the ends are used up
    for t in range(0, n, _LANES):
        fnv_of_sixteen(low, high, sizes, t, fnv)
    kept, is_over = 0, 1 if at >= stop else 0
    for t in range(np.uint64(n)):
        hashed = fnv[t]
        first, second = low[t], high[t]
        fingerprint = fold(first ^ _MIX_A, second ^ _MIX_B)
        if sizes[t] > 16:
            start, size = begin + int(np.int64(starts[t])), int(np.int64(sizes[t]))
            hashed, fingerprint = _rest(data, start, size, hashed, fingerprint)
        if first == _LABEL and (second & np.uint64(0xFF)) == _UNDERSCORE:
            continue
        hashes[kept] = np.int64(np.int32(hashed))
        prints[kept] = fingerprint
        kept += 1
        if first == _END and sizes[t] == 4:
            return stop, 0, kept, 1
    if n_open:
        starts[0] = starts[n]
    if is_over:
        hashes[kept] = np.int64(np.int32(_fnv_of(_END_BYTES)))
        prints[kept] = fold(_END ^ _MIX_A, _MIX_B)
        kept += 1
    return at, n_open, kept, is_over


@inlined
def _rest(
    data: NDArray[np.uint8], start: int, size: int, hashed: np.uint32, fingerprint: np.uint64
) -> tuple[np.uint32, np.uint64]:
    """Both hashes of a word of more than sixteen bytes."""
    for i in range(start + 16, start + size):
        hashed = np.uint32((hashed ^ np.uint32(np.int32(np.int8(data[i])))) * np.uint32(_PRIME))
    for i in range(16, size, 8):
        fingerprint = fold(fingerprint ^ _eight_bytes(data, start + i, size - i), _MIX_C)
    return hashed, np.uint64(fingerprint)


@inlined
def _fnv_of(word: NDArray[np.uint8]) -> np.uint32:
    hashed = np.uint32(_OFFSET_BASIS)
    for i in range(word.shape[0]):
        hashed = np.uint32((hashed ^ np.uint32(np.int32(np.int8(word[i])))) * np.uint32(_PRIME))
    return hashed


@kernel
def find_unusual(offsets: NDArray[np.int64], data: NDArray[np.uint8], found_D: NDArray[np.bool_]) -> None:
    """Documents that may hold one of UNUSUAL_BREAKS, or begin or end with white space beyond ASCII.

    False alarms are rare; a document that is not found has no line break or space to strip but plain ones.
    """
    for d in range(found_D.shape[0]):
        at, stop = offsets[d], offsets[d + 1]
        while at < stop and (data[at] == 0x20 or (data[at] >= 0x09 and data[at] <= 0x0D)):
            at += 1
        while stop > at and (data[stop - 1] == 0x20 or (data[stop - 1] >= 0x09 and data[stop - 1] <= 0x0D)):
            stop -= 1
        found = stop > at and (_begins_with_space(data, at, stop) or _ends_with_space(data, at, stop))
        while at < stop and not found:
            if at + _STEP <= data.shape[0]:
                odd = _unusual_mask(data, at) & first_bits(min(_STEP, stop - at))
                found = odd != 0
                at += _STEP
            else:
                byte = data[at]
                found = (byte >= 0x1C and byte <= 0x1F) or (at > 0 and _is_break(data, at))
                at += 1
        found_D[d] = found


@inlined
def _begins_with_space(data: NDArray[np.uint8], at: int, stop: int) -> bool:
    """Whether the character at `at` is white space beyond ASCII."""
    if stop - at < 2 or data[at] < 0xC2:
        return False
    first, second = data[at], data[at + 1]
    if first == 0xC2:
        return bool(second == 0x85 or second == 0xA0)
    if stop - at < 3:
        return False
    third = data[at + 2]
    if first == 0xE2:
        general = (third >= 0x80 and third <= 0x8A) or third == 0xA8 or third == 0xA9 or third == 0xAF
        return bool((second == 0x80 and general) or (second == 0x81 and third == 0x9F))
    return bool(third == 0x80 and ((first == 0xE3 and second == 0x80) or (first == 0xE1 and second == 0x9A)))


@inlined
def _ends_with_space(data: NDArray[np.uint8], at: int, stop: int) -> bool:
    """Whether the last character before `stop` is white space beyond ASCII."""
    is_last = stop - at >= 2 and data[stop - 2] == 0xC2 and _begins_with_space(data, stop - 2, stop)
    return bool(is_last or (stop - at >= 3 and _begins_with_space(data, stop - 3, stop)))


@inlined
def _is_break(data: NDArray[np.uint8], at: int) -> bool:
    """Whether U+0085, U+2028 or U+2029 ends at `at`."""
    last, before = data[at], data[at - 1]
    return bool((last == 0x85 and before == 0xC2) or ((last == 0xA8 or last == 0xA9) and before == 0x80))


@inlined
def _unusual_mask(data: NDArray[np.uint8], at: int) -> np.uint64:
    """Nonzero where the 64 bytes from `at` hold an unusual break, or end within one."""
    controls = byte_mask(data, at, np.uint8(0x1C)) | byte_mask(data, at, np.uint8(0x1D))
    controls |= byte_mask(data, at, np.uint8(0x1E)) | byte_mask(data, at, np.uint8(0x1F))
    lines = byte_mask(data, at, np.uint8(0xA8)) | byte_mask(data, at, np.uint8(0xA9))
    behind_80 = (byte_mask(data, at, np.uint8(0x80)) << np.uint64(1)) | np.uint64(1)
    behind_c2 = (byte_mask(data, at, np.uint8(0xC2)) << np.uint64(1)) | np.uint64(1)
    return np.uint64(controls | (lines & behind_80) | (byte_mask(data, at, np.uint8(0x85)) & behind_c2))
