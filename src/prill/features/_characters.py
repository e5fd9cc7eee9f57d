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

from prill.features._jit import inlined, kernel, load64
from prill.features._vector_kernel import STEP, other_mask

__all__ = ["character_table", "find_special"]

_N_CODE_POINTS = 0x110000
_BLOCK = 256
_ONES = np.uint64(0x0101010101010101)
_HIGH = np.uint64(0x8080808080808080)


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


@inlined
def _equal(word: np.uint64, byte: int) -> np.uint64:
    """0x80 in every byte of `word` that equals `byte`."""
    x = word ^ (_ONES * np.uint64(byte))
    return ~(((x & ~_HIGH) + ~_HIGH) | x) & _HIGH


@kernel
def find_special(offsets: NDArray[np.int64], data: NDArray[np.uint8], special_D: NDArray[np.bool_]) -> int:
    """Mark documents that hold U+0130 (C4 B0) or U+03A3 (CE A3); their number."""
    n_special = 0
    for d in range(offsets.shape[0] - 1):
        i, stop = offsets[d], offsets[d + 1]
        hits = np.uint64(0)
        while i + 9 <= stop:
            if i + STEP <= stop and other_mask(data, i) == 0:
                i += STEP
                continue
            lead = load64(data, i)
            if lead & _HIGH != 0:
                second = load64(data, i + 1)
                hits |= (_equal(lead, 0xC4) & _equal(second, 0xB0)) | (
                    _equal(lead, 0xCE) & _equal(second, 0xA3)
                )
            i += 8
        found = hits != 0
        for j in range(i, stop - 1):
            found |= (data[j] == 0xC4 and data[j + 1] == 0xB0) or (data[j] == 0xCE and data[j + 1] == 0xA3)
        special_D[d] = found
        n_special += found
    return n_special
