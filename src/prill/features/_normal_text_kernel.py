"""Texts in the form in which they are compared as a whole: case folded, runs of spaces as one."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from prill.features._code_point_kernel import FLAGS, decode, lowered_bytes
from prill.features._jit import kernel, store64

__all__ = ["normal_texts"]

_SPACE = np.uint8(32)


@kernel
def normal_texts(
    offsets: NDArray[np.int64],
    data: NDArray[np.uint8],
    characters: NDArray[np.uint64],
    gaps: np.uint64,
    out_offsets: NDArray[np.int64],
    out: NDArray[np.uint8],
) -> None:
    """Write every text's characters as the table gives them, one behind the other.

    Args:
        characters: bytes, their number and classes of every code point (`_characters`).
        gaps: class bits of the characters whose runs become one space, and none at the ends; 0: of none.
        out: twice as long as the texts, and eight bytes.
    """
    at = 0
    out_offsets[0] = 0
    for d in range(offsets.shape[0] - 1):
        i, stop, first = offsets[d], offsets[d + 1], at
        in_gap = False
        while i < stop:
            code, i = decode(data, i, stop)
            entry = characters[code]
            if (entry >> FLAGS) & gaps != 0:
                in_gap = at > first
                continue
            if in_gap:
                out[at] = _SPACE
                at += 1
                in_gap = False
            store64(out, at, entry)
            at += lowered_bytes(entry)
        out_offsets[d + 1] = at
