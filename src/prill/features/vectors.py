"""Vectors of the pool's documents, of length one: made once, shared by everything that compares documents.

Three levels, as `embeddings` has them: hashed words (no model), a table of token vectors, an encoder. A row
of zeros is a document in which nothing was seen. Vectors are written and read by row groups, so that memory
is bounded by a batch.

Legend: D documents, W windows, K dimensions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from prill.corpus.columns import ColumnInfo, columns_schema
from prill.engine import Kind
from prill.errors import DataError
from prill.features.embedding_models import MAX_TOKENS
from prill.features.embeddings import EMBEDDING_VERSION, Embedder, Embedding, Pooling
from prill.features.feature import Given, ShardFeature, WholeFeature
from prill.features.keyed import derive_seed
from prill.features.text_hash import hash_documents
from prill.features.windows import BYTES_PER_TOKEN, WINDOW_NAMES, Window, window_span
from prill.run.atomic import atomic_path, atomic_write

__all__ = ["TargetVectors", "VectorRows", "VectorSample", "Vectors", "unit_length"]

_NAMES = ("vector", "vector_middle", "vector_bottom")
_ROWS_AT_ONCE = 16_384


@dataclass(frozen=True, kw_only=True)
class VectorRows:
    """Vectors of consecutive documents of a shard.

    Attributes:
        first_row: of the first.
        vectors: float32, shape (D, W, K), each of length one or zero; W is 1, or 3 for windows.
        n_windows: int8, shape (D,), how many of the W a document has: 0 without text, else 1 or 3.
    """

    first_row: int
    vectors: NDArray[np.float32]
    n_windows: NDArray[np.int8]


@dataclass(frozen=True, kw_only=True)
class VectorSample:
    """Vectors of N sampled documents.

    Attributes:
        vectors: float32, shape (N, W, K).
        n_windows: int8, shape (N,).
        key: lower half of the text's hash, uint64, shape (N,).
    """

    vectors: NDArray[np.float32]
    n_windows: NDArray[np.int8]
    key: NDArray[np.uint64]


@dataclass(frozen=True, kw_only=True)
class Vectors(ShardFeature):
    """Vectors of all documents. Make one with `Vectors.of`, which looks into the folder.

    Attributes:
        embedding: what gives the vectors.
        n_dimensions: K of `hashed`, a power of two; what the model has for the others.
        window: whole: all that the embedding sees; head: the first tokens; three: top, middle and bottom.
        n_tokens: of a window; of 4 bytes each where the embedding is `hashed`.
        pooling: of an encoder's last states: their mean, or the first.
        storage: float16 keeps 11 bits of every value, which is far below what embeddings resolve.
        model: hash of the model's folder; empty for `hashed`.
        folder: of the model.
    """

    kind: ClassVar[str] = "vectors"
    version: ClassVar[int] = EMBEDDING_VERSION
    rests_on: ClassVar[Literal["texts", "pool"]] = "texts"
    embedding: Embedding = "hashed"
    n_dimensions: int = 256
    window: Window = "whole"
    n_tokens: int = 512
    pooling: Pooling = "mean"
    storage: Literal["float32", "float16"] = "float16"
    model: str = ""
    folder: Path | None = field(default=None, compare=False)

    @classmethod
    def of(
        cls,
        embedding: Embedding = "hashed",
        *,
        n_dimensions: int = 256,
        window: Window = "whole",
        n_tokens: int = 512,
        pooling: Pooling | None = None,
        storage: Literal["float32", "float16"] = "float16",
        folder: Path | None = None,
    ) -> Vectors:
        """The feature for a model in a folder, or for hashed words.

        Args:
            pooling: None takes what the folder says of itself, else the mean.
        Raises:
            DataError: no model lies in the folder, or it needs code that it brings along.
            ResourceError: the packages of an encoder are missing.
        """
        embedder = Embedder.of(embedding, n_dimensions=n_dimensions, folder=folder, pooling=pooling)
        return cls(
            embedding=embedding,
            n_dimensions=embedder.n_dimensions,
            window=window,
            n_tokens=n_tokens,
            pooling=embedder.pooling,
            storage=storage,
            model=embedder.digest,
            folder=folder if embedding != "hashed" else None,
        )

    @property
    def engine_kind(self) -> Kind:  # type: ignore[override]
        """Hashing frees the interpreter; models are loaded once in each process."""
        return "threads" if self.embedding == "hashed" else "processes"

    @property
    def label(self) -> str:
        what = {"hashed": "hashed words", "static": "token vectors", "encoder": "an encoder"}[self.embedding]
        seen = {"whole": "", "head": ", head", "three": ", three windows"}[self.window]
        return f"vectors of {what}{seen}"

    @property
    def settings(self) -> dict[str, Any]:
        return {name: value for name, value in super().settings.items() if name != "folder"}

    @property
    def n_windows(self) -> int:
        """W."""
        return 3 if self.window == "three" else 1

    @property
    def span(self) -> str:
        """The part of a document that is seen, in words."""
        if self.window == "whole":
            return self.embedder.span
        return window_span(self.window, self.n_tokens, in_bytes=self.embedding == "hashed")

    @property
    def columns(self) -> Sequence[ColumnInfo]:
        """What the columns mean."""
        of_model = f" of the model {self.model[:12]}" if self.model else ""
        infos = [
            ColumnInfo(
                name=name,
                span=self.span if self.n_windows == 1 else f"{window} window of {self.span}",
                version=self.version,
                summary=f"{self.embedding} embedding{of_model}, length one; zeros where nothing was seen",
            )
            for name, window in zip(_NAMES[: self.n_windows], WINDOW_NAMES, strict=False)
        ]
        summary = "windows that the document has; 0 without text"
        return [*infos, ColumnInfo(name="n_windows", version=self.version, summary=summary)]

    @cached_property
    def embedder(self) -> Embedder:
        """What gives the vectors."""
        return Embedder(
            kind=self.embedding,
            n_dimensions=self.n_dimensions,
            folder=self.folder,
            digest=self.model,
            pooling=self.pooling,
        )

    def embed(self, text: pa.Array) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
        """The vectors of any texts as the pool's are, rounded as they are stored.

        Args:
            text: large_string without nulls, D documents.
        Returns:
            float32, shape (D, W, K), of length one or zero; and how many windows each document has, int8.
        Raises:
            DataError: the model gives vectors that are not finite.
        """
        if self.window == "whole":
            raw_WDK = [self.embedder(text)]
            n_windows_D = (np.asarray(pa.compute.binary_length(text)) > 0).astype(np.int8)
        else:
            is_head = self.window == "head"
            raw_WDK, n_windows_D = self.embedder.in_windows(text, self.n_tokens, is_head=is_head)
        unit_DWK = np.stack([unit_length(raw_DK) for raw_DK in raw_WDK], axis=1)
        if not np.isfinite(unit_DWK).all():
            raise DataError(
                "expected finite vectors, found others",
                where=str(self.folder),
                hint="the weights of the model are not numbers",
            )
        return unit_DWK.astype(self.storage).astype(np.float32), n_windows_D

    def write(self, given: Given, shard: int, path: Path) -> None:
        value = pa.float16() if self.storage == "float16" else pa.float32()
        names = _NAMES[: self.n_windows]
        types = {name: pa.list_(value, self.n_dimensions) for name in names}
        schema = columns_schema({**types, "n_windows": pa.int8()}, self.columns)
        with (
            atomic_path(path, flush=False) as temporary,
            pq.ParquetWriter(
                temporary,
                schema,
                compression="lz4",
                use_dictionary=False,
                write_statistics=False,
                write_page_checksum=True,
            ) as writer,
        ):
            for batch in given.pool.batches(shard):
                vectors_DWK, n_windows_D = self.embed(batch.text)
                arrays = [
                    pa.FixedSizeListArray.from_arrays(
                        pa.array(vectors_DWK[:, w].astype(self.storage).reshape(-1)), self.n_dimensions
                    )
                    for w in range(self.n_windows)
                ]
                writer.write_table(pa.Table.from_arrays([*arrays, pa.array(n_windows_D)], schema=schema))

    def flops(self, given: Given) -> float:
        if self.embedding != "encoder":
            return 0.0
        seen = self.n_windows * min(self.n_tokens, MAX_TOKENS) * BYTES_PER_TOKEN
        n_bytes = sum(
            int(np.minimum(given.pool.document_bytes(shard), seen).sum())
            for shard in range(given.pool.n_shards)
        )
        return 2.0 * self.embedder.n_parameters * n_bytes / BYTES_PER_TOKEN

    def stored(self, given: Given, shard: int) -> Iterator[VectorRows]:
        """The vectors of one shard of the pool, a batch at a time, in order.

        Raises:
            DataError: the file is damaged.
        """
        path = given.files(self)[shard]
        try:
            yield from self._stored(path)
        except (pa.ArrowException, OSError) as error:
            message = f"expected a whole file of vectors, found damage: {error}"
            raise DataError(message, where=str(path), hint="remove the file and run again") from error

    def read(self, given: Given, shard: int) -> NDArray[np.float32]:
        """The first window's vectors of a whole shard, float32, shape (D, K); for small shards and tests."""
        parts = [rows.vectors[:, 0] for rows in self.stored(given, shard)]
        return np.concatenate(parts) if parts else np.zeros((0, self.n_dimensions), np.float32)

    def sample(self, given: Given, *, n_documents: int, use: str) -> VectorSample:
        """Vectors of about so many eligible documents, by keyed draws, in the order of keys.

        The same whatever the shards: documents with equal keys have equal vectors. Documents without a vector
        are left out, so there may be none.
        """
        seed = derive_seed(given.seed, f"{use}.sample")
        share = given.pool.share_of(n_documents=n_documents)
        parts = [np.zeros((0, self.n_windows, self.n_dimensions), np.float32)]
        numbers, keys = [np.zeros(0, np.int8)], [np.zeros(0, np.uint64)]
        for shard in range(given.pool.n_shards):
            chosen = given.pool.is_sampled(shard, share=share, seed=seed)
            shard_keys = given.pool.keys(shard)
            for rows in self.stored(given, shard):
                span = slice(rows.first_row, rows.first_row + len(rows.vectors))
                wanted = chosen[span] & np.any(rows.vectors[:, 0] != 0, axis=1)
                parts.append(rows.vectors[wanted])
                numbers.append(rows.n_windows[wanted])
                keys.append(shard_keys[span][wanted])
        key = np.concatenate(keys)
        order = np.argsort(key, kind="stable")
        return VectorSample(
            vectors=np.concatenate(parts)[order], n_windows=np.concatenate(numbers)[order], key=key[order]
        )

    def _stored(self, path: Path) -> Iterator[VectorRows]:
        first_row = 0
        with pq.ParquetFile(path, page_checksum_verification=True) as parquet:
            for batch in parquet.iter_batches(batch_size=_ROWS_AT_ONCE, use_threads=False):
                columns = [batch.column(name).flatten().to_numpy() for name in _NAMES[: self.n_windows]]
                vectors_WDK = [column.reshape(batch.num_rows, -1).astype(np.float32) for column in columns]
                yield VectorRows(
                    first_row=first_row,
                    vectors=np.stack(vectors_WDK, axis=1),
                    n_windows=batch.column("n_windows").to_numpy(),
                )
                first_row += batch.num_rows


