"""What Python knows about every code point, as one table that kernels can read.

Entry = UTF-8 of the code point's lower case (bits 0-31, the first byte lowest), its number of bytes (bits
32-34) and, in bits 40-47, its class byte: 0x80 for `\\w`, 0x40 for `\\s`, 0 otherwise. Built from `re` and
`str.lower` themselves, so it follows the Unicode version of the interpreter. Two characters do not fit one
entry: `İ` lowers to two code points, and capital sigma lowers by its neighbours; documents with one of them
are found by `is_special` and lowered by Python.
"""

from __future__ import annotations

import functools
import re

import numpy as np
from numpy.typing import NDArray

from prill.features._jit import inlined
from prill.features._vector_kernel import STEP, special_mask

__all__ = ["character_table", "is_special"]

_N_CODE_POINTS = 0x110000
_BLOCK = 256
_PLANE = 0x10000


@functools.cache
def character_table() -> NDArray[np.uint64]:
    """UTF-8, length and class of every code point's lower case: uint64, shape (0x110000,), in about 0.1 s."""
    lower = np.arange(_N_CODE_POINTS, dtype=np.uint32)
    for first in range(0, _N_CODE_POINTS, _BLOCK):
        block = "".join(map(chr, range(first, first + _BLOCK)))
        if block.lower() != block:
            for i, character in enumerate(block):
                lowered = character.lower()
                if len(lowered) == 1:
                    lower[first + i] = ord(lowered)
    flags = np.zeros(_N_CODE_POINTS, dtype=np.uint8)
    everything = np.arange(_N_CODE_POINTS, dtype="<u4").tobytes().decode("utf-32-le", "surrogatepass")
    for pattern, flag in ((r"\w+", 0x80), (r"\s+", 0x40)):
        for match in re.finditer(pattern, everything):
            flags[match.start() : match.end()] = flag
    table = np.empty(_N_CODE_POINTS, dtype=np.uint64)
    for first in range(0, _N_CODE_POINTS, _PLANE):
        codes = lower[first : first + _PLANE]
        table[first : first + _PLANE] = _utf8(codes) | (flags[codes].astype(np.uint64) << np.uint64(40))
    table.setflags(write=False)
    return table


def _utf8(codes: NDArray[np.uint32]) -> NDArray[np.uint64]:
    """Bytes (bits 0-31) and their number (bits 32-34) of code points, surrogates included."""
    codes = codes.astype(np.uint64)
    tails = [0x80 | ((codes >> np.uint64(6 * k)) & np.uint64(0x3F)) for k in range(3)]
    two = 0xC0 | (codes >> np.uint64(6)) | (tails[0] << np.uint64(8))
    three = 0xE0 | (codes >> np.uint64(12)) | (tails[1] << np.uint64(8)) | (tails[0] << np.uint64(16))
    four = 0xF0 | (codes >> np.uint64(18)) | (tails[2] << np.uint64(8))
    four = four | (tails[1] << np.uint64(16)) | (tails[0] << np.uint64(24))
    n_bytes = [np.uint64(n << 32) for n in (1, 2, 3, 4)]
    sizes = [codes < 0x80, codes < 0x800, codes < 0x10000]
    return np.select(sizes, [codes | n_bytes[0], two | n_bytes[1], three | n_bytes[2]], four | n_bytes[3])


@inlined
def is_special(data: NDArray[np.uint8], start: int, stop: int) -> bool:
    """Whether data[start:stop] holds U+0130 (C4 B0) or U+03A3 (CE A3)."""
    i = start
    hits = np.uint64(0)
    while i + STEP < stop:
        hits |= special_mask(data, i)
        i += STEP
    found = hits != 0
    for j in range(i, stop - 1):
        found |= (data[j] == 0xC4 and data[j + 1] == 0xB0) or (data[j] == 0xCE and data[j + 1] == 0xA3)
    return bool(found)
