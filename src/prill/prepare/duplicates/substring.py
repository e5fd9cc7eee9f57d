"""Stretches of text that stand elsewhere byte for byte: the first stays, the others become spans.

A byte is repeated when it lies in `min_bytes` bytes in a row that stand earlier in the corpus, in another
document or in the same. Such stretches share an anchor (`_winnow_kernel`); anchors are sorted in slices of
the hash range, and where two are equal the text around them is compared byte by byte in a scratch file.
Memory is bounded by the slice, the scratch file is as large as the text, and the result depends on the order
of the corpus alone.

Source: Lee et al. 2021, arXiv:2107.06499, section 4.1 (ExactSubstr, 50 tokens). Differs: bytes, not tokens of
one tokenizer (200 bytes are about 50 tokens of English); the first occurrence stays; anchors in place of a
suffix array, which needs eight times the corpus in memory. Missed are only stretches whose anchor has more
than 64 different surroundings before, and edges of runs that repeat themselves within `min_bytes`.

Legend: D documents, A anchors, S spans.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Final, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from prill.corpus.columns import ColumnInfo, write_columns
from prill.prepare.duplicates.counted import bounds_of
from prill.prepare.duplicates.layout import Layout
from prill.prepare.measure import Drops, GroupingInputs
from prill.prepare.spans import Edits, Spans
from prill.run.atomic import machine_errors

__all__ = ["SubstringDuplicates", "SubstringSpec"]

_MOST_VARIANTS: Final = 64
_BYTES_AN_ANCHOR: Final = 80  # hash, place, order and results while a slice is worked on
_KIND: Final = "repeated passage"


class SubstringSpec(BaseModel):
    """Passages that stand elsewhere in the corpus byte for byte."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    min_bytes: int = Field(
        200,
        ge=12,
        le=100_000,
        description="Shortest passage, UTF-8 bytes; 200 are about 50 tokens of English.",
    )
    keep: Literal["first", "none"] = Field(
        "first", description="first: the first occurrence in the order of the corpus stays; none: all go."
    )
    action: Literal["cut", "drop", "tag"] = Field(
        "cut",
        description="cut: take the repeated passages out; drop: drop documents by `drop_share`, cut nothing; "
        "tag: only store the columns.",
    )
    drop_share: float | None = Field(
        None,
        gt=0,
        le=1,
        description="Documents with at least this share of their bytes in repeated passages are dropped; "
        "with `action: drop` 0.5 when not given.",
    )


