"""Many substrings in text at once: an automaton that never goes back, over lowered UTF-8.

The trie is numbered by breadth, so the children of a state are neighbours, and the first states, which see
most of the text, have a whole row of next states; the others look among their children and follow failure
links. A byte costs a bounded number of steps on average, whatever the list.

Source: Aho and Corasick 1975, "Efficient string matching", CACM 18(6).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from prill.features._code_point_kernel import decode, decode_word, lowered_bytes
from prill.features._jit import inlined, kernel, load64

__all__ = ["MATCH", "find_substrings", "link"]

MATCH = 1 << 30
"""Bit of an entry of a row: a pattern ends in the state that it leads to."""

_STATE = np.uint64(MATCH - 1)


@inlined
def _child(state: int, byte: np.uint8, firsts: NDArray[np.int32], labels: NDArray[np.uint8]) -> int:
    """The child of a state by a byte, or -1. Labels of children ascend."""
    low, high = int(firsts[state]), int(firsts[state + 1])
    while low < high:
        middle = (low + high) >> 1
        if labels[middle] < byte:
            low = middle + 1
        else:
            high = middle
    return low if low < firsts[state + 1] and labels[low] == byte else -1


@inlined
def _next(
    state: int,
    byte: np.uint8,
    firsts: NDArray[np.int32],
    labels: NDArray[np.uint8],
    failures: NDArray[np.int32],
    rows: NDArray[np.int32],
) -> int:
    while state >= rows.shape[0]:
        child = _child(state, byte, firsts, labels)
        if child >= 0:
            return child
        state = int(failures[state])
    return int(rows[state, byte] & (MATCH - 1))


@kernel
def link(
    firsts: NDArray[np.int32],
    labels: NDArray[np.uint8],
    parents: NDArray[np.int32],
    lengths: NDArray[np.int32],
    failures: NDArray[np.int32],
    rows: NDArray[np.int32],
    folds: np.bool_,
) -> None:
    """Fill failure links and rows, and give each state the longest pattern that ends there.

    Args:
        firsts: the children of state s are firsts[s]:firsts[s + 1]; shape (S + 1,).
        labels, parents: byte and state that lead to each state; state 0 is the root.
        lengths: bytes of the pattern that ends at a state, 0 for none; on return the longest.
        failures: zero on entry, shape (S,).
        rows: zero on entry, shape (R, 256), 1 <= R <= S; filled with next states and `MATCH`.
        folds: capital ASCII letters lead where small ones do; then no label may be one.
    """
    n_states = firsts.shape[0] - 1
    for child in range(firsts[0], firsts[1]):
        rows[0, labels[child]] = child
    for state in range(1, n_states):
        parent = parents[state]
        if parent != 0:
            failures[state] = _next(int(failures[parent]), labels[state], firsts, labels, failures, rows)
        failure = failures[state]
        if lengths[state] == 0:
            lengths[state] = lengths[failure]
        if state < rows.shape[0]:
            rows[state, :] = rows[failure, :]
            for child in range(firsts[state], firsts[state + 1]):
                rows[state, labels[child]] = child
    for state in range(rows.shape[0]):
        for byte in range(256):
            if lengths[rows[state, byte]] > 0:
                rows[state, byte] |= MATCH
    if folds:
        rows[:, 65:91] = rows[:, 97:123]


@inlined
def _start_of(
    data: NDArray[np.uint8], first: int, i: int, n_bytes: int, characters: NDArray[np.uint64]
) -> int:
    """Where the n_bytes of lower case that end at i begin in the text."""
    while n_bytes > 0 and i > first:
        end = i
        i -= 1
        while i > first and (data[i] & 0xC0) == 0x80:
            i -= 1
        code, _ = decode(data, i, end)
        n_bytes -= lowered_bytes(characters[code])
    return i


@inlined
def _grown(array: NDArray[np.int64]) -> NDArray[np.int64]:
    grown = np.empty(2 * array.shape[0], np.int64)
    grown[: array.shape[0]] = array
    return grown


@kernel
def find_substrings(
    offsets: NDArray[np.int64],
    data: NDArray[np.uint8],
    lowered: NDArray[np.uint8],
    characters: NDArray[np.uint64],
    lowers: np.bool_,
    firsts: NDArray[np.int32],
    labels: NDArray[np.uint8],
    lengths: NDArray[np.int32],
    failures: NDArray[np.int32],
    rows: NDArray[np.int32],
    counts_D: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Starts and stops of the union of all patterns in each document, bytes from its start.

    Args:
        lowered: what each byte below 128 becomes, shape (256,).
        characters: lower case and class of every code point.
        firsts, labels, lengths, failures, rows: the automaton, as `link` left it.
        counts_D: spans of each document, filled.
    """
    starts, stops = np.empty(1024, np.int64), np.empty(1024, np.int64)
    flat, n_rows = rows.reshape(-1), rows.shape[0]
    readable = data.shape[0] - 8
    limit = 0x80 if lowers else 0x100  # bytes that are looked up by themselves
    n = 0
    for d in range(offsets.shape[0] - 1):
        first, end, n_before = offsets[d], offsets[d + 1], n
        i, state, resized = first, np.int64(0), first
        while i < end:
            is_hit = False
            while i < end and data[i] < limit and state < n_rows:  # most bytes; a call here would cost more
                entry = np.uint64(flat[(np.uint64(state) << np.uint64(8)) | np.uint64(data[i])])
                state = np.int64(entry & _STATE)
                i += 1
                is_hit = bool(entry >= np.uint64(MATCH))
                if is_hit:
                    break
            if not is_hit and i < end:
                n_lowered, after = 1, i + 1
                bytes_left = np.uint64(lowered[data[i]])
                if data[i] >= limit:
                    if i <= readable:
                        code, n_bytes = decode_word(load64(data, i))
                        after = i + n_bytes
                    else:
                        code, after = decode(data, i, end)
                    bytes_left = characters[code]
                    n_lowered = lowered_bytes(bytes_left)
                    if n_lowered != after - i:
                        resized = after  # from here on bytes of text and of lower case are not in step
                for _ in range(n_lowered):
                    byte = np.uint8(bytes_left & np.uint64(0xFF))
                    bytes_left >>= np.uint64(8)
                    while state >= n_rows:  # `_next`, written out
                        low, high = np.int64(firsts[state]), np.int64(firsts[state + 1])
                        last = high
                        while low < high:
                            middle = (low + high) >> 1
                            if labels[middle] < byte:
                                low = middle + 1
                            else:
                                high = middle
                        if low < last and labels[low] == byte:
                            state = low
                            break
                        state = np.int64(failures[state])
                    else:
                        state = np.int64(flat[(state << 8) | np.int64(byte)] & (MATCH - 1))
                i = after
            length = lengths[state]
            if length == 0:
                continue
            start = i - length
            if start < resized:
                start = _start_of(data, first, i, int(length), characters)
            union = start - first
            while n > n_before and union < stops[n - 1]:
                n -= 1
                union = min(union, starts[n])
            if n == starts.shape[0]:
                starts, stops = _grown(starts), _grown(stops)
            starts[n], stops[n] = union, i - first
            n += 1
        counts_D[d] = n - n_before
    return starts[:n], stops[:n]
