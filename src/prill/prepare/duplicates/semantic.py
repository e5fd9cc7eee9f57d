"""Documents that say the same: vectors, clusters of them, and in each cluster neighbours that are too near.

Vectors are clustered by k-means; inside a cluster documents are ordered (farthest from the centroid first, as
published), and each learns the largest cosine to one before it. A document whose cosine reaches 1 - epsilon
is a duplicate; epsilon is policy, so it can change without a vector being computed again.

Source: Abbas et al. 2023, arXiv:2303.09540, section 3 and algorithm A7 (SemDeDup). Differs: vectors of the
default `hashed` know words, not meanings, and are centred on the corpus first, so that what all documents
share does not count; clusters are fitted on a sample keyed by the text.

Legend: D documents of a shard, N of all, K dimensions, M members of a cluster.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from prill.corpus.batch import Batch
from prill.corpus.columns import ColumnInfo, write_columns
from prill.errors import DataError
from prill.features.embeddings import EMBEDDING_VERSION, Embedder
from prill.prepare.duplicates.neighbours import Neighbours
from prill.prepare.measure import Drops, GroupingInputs, Measure
from prill.prepare.spans import Edits

__all__ = ["Embeddings", "SemanticDuplicates", "SemanticSpec"]

_VERSION = 1


class SemanticSpec(BaseModel):
    """Documents whose vectors point the same way."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    embedding: Literal["hashed", "static", "encoder", "columns"] = Field(
        "hashed",
        description="hashed: words and word pairs, no model; static: token vectors in a local folder; "
        "encoder: a sentence encoder in a local folder (extra `semantic`); columns: vectors that you made.",
    )
    path: str | None = Field(
        None,
        description="Folder of the model (tokenizer.json, model.safetensors), or of the columns "
        "(part-00000.parquet, ... row for row with the shards).",
    )
    column: str = Field("embedding", description="Column with the vectors, for `embedding: columns`.")
    dimensions: Literal[64, 128, 256, 512, 1024] = Field(256, description="Dimensions of `hashed` vectors.")
    clusters: int | None = Field(
        None, ge=1, le=1_000_000, description="Clusters; when not given, one for every 1000 documents."
    )
    rounds: int = Field(10, ge=1, le=100, description="Rounds of k-means, at most.")
    keep: Literal["farthest", "nearest", "first"] = Field(
        "farthest",
        description="Which of documents that say the same stays: the farthest from the centre of its cluster "
        "(as published: the least typical), the nearest, or the first of the corpus.",
    )
    epsilon: float = Field(
        0.05, ge=0, le=1, description="Documents with a cosine of at least 1 - epsilon say the same."
    )
    action: Literal["drop", "tag"] = Field(
        "drop", description="drop: all but one go; tag: only the columns are written."
    )

    @model_validator(mode="after")
    def _a_path_where_one_is_needed(self) -> SemanticSpec:
        if (self.path is None) != (self.embedding == "hashed"):
            raise ValueError(
                f"`path` goes with `embedding: static`, `encoder` or `columns`, found {self.path!r}"
            )
        return self


@dataclass(frozen=True, kw_only=True)
class Embeddings:
    """The vector of each document, as a measure: what `SemanticDuplicates` groups by."""

    embedder: Embedder

    name: ClassVar[str] = "embeddings"
    version: ClassVar[int] = EMBEDDING_VERSION
    fields: ClassVar[tuple[str, ...]] = ("text",)

    @property
    def settings(self) -> Mapping[str, Any]:
        made = self.embedder
        if made.kind == "hashed":
            return {"kind": made.kind, "dimensions": made.n_dimensions}
        return {"kind": made.kind, "model": made.digest}

    @property
    def policy(self) -> Mapping[str, Any]:
        return {}

    @property
    def columns(self) -> Sequence[ColumnInfo]:
        said = f"vector of the document, {self.embedder.kind}"
        state = self.embedder.digest[:16]
        return (ColumnInfo(name="embedding", version=self.version, state=state, summary=said),)

    def __call__(self, batch: Batch) -> dict[str, pa.Array | NDArray[Any]]:
        vectors_DK = self.embedder(batch.text)
        values = pa.array(np.ascontiguousarray(vectors_DK).reshape(-1))
        return {"embedding": pa.FixedSizeListArray.from_arrays(values, vectors_DK.shape[1])}

    def drops(self, table: pa.Table) -> Drops:
        return {}

    def edits(self, table: pa.Table) -> Edits | None:
        return None


