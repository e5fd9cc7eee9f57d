"""Packed tokens: documents one after another, each ended by one token, in a file that is memory-mapped.

The file is a safetensors file, so any reader of that format opens it:

    tokens      uint16 if the vocabulary has at most 65,536 tokens, else uint32, shape (N,):
                every document followed by the end-of-document token
    padding     uint8, shape (0..7,): makes what follows aligned to 8 bytes
    doc_starts  int64, shape (D + 1,): where each document starts, then N
    keys        int64, shape (D, 2): shard and row of each document
    weights, scores, visible
                float32, float32, bool, shape (N,): only where they were given; see `CHANNELS`

The header (fixed size, 4,096 bytes with its length) holds `format`, `version`, `eos`, `vocab_size`,
`n_tokens`, `n_docs` and the SHA-256 of the tokenizer as strings. Everything is little endian. Tokens are
streamed to the disk; only starts and keys are kept in memory while writing, channels in temporary files.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
import numpy.typing as npt
import orjson

from prill.errors import DataError, InternalError, printable
from prill.run.atomic import atomic_path, machine_errors

__all__ = [
    "CHANNELS",
    "PACKED_VERSION",
    "Packed",
    "PackedChunk",
    "open_packed",
    "write_packed",
    "write_packed_chunks",
]

PACKED_VERSION: Final = 1

CHANNELS: Final = {"weights": "F32", "scores": "F32", "visible": "BOOL"}
"""What a token may carry beside its id: its loss's weight, what an objective reads, whether all see it."""

_FORMAT: Final = "prill-packed-tokens"
_HEADER_BYTES: Final = 4096
_DTYPES: Final = {"U16": "<u2", "U32": "<u4", "U8": "|u1", "I64": "<i8", "F32": "<f4", "BOOL": "|b1"}
_ALIGNMENT: Final = 8
_AGAIN: Final = "remove the file and run again: the step is redone"


@dataclass(frozen=True, kw_only=True)
class Packed:
    """A packed token file, memory-mapped and read-only.

    Attributes:
        tokens: flat stream, uint16 or uint32, shape (N,).
        doc_starts: first token of each document, then N; int64, shape (D + 1,).
        keys: (shard, row) of each document, int64, shape (D, 2).
        header: eos, vocab_size, n_tokens, n_docs, tokenizer_sha256, version.
        channels: those of `CHANNELS` that the file has, each of shape (N,).
    """

    tokens: npt.NDArray[Any]
    doc_starts: npt.NDArray[np.int64]
    keys: npt.NDArray[np.int64]
    header: dict[str, int | str]
    channels: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)

    @property
    def n_tokens(self) -> int:
        """Tokens in the file, end-of-document tokens included."""
        return len(self.tokens)

    @property
    def n_docs(self) -> int:
        return len(self.keys)


def write_packed(
    path: Path,
    docs: Iterable[tuple[tuple[int, int], npt.NDArray[Any] | Sequence[int]]],
    *,
    eos: int,
    vocab_size: int | None = None,
    tokenizer_sha256: str = "",
) -> int:
    """Write documents in the order given; the same documents give the same bytes.

    Args:
        path: of the file.
        docs: ((shard, row), token ids without the end-of-document token).
        eos: token that is put after every document.
        vocab_size: bounds the ids and fixes their width; None: any id below 2^32, four bytes each.
        tokenizer_sha256: kept in the header.
    Returns:
        Tokens written, end-of-document tokens included.
    Raises:
        InternalError: an id is outside the vocabulary, or ids are not integers.
        ResourceError: the machine refuses to store the file.
    """
    limit = vocab_size if vocab_size is not None else 2**32

    def chunks() -> Iterator[PackedChunk]:
        for key, ids in docs:
            tokens = np.append(_checked(np.asarray(ids), limit, path), np.uint32(eos))
            yield PackedChunk(tokens=tokens, lengths=[len(tokens)], keys=[(int(key[0]), int(key[1]))])

    return write_packed_chunks(
        path, chunks(), eos=eos, vocab_size=vocab_size, tokenizer_sha256=tokenizer_sha256
    )


