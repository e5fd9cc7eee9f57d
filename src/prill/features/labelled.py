"""Documents that people or a model rated before, read from a user's file: columns as of a rated sample."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Final

import orjson
import pyarrow as pa

from prill.corpus.columns import ColumnInfo, read_columns, write_columns
from prill.errors import DataError, Problem
from prill.features.feature import Given, WholeFeature
from prill.features.rater.rubric import Rubric
from prill.features.rater.spec import LabelsSpec, digest_of
from prill.features.text_hash import hash_documents
from prill.run.atomic import machine_errors

__all__ = ["LabelledFile"]

_LARGEST_BYTES: Final = 1 << 31
_MOST_TOLD: Final = 5


@dataclass(frozen=True, kw_only=True)
class LabelledFile(WholeFeature):
    """Texts with grades from a JSON Lines file. Make one with `LabelledFile.of`.

    Attributes:
        rubric: as JSON; the file has a number for each of its scales.
        rater: the settings that decide, as JSON.
        content: hash of the file.
        path: of the file.
    """

    kind: ClassVar[str] = "labelled"
    rubric: str
    rater: str
    content: str
    path: Path = field(compare=False)

    @classmethod
    def of(cls, rubric: Rubric, spec: LabelsSpec, base: Path) -> LabelledFile:
        """Check that the file is there.

        Raises:
            DataError: it is not.
        """
        return cls(
            rubric=rubric.model_dump_json(),
            rater=json.dumps(spec.decides, sort_keys=True),
            content=digest_of(spec, base),
            path=base / spec.path,
        )

    @property
    def label(self) -> str:
        return f"{self.asked.name}: grades of {self.path.name}"

    @property
    def settings(self) -> dict[str, Any]:
        return {**super().settings, "rubric": self.asked.id}

    @property
    def files(self) -> tuple[str, ...]:
        return ("ratings.parquet",)

    @cached_property
    def asked(self) -> Rubric:
        """The rubric."""
        return Rubric.model_validate_json(self.rubric)

    def build(self, given: Given, paths: Sequence[Path]) -> Mapping[str, Any]:
        """Read the file.

        Raises:
            DataError: lines are no rated documents; all kinds of problems are told with their line.
        """
        rows = self._rows()
        text = pa.array([row["text"] for row in rows], pa.large_string())
        columns: dict[str, Any] = {"text": text, "key": hash_documents(text)[1]}
        for name in self.asked.names:
            columns[name] = pa.array([row[name] for row in rows], pa.float64())
        columns["label"] = pa.array([row["label"] for row in rows], pa.string())
        write_columns(paths[0], columns, [ColumnInfo(name=name) for name in columns])
        return {"n_documents": len(rows), "n_rated": len(rows), "n_unreadable": 0}

    def read(self, given: Given) -> pa.Table:
        """The ratings: text, key, the scales, label."""
        return read_columns(given.files(self)[0])

    def _rows(self) -> list[dict[str, Any]]:
        with machine_errors(self.path):
            if self.path.stat().st_size > _LARGEST_BYTES:
                raise DataError(f"expected at most {_LARGEST_BYTES:,} bytes", where=str(self.path))
            lines = self.path.read_bytes().splitlines()
        rows, problems = [], []
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            found = self._row(line)
            if isinstance(found, str):
                problems.append(Problem(message=found, where=f"{self.path}:{number}"))
            else:
                rows.append(found)
        if not rows and not problems:
            problems = [Problem(message="expected rated documents, found none", where=str(self.path))]
        if problems:
            more = len(problems) - _MOST_TOLD
            rest = [Problem(message=f"and {more} more lines", where=str(self.path))] if more > 0 else []
            raise DataError.of([*problems[:_MOST_TOLD], *rest])
        return rows

    def _row(self, line: bytes) -> dict[str, Any] | str:
        """A rated document, or what is wrong with the line."""
        try:
            found = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            return f"expected a JSON object, found an error: {error}"
        if not isinstance(found, dict) or not isinstance(found.get("text"), str):
            return "expected an object with a string `text`"
        row: dict[str, Any] = {"text": found["text"], "label": None}
        for scale in self.asked.scales:
            value: Any = found.get(scale.name)
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            if not is_number or not math.isfinite(value) or not scale.low <= value <= scale.high:
                return f"expected `{scale.name}` from {scale.low} to {scale.high}, found {value!r:.40}"
            row[scale.name] = float(value)
        name = json.loads(self.rater)["label_field"]
        letters = {label.letter for label in self.asked.labels}
        if name is not None and letters:
            row["label"] = found.get(name)
            if row["label"] not in letters:
                return f"expected one of {', '.join(sorted(letters))} in `{name}`, found {row['label']!r:.40}"
        return row
