"""The shard plan: how the files of a corpus are cut into independent pieces of work.

The plan depends only on the files and on `shard_bytes`, never on workers, so that every result that is
stored by shard can be found again. Parquet files are cut between row groups, plain JSONL files at byte
offsets (a line belongs to the range in which it starts), compressed JSONL files not at all; text files,
one document each, are gathered.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from prill.corpus.files import Format, SourceFile

__all__ = ["FilePlan", "RowGroup", "Shard", "plan_shards"]


@dataclass(frozen=True, kw_only=True)
class Shard:
    """One piece of work.

    Attributes:
        index: its number in the plan.
        path: the file as it may be shown (for text: the first file of the group).
        format: parquet, jsonl or text.
        start: first row group (Parquet), first byte (plain JSONL) or first file (text); else 0.
        stop: one past the last; for compressed JSONL the size of the file.
        n_rows: documents, where known before reading, else None.
        n_bytes: size of the work: encoded bytes (Parquet), else bytes on disk.
    """

    index: int
    path: str
    format: Format
    start: int
    stop: int
    n_rows: int | None
    n_bytes: int


@dataclass(frozen=True, kw_only=True)
class RowGroup:
    """Rows and uncompressed encoded bytes of one Parquet row group."""

    n_rows: int
    n_bytes: int


@dataclass(frozen=True, kw_only=True)
class FilePlan:
    """A file and what its header says about cutting it: its row groups if it is Parquet, else empty."""

    file: SourceFile
    row_groups: tuple[RowGroup, ...] = ()


def plan_shards(plans: Sequence[FilePlan], shard_bytes: int) -> tuple[tuple[Shard, int], ...]:
    """The shards of the files in order, each with the position of its (first) file.

    Files without any row or byte get no shard.
    """
    pieces = _pieces(plans, shard_bytes)
    return tuple((_shard(index, plans, piece), piece.file) for index, piece in enumerate(pieces))


@dataclass(frozen=True, kw_only=True)
class _Piece:
    file: int
    start: int
    stop: int
    n_rows: int | None
    n_bytes: int


def _shard(index: int, plans: Sequence[FilePlan], piece: _Piece) -> Shard:
    file = plans[piece.file].file
    return Shard(
        index=index,
        path=file.path,
        format=file.format,
        start=piece.start,
        stop=piece.stop,
        n_rows=piece.n_rows,
        n_bytes=piece.n_bytes,
    )


def _pieces(plans: Sequence[FilePlan], shard_bytes: int) -> Iterator[_Piece]:
    position = 0
    while position < len(plans):
        plan = plans[position]
        if plan.file.format == "text":
            stop = _end_of_text_run(plans, position)
            yield from _text_pieces(plans, range(position, stop), shard_bytes)
            position = stop
            continue
        if plan.file.format == "parquet":
            yield from _parquet_pieces(position, plan.row_groups, shard_bytes)
        else:
            yield from _jsonl_pieces(position, plan.file, shard_bytes)
        position += 1


def _end_of_text_run(plans: Sequence[FilePlan], start: int) -> int:
    stop = start
    while stop < len(plans) and plans[stop].file.format == "text":
        stop += 1
    return stop


def _text_pieces(plans: Sequence[FilePlan], files: range, shard_bytes: int) -> Iterator[_Piece]:
    for start, stop, n_bytes in _gather((plans[i].file.found.n_bytes for i in files), shard_bytes):
        first, last = files.start + start, files.start + stop
        yield _Piece(file=first, start=first, stop=last, n_rows=last - first, n_bytes=n_bytes)


def _parquet_pieces(file: int, row_groups: Sequence[RowGroup], shard_bytes: int) -> Iterator[_Piece]:
    for start, stop, n_bytes in _gather((group.n_bytes for group in row_groups), shard_bytes):
        n_rows = sum(group.n_rows for group in row_groups[start:stop])
        if n_rows:
            yield _Piece(file=file, start=start, stop=stop, n_rows=n_rows, n_bytes=n_bytes)


def _jsonl_pieces(file: int, source: SourceFile, shard_bytes: int) -> Iterator[_Piece]:
    size = source.found.n_bytes
    step = shard_bytes if source.compression == "none" else max(size, 1)
    for start in range(0, size, step):
        stop = min(start + step, size)
        yield _Piece(file=file, start=start, stop=stop, n_rows=None, n_bytes=stop - start)


def _gather(sizes: Iterable[int], limit: int) -> Iterator[tuple[int, int, int]]:
    """Consecutive groups `(start, stop, total)` of at most `limit`, each of at least one item."""
    start, total, n_seen = 0, 0, 0
    for size in sizes:
        if n_seen > start and total + size > limit:
            yield start, n_seen, total
            start, total = n_seen, 0
        total += size
        n_seen += 1
    if n_seen > start:
        yield start, n_seen, total
