"""Where documents hold pieces of indexed items: seeds, extension, blocks of equal words.

Every position of a document asks a small table of bits whether the 4 or 5 words that end here begin a match
of some item; the table stays in the second-level cache and answers no for almost all. A yes is checked in an
exact table and gives places in items. From such a seed the match grows to both sides word by word; at a
difference it goes on behind up to `GAP` words on either side if two words agree there. So changed, missing
and added words cost only themselves. Where a question ends, its answer is looked for a little way on.

A match that covers enough is written down as blocks: runs of equal words. All else is computed from blocks.

Legend: D documents, I items.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from prill.features._jit import inlined, kernel
from prill.features._matching_kernel import CHUNK_BYTES, ROOM, chunk_words, cut

__all__ = ["GAP", "KEPT_RUN", "LONG", "SHORT", "Tables", "fill_tables", "find_blocks", "gram_hashes"]

SHORT, LONG = 4, 5
"""Words of a seed, of items with fewer than twenty words and of others."""

GAP = 4
KEPT_RUN = 8
"""A match is kept when it has so many equal words in a row, or `KEPT_SHARE` of the item's words."""

KEPT_SHARE = 0.4

_BASE = np.uint64(0x9E3779B97F4A7C15)
_SPREAD = np.uint64(0xD6E8FEB86659FD93)
_ONE, _SIX_BITS = np.uint64(1), np.uint64(63)
_SEGMENT = 1 << 16  # words of a document that are held at once
_GUARD = 1 << 13  # words before and behind a seed that a match may reach at a segment's end
_MAX_MATCHES = 1 << 16  # of one item in one document, so that no document fills the memory
_JUMP_WORDS = 8  # words of an answer that must agree to find it


class Tables(NamedTuple):
    """An index as kernels see it.

    Attributes:
        bits: Bloom filter of seeds, uint64, a power of two long; two bits of one word a seed.
        keys: seeds in open addressing, uint64, a power of two long, 0 where free.
        first: of each slot, its first place; behind the last place stands that of the slot in `behind`.
        behind: as `first`.
        place_items, place_words: item, and word in it, of each place, int32.
        offsets: words of item i are words[offsets[i]:offsets[i + 1]], int64, shape (I + 1,).
        words: hashes, uint64.
        question, answer: first word of an item's question and of its answer, int32, shape (I,).
        reach: how far behind a question its answer is looked for, words, int32, shape (I,).
    """

    bits: NDArray[np.uint64]
    keys: NDArray[np.uint64]
    first: NDArray[np.int32]
    behind: NDArray[np.int32]
    place_items: NDArray[np.int32]
    place_words: NDArray[np.int32]
    offsets: NDArray[np.int64]
    words: NDArray[np.uint64]
    question: NDArray[np.int32]
    answer: NDArray[np.int32]
    reach: NDArray[np.int32]


@inlined
def _short_hash(words: NDArray[np.uint64], last: int) -> np.uint64:
    """Hash of the SHORT words that end at `last`; every use has the same polynomial."""
    h = (words[last - 3] * _BASE + words[last - 2]) * _BASE + words[last - 1]
    return np.uint64(h * _BASE + words[last])


@inlined
def _longer(short: np.uint64, word: np.uint64) -> np.uint64:
    """Hash of the LONG words made of `word` and the SHORT ones behind it."""
    square = _BASE * _BASE
    return np.uint64(word * (square * square) + short)


@inlined
def _bit_pair(spread: np.uint64) -> np.uint64:
    return np.uint64(
        (_ONE << ((spread >> np.uint64(20)) & _SIX_BITS)) | (_ONE << ((spread >> np.uint64(26)) & _SIX_BITS))
    )


@inlined
def _shift_of(length: int) -> np.uint64:
    """Bits to shift a 64-bit number by so that it indexes a table whose length is a power of two."""
    shift = 64
    while length > 1:
        length >>= 1
        shift -= 1
    return np.uint64(shift)


