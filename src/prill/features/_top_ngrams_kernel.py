"""Count the n-grams and the lines of many documents in tables of cells, and exactly those in chosen cells.

Two passes in bounded memory. `count_ngrams` adds one to the cell of each n-gram's hash: a cell holds at least
the count of each n-gram that falls into it. `collect_ngrams` then counts by whole hash those n-grams whose
cell was chosen, and remembers where it met each of them first. `count_lines` and `collect_lines` do the same
for lines. Counts add up and places are minima, so neither the order of documents nor batches change anything.

A document goes through in chunks that stay in the first-level cache, as in `_ngram_kernel`, but only hashes
are carried on. The hash of an n-gram is a difference of prefix hashes, so that a 10-gram costs what a pair
costs: P(t) = P(t-1) B + h(t), and the tokens t-n+1..t have the hash P(t) - P(t-n) B^n, modulo 2^64, mixed.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from prill.features._characters import is_special
from prill.features._jit import fold, inlined, kernel, load64, prefetch
from prill.features._ngram_kernel import CHUNK_BYTES, carry, chunk_end, grown, hash_token
from prill.features._text_kernel import PADDING, SPACE, class_at, find_tokens, normalise

__all__ = ["collect_lines", "collect_ngrams", "count_lines", "count_ngrams"]

_BASE = np.uint64(0x9E3779B97F4A7C15)
_MIX_A = np.uint64(0xBF58476D1CE4E5B9)
_MIX_B = np.uint64(0x94D049BB133111EB)
_FULL = np.uint32(0xFFFFFFFF)
_AHEAD = 24  # cells asked for before they are needed: the table lies beyond the caches
_ONE = np.uint64(1)


@inlined
def _power(n: int) -> np.uint64:
    power = _ONE
    for _ in range(n):
        power *= _BASE
    return power


@inlined
def _whole_tokens(
    data: NDArray[np.uint8],
    i: int,
    cut: int,
    stop: int,
    characters: NDArray[np.uint64],
    low: NDArray[np.uint8],
    classes: NDArray[np.uint8],
    starts: NDArray[np.uint32],
    ends: NDArray[np.uint32],
    tokens: NDArray[np.uint64],
    n_held: int,
    last: np.uint8,
) -> tuple[int, int, np.uint8]:
    """Hashes of the tokens that end in data[i:cut], the document ending at `stop`.

    Returns their number, the bytes of an unfinished token that are held back, and the last class.
    """
    n_new = normalise(data, i, cut, characters, low, n_held, classes)
    n_tokens = find_tokens(low, n_new, last, n_held, classes, starts, ends, 0, 1 if n_held > 0 else 0)
    last = class_at(low, n_held, classes, n_new - 1)
    n_unfinished = 1 if cut < stop and last != SPACE else 0
    n_whole = n_tokens - n_unfinished
    for t in range(n_whole):
        tokens[t] = hash_token(low, starts[t], ends[t])
    n_held = 0
    if n_unfinished == 1:
        n_held = carry(low, starts, ends, np.empty(n_tokens + 1, np.uint64), n_whole, n_tokens)
    return n_whole, n_held, last


@inlined
def _add_prefixes(
    tokens: NDArray[np.uint64], n_whole: int, n_before: int, prefix: NDArray[np.uint64]
) -> None:
    p = prefix[n_before]
    for t in range(n_whole):
        p = p * _BASE + tokens[t]
        prefix[n_before + 1 + t] = p


@inlined
def _hash_ngrams(
    prefix: NDArray[np.uint64], n_before: int, n_whole: int, n: int, hashes: NDArray[np.uint64]
) -> int:
    """Hashes of the n-grams that end in the new tokens; the number of the first of these tokens."""
    power = _power(n)
    first = max(n - n_before, 1)
    for t in range(first, n_whole + 1):
        h = prefix[n_before + t] - prefix[n_before + t - n] * power
        hashes[t - first] = fold(h ^ _MIX_B, _MIX_A)
    return first


@inlined
def _count(hashes: NDArray[np.uint64], n_hashes: int, cells: NDArray[np.uint32], shift: np.uint64) -> None:
    """Add one to each hash's cell; a full cell stays full."""
    for i in range(min(_AHEAD, n_hashes)):
        prefetch(cells, hashes[i] >> shift)
    for i in range(n_hashes):
        if i + _AHEAD < n_hashes:
            prefetch(cells, hashes[i + _AHEAD] >> shift)
        cell = hashes[i] >> shift
        count = cells[cell]
        cells[cell] = count + np.uint32(count != _FULL)


