"""How many different texts there are, from the smallest of their hashes.

The k smallest different hashes of a union come from those of its parts, so nothing depends on the order of
shards. Exact below k; above, the estimate has a relative standard error of 1 / sqrt(k - 2).

Source: Beyer et al. 2007, "On synopses for distinct-value estimation under multiset operations" (KMV).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Distinct"]

_K = 4_096


@dataclass(frozen=True, kw_only=True)
class Distinct:
    """The smallest different hashes, ascending, at most `k` of them."""

    smallest: tuple[int, ...] = ()
    k: int = _K

    @classmethod
    def of(cls, hashes: NDArray[np.uint64], *, k: int = _K) -> Distinct:
        """Of uniform 64-bit hashes, shape (D,)."""
        return cls(smallest=tuple(np.unique(hashes)[:k].tolist()), k=k)

    def merge(self, other: Distinct) -> Distinct:
        """Of both sets."""
        smallest = sorted({*self.smallest, *other.smallest})[: self.k]
        return Distinct(smallest=tuple(smallest), k=self.k)

    @property
    def estimate(self) -> int:
        """Different hashes: exact when `is_exact`."""
        if self.is_exact:
            return len(self.smallest)
        return round((self.k - 1) * 2**64 / (self.smallest[-1] + 1))

    @property
    def is_exact(self) -> bool:
        """Whether all hashes were kept."""
        return len(self.smallest) < self.k

    @property
    def standard_error(self) -> float:
        """Relative; 0 when exact."""
        return 0.0 if self.is_exact else float((self.k - 2) ** -0.5)
