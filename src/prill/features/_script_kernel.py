"""Counting the letters of each script, ASCII 64 bytes a step.

Legend: D documents, S scripts.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from prill.features._byte_mask_kernel import BLOCK, code_at, first_bits, high_mask, letter_mask
from prill.features._jit import kernel, set_bits, trailing_zeros

__all__ = ["count_scripts_kernel"]


@kernel
def count_scripts_kernel(
    offsets: NDArray[np.int64],
    data: NDArray[np.uint8],
    table: NDArray[np.uint8],
    latin: int,
    n_scripts: int,
    first_D: NDArray[np.uint8],
    n_first_D: NDArray[np.int64],
    n_letters_D: NDArray[np.int64],
    counts_DS: NDArray[np.int64],
) -> None:
    """The commonest script of each document, its letters, and the letters of all scripts.

    Args:
        table: script of every code point (`scripts.script_table`).
        first_D: of equally common scripts the one with the lowest number; 0 without any letter.
        counts_DS: letters by script; filled when it has rows.
    """
    counts = np.zeros(n_scripts, np.int64)
    readable = data.shape[0] - BLOCK
    for d in range(offsets.shape[0] - 1):
        i, stop = offsets[d], offsets[d + 1]
        counts[:] = 0
        n_latin = 0
        while i < stop:
            if i <= readable:
                n = min(trailing_zeros(high_mask(data, i)), stop - i)
                n_latin += set_bits(letter_mask(data, i) & first_bits(n))
                i += n
            while i < stop and (data[i] >= 0x80 or i > readable):
                code, i = code_at(data, i, stop)
                counts[table[code]] += 1
        counts[latin] += n_latin
        total, first = 0, 0
        for s in range(1, n_scripts):
            total += counts[s]
            if counts[s] > counts[first] or (first == 0 and counts[s] > 0):
                first = s
        first_D[d] = first
        n_first_D[d] = counts[first] if first > 0 else 0
        n_letters_D[d] = total
        if counts_DS.shape[0] > 0:
            counts[0] = 0
            counts_DS[d] = counts
