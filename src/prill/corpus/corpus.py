"""A corpus: immutable documents in files, cut into shards, read as batches of Arrow columns.

Opening checks every file's header and reports all problems at once; nothing is read twice to do so.
A corpus is small and picklable: it holds names, sizes and the shard plan, never documents.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from prill.corpus.batch import BadRow, Batch, Piece, regroup
from prill.corpus.files import SourceFile, find_files
from prill.corpus.identity import identify
from prill.corpus.jsonl import check_head, read_lines
from prill.corpus.parquet import ParquetHeader, read_header, read_row_groups
from prill.corpus.shards import FilePlan, Shard, plan_shards
from prill.corpus.spec import FIELDS, CorpusSpec
from prill.corpus.textfiles import read_texts
from prill.errors import DataError, Problem, near

__all__ = ["Corpus"]

_OPEN_THREADS: Final = 8


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """Documents in shards.

    Attributes:
        spec: what the user said.
        files: the files in order.
        shards: the plan; a document is named by (shard, row).
        fields: the fields that can be asked for.
    """

    spec: CorpusSpec
    files: tuple[SourceFile, ...]
    shards: tuple[Shard, ...]
    fields: tuple[str, ...]
    _first_files: tuple[int, ...]
    _headers: dict[str, ParquetHeader]

    @classmethod
    def open(cls, spec: CorpusSpec, base: Path | None = None) -> Corpus:
        """Find the files, check every header, and plan the shards.

        Args:
            spec: the corpus of a recipe.
            base: folder that relative paths start from; default: the current one.
        Raises:
            DataError: files are missing or damaged, or fields missing or of a wrong type, or differ
                between files: all problems at once.
            ResourceError: storage cannot be reached or its package is not installed.
        """
        files = find_files(spec, base or Path.cwd())
        headers, problems = _headers_of(files, spec)
        problems.extend(_drift(headers, spec))
        if problems:
            raise DataError.of(problems)
        plans = [FilePlan(file=file, row_groups=_row_groups(headers, file)) for file in files]
        planned = plan_shards(plans, spec.shard_bytes)
        if not planned:
            raise DataError("expected documents, found only empty files", where=", ".join(spec.paths))
        return cls(
            spec=spec,
            files=files,
            shards=tuple(shard for shard, _ in planned),
            fields=_fields(files, headers, spec),
            _first_files=tuple(first for _, first in planned),
            _headers=headers,
        )

    def identity(self) -> list[dict[str, Any]]:
        """Path, size and content hash of every file, for fingerprints."""
        return identify(self.files, self.spec.identity)

    def batches(self, shard: Shard, fields: Sequence[str] = ("text",)) -> Iterator[Batch]:
        """The documents of a shard in order, about 4 MB of text a batch. `text` is always there.

        Raises:
            DataError: the corpus lacks a field, a file is damaged, or (on_bad="stop") a record is bad.
        """
        for name in fields:
            if name not in self.fields and name != "text":
                raise DataError(f"the corpus has no field {name!r}", hint=near(name, self.fields))
        for batch in regroup(self._pieces(shard, fields), shard.index):
            if batch.bad and self.spec.on_bad == "stop":
                raise _stopped(batch.bad[0])
            yield self._with_source(batch)

    def schema_summary(self) -> dict[str, Any]:
        """Counts and fields for a plan or a report; `n_rows` is None where only reading can tell."""
        known = [shard.n_rows for shard in self.shards]
        types: dict[str, set[str]] = {}
        for header in self._headers.values():
            for name, kind in header.types.items():
                types.setdefault(name, set()).add(kind)
        return {
            "n_files": len(self.files),
            "n_shards": len(self.shards),
            "n_file_bytes": sum(file.found.n_bytes for file in self.files),
            "n_rows": None if None in known else sum(n for n in known if n is not None),
            "formats": sorted({file.format for file in self.files}),
            "fields": {name: sorted(types.get(name, {"string"})) for name in self.fields},
        }

    def _pieces(self, shard: Shard, fields: Sequence[str]) -> Iterator[Piece]:
        file = self.files[self._first_files[shard.index]]
        if shard.format == "parquet":
            paths = self._headers[file.name].paths
            return read_row_groups(file, paths, fields, start=shard.start, stop=shard.stop)
        if shard.format == "jsonl":
            return read_lines(file, self.spec, fields, start=shard.start, stop=shard.stop)
        return read_texts(self.files[shard.start : shard.stop], fields)

    def _with_source(self, batch: Batch) -> Batch:
        """Fill in the source that the recipe gives where the data has none."""
        if self.spec.source is None or "source" not in batch.columns:
            return batch
        given = pa.scalar(self.spec.source, pa.large_string())
        columns = {**batch.columns, "source": pc.fill_null(batch.columns["source"], given)}
        return Batch(shard=batch.shard, first_row=batch.first_row, columns=columns, bad=batch.bad)


def _stopped(bad: BadRow) -> DataError:
    return DataError(
        bad.message,
        where=bad.where,
        hint="repair the record, or set `on_bad: quarantine` to set bad records aside and count them",
    )


def _headers_of(
    files: Sequence[SourceFile], spec: CorpusSpec
) -> tuple[dict[str, ParquetHeader], list[Problem]]:
    """The headers of Parquet files by name, and the problems of all files in order."""

    def check(file: SourceFile) -> ParquetHeader | Sequence[Problem]:
        try:
            if file.format == "parquet":
                return read_header(file, spec)
            return check_head(file, spec) if file.format == "jsonl" else []
        except DataError as error:
            return error.problems

    with ThreadPoolExecutor(max_workers=_OPEN_THREADS) as pool:
        results = list(pool.map(check, files))
    headers: dict[str, ParquetHeader] = {}
    problems: list[Problem] = []
    for file, result in zip(files, results, strict=True):
        if isinstance(result, ParquetHeader):
            headers[file.name] = result
        else:
            problems.extend(result)
    return headers, problems


def _drift(headers: dict[str, ParquetHeader], spec: CorpusSpec) -> list[Problem]:
    """Fields that some Parquet files have and others lack."""
    if not headers:
        return []
    first, model = next(iter(headers.items()))
    problems = []
    for name, header in headers.items():
        for field in FIELDS:
            if (field in header.paths) == (field in model.paths) or (field == "source" and spec.source):
                continue
            has, lacks = (first, name) if field in model.paths else (name, first)
            message = f"the shards differ: {has} has the column `{field}`, {lacks} has not"
            hint = f"rewrite the file, or leave the column out with `fields: {{{field}: ''}}`"
            problems.append(Problem(message=message, where=name, hint=hint))
    return problems


def _row_groups(headers: dict[str, ParquetHeader], file: SourceFile) -> Any:
    return headers[file.name].row_groups if file.name in headers else ()


def _fields(
    files: Sequence[SourceFile], headers: dict[str, ParquetHeader], spec: CorpusSpec
) -> tuple[str, ...]:
    """Fields that can be asked for: any in JSONL, the columns of Parquet, text and id of text files."""
    present: set[str] = {"text"}
    for header in headers.values():
        present.update(header.paths)
    formats = {file.format for file in files}
    if "jsonl" in formats:
        present.update(name for name in FIELDS if spec.fields.get(name) != "")
    if "text" in formats:
        present.add("id")
    if spec.source is not None:
        present.add("source")
    return tuple(name for name in FIELDS if name in present)
