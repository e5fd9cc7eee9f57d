"""Which windows share a row, so that no place of a row is left empty.

Best fit, longest first: each window goes to the row with the least room that still holds it. At most 22 %
more rows than needed (FFD bound, 11/9 OPT + 6/9), in practice under 0.1 %. Rows come out with their longest
window first and equal lengths side by side, which attention works off in one call.

Source: Zhao et al. 2024, arXiv:2404.09529, section 3.1; Johnson 1973 for the bound. Differs: a fixed row
instead of the longest document's length; windows a row are capped, because a row of many tiny ones costs
more in bookkeeping than it saves.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence

from prill.errors import InternalError

__all__ = ["best_fit"]


def best_fit(lengths: Sequence[int], capacity: int, *, most: int) -> list[list[int]]:
    """Rows of item numbers whose lengths sum to at most `capacity`.

    Args:
        lengths: of the items, each 1 to `capacity`.
        capacity: places of a row.
        most: items of a row at most.
    Returns:
        Every item in exactly one row. Rows in the order in which they were opened; ties go to the first
        opened row and the first item, so the answer is a function of the arguments alone.
    """
    if lengths and not 1 <= min(lengths) <= max(lengths) <= capacity:
        raise InternalError(
            f"expected lengths of 1 to {capacity}, found {min(lengths)} to {max(lengths)}", where="best_fit"
        )
    rows: list[list[int]] = []
    open_rows: list[tuple[int, int]] = []  # (room, row), ascending
    for item in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        need = lengths[item]
        place = bisect_left(open_rows, (need, -1))
        if place < len(open_rows):
            room, row = open_rows.pop(place)
        else:
            room, row = capacity, len(rows)
            rows.append([])
        rows[row].append(item)
        if room > need and len(rows[row]) < most:
            insort(open_rows, (room - need, row))
    return rows
