"""What Python knows about every code point, as one table that kernels can read.

Entry = lower case of the code point (bits 0-20) and, in bits 24-31, the class byte of that lower case:
0x80 for `\\w`, 0x40 for `\\s`, 0 otherwise. Built from `re` and `str.lower` themselves, so it follows the
Unicode version of the interpreter. Two characters do not fit one entry: `İ` lowers to two code points, and
capital sigma lowers by its neighbours; documents with one of them are lowered by Python beforehand.
"""

from __future__ import annotations

import functools
import re

import numpy as np
from numpy.typing import NDArray

from prill.features._jit import kernel

__all__ = ["character_table", "find_special"]

_N_CODE_POINTS = 0x110000
_BLOCK = 256


@functools.cache
def character_table() -> NDArray[np.int32]:
    """Lower case and class of every code point: int32, shape (0x110000,); built in about 0.1 s."""
    lower = np.arange(_N_CODE_POINTS, dtype=np.int32)
    for first in range(0, _N_CODE_POINTS, _BLOCK):
        block = "".join(map(chr, range(first, first + _BLOCK)))
        if block.lower() != block:
            for i, character in enumerate(block):
                lowered = character.lower()
                if len(lowered) == 1:
                    lower[first + i] = ord(lowered)
    flags = np.zeros(_N_CODE_POINTS, dtype=np.int32)
    everything = "".join(map(chr, range(_N_CODE_POINTS)))
    for pattern, flag in ((r"\w+", 0x80), (r"\s+", 0x40)):
        for match in re.finditer(pattern, everything):
            flags[match.start() : match.end()] = flag
    table = lower | (flags[lower] << 24)
    table.setflags(write=False)
    return table


@kernel
def find_special(offsets: NDArray[np.int64], data: NDArray[np.uint8], special_D: NDArray[np.bool_]) -> int:
    """Mark documents that hold U+0130 (C4 B0) or U+03A3 (CE A3); their number."""
    n_special = 0
    for d in range(offsets.shape[0] - 1):
        n_hits = 0
        for i in range(offsets[d], offsets[d + 1] - 1):
            a, b = data[i], data[i + 1]
            n_hits += ((a == 0xC4) & (b == 0xB0)) | ((a == 0xCE) & (b == 0xA3))
        special_D[d] = n_hits > 0
        n_special += n_hits > 0
    return n_special
