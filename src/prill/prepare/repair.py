"""Unicode repair: as a measure that says what it would change, and in bulk on the way to the trainer.

Removals and line ends are local and become spans, which the report can show and `edits` carries out. Normal
forms and mojibake concern whole documents; the measure only flags them, and `Repair.texts` (for reading or
materialising) repairs everything.

Source: the Unicode Standard, annex 15; Speer 2019, ftfy. Differs: joiners and marks of direction stay.

Legend: D documents, S spans.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field

from prill.corpus.batch import Batch
from prill.corpus.columns import ColumnInfo
from prill.features.repair import (
    REPAIR_VERSION,
    RepairOptions,
    find_repairs,
    local_repairs,
    needed_flags,
    repair_text,
    repair_texts,
    require_ftfy,
)
from prill.prepare.measure import Drops
from prill.prepare.spans import Edits, Spans

__all__ = ["Repair", "RepairSpec"]

_KINDS: Final = ("line end", "control character", "invisible character")


class RepairSpec(RepairOptions):
    """Which repairs are made, and whether the spans are edited when the corpus is written."""

    edit: bool = Field(
        True,
        description="Carry out line ends and removals as edits; False when reading already repaired them.",
    )


@dataclass(frozen=True, kw_only=True)
class Repair:
    """The measure `repair`; made by `Repair.of`."""

    spec: RepairSpec

    name: ClassVar[str] = "repair"
    version: ClassVar[int] = REPAIR_VERSION
    fields: ClassVar[tuple[str, ...]] = ("text",)

    @classmethod
    def of(cls, spec: RepairSpec) -> Repair:
        """The measure of a recipe.

        Raises:
            ResourceError: mojibake is asked for and ftfy is not installed.
        """
        if spec.mojibake:
            require_ftfy()
        return cls(spec=spec)

    @property
    def settings(self) -> Mapping[str, Any]:
        return self.spec.model_dump(exclude={"edit"})

    @property
    def policy(self) -> Mapping[str, Any]:
        return self.spec.model_dump(include={"edit"})

    @property
    def columns(self) -> Sequence[ColumnInfo]:
        return [
            ColumnInfo(
                name="repair", unit="bytes", version=REPAIR_VERSION, summary="what is removed or replaced"
            ),
            ColumnInfo(
                name="repair_changes",
                version=REPAIR_VERSION,
                summary="whether repair changes the document at all",
            ),
        ]

    def texts(self, text: pa.Array) -> pa.Array:
        """A column of texts, repaired in full."""
        return repair_texts(text, self.spec)

    def __call__(self, batch: Batch) -> dict[str, pa.Array | NDArray[Any]]:
        rows = np.flatnonzero(find_repairs(batch.text) & needed_flags(self.spec))
        changes_D = np.zeros(batch.n_rows, np.bool_)
        counts_D = np.zeros(batch.n_rows, np.int64)
        spans: list[tuple[int, int, int]] = []
        for d in rows:
            text = batch.text[int(d)].as_py()
            changes_D[d] = repair_text(text, self.spec) != text
            found = local_repairs(text, self.spec)
            counts_D[d] = len(found)
            spans += _in_bytes(text, found)
        table_S3 = np.array(spans, np.int64).reshape(-1, 3)
        column = Spans(
            offsets=np.concatenate([np.zeros(1, np.int64), np.cumsum(counts_D)]),
            starts=np.ascontiguousarray(table_S3[:, 0]),
            stops=np.ascontiguousarray(table_S3[:, 1]),
            kinds=table_S3[:, 2].astype(np.int32),
            names=_KINDS,
        )
        return {"repair": column.to_column(), "repair_changes": changes_D}

    def drops(self, table: pa.Table) -> Drops:
        return {}

    def edits(self, table: pa.Table) -> Edits | None:
        """Removals, and line feeds for other line ends."""
        if not self.spec.edit:
            return None
        return Edits(spans=Spans.of_column(table["repair"]), replacements={"line end": "\n"})


def _in_bytes(text: str, found: Sequence[tuple[int, int, str]]) -> list[tuple[int, int, int]]:
    """Spans of characters as spans of UTF-8 bytes, and the numbers of their kinds."""
    spans, at, n_bytes = [], 0, 0
    for start, stop, kind in found:
        first = n_bytes + len(text[at:start].encode())
        n_bytes = first + len(text[start:stop].encode())
        at = stop
        spans.append((first, n_bytes, _KINDS.index(kind)))
    return spans
