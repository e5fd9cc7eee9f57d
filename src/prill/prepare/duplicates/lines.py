"""Lines and paragraphs that repeat inside and across documents: the first stay, the others become spans.

Every unit is hashed in the one pass over the text. The hashes of a shard are then counted and sorted, and
slices of the hash range are joined over all shards: so each shard learns how often each of its units stood
before it and stands in all. Memory is bounded by the slice; the result depends on the order of the corpus
alone.

Source: Soldaini et al. 2024, arXiv:2402.00159 (paragraphs, Bloom filter); Wenzek et al. 2020,
arXiv:1911.00359 (normal form of `words`); Penedo et al. 2023, arXiv:2306.01116 (lines in many documents).
Differs: exact 64-bit hashes in place of a filter, so no unit is cut by chance of the filter's size and the
order of work changes nothing.

Legend: D documents, U units, H different hashes of a shard.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from prill.corpus.batch import Batch
from prill.corpus.columns import ColumnInfo, read_columns, write_columns
from prill.features.units import UNITS_VERSION, Cut, Normal, hash_units
from prill.prepare.duplicates.counted import Counted, count_before
from prill.prepare.measure import Drops, GroupingInputs, Measure
from prill.prepare.spans import Edits, Spans

__all__ = ["LineDuplicates", "LineHashes", "LineSpec"]

_VERSION = 1


class LineSpec(BaseModel):
    """Lines or paragraphs that stand in the corpus more often than they should."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    unit: Cut = Field("line", description="line: between two newlines; paragraph: lines between blank lines.")
    normal: Normal = Field(
        "spaces",
        description="What is compared. exact: the bytes; spaces: runs of spaces are one, none stand at the "
        "ends; words: only letters and digits, every ASCII digit as 0.",
    )
    ignore_case: bool = Field(True, description="Compare the lower case; not with `normal: exact`.")
    min_characters: int = Field(
        50, ge=1, description="Units with a shorter normal form are never cut, characters."
    )
    count: Literal["occurrences", "documents"] = Field(
        "occurrences",
        description="What counts as one: every occurrence, or every document that holds the unit; a document "
        "that keeps the unit then keeps it wherever it stands in it.",
    )
    more_than: int = Field(1, ge=1, description="Units that stand in the corpus this often or less stay.")
    keep: int = Field(
        1, ge=0, description="How many of the first, in the order of the corpus, stay; 0: none."
    )
    action: Literal["cut", "drop", "tag"] = Field(
        "cut",
        description="cut: take the repeated units out; drop: drop documents by `drop_share`, cut nothing; "
        "tag: only store the columns.",
    )
    drop_share: float | None = Field(
        None,
        gt=0,
        le=1,
        description="Documents with at least this share of their bytes in repeated units are dropped; with "
        "`action: drop` 0.5 when not given.",
    )


@dataclass(frozen=True, kw_only=True)
class LineHashes:
    """The units of each document, as a measure: what `LineDuplicates` groups by."""

    unit: Cut
    normal: Normal
    ignore_case: bool
    min_characters: int
    name: str = "line_hashes"
    version: int = UNITS_VERSION
    fields: tuple[str, ...] = ("text",)

    @property
    def settings(self) -> Mapping[str, Any]:
        return {
            "unit": self.unit,
            "normal": self.normal,
            "ignore_case": self.ignore_case and self.normal != "exact",
            "min_characters": self.min_characters,
        }

    @property
    def policy(self) -> Mapping[str, Any]:
        return {}

    @property
    def columns(self) -> Sequence[ColumnInfo]:
        said = f"of each {self.unit}"
        return (
            ColumnInfo(name="hashes", version=self.version, summary=f"hash of the normal form {said}"),
            ColumnInfo(
                name="gaps", unit="bytes", version=self.version, summary=f"bytes left out before {said[3:]}"
            ),
            ColumnInfo(name="lengths", unit="bytes", version=self.version, summary=f"bytes {said}"),
        )

    def __call__(self, batch: Batch) -> dict[str, pa.Array | NDArray[Any]]:
        units = hash_units(
            batch.text,
            cut=self.unit,
            normal=self.normal,
            ignore_case=self.ignore_case,
            min_characters=self.min_characters,
        )
        offsets = pa.array(units.offsets)
        before = np.zeros_like(units.stops)  # where the unit before ends: most units leave no gap
        before[1:] = units.stops[:-1]
        before[units.offsets[:-1][np.diff(units.offsets) > 0]] = 0
        lengths = units.stops - units.starts
        values = {"hashes": units.hashes, "gaps": units.starts - before, "lengths": lengths}
        return {name: pa.LargeListArray.from_arrays(offsets, pa.array(v)) for name, v in values.items()}

    def drops(self, table: pa.Table) -> Drops:
        return {}

    def edits(self, table: pa.Table) -> Edits | None:
        return None


