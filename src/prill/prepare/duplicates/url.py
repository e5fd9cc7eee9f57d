"""Copies by address: documents whose URLs have one normal form.

The same page, fetched twice or linked with other tracking parameters, is one document for training even where
its text has changed a little. Documents without a URL take no part.

Source: Penedo et al. 2023 (RefinedWeb, arXiv:2306.01116, appendix G.3, URL deduplication across crawls).
Differs: URLs are compared in a normal form (`features.urls`); the document that stays is chosen by a rule.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from prill.corpus.batch import Batch
from prill.corpus.columns import ColumnInfo, read_columns
from prill.features.text_hash import hash_documents
from prill.features.urls import URL_VERSION, normalise_urls
from prill.prepare.duplicates._equal import ShardKeys, equal_documents
from prill.prepare.duplicates._records import RECORD_BYTES, Rows
from prill.prepare.duplicates.clusters import (
    Quality,
    cluster_columns,
    cluster_counts,
    dropped,
    form_clusters,
    write_clusters,
)
from prill.prepare.measure import Drops, GroupingInputs
from prill.prepare.spans import Edits

__all__ = ["UrlCopiesSpec", "UrlDuplicates", "UrlKeys"]

URL_DUPLICATES_VERSION: Final = 1
COPY: Final = "same URL as a kept document"
_WEIGHTS: Final = ((1, 1),)


class UrlCopiesSpec(BaseModel):
    """Which of the documents with one URL stays and what becomes of the others."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    keep: Literal["longest", "first"] = Field(
        "longest", description="Which one stays: the longest text, or the first in the corpus."
    )
    action: Literal["drop", "tag"] = Field("drop", description="drop: the others go; tag: only columns tell.")


@dataclass(frozen=True, kw_only=True)
class UrlKeys:
    """The measure `url_copy_keys`: the hash of every URL's normal form; null without one."""

    name: ClassVar[str] = "url_copy_keys"
    version: ClassVar[int] = URL_DUPLICATES_VERSION
    fields: ClassVar[tuple[str, ...]] = ("text", "url")

    @property
    def settings(self) -> Mapping[str, Any]:
        return {"normal_form": URL_VERSION}

    @property
    def policy(self) -> Mapping[str, Any]:
        return {}

    @property
    def columns(self) -> Sequence[ColumnInfo]:
        return [
            ColumnInfo(
                name=f"url_copy_{half}",
                unit="hash",
                span="url",
                version=URL_VERSION,
                summary=f"{half} half of the hash of the URL's normal form",
            )
            for half in ("high", "low")
        ]

    def __call__(self, batch: Batch) -> dict[str, pa.Array | NDArray[Any]]:
        given = batch.columns.get("url")
        urls = normalise_urls(given if given is not None else pa.nulls(batch.n_rows, pa.large_string()))
        none = np.asarray(urls.is_null())
        high, low = hash_documents(pc.fill_null(urls, ""))
        return {"url_copy_high": pa.array(high, mask=none), "url_copy_low": pa.array(low, mask=none)}

    def drops(self, table: pa.Table) -> Drops:
        return {}

    def edits(self, table: pa.Table) -> Edits | None:
        return None


@dataclass(frozen=True, kw_only=True)
class UrlDuplicates:
    """The grouping `url`; made by `UrlDuplicates.of`.

    Attributes:
        quality: of a shard's documents; decides which one stays, before `keep`.
        quality_name: what the quality is, for the record; part of the settings.
    """

    spec: UrlCopiesSpec
    keys: UrlKeys
    quality: Quality | None = None
    quality_name: str = ""

    name: ClassVar[str] = "url"
    version: ClassVar[int] = URL_DUPLICATES_VERSION

    @classmethod
    def of(
        cls, spec: UrlCopiesSpec, *, quality: Quality | None = None, quality_name: str = ""
    ) -> UrlDuplicates:
        """The grouping of a recipe."""
        return cls(spec=spec, keys=UrlKeys(), quality=quality, quality_name=quality_name)

    @property
    def settings(self) -> Mapping[str, Any]:
        return {**self.keys.settings, "keep": self.spec.keep, "quality": self.quality_name}

    @property
    def policy(self) -> Mapping[str, Any]:
        return {"action": self.spec.action}

    @property
    def columns(self) -> Sequence[ColumnInfo]:
        return cluster_columns("url_copy", what="documents of one URL", version=URL_DUPLICATES_VERSION)

    def group(self, inputs: GroupingInputs) -> Mapping[str, Any]:
        """Find equal URLs of all shards and write their columns."""
        rows = Rows.of(inputs.read_parts)

        def read(shard: int) -> ShardKeys:
            table = read_columns(inputs.key_parts[shard], ["url_copy_high", "url_copy_low"])
            has_url = np.asarray(table["url_copy_low"].is_valid(), dtype=np.bool_)
            high, low = (pc.fill_null(column, 0).to_numpy() for column in table.columns)
            return high, low, has_url

        places_M, labels_M, ids_M = equal_documents("url", inputs, rows, read, np.empty(0, np.int64))
        clusters = form_clusters(
            places_M,
            labels_M,
            inputs,
            rows,
            quality=self.quality,
            longest=self.spec.keep == "longest",
            ids_M=ids_M,
        )
        write_clusters("url_copy", clusters, inputs, rows, self.columns, weights=_WEIGHTS)
        return cluster_counts(clusters)

    def drops(self, table: pa.Table) -> Drops:
        return {} if self.spec.action == "tag" else {COPY: dropped("url_copy", table)}

    def edits(self, table: pa.Table) -> Edits | None:
        return None

    def scratch_bytes(self, n_documents: int, n_bytes: int) -> int:
        """Most bytes of temporary files: a key and a place a document."""
        return RECORD_BYTES * n_documents

    def plan_lines(self) -> list[str]:
        return []