@dataclass(frozen=True, kw_only=True)
class PackedChunk:
    """Some documents at once.

    Attributes:
        tokens: ids of all of them, each document closed by the end-of-document token.
        lengths: tokens of each document, that token included.
        keys: (shard, row) of each.
        channels: one value a token each; every chunk of a file has the same.
    """

    tokens: npt.NDArray[Any]
    lengths: Sequence[int]
    keys: Sequence[tuple[int, int]]
    channels: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)


def write_packed_chunks(
    path: Path,
    chunks: Iterable[PackedChunk],
    *,
    eos: int,
    vocab_size: int | None = None,
    tokenizer_sha256: str = "",
) -> int:
    """Write documents in portions, with what their tokens carry; arguments and errors of `write_packed`."""
    limit = vocab_size if vocab_size is not None else 2**32
    kind = "U16" if limit <= 2**16 else "U32"
    if not 0 <= eos < limit:
        raise InternalError(f"expected an end-of-document token below {limit}, found {eos}", where=str(path))
    lengths: list[int] = []
    keys: list[tuple[int, int]] = []
    spools: dict[str, BinaryIO] = {}
    with ExitStack() as opened, atomic_path(path) as temporary, temporary.open("wb") as file:
        file.write(bytes(_HEADER_BYTES))
        for chunk in chunks:
            file.write(_checked(chunk.tokens, limit, path).astype(_DTYPES[kind]).tobytes())
            if not lengths:
                spools = {
                    name: opened.enter_context(tempfile.TemporaryFile(dir=path.parent))
                    for name in CHANNELS
                    if name in chunk.channels
                }
            for name, spool in spools.items():
                spool.write(chunk.channels[name].astype(_DTYPES[CHANNELS[name]]).tobytes())
            lengths += [int(length) for length in chunk.lengths]
            keys += chunk.keys
        header = {
            "format": _FORMAT,
            "version": str(PACKED_VERSION),
            "eos": str(eos),
            "vocab_size": str(limit),
            "n_tokens": str(sum(lengths)),
            "n_docs": str(len(lengths)),
            "tokenizer_sha256": tokenizer_sha256,
        }
        _finish(file, kind, lengths, keys, header, spools)
    return sum(lengths)


def open_packed(path: Path) -> Packed:
    """Map a packed token file.

    Raises:
        DataError: missing, short, or not such a file, or its parts contradict one another.
        ResourceError: it may not be read.
    """
    raw = _mapped(path)
    header, parts = _read_header(raw, path)
    said = _metadata(header, path)
    tokens, doc_starts, keys = (_part(raw, parts, name, path) for name in ("tokens", "doc_starts", "keys"))
    keys = keys.reshape(-1, 2)
    is_whole = (
        len(tokens) == said["n_tokens"]
        and len(keys) == said["n_docs"]
        and len(doc_starts) == len(keys) + 1
        and doc_starts[0] == 0
        and doc_starts[-1] == len(tokens)
        and bool(np.all(np.diff(doc_starts) >= 1))
    )
    if not is_whole:
        message = (
            f"expected {said['n_tokens']} tokens of {said['n_docs']} documents, found other starts or counts"
        )
        raise DataError(message, where=str(path), hint=_AGAIN)
    channels = {name: _part(raw, parts, name, path) for name in CHANNELS if name in parts}
    for name, values in channels.items():
        if len(values) != len(tokens):
            message = f"expected one value of `{name}` a token, found {len(values)} for {len(tokens)}"
            raise DataError(message, where=str(path), hint=_AGAIN)
    return Packed(tokens=tokens, doc_starts=doc_starts, keys=keys, header=said, channels=channels)


def _checked(tokens: npt.NDArray[Any], limit: int, path: Path) -> npt.NDArray[Any]:
    if tokens.size == 0:
        return np.zeros(0, dtype=np.uint32)
    if tokens.ndim != 1 or tokens.dtype.kind not in "iu":
        message = f"expected a flat array of integer ids, found {tokens.dtype} of shape {tokens.shape}"
        raise InternalError(message, where=str(path))
    low, high = int(tokens.min()), int(tokens.max())
    if low < 0 or high >= limit:
        message = f"expected token ids from 0 to {limit - 1}, found {low} to {high}"
        raise InternalError(message, where=str(path))
    return tokens


