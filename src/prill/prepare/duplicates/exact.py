"""Exact copies of whole documents: equal bytes, or equal normal forms.

Equal bytes need no pass of their own: the read step has hashed them. Normal forms (Unicode form, case fold,
spaces) are hashed in the pass that all measures share.

Source: Elazar et al. 2024, arXiv:2310.20707 (WIMBD), exact duplicates. Differs: 128-bit MurmurHash3 instead
of MD5; the normal form.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from prill.corpus.batch import Batch
from prill.corpus.columns import ColumnInfo, read_columns
from prill.features.normal_text import NORMAL_TEXT_VERSION, UnicodeForm, hash_normal_forms
from prill.prepare.duplicates._equal import KeyReader, ShardKeys, equal_documents, keys_in_index
from prill.prepare.duplicates._records import RECORD_BYTES, Rows
from prill.prepare.duplicates.clusters import (
    REHYDRATION,
    Quality,
    Weights,
    cluster_columns,
    cluster_counts,
    dropped,
    form_clusters,
    write_clusters,
)
from prill.prepare.duplicates.index import Index, index_table, write_index
from prill.prepare.measure import Drops, GroupingInputs
from prill.prepare.spans import Edits

__all__ = ["ExactDuplicates", "ExactKeys", "ExactSpec"]

EXACT_VERSION: Final = 1
COPY: Final = "exact copy of a kept document"
INDEXED: Final = "exact copy of an indexed document"


class ExactSpec(BaseModel):
    """What counts as an exact copy and what becomes of it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    by: Literal["bytes", "normal"] = Field(
        "bytes", description="What must be equal: the UTF-8 bytes, or the normal form below."
    )
    unicode: UnicodeForm = Field("NFC", description="Unicode normal form; only with `by: normal`.")
    fold_case: bool = Field(True, description="Compare without case; only with `by: normal`.")
    collapse_spaces: bool = Field(
        True, description="Compare runs of white space as one space; only with `by: normal`."
    )
    weights: Weights = Field(
        REHYDRATION,
        description="(smallest cluster size, weight) of the document that stays, ascending: FineWeb-2's.",
    )
    against: tuple[str, ...] = Field((), description="Index files; documents that copy indexed ones go.")
    index: str | None = Field(None, description="Write an index of the documents that stay to this file.")
    action: Literal["drop", "tag"] = Field("drop", description="drop: copies go; tag: only columns tell.")


@dataclass(frozen=True, kw_only=True)
class ExactKeys:
    """The measure `exact_keys`: the hash of every document's normal form."""

    spec: ExactSpec

    name: ClassVar[str] = "exact_keys"
    version: ClassVar[int] = EXACT_VERSION
    fields: ClassVar[tuple[str, ...]] = ("text",)

    @property
    def settings(self) -> Mapping[str, Any]:
        form = {key: getattr(self.spec, key) for key in ("unicode", "fold_case", "collapse_spaces")}
        return {**form, "normal_text": NORMAL_TEXT_VERSION}

    @property
    def policy(self) -> Mapping[str, Any]:
        return {}

    @property
    def columns(self) -> Sequence[ColumnInfo]:
        return [
            ColumnInfo(
                name=f"normal_{half}",
                unit="hash",
                version=NORMAL_TEXT_VERSION,
                summary=f"{half} half of the hash of the normal form",
            )
            for half in ("high", "low")
        ]

    def __call__(self, batch: Batch) -> dict[str, pa.Array | NDArray[Any]]:
        spec = self.spec
        high, low = hash_normal_forms(
            batch.text,
            unicode=spec.unicode,
            fold_case=spec.fold_case,
            collapse_spaces=spec.collapse_spaces,
        )
        return {"normal_high": high, "normal_low": low}

    def drops(self, table: pa.Table) -> Drops:
        return {}

    def edits(self, table: pa.Table) -> Edits | None:
        return None


