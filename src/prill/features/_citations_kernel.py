"""Lines without the marks of citations: [1], [edit], [citation needed]."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from prill.features._classes_kernel import decode, inside
from prill.features._jit import inlined, trailing_zeros
from prill.features._vector_kernel import STEP, bracket_mask

__all__ = ["citation_words", "may_cite", "without_citations"]

_CONTINUED, _WORD = np.uint8(0x02), np.uint8(0x80)
_WORDS = ("[edit", "[citation needed")
_LEFT, _RIGHT = 0x5B, 0x5D


def citation_words() -> NDArray[np.uint8]:
    """A row for each citation that is a word: its length and its bytes without the last bracket; uint8."""
    table = np.zeros((len(_WORDS), 1 + max(map(len, _WORDS))), dtype=np.uint8)
    for row, word in zip(table, _WORDS, strict=True):
        row[0], row[1 : 1 + len(word)] = len(word), list(word.encode())
    return table


@inlined
def may_cite(data: NDArray[np.uint8], start: int, stop: int) -> bool:
    """Whether a bracket closes behind a digit, a bracket, or the last letter of a word that is cited."""
    found = False
    for base in range(start, stop, STEP):
        brackets = bracket_mask(data, base) & inside(base, stop)
        while brackets != 0:
            before = data[max(base + trailing_zeros(brackets) - 1, start)]
            brackets &= brackets - np.uint64(1)
            found |= before >= 0x80 or 0x30 <= before <= 0x39 or before in (_LEFT, _RIGHT, 0x64, 0x74)
    return found


@inlined
def _is_decimal(code: int, decimals: NDArray[np.int64]) -> bool:
    place = np.searchsorted(decimals, code, side="right") - 1
    return bool(place >= 0 and code < decimals[place] + 10)


@inlined
def _ends_with(data: NDArray[np.uint8], stop: int, word: NDArray[np.uint8]) -> bool:
    n = np.int64(word[0])
    same = stop >= n
    j = 0
    while same and j < n:
        same = data[stop - n + j] == word[1 + j]
        j += 1
    return same


@inlined
def _opening(
    data: NDArray[np.uint8],
    classes: NDArray[np.uint8],
    at: int,
    words: NDArray[np.uint8],
    decimals: NDArray[np.int64],
) -> int:
    """Where the citation begins that the bracket at `at` closes; -1 if it closes none."""
    for k in range(words.shape[0]):
        if _ends_with(data, at, words[k]):
            return at - np.int64(words[k, 0])
    i = at - 1
    while i >= 0:
        if data[i] == _LEFT:
            return i
        while i > 0 and (classes[i] & _CONTINUED) != 0:
            i -= 1
        if (classes[i] & _WORD) == 0 or not _is_decimal(decode(data, i, at)[0], decimals):
            return -1
        i -= 1
    return -1


@inlined
def without_citations(
    data: NDArray[np.uint8],
    classes: NDArray[np.uint8],
    start: int,
    stop: int,
    nested: bool,  # noqa: FBT001
    words: NDArray[np.uint8],
    decimals: NDArray[np.int64],
    line: NDArray[np.uint8],
    line_classes: NDArray[np.uint8],
    places: NDArray[np.int64],
    cuts: NDArray[np.int64],
) -> tuple[int, int]:
    """Copy a line without its citations; its new length, and the number of cuts.

    Args:
        nested: whether a citation goes too that stands free only when one inside it is gone.
        words: `citation_words`.
        decimals: the zeros of all decimal digits, sorted code points.
        line, line_classes, places: receive bytes, class bytes and old places.
        cuts: receives where each cut begins and ends, in order and apart.
    """
    n = n_cuts = 0
    for i in range(start, stop):
        line[n], line_classes[n], places[n] = data[i], classes[i], i
        n += 1
        if data[i] == _RIGHT:
            at = _opening(line, line_classes, n - 1, words, decimals)
            if at >= 0 and (nested or places[n - 1] - places[at] == n - 1 - at):
                while n_cuts > 0 and cuts[2 * n_cuts - 2] >= places[at]:
                    n_cuts -= 1
                cuts[2 * n_cuts], cuts[2 * n_cuts + 1] = places[at], i + 1
                n_cuts += 1
                n = at
    return n, n_cuts
