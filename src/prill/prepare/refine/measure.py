"""Refining as a measure: what each document's program decides, and the spans that it takes out or replaces.

The document-level program comes first; what it keeps goes to the chunk-level program. Nothing of a program is
ever run as code. A document without a program stays as it is, with a null decision.

Source: Zhou et al. 2024 (ProX), arXiv:2409.17115. Differs: the grammar and the acceptance rule, unless
`compat` is set; see `program` and `execute`.

Legend: D documents.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from prill.corpus.batch import Batch
from prill.corpus.columns import ColumnInfo
from prill.features.text_hash import hash_documents
from prill.prepare.measure import Drops
from prill.prepare.refine.execute import Refined, execute, judge_document
from prill.prepare.refine.program import MOST_CHARACTERS, parse_program
from prill.prepare.refine.programs import Written, read_programs
from prill.prepare.refine.released import parse_released
from prill.prepare.spans import SPANS, Edits, Spans

__all__ = ["Refine", "RefineSpec"]

_REPLACED: Final = "replaced by: "
_CUT: Final = "removed by the program"


class RefineSpec(BaseModel):
    """Cleaning programs and how they are accepted."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    programs: Path = Field(description="JSONL file with a program a document, by id or hash of the text.")
    compat: bool = Field(False, description="Read and accept programs as the released executor does.")
    min_words: int = Field(10, ge=0, description="An edited document of at most so many words is dropped.")
    most_replaced: int = Field(
        1_000, ge=1, description="A string found more often in a document is not replaced, which is an error."
    )
    drop: bool = Field(True, description="Whether a document that its program drops is dropped.")
    edit: bool = Field(True, description="Whether edits are applied to the text.")


@dataclass(frozen=True, kw_only=True)
class Refine:
    """The measure `refine`; made by `Refine.of`."""

    spec: RefineSpec
    path: Path
    digest: str

    name: ClassVar[str] = "refine"
    version: ClassVar[int] = 1
    fields: ClassVar[tuple[str, ...]] = ("text", "id")

    @classmethod
    def of(cls, spec: RefineSpec, base: Path) -> Refine:
        """The measure of a recipe in the folder `base`.

        Raises:
            DataError: the file of programs is missing or damaged.
        """
        path = base / spec.programs
        read_programs(path)
        return cls(spec=spec, path=path, digest=hashlib.sha256(path.read_bytes()).hexdigest())

    @property
    def settings(self) -> Mapping[str, Any]:
        seen = self.spec.model_dump(include={"compat", "min_words", "most_replaced"})
        return {**seen, "programs": self.digest}

    @property
    def policy(self) -> Mapping[str, Any]:
        return self.spec.model_dump(include={"drop", "edit"})

    @property
    def columns(self) -> Sequence[ColumnInfo]:
        def info(name: str, unit: str, summary: str) -> ColumnInfo:
            return ColumnInfo(name=name, unit=unit, state=self.digest, version=self.version, summary=summary)

        return [
            info("refine_decision", "name", "keep, edited, drop or program_ignored; null without a program"),
            info("refine_n_op_errors", "errors", "operations that could not be followed"),
            info("refine_error", "text", "the first of these errors; null for none"),
            info("refine_lines_removed", "lines", "lines that the program takes out"),
            info("refine_n_replaced", "places", "places where the program replaces a string"),
            info("refine_spans", "spans", "what is taken out, and by what it is replaced"),
        ]

    def __call__(self, batch: Batch) -> dict[str, pa.Array | NDArray[Any]]:
        programs = _programs(self.path, self.digest)
        ids = batch.columns.get("id")
        names = ids.to_pylist() if ids is not None else [None] * batch.n_rows
        high, low = hash_documents(batch.text)
        found: list[Refined | None] = []
        spans: list[list[dict[str, Any]]] = []
        for row, name in enumerate(names):
            written = programs.get(f"id:{name}") or programs.get(
                f"hash:{int(high[row]):016x}{int(low[row]):016x}"
            )
            text = batch.text[row].as_py() if written else ""
            refined = self._refined(text, written) if written else None
            found.append(refined)
            spans.append(_byte_spans(text, refined) if refined else [])
        numbers = {
            "refine_n_op_errors": [len(r.errors) if r else 0 for r in found],
            "refine_lines_removed": [r.n_lines_removed if r else 0 for r in found],
            "refine_n_replaced": [r.n_replaced if r else 0 for r in found],
        }
        return {
            "refine_decision": pa.array([r.decision if r else None for r in found], pa.string()),
            "refine_error": pa.array([r.errors[0] if r and r.errors else None for r in found], pa.string()),
            **{key: np.array(values, np.int64) for key, values in numbers.items()},
            "refine_spans": pa.array(spans, SPANS),
        }

    def _refined(self, text: str, written: Written) -> Refined:
        read = parse_released if self.spec.compat else parse_program
        if written.document is not None:
            program = parse_program(written.document[: MOST_CHARACTERS + 1])
            verdict = judge_document(program, written.document, released=self.spec.compat)
            if verdict.decision == "drop" or written.chunk is None:
                return verdict
        return execute(
            text,
            read(written.chunk or ""),
            released=self.spec.compat,
            min_words=self.spec.min_words,
            most_replaced=len(text) + 1 if self.spec.compat else self.spec.most_replaced,
        )

    def drops(self, table: pa.Table) -> Drops:
        if not self.spec.drop:
            return {}
        is_dropped = pc.fill_null(pc.equal(table["refine_decision"], "drop"), False)
        return {"refine: the program drops the document": np.asarray(is_dropped)}

    def edits(self, table: pa.Table) -> Edits | None:
        if not self.spec.edit:
            return None
        spans = Spans.of_column(table["refine_spans"])
        new = {name: name[len(_REPLACED) :] for name in spans.names if name.startswith(_REPLACED)}
        return Edits(spans=spans, replacements=new)


@functools.lru_cache(maxsize=2)
def _programs(path: Path, digest: str) -> dict[str, Written]:
    """The programs of a file with this content, once a process."""
    return read_programs(path)


def _byte_spans(text: str, refined: Refined) -> list[dict[str, Any]]:
    """The holes in bytes of UTF-8, named by the new text that stands there."""
    place = functools.partial(_n_bytes, text)
    spans, last, at = [], 0, 0
    for start, stop, new in refined.holes:
        first = at + place(last, start)
        last, at = stop, first + place(start, stop)
        spans.append({"start": first, "stop": at, "kind": _REPLACED + new if new else _CUT})
    return spans


def _n_bytes(text: str, start: int, stop: int) -> int:
    return len(text[start:stop].encode())
