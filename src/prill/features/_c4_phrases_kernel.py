"""The phrases for which C4 drops lines and pages, found in any case, by the rarest letter of each."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from prill.features._jit import inlined

__all__ = ["CURLY", "JAVASCRIPT", "LOREM", "POLICY", "find_phrases"]

LOREM, JAVASCRIPT, CURLY, POLICY = 1, 2, 4, 8

_LOREM = np.frombuffer(b"lorem ipsum", np.uint8)
_JAVASCRIPT = np.frombuffer(b"javascript", np.uint8)
_TERMS = np.frombuffer(b"terms of use", np.uint8)
_PRIVACY = np.frombuffer(b"privacy policy", np.uint8)
_COOKIE_POLICY = np.frombuffer(b"cookie policy", np.uint8)
_USES_COOKIES = np.frombuffer(b"uses cookies", np.uint8)
_USE_OF_COOKIES = np.frombuffer(b"use of cookies", np.uint8)
_USE_COOKIES = np.frombuffer(b"use cookies", np.uint8)
_ANCHORS = np.zeros(256, np.uint8)
_ANCHORS[np.frombuffer(b"{jJvVmMkK\xe2", np.uint8)] = 1


@inlined
def _lower(byte: np.uint8) -> np.uint8:
    return np.uint8(byte + 32) if 65 <= byte <= 90 else byte


@inlined
def _surrounds(
    data: NDArray[np.uint8], start: int, stop: int, at: int, width: int, phrase: NDArray[np.uint8], place: int
) -> bool:
    """Whether `phrase` stands in data[start:stop] with its letter `place` at `at`, which takes `width` bytes."""
    n = phrase.shape[0]
    if at - place < start or at + width + n - place - 1 > stop:
        return False
    for j in range(place):
        if _lower(data[at - place + j]) != phrase[j]:
            return False
    for j in range(place + 1, n):
        if _lower(data[at + width + j - place - 1]) != phrase[j]:
            return False
    return True


@inlined
def find_phrases(data: NDArray[np.uint8], start: int, stop: int) -> int:
    """Sum of LOREM, JAVASCRIPT, CURLY and POLICY for what data[start:stop] holds, read in lower case.

    The one character beyond ASCII whose lower case is a letter of these phrases is the sign for kelvin.
    """
    found = 0
    for i in range(start, stop):
        if _ANCHORS[data[i]] == 0:
            continue
        letter, width = _lower(data[i]), 1
        if letter == 0xE2:
            if not (i + 3 <= stop and data[i + 1] == 0x84 and data[i + 2] == 0xAA):
                continue
            letter, width = np.uint8(0x6B), 3
        if letter == 0x7B:
            found |= CURLY
        elif letter == 0x6A:
            found |= JAVASCRIPT if _surrounds(data, start, stop, i, 1, _JAVASCRIPT, 0) else 0
        elif letter == 0x76:
            found |= POLICY if _surrounds(data, start, stop, i, 1, _PRIVACY, 3) else 0
        elif letter == 0x6D:
            found |= LOREM if _surrounds(data, start, stop, i, 1, _LOREM, 4) else 0
            found |= POLICY if _surrounds(data, start, stop, i, 1, _TERMS, 3) else 0
        elif (
            _surrounds(data, start, stop, i, width, _COOKIE_POLICY, 3)
            or _surrounds(data, start, stop, i, width, _USES_COOKIES, 8)
            or _surrounds(data, start, stop, i, width, _USE_OF_COOKIES, 10)
            or _surrounds(data, start, stop, i, width, _USE_COOKIES, 7)
        ):
            found |= POLICY
    return found