@dataclass(frozen=True, kw_only=True)
class TargetVectors(WholeFeature):
    """Vectors of a target's fit texts, as the pool's are.

    Attributes:
        vectors: how the pool's are made. Only its settings are used: it need not be computed.
        targets: the name of one target.
    """

    kind: ClassVar[str] = "target-vectors"
    rests_on: ClassVar[Literal["texts", "pool"]] = "texts"
    of_pool: Vectors
    targets: tuple[str, ...]

    @property
    def is_apart(self) -> bool:  # type: ignore[override]
        """Models run in a process of one thread; hashing is done before one would start."""
        return self.of_pool.embedding != "hashed"

    @property
    def label(self) -> str:
        return f"vectors of target {self.targets[0]}"

    @property
    def needs(self) -> tuple[Vectors, ...]:
        return ()

    @property
    def settings(self) -> dict[str, Any]:
        return {"of_pool": self.of_pool.digest}

    @property
    def files(self) -> tuple[str, ...]:
        return ("vectors.safetensors",)

    def build(self, given: Given, paths: Sequence[Path]) -> dict[str, Any]:
        from safetensors.numpy import save

        text = given.targets[self.targets[0]]
        vectors_DWK, n_windows_D = self.of_pool.embed(text)
        _, key_D = hash_documents(text)
        atomic_write(paths[0], save({"key": key_D, "n_windows": n_windows_D, "vectors": vectors_DWK}))
        return {"documents": len(text), "without_text": int((n_windows_D == 0).sum())}

    def read(self, given: Given) -> VectorSample:
        """Vectors of all fit texts, in their order; zeros for those without a word."""
        from safetensors.numpy import load_file

        stored = load_file(given.file(self))
        return VectorSample(vectors=stored["vectors"], n_windows=stored["n_windows"], key=stored["key"])


def unit_length(vectors_DK: NDArray[np.float32]) -> NDArray[np.float32]:
    """Every row divided by its length; zeros stay."""
    wide_DK = vectors_DK.astype(np.float64)
    norm_D1 = np.sqrt((wide_DK * wide_DK).sum(axis=1, keepdims=True))
    return np.asarray(wide_DK / np.where(norm_D1 > 0, norm_D1, 1.0), np.float32)
