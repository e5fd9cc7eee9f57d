"""Lengths of texts under general compressors, alone and with a target text behind them.

gzip of levels 4 to 9 is counted by kernels of our own (`_deflate_kernel`), to the byte what zlib makes, with
the work shared between pairs; levels 1 to 3 and pairs of more than 65,000 bytes go through this Python's zlib
with its state copied; the others through Arrow's codecs. All of it frees the interpreter, so that threads
work side by side. Headers and trailers count, as they do in the files that gzip, zstd, lz4 and brotli write.

Legend: D documents, N target texts, R chosen rows, C chosen target texts.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from prill.corpus.batch import text_buffers
from prill.corpus.columns import ColumnInfo
from prill.errors import RecipeError
from prill.features.feature import ColumnFeature, Given

if TYPE_CHECKING:
    from prill.corpus.batch import Batch

__all__ = ["LEVELS", "Codec", "CompressedLengths", "Compressor", "TargetTexts", "first_bytes"]

Codec: TypeAlias = Literal["gzip", "zstd", "lz4", "brotli"]

LEVELS: Final[dict[str, tuple[int, int]]] = {
    "gzip": (1, 9),
    "zstd": (0, 22),
    "lz4": (0, 16),
    "brotli": (0, 11),
}
"""Lowest and highest level; 0 of zstd is its level 3, and gzip has a level 0 that stores."""

_GZIP_FRAME: Final = 18  # a header of 10 bytes, a trailer of 8
_LZ4_SIZE: Final = 8  # the length of the text in the frame, which the lz4 tools write and Arrow does not
_WBITS_GZIP: Final = 31


@dataclass(frozen=True, kw_only=True)
class Compressor:
    """One codec at one level.

    Attributes:
        codec: gzip, zstd (a frame with its length), lz4 (a frame with its length) or brotli (window 22).
        level: as in `LEVELS`; gzip 0 stores, and has to be asked for (`is_storing`).
        is_storing: whether gzip may be asked not to compress.
    Raises:
        RecipeError: there is no such level.
    """

    codec: Codec = "gzip"
    level: int = 6
    is_storing: bool = False

    def __post_init__(self) -> None:
        lowest, highest = LEVELS[self.codec]
        if self.codec == "gzip" and self.level == 0:
            if not self.is_storing:
                raise RecipeError(
                    "expected a gzip level from 1 to 9, found 0, which stores without compressing: every "
                    "score would be 23 / (longer text + 23) and tell lengths apart, nothing else",
                    hint="set level: 6, or compat: true to have the reference's defect",
                )
            return
        if not lowest <= self.level <= highest:
            raise RecipeError(
                f"expected a level of {self.codec} from {lowest} to {highest}, found {self.level}"
            )

    @property
    def empty_bytes(self) -> int:
        """Length of nothing, compressed: what a codec writes around every text."""
        return int(self.lengths(pa.array([""], pa.large_string()))[0])

    def lengths(self, text: pa.Array) -> NDArray[np.int64]:
        """Bytes of every text, compressed alone, int64, shape (D,).

        Args:
            text: large_string or large_binary without nulls, any slice.
        """
        offsets_D1, data = text_buffers(text)
        bytes_D = np.full(len(text), -1, np.int64)
        if self._is_kernel:
            from prill.features._deflate_kernel import alone, scratch

            alone(offsets_D1, data, self._config, _tables(), scratch(), bytes_D)
            bytes_D[bytes_D >= 0] += _GZIP_FRAME
        view = data.data
        for d in np.flatnonzero(bytes_D < 0).tolist():
            bytes_D[d] = self._length(view[offsets_D1[d] : offsets_D1[d + 1]])
        return bytes_D

    @property
    def _is_kernel(self) -> bool:
        return self.codec == "gzip" and self.level >= 4

    @property
    def _config(self) -> NDArray[np.int64]:
        from prill.features._deflate_kernel import CONFIG

        return np.array(CONFIG[self.level], np.int64)

    def _length(self, data: memoryview | bytes) -> int:
        if self.codec == "gzip":
            return len(zlib.compress(data, self.level, _WBITS_GZIP))
        size = len(_arrow_codec(self.codec, self.level).compress(pa.py_buffer(data)))
        return size + _LZ4_SIZE if self.codec == "lz4" and len(data) else size


class TargetTexts:
    """Texts to be put behind documents, with what can be known of them once.

    Attributes:
        compressor: for all lengths here.
        text: N of them.
        alone_N: their own lengths, int64.
    """

    def __init__(self, text: pa.Array, compressor: Compressor) -> None:
        self.compressor = compressor
        self.text = text
        self.alone_N = compressor.lengths(text)
        self._offsets, self._data = text_buffers(text)
        self._own = self._prepared() if compressor._is_kernel else None

    def __len__(self) -> int:
        return len(self.alone_N)

    def joint_lengths(
        self, text: pa.Array, rows: NDArray[np.int64], columns: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Bytes of documents with target texts behind them, nothing between, int64, shape (R, C).

        Args:
            text: large_string or large_binary without nulls, any slice.
            rows: which documents, int64, shape (R,).
            columns: which target texts, int64, shape (C,).
        """
        joint_RC = np.full((len(rows), len(columns)), -1, np.int64)
        offsets, data = text_buffers(text)
        if self._own is not None:
            from prill.features._deflate_kernel import jointly, scratch

            source, behind = (offsets, data), (self._offsets, self._data)
            config = self.compressor._config
            jointly(source, rows, behind, self._own, columns, config, _tables(), scratch(), joint_RC)
            joint_RC[joint_RC >= 0] += _GZIP_FRAME
        view = data.data
        for r in np.flatnonzero((joint_RC < 0).any(axis=1)).tolist():
            left = np.flatnonzero(joint_RC[r] < 0)
            document = view[offsets[rows[r]] : offsets[rows[r] + 1]]
            joint_RC[r, left] = self._behind_one(document, columns[left].tolist())
        return joint_RC

    def _prepared(self) -> NDArray[np.uint16]:
        from prill.features._deflate_kernel import OWN, prepare, scratch

        first = int(self._offsets[0])
        own_P = np.zeros((int(self._offsets[-1]) - first, OWN), np.uint16)
        self._offsets, self._data = self._offsets - first, self._data[first:]
        prepare(self._offsets, self._data, self.compressor._config, scratch(), own_P)
        return own_P

    def _behind_one(self, document: memoryview, columns: Sequence[int]) -> list[int]:
        view, ends = self._data.data, self._offsets
        texts = [view[ends[j] : ends[j + 1]] for j in columns]
        if self.compressor.codec != "gzip" or self.compressor.level == 0:
            return [self.compressor._length(bytes(document) + bytes(text)) for text in texts]
        begun = zlib.compressobj(self.compressor.level, zlib.DEFLATED, _WBITS_GZIP)
        n_before = len(begun.compress(document))
        found = []
        for text in texts:
            taken_up = begun.copy()
            found.append(n_before + len(taken_up.compress(text)) + len(taken_up.flush()))
        return found