@kernel
def gram_hashes(words: NDArray[np.uint64], offsets: NDArray[np.int64], n: int) -> NDArray[np.uint64]:
    """Seed hash of the n (SHORT or LONG) words that begin at each word; 0 where the item ends before."""
    hashes = np.zeros(words.shape[0], np.uint64)
    for i in range(offsets.shape[0] - 1):
        for w in range(offsets[i], offsets[i + 1] - n + 1):
            h = _short_hash(words, w + n - 1)
            hashes[w] = max(_longer(h, words[w]) if n == LONG else h, _ONE)
    return hashes


@kernel
def fill_tables(
    seeds: NDArray[np.uint64],
    bits: NDArray[np.uint64],
    keys: NDArray[np.uint64],
    slots: NDArray[np.int64],
) -> None:
    """Enter distinct seeds; slots[k] becomes the slot of seeds[k]."""
    bit_shift, key_shift = _shift_of(bits.shape[0]), _shift_of(keys.shape[0])
    for k in range(seeds.shape[0]):
        spread = seeds[k] * _SPREAD
        bits[spread >> bit_shift] |= _bit_pair(spread)
        slot = np.int64(spread >> key_shift)
        while keys[slot] != 0:
            slot = (slot + 1) & (keys.shape[0] - 1)
        keys[slot] = seeds[k]
        slots[k] = slot


@inlined
def _slot_of(tables: Tables, seed: np.uint64, bit_shift: np.uint64, key_shift: np.uint64) -> int:
    """Slot of a seed, -1 when it is not there."""
    spread = seed * _SPREAD
    pair = _bit_pair(spread)
    if (tables.bits[spread >> bit_shift] & pair) != pair:
        return -1
    slot = np.int64(spread >> key_shift)
    while tables.keys[slot] != 0:
        if tables.keys[slot] == seed:
            return int(slot)
        slot = (slot + 1) & (tables.keys.shape[0] - 1)
    return -1


