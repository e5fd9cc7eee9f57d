"""Texts in the form in which they are compared as a whole: case folded, runs of spaces as one."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from prill.features._code_point_kernel import FLAGS, decode, lowered_bytes
from prill.features._jit import kernel, store64

__all__ = ["UNSETTLED", "normal_texts"]

UNSETTLED = 0x10
"""Class bit of characters that Unicode normalisation may change, or join with their neighbours."""

_SPACE = np.uint8(32)
_UNSETTLED_FLAG = np.uint64(UNSETTLED)


@kernel
def normal_texts(
    offsets: NDArray[np.int64],
    data: NDArray[np.uint8],
    characters: NDArray[np.uint64],
    gaps: np.uint64,
    out_offsets: NDArray[np.int64],
    out: NDArray[np.uint8],
    unsettled_D: NDArray[np.bool_],
) -> None:
    """Write every text's characters as the table gives them, one behind the other.

    Args:
        characters: bytes, their number and classes of every code point (`_characters`).
        gaps: class bits of the characters whose runs become one space, and none at the ends; 0: of none.
        out: twice as long as the texts, and eight bytes.
        unsettled_D: result: documents with a character of class `UNSETTLED`.
    """
    ascii_bytes, ascii_gaps = np.empty(128, np.uint8), np.empty(128, np.bool_)
    for code in range(128):
        ascii_bytes[code] = np.uint8(characters[code] & np.uint64(0xFF))
        ascii_gaps[code] = (characters[code] >> FLAGS) & gaps != 0
    at = 0
    out_offsets[0] = 0
    for d in range(offsets.shape[0] - 1):
        i, stop, first = offsets[d], offsets[d + 1], at
        was_gap, unsettled = True, np.uint64(0)  # a gap at the front is left out
        while i < stop:
            byte = data[i]
            if byte < 0x80:
                is_gap = ascii_gaps[byte]
                out[at] = _SPACE if is_gap else ascii_bytes[byte]
                at += 0 if is_gap and was_gap else 1
                was_gap = is_gap
                i += 1
                continue
            code, i = decode(data, i, stop)
            entry = characters[code]
            flags = entry >> FLAGS
            unsettled |= flags & _UNSETTLED_FLAG
            if flags & gaps != 0:
                out[at] = _SPACE
                at += 0 if was_gap else 1
                was_gap = True
            else:
                store64(out, at, entry)
                at += lowered_bytes(entry)
                was_gap = False
        if gaps != 0 and was_gap and at > first:
            at -= 1
        unsettled_D[d] = unsettled != 0
        out_offsets[d + 1] = at
