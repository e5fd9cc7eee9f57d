"""SALT-DS: keep what a small model finds hard and yet could have said.

    score = median over tokens of ( loss where the true token is among the model's k likeliest, else 0 )

Easy text has a low median, noise has one of 0 since its tokens are beyond the top k, and challenging but
learnable text is high. The highest go into the phase with soft labels. A zero is a large tie: its size is
worth telling. The published tables find no consistent gain of this choice over soft labels alone.

Legend: D sequences, T tokens of all of them.
Source: Rawat et al. 2024, arXiv:2410.18779, section 4 (SALT_DS). Differs: whether tokens beyond the top k
count as 0 or are left out is not settled by what was read of the paper, so both are here.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from prill.errors import DataError

__all__ = ["learnable_scores"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def learnable_scores(
    loss_nats_T: Floats, rank_T: Ints, starts: Ints, *, k: int = 10, beyond: Literal["zero", "drop"] = "zero"
) -> Floats:
    """Score of each sequence, nats, (D,), higher is better.

    Args:
        loss_nats_T: loss of each token under the small model, (T,).
        rank_T: place of the true token among the model's tokens, from 1, (T,).
        starts: first token of each sequence, then T, (D + 1,).
        k: likeliest tokens that count as learnable.
        beyond: tokens whose truth is not among them count as `zero`, or `drop` out; a sequence without any
            token scores 0.
    Raises:
        DataError: the columns differ in length, or a loss is not finite.
    """
    if not len(loss_nats_T) == len(rank_T) == starts[-1]:
        raise DataError(
            f"expected a loss and a rank for each of {starts[-1]} tokens, "
            f"found {len(loss_nats_T)} and {len(rank_T)}",
            where="learnable",
        )
    if not np.isfinite(loss_nats_T).all():
        first = int(np.argmin(np.isfinite(loss_nats_T)))
        raise DataError(
            f"losses must be finite, found {loss_nats_T[first]}", where=f"learnable, token {first}"
        )
    sequence = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
    known = np.asarray(rank_T) <= k
    if beyond == "drop":
        sequence, losses = sequence[known], np.asarray(loss_nats_T, np.float64)[known]
    else:
        losses = np.where(known, loss_nats_T, 0.0)
    return _medians(losses, sequence, len(starts) - 1)


def _medians(values: Floats, group: Ints, n_groups: int) -> Floats:
    """The median of each group, 0 for an empty one."""
    ordered = np.append(values[np.lexsort((values, group))], 0.0)
    sizes = np.bincount(group, minlength=n_groups)
    first = np.cumsum(sizes) - sizes
    lower, upper = first + np.maximum(sizes - 1, 0) // 2, np.minimum(first + sizes // 2, len(values))
    return np.where(sizes > 0, (ordered[lower] + ordered[upper]) / 2, 0.0)