@inlined
def _gap_ahead(
    item: NDArray[np.uint64], p: int, words: NDArray[np.uint64], t: int, n_words: int, sign: int, n_item: int
) -> tuple[int, int]:
    """Fewest words to skip in item and document so that two words agree behind them; (-1, -1): none.

    `sign` is the direction; p and t the first differing words. A change of the very last word of the item but
    one is bridged as well.
    """
    for s in range(1, 2 * GAP + 1):
        for d in range(s % 2, s + 1, 2):
            for side in range(2):
                i, j = ((s - d) // 2, (s + d) // 2) if side == 0 else ((s + d) // 2, (s - d) // 2)
                a, b = p + sign * i, t + sign * j
                if i <= GAP and j <= GAP and 0 <= a < n_item and 0 <= b < n_words and item[a] == words[b]:
                    c, e = a + sign, b + sign
                    if 0 <= c < n_item:
                        if 0 <= e < n_words and item[c] == words[e]:
                            return i, j
                    elif i == j:
                        return i, j
    return -1, -1


@inlined
def _grow(
    item: NDArray[np.uint64],
    p: int,
    words: NDArray[np.uint64],
    t: int,
    n_words: int,
    sign: int,
    blocks: NDArray[np.int64],
    n_blocks: int,
    question: int,
    answer: int,
    reach: int,
) -> int:
    """Write the blocks from item word p and document word t on, in one direction; returns their number."""
    n_item = item.shape[0]
    while True:
        m = 0
        a, b = p, t
        while 0 <= a < n_item and 0 <= b < n_words and item[a] == words[b]:
            m += 1
            a += sign
            b += sign
        if m > 0:
            blocks[n_blocks, 0] = min(p, a - sign)
            blocks[n_blocks, 1] = min(t, b - sign)
            blocks[n_blocks, 2] = m
            n_blocks += 1
        p, t = a, b
        if not (0 <= p < n_item and 0 <= t < n_words):
            return n_blocks
        i, j = _gap_ahead(item, p, words, t, n_words, sign, n_item)
        if i >= 0:
            p, t = p + sign * i, t + sign * j
            continue
        far = -1
        if sign > 0 and answer - 2 <= p <= answer < n_item:
            far = _answer_ahead(item, answer, words, t, min(n_words, t + reach))
            p = answer
        elif sign < 0 and question < answer and answer - 1 <= p <= answer + 1:
            far = _question_behind(item, question, answer, words, max(0, t - reach), t + 1)
            p = answer - 1
        if far < 0:
            return n_blocks
        t = far


@inlined
def _answer_ahead(
    item: NDArray[np.uint64], answer: int, words: NDArray[np.uint64], first: int, stop: int
) -> int:
    """Where the first words of an item's answer stand in words[first:stop]; -1: nowhere."""
    n = min(item.shape[0] - answer, _JUMP_WORDS)
    for b in range(first, stop - n + 1):
        m = 0
        while m < n and item[answer + m] == words[b + m]:
            m += 1
        if m == n:
            return b
    return -1


@inlined
def _question_behind(
    item: NDArray[np.uint64], question: int, answer: int, words: NDArray[np.uint64], first: int, stop: int
) -> int:
    """Where in words[first:stop] an item's question ends, as near as possible; -1: nowhere."""
    n = min(answer - question, _JUMP_WORDS)
    for b in range(stop - 1, first + n - 2, -1):
        m = 0
        while m < n and item[answer - 1 - m] == words[b - m]:
            m += 1
        if m == n:
            return b
    return -1


@inlined
def _match(
    tables: Tables,
    i: int,
    p: int,
    words: NDArray[np.uint64],
    t: int,
    n_words: int,
    blocks: NDArray[np.int64],
) -> tuple[int, int]:
    """Grow a match around equal words p and t; its number of blocks, 0 if not worth keeping, and its end."""
    item = tables.words[tables.offsets[i] : tables.offsets[i + 1]]
    question, answer, reach = tables.question[i], tables.answer[i], tables.reach[i]
    while p > 0 and t > 0 and item[p - 1] == words[t - 1]:
        p -= 1
        t -= 1
    n_blocks = _grow(item, p, words, t, n_words, 1, blocks, 0, question, answer, reach)
    end = blocks[n_blocks - 1, 1] + blocks[n_blocks - 1, 2]
    if p > 0 and t > 0:
        n_blocks = _grow(item, p - 1, words, t - 1, n_words, -1, blocks, n_blocks, question, answer, reach)
    n_equal, longest = 0, 0
    for k in range(n_blocks):
        n_equal += blocks[k, 2]
        longest = max(longest, blocks[k, 2])
    asked = item.shape[0] - question
    if longest < KEPT_RUN and n_equal < KEPT_SHARE * asked:
        n_blocks = 0
    return n_blocks, end


@inlined
def _grown(rows: NDArray[np.int64], n_kept: int, capacity: int) -> NDArray[np.int64]:
    grown = np.empty((capacity, rows.shape[1]), np.int64)
    grown[:n_kept] = rows[:n_kept]
    return grown


@inlined
def _search(
    tables: Tables,
    words: NDArray[np.uint64],
    first: int,
    stop: int,
    n_words: int,
    origin: int,
    ordinal: int,
    d: int,
    seen: NDArray[np.int64],
    blocks: NDArray[np.int64],
    found: NDArray[np.int64],
    n_found: int,
    n_matches: int,
) -> tuple[NDArray[np.int64], int, int]:
    """Seeds whose last word is in words[first:stop]; matches go to `found`, which may be made anew.

    `origin + t` counts words over the whole batch, `ordinal + t` within the document.
    """
    bit_shift, key_shift = _shift_of(tables.bits.shape[0]), _shift_of(tables.keys.shape[0])
    for last in range(max(first, SHORT - 1), stop):
        short = _short_hash(words, last)
        for n in range(SHORT, LONG + 1):
            seed = short
            if n == LONG:
                if last < LONG - 1:
                    continue
                seed = _longer(short, words[last - LONG + 1])
            slot = _slot_of(tables, max(seed, _ONE), bit_shift, key_shift)
            if slot < 0:
                continue
            t = last - n + 1
            for place in range(tables.first[slot], tables.behind[slot]):
                i = tables.place_items[place]
                if origin + last < seen[i, 0] and seen[i, 1] != origin + t:
                    continue  # lies in a match that is known already
                if seen[i, 2] != d:
                    seen[i, 2], seen[i, 3] = d, 0
                if seen[i, 3] >= _MAX_MATCHES:
                    continue
                p = tables.place_words[place]
                if tables.words[tables.offsets[i] + p] != words[t]:
                    continue  # another n-gram with the same hash
                n_blocks, end = _match(tables, i, p, words, t, n_words, blocks)
                seen[i, 0], seen[i, 1] = max(seen[i, 0], origin + end), origin + t
                if n_found + n_blocks > found.shape[0]:
                    found = _grown(found, n_found, 2 * (n_found + n_blocks))
                for k in range(n_blocks):
                    row = found[n_found + k]
                    row[0], row[1], row[2] = d, i, n_matches
                    row[3], row[4], row[5] = blocks[k, 0], ordinal + blocks[k, 1], blocks[k, 2]
                n_found += n_blocks
                if n_blocks > 0:
                    n_matches += 1
                    seen[i, 3] += 1
    return found, n_found, n_matches


@kernel
def find_blocks(
    offsets: NDArray[np.int64], data: NDArray[np.uint8], characters: NDArray[np.uint64], tables: Tables
) -> NDArray[np.int64]:
    """All matches of all items in documents data[offsets[d]:offsets[d + 1]].

    Returns:
        int64, shape (blocks, 6): document, item, match, first word in the item, first word in the document,
        words; in the order of documents and of their words, the blocks of a match together.
    """
    low, classes = np.empty(ROOM, np.uint8), np.empty(ROOM, np.uint8)
    starts, ends = np.empty(ROOM, np.uint32), np.empty(ROOM, np.uint32)
    words = np.empty(_SEGMENT + CHUNK_BYTES + 1, np.uint64)
    n_items = tables.question.shape[0]
    longest = 0
    for i in range(n_items):
        longest = max(longest, tables.offsets[i + 1] - tables.offsets[i])
    blocks = np.empty((longest + 2, 3), np.int64)
    seen = np.zeros((n_items, 4), np.int64)  # end and seed of the last match, last document, its matches
    seen[:, 2] = -1
    found, n_found, n_matches = np.empty((256, 6), np.int64), 0, 0
    origin = 1
    for d in range(offsets.shape[0] - 1):
        at, stop = offsets[d], offsets[d + 1]
        state = (0, np.uint64(0), np.uint64(0))
        n_words, first, ordinal = 0, 0, 0
        while at < stop:
            end = cut(data, at, stop)
            n_words, state = chunk_words(
                data, at, end, stop, characters, low, classes, starts, ends, state, words, n_words
            )
            at = end
            if at < stop and n_words < _SEGMENT:
                continue
            last = n_words if at >= stop else n_words - _GUARD
            found, n_found, n_matches = _search(
                tables,
                words,
                first,
                last,
                n_words,
                origin,
                ordinal,
                d,
                seen,
                blocks,
                found,
                n_found,
                n_matches,
            )
            if at < stop:
                gone = last - _GUARD
                words[: n_words - gone] = words[gone:n_words].copy()
                n_words, first = n_words - gone, last - gone
                ordinal, origin = ordinal + gone, origin + gone
        origin += n_words
    return found[:n_found].copy()