@dataclass(frozen=True, kw_only=True)
class ExactDuplicates:
    """The grouping `exact`; made by `ExactDuplicates.of`.

    Attributes:
        against: the indexes of the specification, opened.
        index_path: where to write an index, or None.
        quality: of a shard's documents; decides which member of a cluster stays.
        quality_name: what the quality is, for the record; part of the settings.
    """

    spec: ExactSpec
    keys: ExactKeys | None
    against: tuple[Index, ...] = ()
    index_path: Path | None = None
    quality: Quality | None = None
    quality_name: str = ""

    name: ClassVar[str] = "exact"
    version: ClassVar[int] = EXACT_VERSION

    @classmethod
    def of(
        cls,
        spec: ExactSpec,
        base: Path | None = None,
        *,
        quality: Quality | None = None,
        quality_name: str = "",
    ) -> ExactDuplicates:
        """The grouping of a recipe; paths of indexes start from `base`.

        Raises:
            DataError: an index is missing, is none, or was made with other settings.
        """
        keys = ExactKeys(spec=spec) if spec.by == "normal" else None
        home, made = base or Path(), _index_settings(spec, keys)
        return cls(
            spec=spec,
            keys=keys,
            against=tuple(Index.of(home / path, "exact", made) for path in spec.against),
            index_path=None if spec.index is None else home / spec.index,
            quality=quality,
            quality_name=quality_name,
        )

    @property
    def settings(self) -> Mapping[str, Any]:
        return {
            **_index_settings(self.spec, self.keys),
            "weights": [list(step) for step in self.spec.weights],
            "against": [index.sha256 for index in self.against],
            "index": self.spec.index,
            "quality": self.quality_name,
        }

    @property
    def policy(self) -> Mapping[str, Any]:
        return {"action": self.spec.action}

    @property
    def columns(self) -> Sequence[ColumnInfo]:
        return [
            *cluster_columns("exact", what="exact copies", version=EXACT_VERSION),
            ColumnInfo(
                name="exact_indexed", version=EXACT_VERSION, summary="whether it copies an indexed document"
            ),
        ]

    def group(self, inputs: GroupingInputs) -> Mapping[str, Any]:
        """Find equal documents of all shards and write their columns."""
        rows, read = Rows.of(inputs.read_parts), self._reader(inputs)
        indexed = self._indexed(inputs, rows, read)
        places_M, labels_M, ids_M = equal_documents("exact", inputs, rows, read, indexed)
        clusters = form_clusters(places_M, labels_M, inputs, rows, quality=self.quality, ids_M=ids_M)

        def more(shard: int, part: slice) -> dict[str, pa.Array]:
            first, stop = rows.starts[shard : shard + 2]
            is_indexed = np.zeros(int(stop - first), np.bool_)
            is_indexed[indexed[rows.within(shard, indexed)] - first] = True
            return {"exact_indexed": pa.array(is_indexed)}

        write_clusters("exact", clusters, inputs, rows, self.columns, weights=self.spec.weights, more=more)
        counts = cluster_counts(clusters)
        if self.against:
            counts["n_indexed_copies"] = len(indexed)
        if self.index_path is not None:
            tables = self._index_tables(inputs, read)
            made = _index_settings(self.spec, self.keys)
            counts["n_written_to_index"] = write_index(self.index_path, tables, "exact", made)
        return counts

    def drops(self, table: pa.Table) -> Drops:
        if self.spec.action == "tag":
            return {}
        indexed = np.asarray(pc.fill_null(table["exact_indexed"], False), dtype=np.bool_)
        return {INDEXED: indexed, COPY: dropped("exact", table) & ~indexed}

    def edits(self, table: pa.Table) -> Edits | None:
        return None

    def scratch_bytes(self, n_documents: int, n_bytes: int) -> int:
        """Most bytes of temporary files: a key and a place a document."""
        return RECORD_BYTES * n_documents

    def plan_lines(self) -> list[str]:
        return []

    def _reader(self, inputs: GroupingInputs) -> KeyReader:
        names = ["normal_high", "normal_low"] if self.keys else ["hash_high", "hash_low"]
        parts = inputs.key_parts if self.keys else inputs.read_parts

        def read(shard: int) -> ShardKeys:
            table = read_columns(parts[shard], names)
            high, low = (table[name].to_numpy() for name in names)
            return high, low, np.ones(len(low), np.bool_)

        return read

    def _indexed(self, inputs: GroupingInputs, rows: Rows, read: KeyReader) -> NDArray[np.int64]:
        found = [np.empty(0, np.int64)]
        for index in self.against:
            for batch in index.batches(["hash_high", "hash_low"]):
                keys = np.stack([batch.column(0).to_numpy(), batch.column(1).to_numpy()], axis=1)
                found.append(keys_in_index(keys, inputs, rows, read))
        return np.unique(np.concatenate(found))

    def _index_tables(self, inputs: GroupingInputs, read: KeyReader) -> Iterator[pa.Table]:
        for shard, path in enumerate(inputs.parts):
            own = read_columns(path, ["exact_keep", "exact_indexed"])
            keep = np.asarray(pc.fill_null(own["exact_keep"], False), dtype=np.bool_)
            stays = keep & ~own["exact_indexed"].to_numpy()
            high, low, _ = read(shard)
            yield index_table(high[stays], low[stays])


def _index_settings(spec: ExactSpec, keys: ExactKeys | None) -> Mapping[str, Any]:
    return {"by": spec.by, **(keys.settings if keys else {})}
