"""Texts of some documents of the pool, drawn once and read by every classifier that needs negatives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa

from prill.corpus.columns import ColumnInfo, read_columns, write_columns
from prill.features.feature import Given, WholeFeature
from prill.features.keyed import derive_seed

__all__ = ["SampledTexts"]


@dataclass(frozen=True, kw_only=True)
class SampledTexts(WholeFeature):
    """About so many documents of the eligible pool, by keyed draws: columns `text` and `key`.

    Attributes:
        n_documents: about how many; all of a smaller pool.
        use: keys the draws, so that two uses have samples of their own.
    """

    kind: ClassVar[str] = "sampled-texts"
    n_documents: int
    use: str

    @property
    def label(self) -> str:
        return f"sample of {self.n_documents:,} documents of the pool"

    @property
    def files(self) -> tuple[str, ...]:
        return ("texts.parquet",)

    def build(self, given: Given, paths: Sequence[Path]) -> Mapping[str, Any]:
        sample = given.pool.sample(seed=derive_seed(given.seed, self.use), n_documents=self.n_documents)
        infos = [
            ColumnInfo(name="text", summary="the document"),
            ColumnInfo(name="key", summary="lower half of the text's hash"),
        ]
        write_columns(paths[0], {"text": sample.text, "key": sample.key}, infos)
        return {"n_documents": len(sample.text)}

    @staticmethod
    def read(path: Path) -> tuple[pa.Array, Any]:
        """The texts, large_string, shape (N,), and their keys, uint64, shape (N,)."""
        table = read_columns(path)
        text = table["text"].combine_chunks()
        text = pa.concat_arrays(text.chunks) if isinstance(text, pa.ChunkedArray) else text
        return text.cast(pa.large_string()), table["key"].to_numpy()
