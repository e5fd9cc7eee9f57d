"""One code point of valid UTF-8, and its entry in the table of characters, for kernels that go one by one."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from prill.features._jit import inlined

__all__ = ["FLAGS", "LENGTH", "decode", "lowered_bytes"]

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
