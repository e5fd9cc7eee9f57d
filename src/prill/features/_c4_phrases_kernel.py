"""The phrases for which C4 drops lines and pages, found in any case, by the rarest letter of each."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from prill.features._classes_kernel import inside
from prill.features._jit import inlined, trailing_zeros
from prill.features._vector_kernel import STEP, phrase_mask

__all__ = ["CURLY", "JAVASCRIPT", "LOREM", "POLICY", "find_phrases", "phrase_table"]

LOREM, JAVASCRIPT, CURLY, POLICY = 1, 2, 4, 8

_PHRASES = (
    (LOREM, "lorem ipsum", "m"),
    (JAVASCRIPT, "javascript", "j"),
    (CURLY, "{", "{"),
    (POLICY, "terms of use", "m"),
    (POLICY, "privacy policy", "v"),
    (POLICY, "cookie policy", "k"),
    (POLICY, "uses cookies", "k"),
    (POLICY, "use of cookies", "k"),
    (POLICY, "use cookies", "k"),
)
_KELVIN = 0xE2  # first byte of U+212A, the one character beyond ASCII whose lower case is such a letter
_HEAD = 3


def phrase_table() -> NDArray[np.uint8]:
    """A row for each phrase: flag, length, place of the rarest letter, and its bytes; uint8."""
    table = np.zeros((len(_PHRASES), _HEAD + max(len(phrase) for _, phrase, _ in _PHRASES)), dtype=np.uint8)
    for row, (flag, phrase, letter) in zip(table, _PHRASES, strict=True):
        row[:_HEAD] = flag, len(phrase), phrase.index(letter)
        row[_HEAD : _HEAD + len(phrase)] = list(phrase.encode())
    return table


@inlined
def _lower(byte: np.uint8) -> np.uint8:
    return np.uint8(byte + 32) if 65 <= byte <= 90 else byte


@inlined
def _surrounds(
    data: NDArray[np.uint8], start: int, stop: int, at: int, width: int, row: NDArray[np.uint8]
) -> bool:
    """Whether a phrase stands in data[start:stop] with its rarest letter at `at`, in `width` bytes."""
    n, place = np.int64(row[1]), np.int64(row[2])
    first, shift = at - place, width - 1
    same = first >= start and first + n + shift <= stop
    j = 0
    while same and j < n:
        if j != place:
            same = _lower(data[first + j + (shift if j > place else 0)]) == row[_HEAD + j]
        j += 1
    return same


@inlined
def find_phrases(data: NDArray[np.uint8], start: int, stop: int, phrases: NDArray[np.uint8]) -> int:
    """Sum of LOREM, JAVASCRIPT, CURLY and POLICY for what data[start:stop] holds, read in lower case.

    Args:
        phrases: `phrase_table`.
    """
    found = 0
    for base in range(start, stop, STEP):
        anchors = phrase_mask(data, base) & inside(base, stop)
        while anchors != 0:
            at = base + trailing_zeros(anchors)
            anchors &= anchors - np.uint64(1)
            letter, width = _lower(data[at]), 1
            if letter == _KELVIN:
                if not (at + 3 <= stop and data[at + 1] == 0x84 and data[at + 2] == 0xAA):
                    continue
                letter, width = np.uint8(0x6B), 3
            for k in range(phrases.shape[0]):
                rarest = phrases[k, _HEAD + np.int64(phrases[k, 2])]
                if rarest == letter and _surrounds(data, start, stop, at, width, phrases[k]):
                    found |= np.int64(phrases[k, 0])
    return found
