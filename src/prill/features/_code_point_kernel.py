"""One code point of valid UTF-8, and its entry in the table of characters, for kernels that go one by one."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from prill.features._jit import inlined

__all__ = ["FLAGS", "LENGTH", "decode", "decode_word", "lowered_bytes"]

LENGTH = np.uint64(32)
"""Where an entry of the character table holds the number of bytes of the lower case: three bits."""

FLAGS = np.uint64(40)
"""Where an entry holds the class byte: 0x80 for a character of a word, 0x40 for a space."""


@inlined
def decode(data: NDArray[np.uint8], at: int, stop: int) -> tuple[int, int]:
    """Code point at `at` and the next position; never reads at or beyond `stop`, nor gives one too large."""
    lead = np.int64(data[at])
    if lead < 0x80:
        return int(lead), at + 1
    n = 2 + np.int64(lead >= 0xE0) + np.int64(lead >= 0xF0)
    code = int(lead & ((0x80 >> n) - 1))
    end = min(int(at + n), stop)
    for i in range(at + 1, end):
        code = (code << 6) | int(np.int64(data[i] & 0x3F))
    return min(code, 0x10FFFF), end


@inlined
def lowered_bytes(entry: np.uint64) -> int:
    """Bytes of the lower case of an entry."""
    return int(np.int64((entry >> LENGTH) & np.uint64(7)))


@inlined
def decode_word(word: np.uint64) -> tuple[int, int]:
    """As `decode`, from eight bytes that begin with the character: its code point and number of bytes.

    A call that takes no array: in a loop over bytes, one that does costs more than all else.
    """
    lead = int(np.int64(word & np.uint64(0xFF)))
    if lead < 0x80:
        return lead, 1
    second = int(np.int64((word >> np.uint64(8)) & np.uint64(0x3F)))
    if lead < 0xE0:
        return ((lead & 0x1F) << 6) | second, 2
    third = int(np.int64((word >> np.uint64(16)) & np.uint64(0x3F)))
    if lead < 0xF0:
        return ((lead & 0x0F) << 12) | (second << 6) | third, 3
    fourth = int(np.int64((word >> np.uint64(24)) & np.uint64(0x3F)))
    return min(((lead & 0x07) << 18) | (second << 12) | (third << 6) | fourth, 0x10FFFF), 4