@dataclass(frozen=True, kw_only=True)
class SemanticDuplicates:
    """Documents that say what another one says; made by `SemanticDuplicates.of`."""

    spec: SemanticSpec
    embedder: Embedder | None
    folder: Path | None = None

    name: ClassVar[str] = "semantic"
    version: ClassVar[int] = _VERSION

    @classmethod
    def of(cls, spec: SemanticSpec, base: Path | None = None) -> SemanticDuplicates:
        """The grouping of a recipe; `path` starts from `base`.

        Raises:
            DataError: there is no model, or there are no columns, in the folder.
            ResourceError: the packages of a sentence encoder are missing.
        """
        folder = None if spec.path is None else (base or Path()) / spec.path
        if spec.embedding == "columns":
            if folder is None or not folder.is_dir():
                raise DataError("expected a folder with columns, found none", where=str(folder))
            return cls(spec=spec, embedder=None, folder=folder)
        embedder = Embedder.of(spec.embedding, n_dimensions=spec.dimensions, folder=folder)
        return cls(spec=spec, embedder=embedder, folder=folder)

    @property
    def keys(self) -> Measure | None:
        return None if self.embedder is None else Embeddings(embedder=self.embedder)

    @property
    def settings(self) -> Mapping[str, Any]:
        spec = self.spec
        chosen = {"clusters": spec.clusters, "rounds": spec.rounds, "keep": spec.keep}
        if self.keys is None:
            assert self.folder is not None
            sizes = {path.name: path.stat().st_size for path in sorted(self.folder.glob("part-*.parquet"))}
            return {**chosen, "column": spec.column, "files": sizes}
        return {**chosen, **self.keys.settings}

    @property
    def policy(self) -> Mapping[str, Any]:
        return {"action": self.spec.action, "epsilon": self.spec.epsilon}

    @property
    def columns(self) -> Sequence[ColumnInfo]:
        said = {
            "semantic_cluster": "cluster of vectors; null where there is none",
            "semantic_cosine": "largest cosine to a document of the cluster that is preferred to this one",
            "semantic_shard": "shard of that document",
            "semantic_row": "row of that document",
        }
        return tuple(
            ColumnInfo(name=name, version=self.version, summary=summary) for name, summary in said.items()
        )

    def group(self, inputs: GroupingInputs) -> Mapping[str, Any]:
        """See `Grouping.group`. Scratch: the vectors of kept documents, 4 bytes a dimension."""
        shards = range(len(inputs.parts))
        neighbours = Neighbours(
            folder=inputs.scratch,
            files=self._files(inputs),
            column="embedding" if self.embedder else self.spec.column,
            is_centred=self.spec.embedding == "hashed",
            keep=self.spec.keep,
        )
        n_clusters = neighbours.find(inputs, n_clusters=self.spec.clusters, n_rounds=self.spec.rounds)
        write = partial(self._write, inputs, neighbours)
        counts = inputs.engine.map(write, shards, kind="threads", name=f"{self.name}: write")
        return {"n_clusters": n_clusters, "n_vectors": int(sum(counts))}

    def drops(self, table: pa.Table) -> Drops:
        """Documents with a cosine of at least 1 - epsilon to one that is preferred."""
        if self.spec.action == "tag":
            return {}
        cosine_D = np.asarray(table["semantic_cosine"].combine_chunks().fill_null(-2.0))
        return {"says the same as another document": cosine_D >= np.float32(1 - self.spec.epsilon)}

    def edits(self, table: pa.Table) -> Edits | None:
        return None

    def scratch_bytes(self, n_documents: int, n_bytes: int) -> int:
        """Most bytes of temporary files: a vector of four-byte numbers a document."""
        return 4 * (self.spec.dimensions if self.spec.embedding == "hashed" else 1024) * n_documents

    def plan_lines(self) -> list[str]:
        return []

    def _files(self, inputs: GroupingInputs) -> Sequence[Path]:
        if self.embedder is not None:
            return inputs.key_parts
        assert self.folder is not None
        return [self.folder / f"part-{shard:05d}.parquet" for shard in range(len(inputs.parts))]

    def _write(self, inputs: GroupingInputs, neighbours: Neighbours, shard: int) -> int:
        found = neighbours.of_shard(shard, len(inputs.is_kept(shard)))
        columns = {
            "semantic_cluster": pa.array(found.clusters, mask=found.clusters < 0),
            "semantic_cosine": pa.array(found.cosines, mask=found.rows < 0),
            "semantic_shard": pa.array(found.shards, mask=found.rows < 0),
            "semantic_row": pa.array(found.rows, mask=found.rows < 0),
        }
        write_columns(inputs.parts[shard], columns, self.columns)
        return int((found.clusters >= 0).sum())
