"""Labels that a person or a rater gave to documents of the pool: a JSONL file of texts with a number each.

A label belongs to the document of the pool with the same text. Lines may name the target they are for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import orjson
import pyarrow as pa

from prill.corpus.columns import ColumnInfo, read_columns, write_columns
from prill.errors import DataError, RecipeError
from prill.features.feature import Given, WholeFeature
from prill.features.text_hash import hash_documents
from prill.run.atomic import machine_errors

__all__ = ["Labels"]


@dataclass(frozen=True, kw_only=True)
class Labels(WholeFeature):
    """The labels by key of the text: columns `key`, `label` and `target` (null: for all targets).

    Attributes:
        path: lines of JSON with `text`, `label` (a number) and perhaps `target`.
        content: hash of the file.
    """

    kind: ClassVar[str] = "labels"
    path: Path = field(compare=False)
    content: str

    @classmethod
    def of(cls, path: Path) -> Labels:
        """The labels of a file.

        Raises:
            RecipeError: there is no such file.
        """
        if not path.is_file():
            raise RecipeError(f"expected a file of labels, found none at {str(path)!r}", where="labels")
        with machine_errors(path):
            return cls(path=path, content=hashlib.sha256(path.read_bytes()).hexdigest())

    @property
    def label(self) -> str:
        return "labels of documents"

    @property
    def files(self) -> tuple[str, ...]:
        return ("labels.parquet",)

    def build(self, given: Given, paths: Sequence[Path]) -> Mapping[str, Any]:
        with machine_errors(self.path):
            lines = self.path.read_bytes().splitlines()
        rows = [_row(line, f"{self.path}:{i}") for i, line in enumerate(lines, 1) if line.strip()]
        text = pa.array([row[0] for row in rows], pa.large_string())
        key = hash_documents(text)[1]
        columns = {
            "key": pa.array(key),
            "label": pa.array([row[1] for row in rows], pa.float64()),
            "target": pa.array([row[2] for row in rows], pa.large_string()),
        }
        infos = [ColumnInfo(name=name) for name in columns]
        write_columns(paths[0], columns, infos)
        return {"n_labels": len(rows)}

    @staticmethod
    def read(path: Path, target: str) -> tuple[Any, Any]:
        """Keys, uint64, rising, and labels, float64, of one target; of a text labelled twice the last."""
        table = read_columns(path)
        names = table["target"].to_pylist()
        kept = np.array([name is None or name == target for name in names], dtype=np.bool_)
        key, label = table["key"].to_numpy()[kept], table["label"].to_numpy()[kept]
        unique, last = np.unique(key[::-1], return_index=True)
        return unique, label[::-1][last]


def _row(line: bytes, where: str) -> tuple[str, float, str | None]:
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise DataError(f"expected a line of JSON, found damage: {error}", where=where) from error
    text, label = (row.get("text"), row.get("label")) if isinstance(row, dict) else (None, None)
    target = row.get("target") if isinstance(row, dict) else None
    is_number = isinstance(label, int | float) and np.isfinite(label)
    if not isinstance(text, str) or not is_number or not isinstance(target, str | None):
        raise DataError(
            "expected `text`, a string, `label`, a finite number, and perhaps `target`, a string; "
            f"found {line[:80].decode(errors='replace')}",
            where=where,
        )
    return text, float(label or 0), target
