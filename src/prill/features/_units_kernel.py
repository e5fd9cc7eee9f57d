"""Cut documents into lines or paragraphs and hash each one's normal form, byte by byte without a copy of it.

The normal form streams through a buffer of a few kilobytes, so a line of a gigabyte needs no more memory
than a short one. Trailing spaces are taken back from the buffer, which therefore keeps its last bytes when
it is hashed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from prill.features._code_point_kernel import FLAGS, decode, lowered_bytes
from prill.features._jit import fold, inlined, kernel, load64, set_bits, store64, trailing_zeros
from prill.features._vector_kernel import STEP, put_block, space_mask

__all__ = ["EMIT", "GAP", "hash_units"]

EMIT, GAP = np.uint8(1), np.uint8(2)
"""What an ASCII byte does: stands in the normal form, or is part of a gap, which becomes one space."""

_BLOCK = 2048  # bytes hashed at a time, and the longest line that is taken 64 bytes a step
_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)
_KEPT = 8
_NEWLINE = np.uint8(10)
_SEED = np.uint64(0x9E3779B97F4A7C15)
_LENGTH = np.uint64(0xD6E8FEB86659FD93)
_MIX_A = np.uint64(0xBF58476D1CE4E5B9)
_MIX_B = np.uint64(0x94D049BB133111EB)


def _mask_of_byte(value: int) -> Any:
    """Which of 64 bytes equal `value`."""

    def mask(typingctx: Any, data: Any, start: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            vector = ir.VectorType(ir.IntType(8), STEP)
            array = context.make_array(signature.args[0])(context, builder, args[0])
            pointer = builder.bitcast(builder.gep(array.data, [args[1]]), vector.as_pointer())
            text = builder.load(pointer, align=1)
            equal = builder.icmp_unsigned("==", text, ir.Constant(vector, [value] * STEP))
            return builder.bitcast(equal, ir.IntType(64))

        return types.uint64(data, types.intp), codegen

    return mask


_newlines: Any = intrinsic(_mask_of_byte(10))
_blanks: Any = intrinsic(_mask_of_byte(32))


@inlined
def _last_bit(mask: np.uint64) -> int:
    """One more than the place of the highest set bit; 0 for none."""
    for shift in (1, 2, 4, 8, 16, 32):
        mask |= mask >> np.uint64(shift)
    return int(set_bits(mask))


@inlined
def _absorb(h: np.uint64, held: NDArray[np.uint8], n: int) -> np.uint64:
    """Hash n bytes, a multiple of eight."""
    for i in range(0, n, 8):
        h = fold(h ^ load64(held, i), _MIX_A)
    return h


@inlined
def _finish(h: np.uint64, held: NDArray[np.uint8], n_held: int, n_bytes: int) -> np.uint64:
    """Hash what is left, filled up with zeros, and the number of bytes."""
    store64(held, n_held, np.uint64(0))
    h = _absorb(h, held, (n_held + 7) // 8 * 8)
    return np.uint64(fold(h ^ (np.uint64(n_bytes) * _LENGTH), _MIX_B))


@inlined
def _is_blank(data: NDArray[np.uint8], at: int, end: int, characters: NDArray[np.uint64]) -> bool:
    """Whether only spaces stand between `at` and the end of the line."""
    while at < end and data[at] != _NEWLINE:
        code, at = decode(data, at, end)
        if (characters[code] >> FLAGS) & np.uint64(0x40) == 0:
            return False
    return True


@inlined
def _line_end(data: NDArray[np.uint8], at: int, end: int) -> int:
    """Where the next line begins."""
    while at < end and data[at] != _NEWLINE:
        at += 1
    return min(at + 1, end)


@inlined
def _put_code_point(
    data: NDArray[np.uint8],
    at: int,
    end: int,
    characters: NDArray[np.uint64],
    words_only: np.bool_,
    lowers: np.bool_,
    held: NDArray[np.uint8],
    n_held: int,
    in_gap: np.bool_,
) -> tuple[int, int, np.bool_]:
    """Put one character beyond ASCII: the next position, bytes put (one of a gap), whether it is a gap."""
    code, after = decode(data, at, end)
    entry = characters[code]
    flags = entry >> FLAGS
    is_gap = (flags & np.uint64(0x80)) == 0 if words_only else (flags & np.uint64(0x40)) != 0
    if is_gap:
        held[n_held] = np.uint8(32)
        return after, 0 if in_gap else 1, np.bool_(True)
    if lowers:
        store64(held, n_held, entry)
        return after, lowered_bytes(entry), np.bool_(False)
    for k in range(after - at):
        held[n_held + k] = data[at + k]
    return after, after - at, np.bool_(False)


@inlined
def _take_line(
    data: NDArray[np.uint8],
    i: int,
    end: int,
    characters: NDArray[np.uint64],
    actions: NDArray[np.uint8],
    outputs: NDArray[np.uint8],
    ways: tuple[np.bool_, np.bool_, np.bool_],
    held: NDArray[np.uint8],
    state: tuple[np.uint64, int, int, int, np.bool_],
) -> tuple[int, tuple[np.uint64, int, int, int, np.bool_]]:
    """Stream one line into the hash; the position of its newline or of the end, and the new state."""
    by_code_point, words_only, lowers = ways
    h, n_held, n_bytes, n_characters, in_gap = state
    while i < end:
        byte = data[i]
        if byte == _NEWLINE:
            break
        if byte < 0x80 or not by_code_point:
            action = actions[byte]
            is_gap = np.bool_(action == GAP)
            n = int(np.int64((action == EMIT) | (is_gap & ~in_gap)))
            held[n_held] = outputs[byte]
            n_characters += n & int(np.int64((byte & 0xC0) != 0x80))
            i += 1
        else:
            i, n, is_gap = _put_code_point(data, i, end, characters, words_only, lowers, held, n_held, in_gap)
            n_characters += min(n, 1)
        n_held += n
        n_bytes += n
        in_gap = is_gap
        if n_held >= _BLOCK + _KEPT:
            h = _absorb(h, held, _BLOCK)
            for k in range(n_held - _BLOCK):
                held[k] = held[_BLOCK + k]
            n_held -= _BLOCK
    return i, (h, n_held, n_bytes, n_characters, in_gap)


@kernel
def hash_units(
    offsets: NDArray[np.int64],
    data: NDArray[np.uint8],
    characters: NDArray[np.uint64],
    actions: NDArray[np.uint8],
    outputs: NDArray[np.uint8],
    ways: tuple[np.bool_, np.bool_, np.bool_],
    blank_lines: np.bool_,
    min_characters: int,
    counts_D: NDArray[np.int64],
    hashes: NDArray[np.uint64],
    starts: NDArray[np.int32],
    stops: NDArray[np.int32],
) -> int:
    """One pass over documents data[offsets[d]:offsets[d + 1]]; the number of units.

    Args:
        characters: lower case and class of every code point (`_characters`).
        actions, outputs: what each byte does, and what it becomes; shape (256,).
        ways: whether characters beyond ASCII are looked up (else their bytes do as `actions` says); whether
            only characters of words stand then, all others being gaps; whether they are lowered.
        blank_lines: units are parted by blank lines, not by every newline.
        min_characters: units whose normal form is shorter are left out, at least 1.
        counts_D: units of each document.
        hashes, starts, stops: of the units, bytes from the start of their document; room for every line.
            A unit reaches to the start of the next.
    """
    held = np.empty(_BLOCK + 2 * STEP, np.uint8)
    by_code_point, words_only, lowers = ways
    takes_steps = not blank_lines and not words_only
    n_units = 0
    for d in range(offsets.shape[0] - 1):
        first, end = offsets[d], offsets[d + 1]
        n_before = n_units
        i = first
        while blank_lines and i < end and _is_blank(data, i, end, characters):
            i = _line_end(data, i, end)
        while i < end:
            while takes_steps and i < end:
                # A line of plain ASCII with single spaces, 64 bytes a step; no call here takes an array.
                at, seen, gap = i, False, np.uint64(0)
                a, b, double = i, i, end
                is_line = False
                while at - i < _BLOCK and at + STEP + 8 <= data.shape[0]:
                    others = put_block(data, at, held, at - i)
                    n = min(trailing_zeros(_newlines(data, at)), end - at, STEP)
                    inside = _ALL >> np.uint64(STEP - n) if n > 0 else np.uint64(0)
                    if others & inside != 0:
                        break
                    spaces = space_mask(held, at - i) & inside
                    if not by_code_point:
                        seen |= spaces != inside
                    else:
                        if spaces != _blanks(data, at) & inside:
                            break
                        letters = inside & ~spaces
                        doubles = spaces & ((spaces << np.uint64(1)) | gap)
                        gap = spaces >> np.uint64(63)
                        if letters != 0:
                            if not seen:
                                lead = trailing_zeros(letters)
                                doubles &= _ALL << np.uint64(lead)
                                a, seen = at + lead, True
                            b = at + _last_bit(letters)
                        if seen and doubles != 0:
                            double = min(double, at + trailing_zeros(doubles))
                    at += n
                    if n < STEP:
                        is_line = double >= b
                        break
                if not is_line:
                    break
                if not by_code_point and seen:
                    b = at
                n = b - a
                if n >= min_characters:
                    h, left, k = _SEED, n, a - i
                    if by_code_point and lowers:
                        while left >= 8:
                            h = fold(h ^ load64(held, k), _MIX_A)
                            k += 8
                            left -= 8
                        last = load64(held, k)
                    else:
                        k = a
                        while left >= 8:
                            h = fold(h ^ load64(data, k), _MIX_A)
                            k += 8
                            left -= 8
                        last = load64(data, k)
                    if left > 0:
                        h = fold(h ^ (last & (_ALL >> np.uint64(64 - 8 * left))), _MIX_A)
                    hashes[n_units] = fold(h ^ (np.uint64(n) * _LENGTH), _MIX_B)
                    starts[n_units] = np.int32(i - first)
                    stops[n_units] = np.int32(min(at + 1, end) - first)
                    n_units += 1
                i = min(at + 1, end)
            if i >= end:
                break
            start = i
            state = (_SEED, 0, 0, 0, np.bool_(i == start))
            is_open = np.bool_(i == start)
            while is_open:
                i, state = _take_line(data, i, end, characters, actions, outputs, ways, held, state)
                i = min(i + 1, end)
                is_open = np.bool_(blank_lines and i < end and not _is_blank(data, i, end, characters))
                if is_open:  # the newline between two lines of a paragraph
                    h, n_held, n_bytes, n_characters, in_gap = state
                    is_gap = np.bool_(actions[_NEWLINE] == GAP)
                    held[n_held] = outputs[_NEWLINE]
                    n = 0 if is_gap and in_gap else 1
                    state = (h, n_held + n, n_bytes + n, n_characters + n, is_gap)
            while blank_lines and i < end and _is_blank(data, i, end, characters):
                i = _line_end(data, i, end)
            h, n_held, n_bytes, n_characters, in_gap = state
            if in_gap and n_bytes > 0:
                n_held, n_bytes, n_characters = n_held - 1, n_bytes - 1, n_characters - 1
            is_unit = n_characters >= min_characters
            if is_unit and not by_code_point:
                is_unit = not _is_blank(data, start, end, characters)
            if is_unit:
                hashes[n_units] = _finish(h, held, n_held, n_bytes)
                starts[n_units] = np.int32(start - first)
                stops[n_units] = np.int32(i - first)
                n_units += 1
        counts_D[d] = n_units - n_before
    return n_units
