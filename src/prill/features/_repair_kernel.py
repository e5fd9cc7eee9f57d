"""Which documents hold anything that Unicode repair may change; clean ASCII is passed 64 bytes a step.

Legend: D documents.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from prill.features._byte_mask_kernel import BLOCK, code_at, first_bits, odd_mask
from prill.features._composition_kernel import (
    IS_CONTROL,
    IS_INVISIBLE,
    IS_LEAD,
    IS_LINE_END,
    IS_TRAIL,
    IS_VARIANT,
    UNSTABLE,
)
from prill.features._jit import kernel, trailing_zeros

__all__ = ["CONTROL", "INVISIBLE", "LINE_END", "MISREAD", "UNCOMPOSED", "VARIANT", "mark_repairs"]

CONTROL, INVISIBLE, LINE_END, UNCOMPOSED, VARIANT, MISREAD = 1, 2, 4, 8, 16, 32


@kernel
def mark_repairs(
    offsets: NDArray[np.int64],
    data: NDArray[np.uint8],
    table: NDArray[np.uint16],
    flags_D: NDArray[np.uint8],
) -> None:
    """The flags of each document; without a flag, the repair of that kind changes nothing.

    Args:
        table: of every code point (`composition.composition_table`).
    """
    readable = data.shape[0] - BLOCK
    for d in range(offsets.shape[0] - 1):
        i, stop = offsets[d], offsets[d + 1]
        flags, last_order, was_lead, behind = 0, 0, False, i
        while i < stop:
            if i <= readable:
                odd = odd_mask(data, i) & first_bits(min(BLOCK, stop - i))
                if odd == 0:
                    i += BLOCK
                    continue
                i += trailing_zeros(odd)
            if data[i] < 0x80:
                if data[i] == 13:
                    flags |= LINE_END
                elif data[i] == 0x7F or (data[i] < 0x20 and data[i] != 9 and data[i] != 10):
                    flags |= CONTROL
                i += 1
                continue
            if i != behind:
                last_order, was_lead = 0, False
            code, i = code_at(data, i, stop)
            behind = i
            entry = int(table[code])
            order = entry & 0xFF
            if order == UNSTABLE or (order != 0 and last_order > order):
                flags |= UNCOMPOSED
            last_order = order
            flags |= CONTROL if entry & IS_CONTROL else 0
            flags |= INVISIBLE if entry & IS_INVISIBLE else 0
            flags |= LINE_END if entry & IS_LINE_END else 0
            flags |= VARIANT if entry & IS_VARIANT else 0
            flags |= MISREAD if was_lead and entry & IS_TRAIL else 0
            was_lead = entry & IS_LEAD != 0
        flags_D[d] = flags
