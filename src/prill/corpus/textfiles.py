"""Reading documents from text files: one UTF-8 document a file, with its path below the corpus as its id."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import pyarrow as pa

from prill.corpus.batch import BadRow, Piece
from prill.corpus.files import SourceFile
from prill.corpus.lines import MAX_LINE_BYTES
from prill.corpus.location import open_file, reading
from prill.corpus.strings import checked_text
from prill.errors import DataError

__all__ = ["read_texts"]

_BOM: Final = b"\xef\xbb\xbf"
_KEPT_BYTES: Final = 64 * 1024


def read_texts(files: Sequence[SourceFile], fields: Sequence[str]) -> Iterator[Piece]:
    """One row a file, in order. Only `text` and `id` hold values."""
    names = ["text", *(name for name in fields if name != "text")]
    for row, file in enumerate(files):
        content = _content(file)
        bad: tuple[BadRow, ...] = ()
        if len(content) > MAX_LINE_BYTES:
            message = f"expected a file of at most {MAX_LINE_BYTES} bytes, found {file.found.n_bytes}"
            bad = (
                BadRow(
                    row=row, reason="too_long", message=message, where=file.path, raw=content[:_KEPT_BYTES]
                ),
            )
            content = b""
        text, bad_texts = checked_text(pa.array([content], pa.large_binary()))
        bad += tuple(
            BadRow(row=row, reason=item.reason, message=item.message, where=file.path, raw=item.raw)
            for item in bad_texts
        )
        columns = {"text": text}
        for name in names[1:]:
            is_id = name == "id" and not bad
            columns[name] = pa.array([file.name if is_id else None], pa.large_string())
        yield Piece(columns=columns, bad=bad)


def _content(file: SourceFile) -> bytes:
    with open_file(file.found.address) as handle, reading(file.path):
        if handle.size() != file.found.n_bytes:
            message = f"expected {file.found.n_bytes} bytes, found {handle.size()}: the file has changed"
            raise DataError(message, where=file.path, hint="start again with inputs that stay as they are")
        content = bytes(handle.read(MAX_LINE_BYTES + len(_BOM) + 1))
    return content.removeprefix(_BOM)
