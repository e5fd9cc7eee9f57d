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
_SIZES = ((0, 0x80, 1), (0x80, 0x800, 2), (0x800, 0x10000, 3), (0x10000, _N_CODE_POINTS, 4))
"""Code points, first and behind, and the number of bytes that UTF-8 gives them."""

_LEADS = {1: 0, 2: 0xC0, 3: 0xE0, 4: 0xF0}


@functools.cache
def character_table() -> NDArray[np.uint64]:
    """UTF-8, length and class of every code point's lower case: uint64, shape (0x110000,), in about 0.1 s."""
    everything = np.arange(_N_CODE_POINTS, dtype="<u4").tobytes().decode("utf-32-le", "surrogatepass")
    lower = np.arange(_N_CODE_POINTS, dtype=np.uint32)
    for first in range(0, _N_CODE_POINTS, _BLOCK):
        block = everything[first : first + _BLOCK]
        if block.lower() != block:
            for i, character in enumerate(block):
                lowered = character.lower()
                if len(lowered) == 1:
                    lower[first + i] = ord(lowered)
    flags = np.zeros(_N_CODE_POINTS, dtype=np.uint8)
    for pattern, flag in ((r"\w+", 0x80), (r"\s+", 0x40)):
        for match in re.finditer(pattern, everything):
            flags[match.start() : match.end()] = flag
    table = np.concatenate([_utf8(*range_of_size) for range_of_size in _SIZES])
    table |= flags.astype(np.uint64) << np.uint64(40)
    changed = np.flatnonzero(lower != np.arange(_N_CODE_POINTS, dtype=np.uint32))
    table[changed] = table[lower[changed]]
    table.setflags(write=False)
    return table


def _utf8(first: int, stop: int, n_bytes: int) -> NDArray[np.uint64]:
    """Bytes (bits 0-31) and their number (bits 32-34) of a range of code points, surrogates included."""
    codes = np.arange(first, stop, dtype=np.uint64)
    found = codes >> np.uint64(6 * (n_bytes - 1)) | np.uint64(_LEADS[n_bytes] | n_bytes << 32)
    for k in range(1, n_bytes):
        tail = 0x80 | ((codes >> np.uint64(6 * (n_bytes - 1 - k))) & np.uint64(0x3F))
        found |= tail << np.uint64(8 * k)
    return found


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
