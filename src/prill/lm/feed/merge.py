"""Rows of several feeds put together in the order in which they are trained on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prill.lm.data import CHANNELS, Rows, Soft

__all__ = ["Part", "merged"]

Part = tuple[NDArray[np.int64], Rows]
"""Where rows go in the whole, and the rows."""

BLANK = {"weights": 1.0, "scores": 0.0, "visible": 0.0}


def merged(parts: Sequence[Part]) -> Rows:
    """The rows of all parts, each in its place; a channel that any of them has, all get.

    The places of all parts together are 0 to their number.
    """
    if len(parts) == 1:
        return parts[0][1]
    count = sum(len(where) for where, _ in parts)

    def placed(name: str, dtype: Any = np.int64) -> NDArray[Any]:
        shape = (count, *parts[0][1].inputs.shape[1:])
        is_whole = all(getattr(rows, name) is not None for _, rows in parts)
        whole: NDArray[Any] = np.empty(shape, dtype) if is_whole else np.full(shape, BLANK[name], dtype)
        for where, rows in parts:
            values = getattr(rows, name)
            if values is not None:
                whole[where] = values
        return whole

    return Rows(
        inputs=placed("inputs"),
        targets=placed("targets"),
        positions=placed("positions"),
        segments=placed("segments"),
        soft=_soft(parts, count),
        **{
            name: placed(name, dtype)
            for name, dtype in CHANNELS.items()
            if any(getattr(rows, name) is not None for _, rows in parts)
        },
    )


def _soft(parts: Sequence[Part], count: int) -> Soft | None:
    """The teachers' distributions; rows without one get shares of 0, which weigh nothing."""
    found = [(where, rows.soft) for where, rows in parts if rows.soft is not None]
    if not found:
        return None
    width = max(soft.ids.shape[-1] for _, soft in found)
    shape = (count, *found[0][1].ids.shape[1:-1], width)
    ids, shares = np.zeros(shape, np.int64), np.zeros(shape, np.float32)
    for where, soft in found:
        ids[where, ..., : soft.ids.shape[-1]] = soft.ids
        shares[where, ..., : soft.ids.shape[-1]] = soft.shares
    return Soft(ids=ids, shares=shares)