def _finish(
    file: BinaryIO,
    kind: str,
    lengths: list[int],
    keys: list[tuple[int, int]],
    metadata: dict[str, str],
    spools: Mapping[str, BinaryIO],
) -> None:
    """Append padding, starts, keys and channels, then write the header at the front."""
    n_tokens = sum(lengths)
    n_bytes = n_tokens * np.dtype(_DTYPES[kind]).itemsize
    n_padding = -n_bytes % _ALIGNMENT
    starts = np.zeros(len(lengths) + 1, dtype="<i8")
    np.cumsum(lengths, out=starts[1:])
    file.write(bytes(n_padding))
    file.write(starts.tobytes())
    file.write(np.array(keys, dtype="<i8").reshape(-1, 2).tobytes())
    shapes: list[tuple[str, str, list[int], int]] = [
        ("tokens", kind, [n_tokens], n_bytes),
        ("padding", "U8", [n_padding], n_padding),
        ("doc_starts", "I64", [len(starts)], starts.nbytes),
        ("keys", "I64", [len(keys), 2], 16 * len(keys)),
    ]
    for name, spool in spools.items():
        size = spool.tell()
        spool.seek(0)
        shutil.copyfileobj(spool, file)
        shapes.append((name, CHANNELS[name], [n_tokens], size))
    header: dict[str, Any] = {"__metadata__": metadata}
    begin = 0
    for name, dtype, shape, size in shapes:
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [begin, begin + size]}
        begin += size
    text = orjson.dumps(header).ljust(_HEADER_BYTES - 8)
    file.seek(0)
    file.write(len(text).to_bytes(8, "little") + text)


def _mapped(path: Path) -> npt.NDArray[np.uint8]:
    with machine_errors(path):
        try:
            size = path.stat().st_size
            if size < _HEADER_BYTES:
                message = f"expected packed tokens of at least {_HEADER_BYTES} bytes, found {size}"
                raise DataError(message, where=str(path), hint=_AGAIN)
            return np.memmap(path, dtype=np.uint8, mode="r")
        except FileNotFoundError as error:
            raise DataError("expected a file of packed tokens, found none", where=str(path)) from error
        except IsADirectoryError as error:
            raise DataError("expected a file of packed tokens, found a folder", where=str(path)) from error


def _read_header(raw: npt.NDArray[np.uint8], path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    n_header = int.from_bytes(raw[:8].tobytes(), "little")
    try:
        header = orjson.loads(raw[8:_HEADER_BYTES].tobytes()) if n_header == _HEADER_BYTES - 8 else None
    except orjson.JSONDecodeError:
        header = None
    metadata = header.get("__metadata__") if isinstance(header, dict) else None
    if not isinstance(header, dict) or not isinstance(metadata, dict) or metadata.get("format") != _FORMAT:
        raise DataError(
            "expected a file of packed tokens, found another header", where=str(path), hint=_AGAIN
        )
    if metadata.get("version") != str(PACKED_VERSION):
        found = printable(str(metadata.get("version")))
        raise DataError(
            f"expected version {PACKED_VERSION} of the format, found {found}", where=str(path), hint=_AGAIN
        )
    return metadata, header


def _metadata(header: dict[str, Any], path: Path) -> dict[str, int | str]:
    try:
        said: dict[str, int | str] = {
            name: int(header[name]) for name in ("version", "eos", "vocab_size", "n_tokens", "n_docs")
        }
        said["tokenizer_sha256"] = str(header["tokenizer_sha256"])
    except (KeyError, ValueError) as error:
        raise DataError(
            "expected whole metadata in the header, found damage", where=str(path), hint=_AGAIN
        ) from error
    return said


def _part(raw: npt.NDArray[np.uint8], header: dict[str, Any], name: str, path: Path) -> npt.NDArray[Any]:
    try:
        dtype = np.dtype(_DTYPES[header[name]["dtype"]])
        begin, end = (_HEADER_BYTES + int(offset) for offset in header[name]["data_offsets"])
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"expected `{name}` in the header, found damage", where=str(path), hint=_AGAIN
        ) from error
    if not _HEADER_BYTES <= begin <= end <= len(raw) or (end - begin) % dtype.itemsize:
        message = f"expected `{name}` at bytes {begin} to {end}, found a file of {len(raw)} bytes"
        raise DataError(message, where=str(path), hint=_AGAIN)
    part = raw[begin:end].view(dtype)
    return part if sys.byteorder == "little" else part.astype(dtype.newbyteorder("="))
