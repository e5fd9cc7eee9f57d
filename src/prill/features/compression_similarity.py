"""How much better a document and a target text compress together than apart: 1 - NCD, averaged over texts.

    NCD(x, t) = (C(x t) - min(C(x), C(t))) / max(C(x), C(t))

x t is the document with the text behind it and nothing between. Which target texts are compared is drawn by
the hash of their text, and they stand in that order: the first few of them are a fair sample of all.

Source: Cilibrasi and Vitanyi 2005, "Clustering by compression"; Obbad et al. 2024, arXiv:2410.18194.

Legend: D documents, N target texts, R chosen rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from prill.corpus.batch import text_bytes
from prill.corpus.columns import ColumnInfo
from prill.features.compression import CompressedLengths, Compressor, TargetTexts, first_bytes
from prill.features.feature import ColumnFeature, Given
from prill.features.keyed import derive_seed, keyed_uniform
from prill.features.text_hash import hash_documents

if TYPE_CHECKING:
    from prill.corpus.batch import Batch

__all__ = ["CompressionSimilarity", "Reference", "drawn_texts"]

OPERATIONS_A_BYTE = 50.0
"""Of a target text for every document: about 16 ns at gzip 6; integer operations, not floating-point."""


class Reference:
    """The texts of one target, ready to be compared with documents.

    Attributes:
        texts: N of them, in the order in which they were drawn.
        frame_bytes: taken off every length: 0, or what the codec writes around every text.
    """

    def __init__(self, text: pa.Array, compressor: Compressor, *, without_frames: bool = False) -> None:
        self.texts = TargetTexts(text, compressor)
        self.frame_bytes = compressor.empty_bytes if without_frames else 0

    def __len__(self) -> int:
        return len(self.texts)

    def similarity(
        self, text: pa.Array, alone: NDArray[np.int64], rows: NDArray[np.int64], first: int, stop: int
    ) -> NDArray[np.float64]:
        """1 - NCD of chosen documents with texts first..stop, float64, shape (R, stop - first).

        Args:
            text: large_string or large_binary without nulls.
            alone: lengths of all documents, int64, shape (D,).
            rows: which documents, int64, shape (R,).
        """
        joint_RC = self.texts.joint_lengths(text, rows, np.arange(first, stop)) - self.frame_bytes
        alone_R1 = alone[rows, None] - self.frame_bytes
        alone_C = self.texts.alone_N[first:stop] - self.frame_bytes
        return 1 - (joint_RC - np.minimum(alone_R1, alone_C)) / np.maximum(alone_R1, alone_C)

    def balance(self, alone: NDArray[np.int64], first: int, stop: int) -> NDArray[np.float64]:
        """Mean of the shorter over the longer of the two lengths alone, float64, shape (D,)."""
        alone_D1 = alone[:, None] - self.frame_bytes
        alone_C = self.texts.alone_N[first:stop] - self.frame_bytes
        return np.asarray((np.minimum(alone_D1, alone_C) / np.maximum(alone_D1, alone_C)).mean(axis=1))


def drawn_texts(text: pa.Array, *, seed: int, most: int, max_bytes: int = 0) -> pa.Array:
    """At most so many different texts, without empty ones, drawn and ordered by hash, large_binary.

    Whatever the order of the texts, and however often one occurs, the result is the same.
    """
    kept = text.filter(pc.greater(pc.binary_length(text), 0)).unique()
    draws = keyed_uniform(derive_seed(seed, "compression.targets"), hash_documents(kept)[1])
    chosen = kept.take(pa.array(np.argsort(draws, kind="stable")[:most]))
    return first_bytes(chosen.cast(pa.large_binary()), max_bytes)


@dataclass(frozen=True, kw_only=True)
class CompressionSimilarity(ColumnFeature):
    """Mean 1 - NCD of every document with the first texts of every target; NaN for empty documents.

    Attributes:
        lengths: of the documents alone; says codec, level and how much of a document is seen.
        targets: names.
        most: target texts drawn.
        first: how many of those are compared.
        max_target_bytes: only so many first bytes of a target text; 0 for all.
        without_frames: whether what the codec writes around every text is taken off.
    """

    kind: ClassVar[str] = "similarity"
    lengths: CompressedLengths
    targets: tuple[str, ...]
    most: int
    first: int
    max_target_bytes: int = 0
    without_frames: bool = False

    @property
    def label(self) -> str:
        return f"{self.lengths.codec} {self.lengths.level} with {self.first} texts of each target"

    @property
    def columns(self) -> Sequence[ColumnInfo]:
        summary = f"mean 1 - NCD with {self.first} target texts"
        return [
            ColumnInfo(
                name=name, direction=1, span=self.span, version=self.version, summary=summary, unit="1"
            )
            for name in self.targets
        ]

    @property
    def span(self) -> str:
        """Which part of a document is seen."""
        own = f"first {self.lengths.max_bytes:,} bytes" if self.lengths.max_bytes else "whole document"
        return f"{own}; the last 32 KiB of it beside a target text" if self.lengths.codec == "gzip" else own

    def references(self, given: Given) -> dict[str, Reference]:
        """The texts of every target."""
        return {name: self.reference(given.targets[name], given.seed) for name in self.targets}

    def reference(self, text: pa.Array, seed: int) -> Reference:
        """The texts of one target, drawn from `text`."""
        drawn = drawn_texts(text, seed=seed, most=self.most, max_bytes=self.max_target_bytes)
        return Reference(drawn, self.lengths.compressor, without_frames=self.without_frames)

    def flops(self, given: Given) -> float:
        pool = given.pool
        n_documents = sum(int((pool.document_bytes(shard) > 0).sum()) for shard in range(pool.n_shards))
        n_bytes = sum(text_bytes(r.texts.text.slice(0, self.first)) for r in self.references(given).values())
        return OPERATIONS_A_BYTE * n_documents * n_bytes

    def open(self, given: Given) -> Mapping[str, Reference]:
        return self.references(given)

    def of_batch(self, given: Given, opened: Any, batch: Batch) -> dict[str, NDArray[np.float64]]:
        text = first_bytes(batch.text, self.lengths.max_bytes)
        stop = batch.first_row + batch.n_rows
        alone = self.alone(given, batch.shard)[batch.first_row : stop]
        rows = np.flatnonzero(np.asarray(pc.binary_length(batch.text)) > 0)
        found = {}
        for name, reference in opened.items():
            column = np.full(batch.n_rows, np.nan)
            part = reference.similarity(text, alone, rows, 0, min(self.first, len(reference)))
            column[rows] = part.mean(axis=1)
            found[name] = column
        return found

    def alone(self, given: Given, shard: int) -> NDArray[np.int64]:
        """Lengths of all documents of a shard alone, int64, shape (D,)."""
        return np.asarray(given.columns(self.lengths, shard)["compressed_bytes"].to_numpy())
