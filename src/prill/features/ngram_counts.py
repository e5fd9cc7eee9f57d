"""How often hashed word n-grams occur in the pool: a feature of the eligible documents, added up by shard.

Legend: B buckets.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from prill.features.feature import Given, ShardFeature
from prill.features.ngrams import Family, count_ngrams
from prill.run.atomic import atomic_write

__all__ = ["NgramCounts", "total_counts", "unicode_version"]


@dataclass(frozen=True, kw_only=True)
class NgramCounts(ShardFeature):
    """Bucket counts of a shard's eligible documents.

    Attributes:
        n: longest n-gram, tokens; shorter ones count too.
        n_buckets: B.
        family: bucket rule, as in `count_ngrams`.
    """

    kind: ClassVar[str] = "ngrams"
    n: int = 2
    n_buckets: int = 10_000
    family: Family = "fast"

    @classmethod
    def like(cls, settings: Any) -> NgramCounts:
        """Of the `n`, `n_buckets` and `family` of a method's settings."""
        return cls(n=settings.n, n_buckets=settings.n_buckets, family=settings.family)

    @property
    def label(self) -> str:
        return f"counts of 1..{self.n}-grams in {self.n_buckets:,} buckets"

    @property
    def settings(self) -> dict[str, Any]:
        return {**super().settings, "unicode": unicodedata.unidata_version}

    def of_text(self, text: pa.Array) -> NDArray[np.int64]:
        """Counts of some texts, int64, shape (B,)."""
        return count_ngrams(text, n=self.n, n_buckets=self.n_buckets, family=self.family)[0]

    def write(self, given: Given, shard: int, path: Path) -> None:
        from safetensors.numpy import save

        eligible = given.pool.is_eligible(shard)
        total_B = np.zeros(self.n_buckets, np.int64)
        for batch in given.pool.batches(shard):
            mask = eligible[batch.first_row : batch.first_row + batch.n_rows]
            total_B += self.of_text(batch.text if mask.all() else batch.text.filter(pa.array(mask)))
        atomic_write(path, save({"counts": total_B}))


def total_counts(parts: Sequence[Path]) -> NDArray[np.int64]:
    """The counts of all shards, int64, shape (B,)."""
    from safetensors.numpy import load_file

    counts = [load_file(path)["counts"] for path in parts]
    return np.asarray(np.sum(counts, axis=0), dtype=np.int64)


def unicode_version() -> NDArray[np.int64]:
    """The version of the Unicode tables of this Python, which tokens depend on."""
    return np.array([int(part) for part in unicodedata.unidata_version.split(".")], dtype=np.int64)