@inlined
def _keep_context(prefix: NDArray[np.uint64], n_before: int, n_whole: int, longest: int) -> int:
    """Move the prefix hashes that later n-grams reach back to, to the front; how many tokens they span."""
    n_all = n_before + n_whole
    n_kept = min(longest, n_all)
    for j in range(n_kept + 1):
        prefix[j] = prefix[n_all - n_kept + j]
    return n_kept


@kernel
def count_ngrams(
    offsets: NDArray[np.int64],
    data: NDArray[np.uint8],
    characters: NDArray[np.uint64],
    sizes: NDArray[np.int64],
    cells_NC: NDArray[np.uint32],
    special_D: NDArray[np.bool_],
) -> int:
    """Count the n-grams of all documents for each n of `sizes`; the number of tokens.

    Args:
        characters: lower case and class of every code point (`_characters`).
        sizes: N values of n, at least 1 each.
        cells_NC: counts to add to; C is a power of two of at least 2.
        special_D: becomes true for documents that were passed over, because Python must lower them.
    """
    longest = sizes.max()
    room = 2 * CHUNK_BYTES + PADDING
    low, classes = np.empty(2 * room, np.uint8), np.empty(room, np.uint8)
    starts, ends = np.empty(room, np.uint32), np.empty(room, np.uint32)
    tokens, hashes = np.empty(room, np.uint64), np.empty(room, np.uint64)
    prefix = np.zeros(room + longest + 1, np.uint64)
    shift = np.uint64(64 - _log2(cells_NC.shape[1]))
    n_all = 0
    for d in range(offsets.shape[0] - 1):
        i, stop = offsets[d], offsets[d + 1]
        special_D[d] = is_special(data, i, stop)
        if special_D[d]:
            continue
        n_held, n_before, last = 0, 0, SPACE
        prefix[0] = 0
        while i < stop:
            cut = chunk_end(data, i, stop)
            if n_held + room > low.shape[0]:
                low = grown(low, n_held, 2 * (n_held + room))
            bounds = (starts, ends, tokens)
            n_whole, n_held, last = _whole_tokens(
                data, i, cut, stop, characters, low, classes, *bounds, n_held, last
            )
            i = cut
            _add_prefixes(tokens, n_whole, n_before, prefix)
            for k in range(sizes.shape[0]):
                first = _hash_ngrams(prefix, n_before, n_whole, sizes[k], hashes)
                _count(hashes, n_whole + 1 - first, cells_NC[k], shift)
            n_before = _keep_context(prefix, n_before, n_whole, longest)
            n_all += n_whole
    return n_all


@inlined
def _log2(n: int) -> int:
    bits = 0
    while (1 << bits) < n:
        bits += 1
    return bits


@inlined
def _collect(
    h: np.uint64,
    row: int,
    at: int,
    length: int,
    keys: NDArray[np.uint64],
    found: NDArray[np.int64],
    n_used: int,
    slot_shift: np.uint64,
) -> int:
    """Count `h` in an open table of keys, columns of `found` its count, row, place and length; keys used.

    One who finds the table three quarters full is counted in found[-1, 0] alone. Key 0 means free.
    """
    n_slots = keys.shape[0]
    slot = np.int64((h * _MIX_B) >> slot_shift)
    h |= _ONE
    while keys[slot] != h and keys[slot] != 0:
        slot = (slot + 1) & (n_slots - 1)
    if keys[slot] == 0:
        if 4 * n_used >= 3 * n_slots:
            found[n_slots, 0] += 1
            return n_used
        keys[slot] = h
        found[slot, 1], found[slot, 2], found[slot, 3] = row, at, length
        n_used += 1
    found[slot, 0] += 1
    return n_used


@inlined
def _is_hot(hot_W: NDArray[np.uint64], cell: np.uint64) -> bool:
    return bool((hot_W[cell >> np.uint64(6)] >> (cell & np.uint64(63))) & _ONE)


