"""Numbers as unsigned integers in the same order: what histograms that find quantiles count by.

The leading bits of a key are a bin, and bins of bins follow by taking more bits: any number of rows can be
counted in parts that merge in any order, and no range need be known before.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["order_key", "value_of_key"]

_SIGN = np.uint64(1 << 63)


def order_key(values: NDArray[np.floating]) -> NDArray[np.uint64]:
    """The bits of float64 values rearranged so that a smaller unsigned integer is a smaller value.

    -0 counts as 0. NaN has no place: leave it out before.
    """
    bits = (np.asarray(values, dtype=np.float64) + 0.0).view(np.uint64)
    return np.asarray(np.where(bits & _SIGN, ~bits, bits | _SIGN), dtype=np.uint64)


def value_of_key(keys: NDArray[np.uint64]) -> NDArray[np.float64]:
    """The values that have these keys: the inverse of `order_key`.

    >>> value_of_key(order_key(np.array([-1.5, 0.0, 2.0]))).tolist()
    [-1.5, 0.0, 2.0]
    """
    key = np.asarray(keys, dtype=np.uint64)
    return np.where(key & _SIGN, key & ~_SIGN, ~key).view(np.float64)