@dataclass(frozen=True, kw_only=True)
class LineDuplicates:
    """Repeated lines or paragraphs: spans, and their share of each document."""

    spec: LineSpec
    name: str = "lines"
    version: int = _VERSION

    @classmethod
    def of(cls, spec: LineSpec) -> LineDuplicates:
        return cls(spec=spec)

    @property
    def keys(self) -> Measure:
        spec = self.spec
        return LineHashes(
            unit=spec.unit,
            normal=spec.normal,
            ignore_case=spec.ignore_case,
            min_characters=spec.min_characters,
        )

    @property
    def settings(self) -> Mapping[str, Any]:
        chosen = {"count": self.spec.count, "more_than": self.spec.more_than, "keep": self.spec.keep}
        return {**self.keys.settings, **chosen}

    @property
    def policy(self) -> Mapping[str, Any]:
        return {"action": self.spec.action, "drop_share": self._drop_share}

    @property
    def columns(self) -> Sequence[ColumnInfo]:
        return (
            ColumnInfo(
                name="lines_spans", unit="bytes", version=self.version, summary=f"repeated {self.spec.unit}s"
            ),
            ColumnInfo(
                name="lines_share",
                direction=-1,
                version=self.version,
                summary=f"share of the bytes that stand in repeated {self.spec.unit}s",
            ),
        )

    def group(self, inputs: GroupingInputs) -> Mapping[str, Any]:
        """See `Grouping.group`."""
        shards = range(len(inputs.parts))
        counted = inputs.engine.map(
            partial(self._count, inputs), shards, kind="threads", name=f"{self.name}: count"
        )
        count_before(
            [file for file, _ in counted],
            engine=inputs.engine,
            memory_bytes=inputs.memory_bytes,
            name=self.name,
        )
        written = inputs.engine.map(
            partial(self._write, inputs), shards, kind="threads", name=f"{self.name}: spans"
        )
        n_spans, n_bytes = (sum(column) for column in zip(*written, strict=True)) if written else (0, 0)
        return {
            "n_units": sum(n for _, n in counted),
            "n_repeated": int(n_spans),
            "n_repeated_bytes": int(n_bytes),
        }

    def drops(self, table: pa.Table) -> Drops:
        """Documents that are mostly repeated units."""
        if self._drop_share is None or self.spec.action == "tag":
            return {}
        share = np.asarray(table["lines_share"].combine_chunks())
        return {f"mostly repeated {self.spec.unit}s": share >= self._drop_share}

    def edits(self, table: pa.Table) -> Edits | None:
        """The repeated units, to be cut."""
        if self.spec.action != "cut":
            return None
        return Edits(spans=Spans.of_column(table["lines_spans"]), replacements={})

    def scratch_bytes(self, n_documents: int, n_bytes: int) -> int:
        """Most bytes of temporary files: a hash and a count a unit."""
        return 16 * n_bytes // max(16, self.spec.min_characters)

    def plan_lines(self) -> list[str]:
        return []

    @property
    def _drop_share(self) -> float | None:
        return 0.5 if self.spec.action == "drop" and self.spec.drop_share is None else self.spec.drop_share

    def _count(self, inputs: GroupingInputs, shard: int) -> tuple[Counted, int]:
        from prill.features._repeat_kernel import count_hashes

        hashes_U, rows_U = _kept_units(inputs, shard)
        n = hashes_U.shape[0]
        first, counts, scratch = (np.empty(n, np.int64) for _ in range(3))
        by_document = np.bool_(self.spec.count == "documents")
        n_different = count_hashes(hashes_U, rows_U, by_document, _table(n), first, counts, scratch)
        hashes_H = hashes_U[first[:n_different]]
        order = np.argsort(hashes_H)
        path = inputs.scratch / f"counts-{shard:05d}"
        return Counted.write(path, hashes_H[order], counts[:n_different][order]), n

    def _write(self, inputs: GroupingInputs, shard: int) -> tuple[int, int]:
        from prill.features._repeat_kernel import mark_repeated

        hashes_U, rows_U = _kept_units(inputs, shard)
        known_H, before_H = Counted.above(inputs.scratch / f"counts-{shard:05d}", self.spec.more_than)
        is_cut_U = np.zeros(hashes_U.shape[0], np.bool_)
        by_document = np.bool_(self.spec.count == "documents")
        table = _table(known_H.shape[0])
        mark_repeated(hashes_U, rows_U, by_document, known_H, before_H, self.spec.keep, table, is_cut_U)
        n_bytes_D = np.asarray(
            read_columns(inputs.read_parts[shard], ["n_bytes"])["n_bytes"].combine_chunks()
        )
        spans = _spans(inputs.key_parts[shard], inputs.is_kept(shard), is_cut_U, f"repeated {self.spec.unit}")
        cut_so_far = np.concatenate([np.zeros(1, np.int64), np.cumsum(spans.stops - spans.starts)])
        cut_D = np.diff(cut_so_far[spans.offsets])
        share_D = (cut_D / np.maximum(n_bytes_D, 1)).astype(np.float32)
        columns = {"lines_spans": spans.to_column(), "lines_share": share_D}
        write_columns(inputs.parts[shard], columns, self.columns)
        return int(is_cut_U.sum()), int(cut_D.sum())


