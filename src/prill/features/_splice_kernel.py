"""Cut byte ranges out of texts, or put other bytes in their place, in two passes: measure, then copy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from prill.features._jit import inlined, kernel

__all__ = ["copy_spliced", "spliced_sizes"]


@inlined
def _union_end(starts: NDArray[np.int64], stops: NDArray[np.int64], first: int, last: int) -> tuple[int, int]:
    """End of the union of ranges that begins with range `first`, and the first range behind it."""
    end, i = stops[first], first + 1
    while i < last and starts[i] < end:
        end = max(end, stops[i])
        i += 1
    return int(end), i


@kernel
def spliced_sizes(
    offsets: NDArray[np.int64],
    range_offsets: NDArray[np.int64],
    starts: NDArray[np.int64],
    stops: NDArray[np.int64],
    kinds: NDArray[np.int32],
    new_offsets: NDArray[np.int64],
    sizes: NDArray[np.int64],
    taken: NDArray[np.int64],
) -> None:
    """Bytes of each document afterwards, and bytes taken out; ranges are sorted within a document."""
    for d in range(offsets.shape[0] - 1):
        size, n_taken = offsets[d + 1] - offsets[d], 0
        i, last = range_offsets[d], range_offsets[d + 1]
        while i < last:
            kind = kinds[i]
            end, after = _union_end(starts, stops, i, last)
            n_taken += end - starts[i]
            size += new_offsets[kind + 1] - new_offsets[kind]
            i = after
        sizes[d], taken[d] = size - n_taken, n_taken


@kernel
def copy_spliced(
    offsets: NDArray[np.int64],
    data: NDArray[np.uint8],
    range_offsets: NDArray[np.int64],
    starts: NDArray[np.int64],
    stops: NDArray[np.int64],
    kinds: NDArray[np.int32],
    new_offsets: NDArray[np.int64],
    new_data: NDArray[np.uint8],
    out: NDArray[np.uint8],
) -> None:
    """Write all documents, one behind the other, into `out`."""
    at = 0
    for d in range(offsets.shape[0] - 1):
        base = offsets[d]
        done = base
        i, last = range_offsets[d], range_offsets[d + 1]
        while i < last:
            kind = kinds[i]
            end, after = _union_end(starts, stops, i, last)
            n = base + starts[i] - done
            out[at : at + n] = data[done : done + n]
            at += n
            n = new_offsets[kind + 1] - new_offsets[kind]
            out[at : at + n] = new_data[new_offsets[kind] : new_offsets[kind + 1]]
            at += n
            done = base + end
            i = after
        n = offsets[d + 1] - done
        out[at : at + n] = data[done : done + n]
        at += n