@kernel
def collect_ngrams(
    offsets: NDArray[np.int64],
    data: NDArray[np.uint8],
    rows: NDArray[np.int64],
    characters: NDArray[np.uint64],
    sizes: NDArray[np.int64],
    hot_NW: NDArray[np.uint64],
    keys_NS: NDArray[np.uint64],
    found_NS4: NDArray[np.int64],
    n_used_N: NDArray[np.int64],
    special_D: NDArray[np.bool_],
) -> None:
    """Count exactly the n-grams whose cell is hot.

    Args:
        rows: number of each document, to be remembered.
        hot_NW: the chosen cells of tables as `count_ngrams` has them, 64 of them a word (`hot_words`).
        keys_NS: whole hashes met so far, with their lowest bit set; 0 is free; S is a power of two.
        found_NS4: shape (N, S + 1, 4): count, row of the first document, number of the first token, n.
        n_used_N: keys in use.
    """
    longest = sizes.max()
    room = 2 * CHUNK_BYTES + PADDING
    low, classes = np.empty(2 * room, np.uint8), np.empty(room, np.uint8)
    starts, ends = np.empty(room, np.uint32), np.empty(room, np.uint32)
    tokens, hashes = np.empty(room, np.uint64), np.empty(room, np.uint64)
    prefix = np.zeros(room + longest + 1, np.uint64)
    shift = np.uint64(64 - _log2(64 * hot_NW.shape[1]))
    slot_shift = np.uint64(64 - _log2(keys_NS.shape[1]))
    for d in range(offsets.shape[0] - 1):
        i, stop = offsets[d], offsets[d + 1]
        special_D[d] = is_special(data, i, stop)
        if special_D[d]:
            continue
        n_held, n_before, last, n_done = 0, 0, SPACE, 0
        prefix[0] = 0
        while i < stop:
            cut = chunk_end(data, i, stop)
            if n_held + room > low.shape[0]:
                low = grown(low, n_held, 2 * (n_held + room))
            bounds = (starts, ends, tokens)
            n_whole, n_held, last = _whole_tokens(
                data, i, cut, stop, characters, low, classes, *bounds, n_held, last
            )
            i = cut
            _add_prefixes(tokens, n_whole, n_before, prefix)
            for k in range(sizes.shape[0]):
                n = sizes[k]
                first = _hash_ngrams(prefix, n_before, n_whole, n, hashes)
                keys, found = keys_NS[k], found_NS4[k]
                for j in range(n_whole + 1 - first):
                    if _is_hot(hot_NW[k], hashes[j] >> shift):
                        at = n_done + first + j - n
                        n_used_N[k] = _collect(
                            hashes[j], rows[d], at, n, keys, found, n_used_N[k], slot_shift
                        )
            n_before = _keep_context(prefix, n_before, n_whole, longest)
            n_done += n_whole


@inlined
def _line(data: NDArray[np.uint8], i: int, stop: int) -> tuple[int, int, int]:
    """First byte and byte behind of the line at `i` without blanks at its ends, and where the next begins."""
    end = i
    while end < stop and data[end] != 10:
        end += 1
    after = end + 1
    while end > i and (data[end - 1] == 32 or data[end - 1] == 9 or data[end - 1] == 13):
        end -= 1
    while i < end and (data[i] == 32 or data[i] == 9):
        i += 1
    return i, end, after


@inlined
def _hash_line(data: NDArray[np.uint8], i: int, end: int) -> np.uint64:
    """Hash of data[i:end]; bytes at the very end of the buffer are read one by one."""
    h = _BASE ^ (np.uint64(end - i) * _MIX_B)
    while end - i > 8:
        h = fold(h ^ load64(data, i), _MIX_A)
        i += 8
    tail = np.uint64(0)
    for j in range(i, end):
        tail |= np.uint64(data[j]) << np.uint64(8 * (j - i))
    return np.uint64(fold(fold(h ^ tail, _MIX_A) ^ _MIX_B, _MIX_A))


@kernel
def count_lines(
    offsets: NDArray[np.int64], data: NDArray[np.uint8], n_least: int, cells_C: NDArray[np.uint32]
) -> int:
    """Count the lines of at least `n_least` bytes of all documents; their number."""
    shift = np.uint64(64 - _log2(cells_C.shape[0]))
    n_all = 0
    for d in range(offsets.shape[0] - 1):
        i, stop = offsets[d], offsets[d + 1]
        while i < stop:
            first, end, i = _line(data, i, stop)
            if end - first >= n_least:
                cell = _hash_line(data, first, end) >> shift
                count = cells_C[cell]
                cells_C[cell] = count + np.uint32(count != _FULL)
                n_all += 1
    return n_all


@kernel
def collect_lines(
    offsets: NDArray[np.int64],
    data: NDArray[np.uint8],
    rows: NDArray[np.int64],
    n_least: int,
    hot_W: NDArray[np.uint64],
    keys_S: NDArray[np.uint64],
    found_S4: NDArray[np.int64],
    n_used: int,
) -> int:
    """Count exactly the lines whose cell is hot; as `collect_ngrams`, places are bytes. Keys in use."""
    shift = np.uint64(64 - _log2(64 * hot_W.shape[0]))
    slot_shift = np.uint64(64 - _log2(keys_S.shape[0]))
    for d in range(offsets.shape[0] - 1):
        begin, stop = offsets[d], offsets[d + 1]
        i = begin
        while i < stop:
            first, end, i = _line(data, i, stop)
            if end - first >= n_least:
                h = _hash_line(data, first, end)
                if _is_hot(hot_W, h >> shift):
                    n_used = _collect(
                        h, rows[d], first - begin, end - first, keys_S, found_S4, n_used, slot_shift
                    )
    return n_used