@dataclass(frozen=True, kw_only=True)
class SubstringDuplicates:
    """Repeated passages: spans, and their share of each document."""

    spec: SubstringSpec

    name: ClassVar[str] = "substring"
    version: ClassVar[int] = 1
    keys: ClassVar[None] = None

    @classmethod
    def of(cls, spec: SubstringSpec) -> SubstringDuplicates:
        return cls(spec=spec)

    @property
    def settings(self) -> Mapping[str, Any]:
        return {"min_bytes": self.spec.min_bytes, "keep": self.spec.keep, "variants": _MOST_VARIANTS}

    @property
    def policy(self) -> Mapping[str, Any]:
        return {"action": self.spec.action, "drop_share": self._drop_share}

    @property
    def columns(self) -> Sequence[ColumnInfo]:
        return (
            ColumnInfo(
                name="substring_spans", unit="bytes", version=self.version, summary="repeated passages"
            ),
            ColumnInfo(
                name="substring_share",
                direction=-1,
                version=self.version,
                summary="share of the bytes that stand in repeated passages",
            ),
        )

    def group(self, inputs: GroupingInputs) -> Mapping[str, Any]:
        """See `Grouping.group`. Scratch: the text of kept documents and about a third of it for anchors."""
        layout = Layout.plan(inputs, self.spec.min_bytes)
        shards = range(len(inputs.parts))
        k = _anchor_bytes(self.spec.min_bytes)
        work = partial(layout.write, inputs=inputs, k=k)
        counts = inputs.engine.map(work, shards, kind="threads", name=f"{self.name}: anchors")
        needed = sum(counts) * _BYTES_AN_ANCHOR * (os.cpu_count() or 1)
        slices = _Slices.of(layout, inputs, max(1, -(-needed // max(inputs.memory_bytes, 1))))
        compare = partial(slices.compare, spec=self.spec)
        inputs.engine.map(compare, range(slices.n_slices), kind="threads", name=f"{self.name}: compare")
        write = partial(self._write, inputs, layout, slices)
        found = inputs.engine.map(write, shards, kind="threads", name=f"{self.name}: spans")
        n_spans, n_bytes = (sum(column) for column in zip(*found, strict=True)) if found else (0, 0)
        return {"n_anchors": int(sum(counts)), "n_repeated": n_spans, "n_repeated_bytes": n_bytes}

    def drops(self, table: pa.Table) -> Drops:
        """Documents that are mostly repeated passages."""
        if self._drop_share is None or self.spec.action == "tag":
            return {}
        share_D = np.asarray(table["substring_share"].combine_chunks())
        return {"mostly repeated passages": share_D >= np.float32(self._drop_share)}

    def edits(self, table: pa.Table) -> Edits | None:
        """The repeated passages, to be cut."""
        if self.spec.action != "cut":
            return None
        return Edits(spans=Spans.of_column(table["substring_spans"]), replacements={})

    def scratch_bytes(self, n_documents: int, n_bytes: int) -> int:
        """Most bytes of temporary files: the text, and about as much for its anchors."""
        return 2 * n_bytes

    def plan_lines(self) -> list[str]:
        return []

    @property
    def _drop_share(self) -> float | None:
        return 0.5 if self.spec.action == "drop" and self.spec.drop_share is None else self.spec.drop_share

    def _write(self, inputs: GroupingInputs, layout: Layout, slices: _Slices, shard: int) -> tuple[int, int]:
        starts_S, stops_S = _joined(*slices.of_shard(layout, shard))
        starts_S, stops_S = layout.at_characters(starts_S, stops_S)
        n_bytes_D = layout.n_bytes(inputs, shard)
        is_taken_D = layout.is_taken(inputs, shard)
        firsts = layout.firsts[shard] + np.concatenate([[0], np.cumsum(n_bytes_D[is_taken_D] + 1)[:-1]])
        which = np.searchsorted(firsts, starts_S, side="right") - 1
        rows_S = np.flatnonzero(is_taken_D)[which]
        counts_D = np.bincount(rows_S, minlength=n_bytes_D.shape[0])
        cut_D = np.bincount(rows_S, weights=stops_S - starts_S, minlength=n_bytes_D.shape[0])
        spans = Spans(
            offsets=np.concatenate([np.zeros(1, np.int64), np.cumsum(counts_D)]),
            starts=starts_S - firsts[which],
            stops=stops_S - firsts[which],
            kinds=np.zeros(starts_S.shape[0], np.int32),
            names=(_KIND,),
        )
        share_D = (cut_D / np.maximum(n_bytes_D, 1)).astype(np.float32)
        columns = {"substring_spans": spans.to_column(), "substring_share": share_D}
        write_columns(inputs.parts[shard], columns, self.columns)
        return int(starts_S.shape[0]), int(cut_D.sum())


@dataclass(frozen=True, kw_only=True)
class _Slices:
    """Slices of the hash range: the anchors of all shards in one, and the repeated passages found there."""

    layout: Layout
    bounds: Sequence[NDArray[np.int64]]
    n_slices: int

    @classmethod
    def of(cls, layout: Layout, inputs: GroupingInputs, n_slices: int) -> _Slices:
        shards = range(len(inputs.parts))
        bounds = [bounds_of(layout.anchors_path(shard, "hashes"), n_slices) for shard in shards]
        return cls(layout=layout, bounds=bounds, n_slices=n_slices)

    def compare(self, s: int, *, spec: SubstringSpec) -> None:
        """Write starts and stops of the repeated passages around the anchors of one slice, by place."""
        from prill.features._winnow_kernel import extend

        hashes = np.concatenate([self._part(shard, s, "hashes", np.uint64) for shard in self._shards])
        places = np.concatenate([self._part(shard, s, "places", np.int64) for shard in self._shards])
        order = np.argsort(hashes, kind="stable")
        hashes = hashes[order]
        is_shared = np.zeros(order.shape[0], np.bool_)
        is_equal = hashes[1:] == hashes[:-1]
        is_shared[1:] |= is_equal
        is_shared[:-1] |= is_equal
        hashes, places_A = hashes[is_shared], places[order[is_shared]]
        before, behind = np.zeros_like(places_A), np.zeros_like(places_A)
        if places_A.shape[0]:
            k = _anchor_bytes(spec.min_bytes)
            both_ways = np.bool_(spec.keep == "none")
            text = self.layout.text()
            extend(text, hashes, places_A, k, spec.min_bytes, _MOST_VARIANTS, both_ways, before, behind)
        is_repeated = behind > 0
        starts, stops = (places_A - before)[is_repeated], (places_A + behind)[is_repeated]
        order = np.lexsort((stops, starts))
        path = self._path(s)
        with machine_errors(path):
            np.stack([starts[order], stops[order]]).tofile(path)

    def of_shard(self, layout: Layout, shard: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Starts and stops of the passages of a shard, from all slices."""
        first, last = layout.firsts[shard], layout.firsts[shard + 1]
        starts, stops = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        for s in range(self.n_slices):
            path = self._path(s)
            with machine_errors(path):
                n = path.stat().st_size // 16
                if n == 0:
                    continue
                found = np.memmap(path, np.int64, mode="r", shape=(2, n))
                a, b = np.searchsorted(found[0], [first, last])
                starts.append(np.array(found[0, a:b]))
                stops.append(np.array(found[1, a:b]))
        return np.concatenate(starts), np.concatenate(stops)

    @property
    def _shards(self) -> range:
        return range(len(self.bounds))

    def _part(self, shard: int, s: int, what: str, kind: type) -> NDArray[Any]:
        first, last = int(self.bounds[shard][s]), int(self.bounds[shard][s + 1])
        path = self.layout.anchors_path(shard, what)
        with machine_errors(path):
            return np.fromfile(path, kind, count=last - first, offset=8 * first)

    def _path(self, s: int) -> Path:
        return self.layout.folder / f"passages-{s:05d}"


def _anchor_bytes(min_bytes: int) -> int:
    """A third of the shortest passage: long enough to be rare, short enough that anchors are few."""
    return max(4, min_bytes // 3)


def _joined(
    starts: NDArray[np.int64], stops: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The union of intervals, ascending and disjoint; intervals that touch become one."""
    order = np.argsort(starts, kind="stable")
    starts, stops = starts[order], np.maximum.accumulate(stops[order])
    is_first = np.ones(starts.shape[0], np.bool_)
    is_first[1:] = starts[1:] > stops[:-1]
    ends = np.append(np.flatnonzero(is_first)[1:], starts.shape[0]) - 1
    return starts[is_first], stops[ends] if starts.shape[0] else stops
