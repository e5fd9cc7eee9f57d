"""How many bytes zlib's DEFLATE makes of a text, and of a text with each of many others behind it.

The same matches, lazy evaluation, blocks and Huffman codes as zlib's, so the lengths are zlib's to the byte,
whatever zlib this Python has; but nothing is written, and work is shared: the state after the first text is
kept and taken up again for every text behind it (zlib would copy 260 kB each time), and what a text behind
finds within itself is looked up once for all texts before it. zlib walks along a chain of all places with
the same three bytes; here a chain of four bytes, and ranks that say how many places zlib would have passed.

Only levels 4 to 9, and only up to `MOST` bytes in all, so that zlib's window would not slide.

Source: Deutsch 1996, RFC 1951; the heuristics are those of zlib 1.2 and 1.3 (deflate.c, trees.c; windowBits
15, memLevel 8). Differs: none in the lengths.

Legend: D sources, N texts behind them, P their bytes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from prill.features._deflate_block_kernel import block_bits, distance_code
from prill.features._deflate_match_kernel import (
    FARTHEST,
    HASH_SIZE,
    LONGEST,
    Scratch,
    hashes,
    insert,
    longest,
    longest_behind,
)
from prill.features._jit import inlined, kernel, load64

__all__ = ["CONFIG", "FARTHEST", "MOST", "OWN", "ROOM", "Scratch", "alone", "jointly", "prepare", "scratch"]

# Levels from 4: good, lazy, nice, chain.
CONFIG = {
    4: (4, 4, 16, 16),
    5: (8, 16, 32, 32),
    6: (8, 16, 128, 128),
    7: (8, 32, 128, 256),
    8: (32, 128, 258, 1024),
    9: (32, 258, 258, 4096),
}
MOST = 65_000
"""Bytes of a text with the text behind it; a little below where the window slides."""
ROOM = 320
"""Bytes behind a text that loads may touch."""
OWN = 8
"""Numbers kept for a byte of a text behind: length and distance of its match with all tries and with a
quarter of them, places of the same three bytes, hashes of three, four and five bytes."""

_LOOKAHEAD = 262  # longest match, shortest match and one byte
_TOO_FAR = 4096
_BLOCK_SYMBOLS = 16_383

# Places in the state.
_AT, _LENGTH, _START, _AVAILABLE, _BLOCK, _SYMBOLS, _BITS = range(7)


def scratch() -> Scratch:
    """Room to work in, for one thread: bytes, heads of chains, links between places, fives that occur."""
    return (
        np.zeros(MOST + ROOM, np.uint8),
        np.zeros((2, HASH_SIZE), np.uint16),
        np.zeros((1 << 16, 3), np.uint16),
        np.zeros(1 << 10, np.uint64),
    )


@kernel
def alone(
    offsets_D1: NDArray[np.int64],
    data: NDArray[np.uint8],
    config: NDArray[np.int64],
    tables: NDArray[np.uint8],
    work: Scratch,
    bytes_D: NDArray[np.int64],
) -> None:
    """Bytes of the DEFLATE stream of every text of up to MOST bytes, without header and trailer."""
    buffer = work[0]
    state, counts = np.zeros(8, np.int64), np.zeros(320, np.int64)
    own = np.empty((1, OWN), np.uint16)
    for d in range(bytes_D.shape[0]):
        n = offsets_D1[d + 1] - offsets_D1[d]
        if n > MOST:
            continue
        _load(data, offsets_D1[d], n, buffer, 0)
        _reset(state, counts, work)
        _parse(work, n, n, n, config, tables, state, counts, own, 0, 0)
        bytes_D[d] = _finished(buffer, n, tables, state, counts)


@kernel
def prepare(
    offsets_N1: NDArray[np.int64],
    data: NDArray[np.uint8],
    config: NDArray[np.int64],
    work: Scratch,
    own_P: NDArray[np.uint16],
) -> None:
    """What each text of up to FARTHEST bytes, put behind others, finds within itself; shape (P, OWN)."""
    buffer, heads, links, fives = work
    nice, tries = config[2], config[3]
    state, counts = np.zeros(8, np.int64), np.zeros(320, np.int64)
    for j in range(offsets_N1.shape[0] - 1):
        n = offsets_N1[j + 1] - offsets_N1[j]
        if n > FARTHEST:
            continue
        _reset(state, counts, work)
        _load(data, offsets_N1[j], n, buffer, 1)  # from 1, because zlib's place 0 is never matched
        for p in range(n - 2):
            at, row = p + 1, offsets_N1[j] + p
            insert(buffer, at, heads, links, fives)
            most = min(n - p, LONGEST)
            for k in range(2):
                length, start = longest(buffer, at, n - p, 2, tries >> (2 * k), nice, links)
                own_P[row, 2 * k] = min(length, most)
                own_P[row, 2 * k + 1] = at - start
            own_P[row, 4] = links[at, 2] - 1
            h, g, f = hashes(load64(buffer, at))
            own_P[row, 5], own_P[row, 6], own_P[row, 7] = h, g, f


@kernel
def jointly(
    source: tuple[NDArray[np.int64], NDArray[np.uint8]],
    rows_D: NDArray[np.int64],
    behind: tuple[NDArray[np.int64], NDArray[np.uint8]],
    own_P: NDArray[np.uint16],
    columns_N: NDArray[np.int64],
    config: NDArray[np.int64],
    tables: NDArray[np.uint8],
    work: Scratch,
    bytes_DN: NDArray[np.int64],
) -> None:
    """Bytes of the stream of every source with every text behind it, int64, shape (D, N).

    Args:
        source, behind: offsets and bytes; empty sources, pairs of more than MOST bytes, and texts of more
            than FARTHEST behind are left as they are.
        rows_D, columns_N: which of them.
        own_P: of `prepare`.
    """
    (offsets, data), (offsets_behind, others) = source, behind
    buffer, heads, links, fives = work
    before, state = np.zeros(8, np.int64), np.zeros(8, np.int64)
    counts_before, counts = np.zeros(320, np.int64), np.zeros(320, np.int64)
    for d in range(rows_D.shape[0]):
        first = offsets[rows_D[d]]
        n = offsets[rows_D[d] + 1] - first
        if n == 0 or n > MOST:
            continue
        _load(data, first, n, buffer, 0)
        _reset(before, counts_before, work)
        stop = n - _LOOKAHEAD + 1
        _parse(work, n, n, stop, config, tables, before, counts_before, own_P, 0, 0)
        for at in range(before[_AT], n - 4):
            insert(buffer, at, heads, links, fives)
        for i in range(columns_N.shape[0]):
            begin = offsets_behind[columns_N[i]]
            size = offsets_behind[columns_N[i] + 1] - begin
            if size > FARTHEST or n + size > MOST:
                continue
            _load(others, begin, size, buffer, n)
            state[:] = before
            counts[:] = counts_before
            seam = max(n - 4, 0)  # the hash of five bytes from here reaches into the text behind
            last = min(n, n + size - 2)
            for at in range(seam, last):
                insert(buffer, at, heads, links, fives)
            _parse(work, n + size, n, n + size, config, tables, state, counts, own_P, begin, n + size)
            bytes_DN[d, i] = _finished(buffer, n + size, tables, state, counts)
            for at in range(last - 1, seam - 1, -1):
                h, g, _ = hashes(load64(buffer, at))
                heads[0, h], heads[1, g] = links[at, 0], links[at, 1]


@inlined
def _load(data: NDArray[np.uint8], start: int, n: int, buffer: NDArray[np.uint8], at: int) -> None:
    buffer[at : at + n] = data[start : start + n]
    buffer[at + n : at + n + 8] = 0


@inlined
def _reset(state: NDArray[np.int64], counts: NDArray[np.int64], work: Scratch) -> None:
    _, heads, links, fives = work
    heads[:] = 0
    fives[:] = 0
    links[0, :] = 0
    state[:] = 0
    state[_LENGTH] = 2
    counts[:] = 0
    counts[256] = 1


@inlined
def _finished(
    buffer: NDArray[np.uint8],
    total: int,
    tables: NDArray[np.uint8],
    state: NDArray[np.int64],
    counts: NDArray[np.int64],
) -> int:
    """Bytes of the whole stream, the last block closed."""
    if state[_AVAILABLE]:
        counts[buffer[total - 1]] += 1
    return (block_bits(counts, tables, state[_BITS], total - state[_BLOCK]) + 7) >> 3


@inlined
def _parse(
    work: Scratch,
    total: int,
    n_before: int,
    stop: int,
    config: NDArray[np.int64],
    tables: NDArray[np.uint8],
    state: NDArray[np.int64],
    counts: NDArray[np.int64],
    own: NDArray[np.uint16],
    first: int,
    known: int,
) -> None:
    """Matches and literals from where `state` stands up to `stop`.

    Args:
        total: bytes of the text and the text behind it.
        n_before: bytes before the text behind; `total` where there is none.
        first: row of `own` for the first byte behind.
        known: bytes whose places are in the chains already.
    """
    buffer, heads, links, fives = work
    good, lazy, nice, chain = config[0], config[1], config[2], config[3]
    at, length, start = state[_AT], state[_LENGTH], state[_START]
    available, block, n_symbols, bits = state[_AVAILABLE], state[_BLOCK], state[_SYMBOLS], state[_BITS]
    while at < stop:
        ahead = total - at
        before, before_start = length, start
        length = 2
        if ahead >= 3:
            if at >= known:
                insert(buffer, at, heads, links, fives)
            if before < lazy:
                quarter = 2 if before >= good else 0
                tries = chain >> quarter
                if at < n_before:
                    length, start = longest(buffer, at, ahead, before, tries, nice, links)
                else:
                    row = first + at - n_before
                    length, start = longest_behind(
                        buffer, at, ahead, before, tries, nice, work, own, row, quarter
                    )
                length = min(length, ahead)
                if length <= before or (length == 3 and at - start > _TOO_FAR):
                    length = 2
        if before >= 3 and length <= before:
            counts[257 + tables[before - 3]] += 1
            counts[288 + distance_code(tables, at - 2 - before_start)] += 1
            n_symbols += 1
            end = at + before - 1
            if end > known:
                for place in range(at + 1, min(end, total - 2)):
                    insert(buffer, place, heads, links, fives)
            at, available, length = end, 0, 2
            if n_symbols == _BLOCK_SYMBOLS:
                bits = block_bits(counts, tables, bits, at - block)
                block, n_symbols = at, 0
        else:
            if available:
                counts[buffer[at - 1]] += 1
                n_symbols += 1
                if n_symbols == _BLOCK_SYMBOLS:
                    bits = block_bits(counts, tables, bits, at - block)
                    block, n_symbols = at, 0
            available = 1
            at += 1
    state[_AT], state[_LENGTH], state[_START] = at, length, start
    state[_AVAILABLE], state[_BLOCK], state[_SYMBOLS], state[_BITS] = available, block, n_symbols, bits