@dataclass(frozen=True, kw_only=True)
class CompressedLengths(ColumnFeature):
    """How long every document is, compressed alone.

    Attributes:
        codec, level, is_storing: as in `Compressor`.
        max_bytes: only so many first bytes of a document; 0 for all.
    """

    kind: ClassVar[str] = "compression"
    codec: Codec = "gzip"
    level: int = 6
    is_storing: bool = False
    max_bytes: int = 0

    @property
    def label(self) -> str:
        return f"lengths under {self.codec} {self.level}"

    @property
    def compressor(self) -> Compressor:
        """Codec and level.

        Raises:
            RecipeError: there is no such level.
        """
        return Compressor(codec=self.codec, level=self.level, is_storing=self.is_storing)

    @property
    def columns(self) -> Sequence[ColumnInfo]:
        span = f"the first {self.max_bytes:,} bytes" if self.max_bytes else "whole document"
        summary = f"length under {self.codec} {self.level}, header and trailer included"
        return [
            ColumnInfo(
                name="compressed_bytes", unit="bytes", span=span, version=self.version, summary=summary
            )
        ]

    def of_batch(self, given: Given, opened: Any, batch: Batch) -> dict[str, NDArray[np.int64]]:
        return {"compressed_bytes": self.compressor.lengths(first_bytes(batch.text, self.max_bytes))}


def first_bytes(text: pa.Array, most: int) -> pa.Array:
    """The texts, each cut to so many bytes, perhaps within a character; all of them for 0."""
    offsets, data = text_buffers(text)
    if most == 0 or len(text) == 0 or int(np.diff(offsets).max()) <= most:
        return text
    view = data.data
    starts, stops = offsets[:-1], np.minimum(offsets[1:], offsets[:-1] + most)
    cut = [bytes(view[a:b]) for a, b in zip(starts.tolist(), stops.tolist(), strict=True)]
    return pa.array(cut, pa.large_binary())


@functools.cache
def _tables() -> NDArray[np.uint8]:
    from prill.features._deflate_block_kernel import deflate_tables

    tables = deflate_tables()
    tables.setflags(write=False)
    return tables


def _arrow_codec(codec: str, level: int) -> pa.Codec:
    return pa.Codec(codec, compression_level=level)
