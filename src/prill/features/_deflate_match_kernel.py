"""The longest match that zlib would find for a place, along shorter chains than zlib's.

zlib walks along a chain of all places with the same three bytes, the nearest first, and gives up after so
many. Here there is a second chain, of four bytes, and every place has a rank in the first: how many places
zlib would have passed is a difference of ranks.

Source: zlib's deflate.c (longest_match); see `_deflate_kernel`.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from prill.features._jit import inlined_bare, load64, trailing_zeros

__all__ = ["FARTHEST", "HASH_SIZE", "LONGEST", "Scratch", "hashes", "insert", "longest", "longest_behind"]

FARTHEST = 32_768 - 262
"""Bytes that a match may lie back."""
HASH_SIZE = 32_768
LONGEST = 258
_THREE, _FOUR = np.uint64(0xFFFFFF), np.uint64(0xFFFFFFFF)
_FIVE = np.uint64(0xFFFFFFFFFF)
_MIX = np.uint64(0x9E3779B97F4A7C15)

Scratch: TypeAlias = tuple[NDArray[np.uint8], NDArray[np.uint16], NDArray[np.uint16], NDArray[np.uint64]]
"""Bytes; heads of the chains of three and of four bytes; for every place the next of each chain and the rank
in the first; which fives occur."""


@inlined_bare
def hashes(word: np.uint64) -> tuple[int, int, int]:
    """Of the first three bytes as zlib has it, of four and of five."""
    a, b, c = word & 0xFF, (word >> 8) & 0xFF, (word >> 16) & 0xFF
    three = ((a << 10) ^ (b << 5) ^ c) & (HASH_SIZE - 1)
    four = (((word & _FOUR) << 32) * _MIX) >> 49
    five = (((word & _FIVE) << 24) * _MIX) >> 48
    return np.int64(three), np.int64(four), np.int64(five)


@inlined_bare
def insert(
    buffer: NDArray[np.uint8],
    at: int,
    heads: NDArray[np.uint16],
    links: NDArray[np.uint16],
    fives: NDArray[np.uint64],
) -> None:
    """Puts a place in front of its two chains; 0 ends a chain."""
    h, g, f = hashes(load64(buffer, at))
    found = heads[0, h]
    links[at, 0], links[at, 1], links[at, 2] = found, heads[1, g], links[found, 2] + 1
    heads[0, h] = at
    heads[1, g] = at
    fives[f >> 6] |= np.uint64(1) << np.uint64(f & 63)


@inlined_bare
def _agreement(buffer: NDArray[np.uint8], a: int, b: int) -> int:
    """How many bytes agree at two places, at most the longest match."""
    n = 0
    while n < LONGEST:
        difference = load64(buffer, a + n) ^ load64(buffer, b + n)
        if difference:
            return min(n + (trailing_zeros(difference) >> 3), LONGEST)
        n += 8
    return LONGEST


@inlined_bare
def longest(
    buffer: NDArray[np.uint8],
    at: int,
    ahead: int,
    before: int,
    tries: int,
    nice: int,
    links: NDArray[np.uint16],
) -> tuple[int, int]:
    """The match that zlib would find for a place in the chains: length and start, `before` for none."""
    head = np.int64(links[at, 0])
    if head == 0 or at - head > FARTHEST:
        return before, 0
    four = np.int64(links[at, 1])
    lowest = max(0, at - FARTHEST)
    return _walk(buffer, at, ahead, before, 0, (head, four, head), lowest, tries, nice, links)


@inlined_bare
def longest_behind(
    buffer: NDArray[np.uint8],
    at: int,
    ahead: int,
    before: int,
    tries: int,
    nice: int,
    work: Scratch,
    own: NDArray[np.uint16],
    row: int,
    column: int,
) -> tuple[int, int]:
    """As `_longest` for a place behind: what it finds within its own text is known, the rest comes before."""
    _, heads, links, fives = work
    best, start = before, 0
    length = np.int64(own[row, column])
    if length > before:
        best, start = length, at - np.int64(own[row, column + 1])
        if best >= min(nice, ahead):
            return best, start
    n_own = np.int64(own[row, 4])
    if n_own >= tries:
        return best, start
    if best >= 4:
        f = np.int64(own[row, 7])
        if (fives[f >> 6] >> np.uint64(f & 63)) & np.uint64(1) == 0:
            return best, start
    head = np.int64(heads[0, own[row, 5]])
    lowest = max(0, at - FARTHEST)
    edge = head if n_own == 0 and at - head <= FARTHEST else 0
    if head == 0 or (head <= lowest and head != edge):
        return best, start
    four = np.int64(heads[1, own[row, 6]])
    chains = (head, four, edge)
    return _walk(buffer, at, ahead, best, start, chains, lowest, tries - n_own, nice, links)


@inlined_bare
def _walk(
    buffer: NDArray[np.uint8],
    at: int,
    ahead: int,
    best: int,
    start: int,
    chains: tuple[int, int, int],
    lowest: int,
    tries: int,
    nice: int,
    links: NDArray[np.uint16],
) -> tuple[int, int]:
    """The match that zlib's walk along the chain of three bytes would end with, if longer than `best`.

    Of the candidates zlib keeps the last that is longer than all before it. Those of four bytes and more are
    therefore enough, and how many of three zlib would have passed is the difference of ranks. A match of
    three counts only where there is none of four: the nearest. zlib takes the head of a chain from a byte
    farther away than what follows it: `edge`.
    """
    head, found, edge = chains
    last_rank = np.int64(links[head, 2]) - tries
    enough = min(nice, ahead)
    first = load64(buffer, at)
    if ahead > 3:
        least = max(best, 3)
        while found > lowest or (found == edge and found > 0):
            difference = load64(buffer, found) ^ first
            if difference & _FOUR == 0:
                if np.int64(links[found, 2]) <= last_rank:
                    break
                n = trailing_zeros(difference) >> 3 if difference else _agreement(buffer, found, at)
                if n > least:
                    least, best, start = n, n, found
                    if n >= enough:
                        break
            found = np.int64(links[found, 1])
    if best < 3:
        found = head
        while found > lowest or (found == edge and found > 0):
            if np.int64(links[found, 2]) <= last_rank:
                break
            if (load64(buffer, found) ^ first) & _THREE == 0:
                return 3, found
            found = np.int64(links[found, 0])
    return best, start
