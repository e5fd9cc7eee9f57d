"""Near copies: documents that share most of their word n-grams.

Each document is signed in the pass that all measures share. The grouping then looks for equal band keys over
all shards, reads the candidates' text again and compares their sets of shingles; pairs above the threshold
are joined, and of each cluster one document stays. Which pairs are compared, and so the clusters, depend on
the documents alone, not on shards, memory or workers.

Source: Broder 1997, "On the resemblance and containment of documents"; Penedo et al. 2024, arXiv:2406.17557,
appendix E.1 (14 bands of 8 rows, word 5-grams), and FineWeb-2 for the weights.
Differs: pairs are compared (`verify: false` joins all that share a band, as datatrove does); the document
that stays is chosen by a rule and not by the order of files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from prill.corpus.batch import Batch
from prill.corpus.columns import ColumnInfo
from prill.features.minhash import MINHASH_VERSION, sign_documents
from prill.prepare.duplicates.clusters import REHYDRATION, Quality, Weights, cluster_columns, dropped
from prill.prepare.duplicates.curve import curve_lines, scratch_bytes
from prill.prepare.duplicates.index import Index
from prill.prepare.measure import Drops, GroupingInputs
from prill.prepare.spans import Edits

__all__ = ["NearDuplicates", "NearKeys", "NearSpec"]

NEAR_VERSION: Final = 1
COPY: Final = "near copy of a kept document"
INDEXED: Final = "near copy of an indexed document"


class NearSpec(BaseModel):
    """How near copies are found and what becomes of them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    n: int = Field(5, ge=1, le=64, description="Words of a shingle; characters in scripts without spaces.")
    bands: int = Field(14, ge=1, le=512, description="Bands; one with equal rows makes a pair a candidate.")
    rows: int = Field(8, ge=1, le=64, description="Rows of a band; more rows make the curve steeper.")
    family: Literal["fast", "reference"] = Field(
        "fast",
        description="Words and hashes: our own, or datatrove's normal form, xxHash64 and permutations.",
    )
    seed: int = Field(1, ge=0, lt=1 << 32, description="Seed of the permutations; only for `reference`.")
    verify: bool = Field(
        True, description="Compare the candidates' sets of shingles; false joins all that share a band."
    )
    threshold: float = Field(
        0.7,
        gt=0,
        le=1,
        description="Least Jaccard similarity of a pair. 14 bands of 8 find more than half of all pairs from "
        "here on; below it, what is found is chance.",
    )
    leaders: int = Field(
        8,
        ge=1,
        le=1000,
        description="Documents of one key that all others of the key are compared with.",
    )
    weights: Weights = Field(
        REHYDRATION,
        description="(smallest cluster size, weight) of the document that stays, ascending: FineWeb-2's.",
    )
    against: tuple[str, ...] = Field((), description="Index files; documents that copy indexed ones go.")
    index: str | None = Field(None, description="Write an index of the documents that stay to this file.")
    sketch: int = Field(
        256,
        ge=16,
        le=1 << 16,
        description="Shingles of a document that an index keeps; shorter documents are compared exactly.",
    )
    action: Literal["drop", "tag"] = Field("drop", description="drop: copies go; tag: only columns tell.")


@dataclass(frozen=True, kw_only=True)
class NearKeys:
    """The measure `near_keys`: band keys of every document."""

    spec: NearSpec

    name: ClassVar[str] = "near_keys"
    version: ClassVar[int] = NEAR_VERSION
    fields: ClassVar[tuple[str, ...]] = ("text",)

    @property
    def settings(self) -> Mapping[str, Any]:
        kept = {key: getattr(self.spec, key) for key in ("n", "bands", "rows", "family")}
        seed = {"seed": self.spec.seed} if self.spec.family == "reference" else {}
        return {**kept, **seed, "minhash": MINHASH_VERSION}

    @property
    def policy(self) -> Mapping[str, Any]:
        return {}

    @property
    def columns(self) -> Sequence[ColumnInfo]:
        summaries = {
            "near_keys": ("hash", "a key a band; documents with an equal key may be near copies"),
            "near_shingles": ("shingles", "word n-grams, repeats counted; 0 when there is no signature"),
            "near_alone_bytes": ("bytes", "text in scripts without spaces, where each character is a word"),
        }
        return [
            ColumnInfo(name=name, unit=unit, version=MINHASH_VERSION, summary=summary)
            for name, (unit, summary) in summaries.items()
        ]

    def __call__(self, batch: Batch) -> dict[str, pa.Array | NDArray[Any]]:
        spec = self.spec
        signed = sign_documents(
            batch.text, n=spec.n, bands=spec.bands, rows=spec.rows, family=spec.family, seed=spec.seed
        )
        keys = pa.FixedSizeListArray.from_arrays(pa.array(signed.keys.ravel()), spec.bands)
        return {
            "near_keys": keys,
            "near_shingles": signed.n_shingles,
            "near_alone_bytes": signed.alone_bytes,
        }

    def drops(self, table: pa.Table) -> Drops:
        return {}

    def edits(self, table: pa.Table) -> Edits | None:
        return None