def _table(n: int) -> NDArray[np.int64]:
    """Zeros, a power of two of places, at least twice n."""
    return np.zeros(1 << max(4, (2 * n).bit_length()), np.int64)


def _kept_units(inputs: GroupingInputs, shard: int) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Hashes and rows of the units of all documents that are kept."""
    column = read_columns(inputs.key_parts[shard], ["hashes"])["hashes"].combine_chunks()
    lengths_D = np.asarray(column.value_lengths(), np.int64)
    rows_U = np.repeat(np.arange(lengths_D.shape[0]), lengths_D)
    is_kept_U = np.repeat(inputs.is_kept(shard), lengths_D)
    return np.asarray(column.flatten(), np.uint64)[is_kept_U], rows_U[is_kept_U]


def _spans(path: Path, is_kept_D: NDArray[np.bool_], is_cut_U: NDArray[np.bool_], kind: str) -> Spans:
    """Spans of the units that are cut; is_cut_U counts the units of kept documents only."""
    table = read_columns(path, ["gaps", "lengths"])
    column = table["lengths"].combine_chunks()
    lengths_D = np.asarray(column.value_lengths(), np.int64)
    sizes = np.asarray(column.flatten(), np.int64)
    stops = np.cumsum(np.asarray(table["gaps"].combine_chunks().flatten(), np.int64) + sizes)
    ends = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths_D)])
    stops -= np.repeat(np.append(0, stops)[ends[:-1]], lengths_D)
    is_cut = np.repeat(is_kept_D, lengths_D)
    is_cut[is_cut] = is_cut_U
    before = np.concatenate([np.zeros(1, np.int64), np.cumsum(is_cut)])
    return Spans(
        offsets=before[ends],
        starts=(stops - sizes)[is_cut],
        stops=stops[is_cut],
        kinds=np.zeros(int(is_cut.sum()), np.int32),
        names=(kind,),
    )
