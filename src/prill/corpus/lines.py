"""Lines of a JSONL file: plain by byte range, or out of a gzip or zstd stream.

A byte range owns the lines that start in it, so ranges that touch share nothing and lose nothing. A
compressed stream that was cut never looks like its end: the decoder says so. A single line beyond
`MAX_LINE_BYTES` is not kept in memory; it is passed on as `LongLine`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa

from prill.corpus.expansion import ExpansionGuard
from prill.corpus.files import SourceFile
from prill.corpus.location import open_file, reading
from prill.errors import DataError, printable

__all__ = ["MAX_LINE_BYTES", "LongLine", "count_lines_before", "read_chunks", "split_lines"]

MAX_LINE_BYTES: Final = 48 * 1024 * 1024  # parsed JSON can take 27 times its size
CHUNK_BYTES: Final = 256 * 1024
_KEPT_BYTES: Final = 64 * 1024
_BOM: Final = b"\xef\xbb\xbf"


@dataclass(frozen=True, kw_only=True)
class LongLine:
    """A line above the limit: its first bytes and its length in bytes."""

    head: bytes
    n_bytes: int


def read_chunks(file: SourceFile, start: int, stop: int) -> Iterator[bytes]:
    """Decompressed bytes of the lines that a range owns, without a byte order mark.

    Raises:
        DataError: the stream is damaged, was cut, or grows beyond all reason; or the file has changed.
    """
    with open_file(file.found.address) as handle, reading(file.path):
        if handle.size() != file.found.n_bytes:
            message = f"expected {file.found.n_bytes} bytes, found {handle.size()}: the file has changed"
            raise DataError(message, where=file.path, hint="start again with inputs that stay as they are")
        is_plain = file.compression == "none"
        chunks = _owned(handle, start, stop) if is_plain else _decompressed(handle, file)
        yield from _without_bom(chunks) if start == 0 else chunks


def split_lines(chunks: Iterable[bytes], *, limit: int = MAX_LINE_BYTES) -> Iterator[list[bytes | LongLine]]:
    """Lists of complete lines without their newlines; the last line may lack its newline."""
    carry: list[bytes] = []
    n_carry = 0
    for chunk in chunks:
        last = chunk.rfind(b"\n")
        if last < 0:
            n_carry += len(chunk)
            _keep(carry, chunk, n_carry, limit)
            continue
        first = chunk.find(b"\n")
        opening = n_carry + first
        lines: list[bytes | LongLine] = [_line(carry, chunk[:first], opening, limit)]
        if last > first:
            lines.extend(_within(line, limit) for line in chunk[first + 1 : last].split(b"\n"))
        yield lines
        carry = [chunk[last + 1 :]]
        n_carry = len(carry[0])
    if n_carry:
        yield [_line(carry, b"", n_carry, limit)]


def count_lines_before(file: SourceFile, offset: int) -> int:
    """Newlines in the first `offset` bytes of a plain file, to name a line of a later range."""
    n_lines = 0
    with open_file(file.found.address) as handle, reading(file.path):
        while offset > 0:
            chunk = handle.read(min(CHUNK_BYTES, offset))
            if not chunk:
                break
            n_lines += chunk.count(b"\n")
            offset -= len(chunk)
    return n_lines


def first_owned(handle: Any, start: int, stop: int) -> int | None:
    """Offset of the first line that starts in the range, None when no line does."""
    if start == 0:
        return 0
    position = start - 1
    handle.seek(position)
    while position < stop - 1:
        chunk: bytes = handle.read(min(CHUNK_BYTES, stop - 1 - position))
        if not chunk:
            return None
        newline = chunk.find(b"\n")
        if newline >= 0:
            return position + newline + 1
        position += len(chunk)
    return None


def _owned(handle: Any, start: int, stop: int) -> Iterator[bytes]:
    first = first_owned(handle, start, stop)
    if first is None:
        return
    handle.seek(first)
    position = first
    while chunk := handle.read(CHUNK_BYTES):
        end = position + len(chunk)
        if end >= stop:
            newline = chunk.find(b"\n", max(0, stop - 1 - position))
            if newline >= 0:
                yield chunk[: newline + 1]
                return
        yield chunk
        position = end


def _decompressed(handle: Any, file: SourceFile) -> Iterator[bytes]:
    guard = ExpansionGuard(path=file.path)
    stream = pa.CompressedInputStream(handle, file.compression)
    while True:
        try:
            chunk = stream.read(CHUNK_BYTES)
        except (pa.ArrowException, OSError) as error:
            if getattr(error, "errno", None) is not None:
                raise
            raise _stream_error(file, guard.n_out, error) from error
        if not chunk:
            return
        guard.n_in = max(guard.n_in, handle.tell())
        guard.add(len(chunk))
        yield chunk


def _stream_error(file: SourceFile, n_out: int, error: Exception) -> DataError:
    said = str(error)
    if "Truncated" in said:
        found = "found that it was cut before its end"
    elif "too much memory" in said:
        found = "found one that asks for a window above 128 MiB"
    else:
        found = f"found damage ({printable(said)})"
    return DataError(
        f"expected a whole {file.compression} stream, {found} after {n_out} bytes of text",
        where=file.path,
        hint="copy or download the file again, or compress it again with usual settings",
    )


def _without_bom(chunks: Iterator[bytes]) -> Iterator[bytes]:
    first = next(chunks, b"")
    while len(first) < len(_BOM) and (more := next(chunks, b"")):
        first += more
    yield first.removeprefix(_BOM)
    yield from chunks


def _keep(carry: list[bytes], chunk: bytes, n_bytes: int, limit: int) -> None:
    """Add to an unfinished line, or only keep its start once it is above the limit."""
    if n_bytes <= limit:
        carry.append(chunk)
        return
    head = b"".join(carry)[:_KEPT_BYTES]
    carry[:] = [head + chunk[: _KEPT_BYTES - len(head)]]


def _line(carry: list[bytes], rest: bytes, n_bytes: int, limit: int) -> bytes | LongLine:
    if n_bytes > limit:
        return LongLine(head=b"".join([*carry, rest[:_KEPT_BYTES]])[:_KEPT_BYTES], n_bytes=n_bytes)
    return b"".join([*carry, rest]) if carry else rest


def _within(line: bytes, limit: int) -> bytes | LongLine:
    return line if len(line) <= limit else LongLine(head=line[:_KEPT_BYTES], n_bytes=len(line))
