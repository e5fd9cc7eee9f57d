"""How far two bags of n-grams are apart, in nats.

Legend: B buckets.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["EPSILON", "kl_divergence", "kl_reduction"]

EPSILON = 1e-8
"""Added to both probabilities before the logarithm, as DSIR's reference does."""


def kl_divergence(p_B: NDArray[np.int64], q_B: NDArray[np.int64]) -> float:
    """KL(p || q) in nats of two bucket counts, 1e-8 added to both probabilities."""
    p, q = p_B / p_B.sum(), q_B / q_B.sum()
    return float((p * (np.log(p + EPSILON) - np.log(q + EPSILON))).sum())


def kl_reduction(
    target_B: NDArray[np.int64], pool_B: NDArray[np.int64], selected_B: NDArray[np.int64]
) -> float:
    """How much closer to the target the selection is than the pool: KL(t || pool) - KL(t || selected), nats.

    Source: arXiv:2302.03169, section 4 (the KL reduction metric), on the same n-gram buckets.
    """
    return kl_divergence(target_B, pool_B) - kl_divergence(target_B, selected_B)
