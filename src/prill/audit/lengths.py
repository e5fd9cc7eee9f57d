"""How long documents are: sums, extremes and a histogram whose bins are fixed, so that counts add up."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["EDGES", "Extreme", "LengthFacts"]

_BINS_PER_OCTAVE: Final = 4
_OCTAVES: Final = 44

EDGES: Final[NDArray[np.int64]] = np.array(
    sorted({0, *(math.ceil(2 ** (k / _BINS_PER_OCTAVE)) for k in range(_OCTAVES * _BINS_PER_OCTAVE + 1))}),
    dtype=np.int64,
)
"""First length of each bin, four an octave above 8; bin b holds EDGES[b] <= length < EDGES[b + 1]."""


@dataclass(frozen=True, kw_only=True, order=True)
class Extreme:
    """A length and the first document that has it: shard and row."""

    length: int
    shard: int
    row: int


@dataclass(frozen=True, kw_only=True)
class LengthFacts:
    """Lengths in one unit.

    Attributes:
        total: sum of the lengths.
        n_documents, n_bytes: documents and their bytes of text in each bin of `EDGES`.
        shortest, longest: None without documents.
    """

    total: int
    n_documents: tuple[int, ...]
    n_bytes: tuple[int, ...]
    shortest: Extreme | None = None
    longest: Extreme | None = None

    @classmethod
    def of(
        cls,
        lengths_D: NDArray[np.int64],
        n_bytes_D: NDArray[np.int64],
        *,
        shard: int,
        rows_D: NDArray[np.int64],
    ) -> LengthFacts:
        """Facts of one table's documents; `rows_D` ascends."""
        bins_D = np.clip(np.searchsorted(EDGES, lengths_D, side="right") - 1, 0, len(EDGES) - 1)
        n_documents = np.bincount(bins_D, minlength=len(EDGES))
        n_bytes = np.zeros(len(EDGES), np.int64)
        np.add.at(n_bytes, bins_D, n_bytes_D)
        extremes: list[Extreme | None] = [None, None]
        if len(lengths_D):
            extremes = [
                Extreme(length=int(lengths_D[at]), shard=shard, row=int(rows_D[at]))
                for at in (int(lengths_D.argmin()), int(lengths_D.argmax()))
            ]
        return cls(
            total=int(lengths_D.sum()),
            n_documents=tuple(n_documents.tolist()),
            n_bytes=tuple(n_bytes.tolist()),
            shortest=extremes[0],
            longest=extremes[1],
        )

    def merge(self, other: LengthFacts) -> LengthFacts:
        """Facts of both sets of documents."""
        shortest = [e for e in (self.shortest, other.shortest) if e is not None]
        longest = [e for e in (self.longest, other.longest) if e is not None]
        return LengthFacts(
            total=self.total + other.total,
            n_documents=tuple(a + b for a, b in zip(self.n_documents, other.n_documents, strict=True)),
            n_bytes=tuple(a + b for a, b in zip(self.n_bytes, other.n_bytes, strict=True)),
            shortest=min(shortest, default=None),
            longest=min(longest, key=lambda e: (-e.length, e.shard, e.row), default=None),
        )
