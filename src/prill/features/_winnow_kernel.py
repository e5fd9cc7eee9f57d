"""Anchors by which equal stretches of text find one another, and how far the text around them is equal.

Of every `n` bytes in a row the stretch of `k` bytes with the smallest hash is an anchor. Which one that is
depends on the n bytes alone, so wherever the same n bytes stand, the same anchor is chosen: two texts that
share n bytes share an anchor inside them, and one position in some dozens is enough to find all of them.

Source: Schleimer, Wilkerson and Aiken 2003, "Winnowing: local algorithms for document fingerprinting",
SIGMOD, section 3 and "robust winnowing": of equal hashes the one chosen before stays, so that a run of one
character does not make every position an anchor.

Legend: D documents, A anchors.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from prill.features._jit import fold, inlined, kernel

__all__ = ["END", "extend", "find_anchors", "lay_out"]

END = np.uint8(0xFF)
"""Byte behind every document; no UTF-8 has it."""

_BASE = np.uint64(0x9E3779B97F4A7C15)
_MIX_A = np.uint64(0xBF58476D1CE4E5B9)
_MIX_B = np.uint64(0x94D049BB133111EB)


@kernel
def lay_out(
    offsets: NDArray[np.int64],
    data: NDArray[np.uint8],
    is_taken_D: NDArray[np.bool_],
    out: NDArray[np.uint8],
    starts_D: NDArray[np.int64],
) -> int:
    """Copy the documents that are taken one behind the other, each with `END` behind it; the bytes written.

    Args:
        out: room for their bytes and one more each.
        starts_D: where each begins in `out`; not touched for others.
    """
    at = 0
    for d in range(offsets.shape[0] - 1):
        if is_taken_D[d]:
            starts_D[d] = at
            n = offsets[d + 1] - offsets[d]
            out[at : at + n] = data[offsets[d] : offsets[d + 1]]
            out[at + n] = END
            at += n + 1
    return at


@kernel
def find_anchors(
    text: NDArray[np.uint8], k: int, n: int, hashes: NDArray[np.uint64], places: NDArray[np.int64]
) -> int:
    """The anchors of all documents of a layout that have n bytes or more; their number.

    When there is no room for all, the others are only counted.

    Args:
        text: as `lay_out` left it.
        k: bytes of an anchor, below n.
        n: bytes of which one anchor is chosen.
        hashes, places: of the anchors, filled.
    """
    room = hashes.shape[0]
    values, leaving = np.empty(256, np.uint64), np.empty(256, np.uint64)
    power = np.uint64(1)
    for _ in range(k):
        power *= _BASE
    for byte in range(256):
        values[byte] = fold(np.uint64(byte + 1) * _MIX_A, _MIX_B)
        leaving[byte] = values[byte] * power
    window = n - k + 1
    size = 1
    while size < window:
        size *= 2
    mask = size - 1
    ring = np.empty(size, np.uint64)
    n_anchors, start, end = 0, 0, text.shape[0]
    while start < end:
        rolling, lowest, lowest_at = np.uint64(0), np.uint64(0), -1
        i = start
        while text[i] != END:
            rolling = rolling * _BASE + values[text[i]]
            if i - k >= start:
                rolling -= leaving[text[i - k]]
            first = i - k + 1  # of the stretch that ends here
            if first >= start:
                h = fold(rolling ^ _MIX_B, _MIX_A)
                ring[first & mask] = h
                if first - start + 1 >= window:
                    oldest = first - window + 1
                    if lowest_at < oldest:  # the choice has left the window, or this is the first
                        lowest_at, lowest = oldest, ring[oldest & mask]
                        for j in range(oldest + 1, first + 1):
                            if ring[j & mask] <= lowest:
                                lowest_at, lowest = j, ring[j & mask]
                        if n_anchors < room:
                            hashes[n_anchors], places[n_anchors] = lowest, lowest_at
                        n_anchors += 1
                    elif h < lowest:
                        lowest_at, lowest = first, h
                        if n_anchors < room:
                            hashes[n_anchors], places[n_anchors] = h, first
                        n_anchors += 1
            i += 1
        start = i + 1
    return n_anchors


@inlined
def _equal_before(text: NDArray[np.uint8], a: int, b: int, most: int) -> int:
    """How many bytes before a and b are equal, at most `most`, inside their documents."""
    n = 0
    while n < most and a - n > 0 and b - n > 0:
        byte = text[b - n - 1]
        if byte == END or byte != text[a - n - 1]:
            break
        n += 1
    return n


@inlined
def _equal_from(text: NDArray[np.uint8], a: int, b: int, most: int) -> int:
    """How many bytes from a and b on are equal, at most `most`, inside their documents."""
    n = 0
    while n < most and text[b + n] == text[a + n] and text[b + n] != END:
        n += 1
    return n


@kernel
def extend(
    text: NDArray[np.uint8],
    hashes: NDArray[np.uint64],
    places: NDArray[np.int64],
    k: int,
    n: int,
    most_variants: int,
    both_ways: np.bool_,
    before: NDArray[np.int64],
    behind: NDArray[np.int64],
) -> None:
    """For each anchor, how much of the text around it stands elsewhere in stretches of n bytes or more.

    An anchor is compared with the earlier ones of its hash, byte by byte. One whose surroundings equal those
    of an earlier one teaches nothing new, so only the different ones are kept to compare with.

    Args:
        text: all layouts, one behind the other.
        hashes, places: of A anchors, ordered by hash, then by place.
        k, n: bytes of an anchor, and of the shortest stretch.
        most_variants: with how many different surroundings of one anchor to compare, at least 1.
        both_ways: mark the earlier occurrence too.
        before, behind: zero on entry, shape (A,); bytes before the anchor, and from its start on.
    """
    variants = np.empty(most_variants, np.int64)
    n_anchors = hashes.shape[0]
    first = 0
    while first < n_anchors:
        last = first + 1
        while last < n_anchors and hashes[last] == hashes[first]:
            last += 1
        n_variants = 0
        for j in range(first, last):
            is_new = True
            b = places[j]
            for v in range(n_variants):
                a = places[variants[v]]
                right = _equal_from(text, a, b, n)
                if right < k:  # equal hashes by chance
                    continue
                left = _equal_before(text, a, b, n - k)
                if left + right >= n:
                    before[j], behind[j] = max(before[j], left), max(behind[j], right)
                    if both_ways:
                        m = variants[v]
                        before[m], behind[m] = max(before[m], left), max(behind[m], right)
                is_whole_left = left == n - k or b - left == 0 or text[b - left - 1] == END
                is_whole_right = right == n or text[b + right] == END
                if is_whole_left and is_whole_right:
                    is_new = False
                    break
            if is_new and n_variants < most_variants:
                variants[n_variants] = j
                n_variants += 1
        first = last
