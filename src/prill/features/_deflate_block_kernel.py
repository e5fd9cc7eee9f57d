"""How many bits a DEFLATE block takes: zlib's Huffman codes, and its choice between three kinds of block.

Source: Deutsch 1996, RFC 1951; zlib's trees.c, whose order of equal counts decides the lengths of codes.
Differs: no code is made, only lengths.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from prill.features._jit import inlined, inlined_bare

__all__ = ["block_bits", "deflate_tables", "distance_code"]

_HEAP: Final = 573
_N_LITERALS: Final = 286
_N_DISTANCES: Final = 30
_DISTANCES: Final = 288  # where distances begin among the counts
_DISTANCE_TABLE: Final = 256  # where codes of distances begin in the tables: 512 of them
_LITERAL_EXTRA: Final = 768
_DISTANCE_EXTRA: Final = 1056
_LENGTH_EXTRA: Final = 1088
_ORDER: Final = 1107


def deflate_tables() -> NDArray[np.uint8]:
    """Codes of lengths and distances, extra bits, and the order of the code lengths: uint8, joined.

    Source: RFC 1951, section 3.2.5.
    """
    length_extra = [0] * 8 + [k for k in range(1, 6) for _ in range(4)] + [0]
    distance_extra = [0, 0] + [k for k in range(14) for _ in range(2)]
    tables = np.zeros(_ORDER + 19, np.uint8)
    lengths = [code for code, extra in enumerate(length_extra[:28]) for _ in range(1 << extra)]
    tables[:256] = lengths[:256]
    tables[255] = 28
    distances = [code for code, extra in enumerate(distance_extra) for _ in range(1 << extra)]
    tables[_DISTANCE_TABLE : _DISTANCE_TABLE + 256] = distances[:256]
    tables[_DISTANCE_TABLE + 256 : _DISTANCE_TABLE + 512] = distances[:32768:128]
    tables[_LITERAL_EXTRA + 257 : _LITERAL_EXTRA + 286] = length_extra
    tables[_DISTANCE_EXTRA : _DISTANCE_EXTRA + 30] = distance_extra
    tables[_LENGTH_EXTRA + 16 : _LENGTH_EXTRA + 19] = [2, 3, 7]
    tables[_ORDER:] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15]
    return tables


@inlined_bare
def distance_code(tables: NDArray[np.uint8], distance: int) -> int:
    """The code of a distance less one."""
    if distance < 256:
        return tables[_DISTANCE_TABLE + distance]
    return tables[_DISTANCE_TABLE + 256 + (distance >> 7)]


@inlined
def block_bits(counts: NDArray[np.int64], tables: NDArray[np.uint8], bits: int, stored: int) -> int:
    """Bits of the stream with one more block, whose counts begin anew.

    Args:
        counts: of literals and lengths from 0, of distances from 288.
        bits: of the stream so far.
        stored: bytes that the block stands for, where zlib could store them as they are; else -1.
    """
    lengths = np.empty(_HEAP, np.int64)
    repeats = np.zeros(19, np.int64)
    fixed = _fixed_bits(counts, tables)
    best, last = _tree(counts[:_N_LITERALS], tables[_LITERAL_EXTRA:], 15, lengths)
    _scan(lengths, last, repeats)
    more, last = _tree(counts[_DISTANCES : _DISTANCES + _N_DISTANCES], tables[_DISTANCE_EXTRA:], 15, lengths)
    _scan(lengths, last, repeats)
    best += more
    more, _ = _tree(repeats, tables[_LENGTH_EXTRA:], 7, lengths)
    shown = 18
    while shown >= 3 and lengths[tables[_ORDER + shown]] == 0:
        shown -= 1
    best += more + 3 * (shown + 1) + 14
    counts[:] = 0
    counts[256] = 1
    best_bytes, fixed_bytes = (best + 10) >> 3, (fixed + 10) >> 3
    best_bytes = min(best_bytes, fixed_bytes)
    if stored >= 0 and stored + 4 <= best_bytes:
        return ((bits + 3 + 7) >> 3 << 3) + 32 + 8 * stored
    return bits + 3 + (fixed if fixed_bytes == best_bytes else best)


@inlined_bare
def _fixed_bits(counts: NDArray[np.int64], tables: NDArray[np.uint8]) -> int:
    """Bits of the symbols under the fixed code."""
    bits = 0
    for n in range(_N_LITERALS):
        width = 8
        if 144 <= n < 256:
            width = 9
        elif 256 <= n < 280:
            width = 7
        bits += counts[n] * (width + tables[_LITERAL_EXTRA + n])
    for n in range(_N_DISTANCES):
        bits += counts[_DISTANCES + n] * (5 + tables[_DISTANCE_EXTRA + n])
    return bits


@inlined_bare
def _smaller(freq: NDArray[np.int64], depth: NDArray[np.int64], n: int, m: int) -> bool:
    return freq[n] < freq[m] or (freq[n] == freq[m] and depth[n] <= depth[m])


@inlined_bare
def _sink(
    heap: NDArray[np.int64], size: int, k: int, freq: NDArray[np.int64], depth: NDArray[np.int64]
) -> None:
    v = heap[k]
    j = k << 1
    while j <= size:
        if j < size and _smaller(freq, depth, heap[j + 1], heap[j]):
            j += 1
        if _smaller(freq, depth, v, heap[j]):
            break
        heap[k] = heap[j]
        k = j
        j <<= 1
    heap[k] = v


@inlined
def _tree(
    counts: NDArray[np.int64], extra: NDArray[np.uint8], longest: int, lengths: NDArray[np.int64]
) -> tuple[int, int]:
    """Bits of the symbols under their Huffman code, and the last symbol; fills the lengths of the codes."""
    n_symbols = counts.shape[0]
    freq, depth, dad = np.zeros(_HEAP, np.int64), np.zeros(_HEAP, np.int64), np.zeros(_HEAP, np.int64)
    heap = np.zeros(_HEAP + 1, np.int64)
    size, last, bits = 0, -1, 0
    for n in range(n_symbols):
        lengths[n] = 0
        freq[n] = counts[n]
        if counts[n]:
            size += 1
            heap[size] = n
            last = n
    while size < 2:  # at least two codes, so that every code has a bit
        node = 0
        if last < 2:
            last += 1
            node = last
        size += 1
        heap[size] = node
        freq[node] = 1
        bits -= 1
    for k in range(size // 2, 0, -1):
        _sink(heap, size, k, freq, depth)
    top, node = _HEAP, n_symbols
    while True:
        n = heap[1]
        heap[1] = heap[size]
        size -= 1
        _sink(heap, size, 1, freq, depth)
        m = heap[1]
        heap[top - 1], heap[top - 2] = n, m
        top -= 2
        freq[node] = freq[n] + freq[m]
        depth[node] = max(depth[n], depth[m]) + 1
        dad[n] = node
        dad[m] = node
        heap[1] = node
        node += 1
        _sink(heap, size, 1, freq, depth)
        if size < 2:
            break
    top -= 1
    heap[top] = heap[1]
    return bits + _code_lengths(heap, top, freq, dad, extra, last, longest, lengths), last


@inlined
def _code_lengths(
    heap: NDArray[np.int64],
    top: int,
    freq: NDArray[np.int64],
    dad: NDArray[np.int64],
    extra: NDArray[np.uint8],
    last: int,
    longest: int,
    lengths: NDArray[np.int64],
) -> int:
    """Lengths of codes from the tree, none above `longest`; returns the bits of all symbols."""
    n_of = np.zeros(16, np.int64)
    lengths[heap[top]] = 0
    overflow, bits = 0, 0
    for h in range(top + 1, _HEAP):
        n = heap[h]
        width = lengths[dad[n]] + 1
        if width > longest:
            width = longest
            overflow += 1
        lengths[n] = width
        if n <= last:
            n_of[width] += 1
            bits += freq[n] * (width + extra[n])
    if overflow == 0:
        return bits
    while overflow > 0:
        width = longest - 1
        while n_of[width] == 0:
            width -= 1
        n_of[width] -= 1
        n_of[width + 1] += 2
        n_of[longest] -= 1
        overflow -= 2
    h = _HEAP
    for width in range(longest, 0, -1):
        n = n_of[width]
        while n != 0:
            h -= 1
            m = heap[h]
            if m > last:
                continue
            bits += (width - lengths[m]) * freq[m]
            lengths[m] = width
            n -= 1
    return bits


@inlined_bare
def _scan(lengths: NDArray[np.int64], last: int, repeats: NDArray[np.int64]) -> None:
    """Count the codes by which the lengths of codes are told: 16 to 18 repeat."""
    before, following, run = -1, lengths[0], 0
    most, least = (138, 3) if following == 0 else (7, 4)
    for n in range(last + 1):
        current = following
        following = lengths[n + 1] if n < last else 65535
        run += 1
        if run < most and current == following:
            continue
        if run < least:
            repeats[current] += run
        elif current != 0:
            if current != before:
                repeats[current] += 1
            repeats[16] += 1
        elif run <= 10:
            repeats[17] += 1
        else:
            repeats[18] += 1
        run, before = 0, current
        if following == 0:
            most, least = 138, 3
        elif current == following:
            most, least = 6, 3
        else:
            most, least = 7, 4