@dataclass(frozen=True, kw_only=True)
class NearDuplicates:
    """The grouping `near`; made by `NearDuplicates.of`.

    Attributes:
        against: the indexes of the specification, opened.
        index_path: where to write an index, or None.
        quality: of a shard's documents; decides which member of a cluster stays, before length.
        quality_name: what the quality is, for the record; part of the settings.
    """

    spec: NearSpec
    keys: NearKeys
    against: tuple[Index, ...] = ()
    index_path: Path | None = None
    quality: Quality | None = None
    quality_name: str = ""

    name: ClassVar[str] = "near"
    version: ClassVar[int] = NEAR_VERSION

    @classmethod
    def of(
        cls,
        spec: NearSpec,
        base: Path | None = None,
        *,
        quality: Quality | None = None,
        quality_name: str = "",
    ) -> NearDuplicates:
        """The grouping of a recipe; paths of indexes start from `base`.

        Raises:
            DataError: an index is missing, is none, or was made with other settings.
        """
        keys, home = NearKeys(spec=spec), base or Path()
        made = _index_settings(spec, keys)
        return cls(
            spec=spec,
            keys=keys,
            against=tuple(Index.of(home / path, "near", made) for path in spec.against),
            index_path=None if spec.index is None else home / spec.index,
            quality=quality,
            quality_name=quality_name,
        )

    @property
    def settings(self) -> Mapping[str, Any]:
        spec = self.spec
        return {
            **self.keys.settings,
            "threshold": spec.threshold if spec.verify else None,
            "leaders": spec.leaders,
            "weights": [list(step) for step in spec.weights],
            "against": [index.sha256 for index in self.against],
            "index": spec.index,
            "sketch": spec.sketch,
            "quality": self.quality_name,
        }

    @property
    def policy(self) -> Mapping[str, Any]:
        return {"action": self.spec.action}

    @property
    def index_settings(self) -> Mapping[str, Any]:
        """How an index that this grouping reads or writes is made."""
        return _index_settings(self.spec, self.keys)

    @property
    def columns(self) -> Sequence[ColumnInfo]:
        return [
            *cluster_columns("near", what="near copies", version=NEAR_VERSION),
            ColumnInfo(
                name="near_jaccard",
                version=NEAR_VERSION,
                summary="Jaccard similarity to the document that stays; null when alone or not compared",
            ),
            ColumnInfo(
                name="near_indexed", version=NEAR_VERSION, summary="whether it copies an indexed document"
            ),
        ]

    def group(self, inputs: GroupingInputs) -> Mapping[str, Any]:
        """Find the clusters of all shards and write their columns; the counts tell what was compared."""
        from prill.prepare.duplicates._linking import link_near

        return link_near(self, inputs)

    def drops(self, table: pa.Table) -> Drops:
        if self.spec.action == "tag":
            return {}
        indexed = np.asarray(pc.fill_null(table["near_indexed"], False), dtype=np.bool_)
        return {INDEXED: indexed, COPY: dropped("near", table) & ~indexed}

    def edits(self, table: pa.Table) -> Edits | None:
        return None

    def plan_lines(self) -> list[str]:
        """The curve of bands and rows, for `prill plan`."""
        threshold = self.spec.threshold if self.spec.verify else None
        return curve_lines(bands=self.spec.bands, rows=self.spec.rows, threshold=threshold)

    def scratch_bytes(self, n_documents: int, n_bytes: int) -> int:
        """Most bytes of temporary files for so many documents and bytes of text."""
        return scratch_bytes(n_documents, bands=self.spec.bands, n_bytes=n_bytes if self.spec.verify else 0)


def _index_settings(spec: NearSpec, keys: NearKeys) -> Mapping[str, Any]:
    return {**keys.settings, "sketch": spec.sketch}
