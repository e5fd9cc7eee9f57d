"""From the paths of a recipe to a sorted list of files with known formats.

A path may be a file, a folder (searched in depth, without names that start with a dot or an underscore),
a glob, or a URL of any of these. The order of a corpus is the order of its files' paths below their common
folder, so that moving the folder changes nothing. Formats go by the name, compression by the first bytes,
because downloads are often unpacked on the way and keep the old name.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from prill.corpus._url import is_url, scheme_of, shown
from prill.corpus.location import Found, open_file, reading, remote
from prill.corpus.spec import CorpusSpec
from prill.errors import DataError, PrillError, Problem, printable

__all__ = ["Compression", "Format", "SourceFile", "find_files"]

Format = Literal["parquet", "jsonl", "text"]
Compression = Literal["none", "gzip", "zstd"]

_PARQUET: Final = (".parquet", ".pq")
_JSONL: Final = (".jsonl", ".ndjson", ".json")
_TEXT: Final = (".txt", ".text", ".md")
_PACKED: Final = (".gz", ".gzip", ".zst", ".zstd")
_UNREADABLE: Final = (".bz2", ".xz", ".lz4", ".zip", ".tar", ".7z", ".br", ".csv", ".tsv", ".arrow", ".warc")
_GLOB: Final = frozenset("*?[")
_HEAD_BYTES: Final = 8


@dataclass(frozen=True, kw_only=True)
class SourceFile:
    """One file of a corpus.

    Attributes:
        found: where it is.
        name: its path below the common folder of the corpus, with forward slashes.
        format: how its documents are stored.
        compression: of a JSONL file; `none` for the others.
    """

    found: Found
    name: str
    format: Format
    compression: Compression

    @property
    def path(self) -> str:
        return self.found.path


def find_files(spec: CorpusSpec, base: Path) -> tuple[SourceFile, ...]:
    """All files that `spec` names, each once, sorted by their path below the common folder.

    Raises:
        DataError, ResourceError: a path names nothing, or a file cannot be used; all problems at once.
    """
    problems: list[Problem] = []
    found: dict[str, tuple[Found, Format]] = {}
    for path in spec.paths:
        try:
            matches = _matches(path, base)
            found.update((match.path, (match, kind)) for match, kind in _with_formats(matches, spec, path))
        except (DataError, OSError) as error:
            problems.extend(_problems(error, path))
    root = _common_folder(list(found))
    files = []
    for match, kind in found.values():
        try:
            files.append(_source_file(match, kind, root))
        except DataError as error:
            problems.extend(error.problems)
    if problems:
        raise DataError.of(problems)
    return tuple(sorted(files, key=lambda file: file.name))


def _problems(error: PrillError | OSError, path: str) -> Iterable[Problem]:
    if isinstance(error, PrillError):
        return error.problems
    return [Problem(message=f"cannot be listed: {error.strerror or error}", where=shown(path))]


@dataclass(frozen=True, kw_only=True)
class _Match:
    files: list[Found]
    kind: Literal["file", "folder", "glob"]


def _matches(path: str, base: Path) -> _Match:
    match = (
        _remote_matches(path) if is_url(path) and scheme_of(path) != "file" else _local_matches(path, base)
    )
    if not match.files:
        kind = "a folder with files" if match.kind == "folder" else "a file, a folder or a glob that matches"
        raise DataError(f"expected {kind}, found none", where=shown(path), hint="check `paths` of the corpus")
    return match


def _local_matches(path: str, base: Path) -> _Match:
    plain = os.path.expanduser(path.removeprefix("file://"))  # noqa: PTH111 (keeps a glob as it is)
    whole = Path(os.path.abspath(base / plain))  # noqa: PTH100 (resolve would follow links)
    if whole.is_dir():
        return _Match(files=[_local(found) for found in _walk(whole)], kind="folder")
    if whole.is_file():
        return _Match(files=[_local(str(whole))], kind="file")
    if whole.exists():
        raise DataError("expected a regular file, found a device, pipe or socket", where=str(whole))
    if not _GLOB & set(plain):
        return _Match(files=[], kind="file")
    pattern = plain if Path(plain).is_absolute() else f"{glob.escape(str(base.absolute()))}/{plain}"
    files: list[str] = []
    for name in sorted(glob.glob(pattern, recursive=True)):  # noqa: PTH207
        name = os.path.abspath(name)  # noqa: PTH100
        if Path(name).is_file():
            files.append(name)
    return _Match(files=[_local(name) for name in files], kind="glob")


def _walk(folder: Path) -> Iterator[str]:
    seen: set[str] = set()
    for parent, folders, names in os.walk(folder, followlinks=True, onerror=_raise):
        real = os.path.realpath(parent)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not _is_hidden(name))
        for name in sorted(names):
            whole = Path(parent) / name
            if _is_hidden(name):
                continue
            if whole.is_symlink() and not whole.exists():
                raise DataError(
                    "expected a file, found a link that leads nowhere", where=_shown_local(str(whole))
                )
            if whole.is_file():
                yield str(whole)


def _raise(error: OSError) -> None:
    raise error


def _is_hidden(name: str) -> bool:
    return name.startswith((".", "_"))


def _local(path: str) -> Found:
    return Found(path=_shown_local(path), address=path, n_bytes=Path(path).stat().st_size)


def _shown_local(path: str) -> str:
    """A path that any terminal and any JSON can hold: odd bytes and control characters are escaped."""
    text = path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return printable(text, limit=len(text))


def _remote_matches(url: str) -> _Match:
    file_system, path = remote(url)
    with reading(url):
        if _GLOB & set(path):
            infos = file_system.glob(path, detail=True)
            return _Match(files=_remote_files(file_system, infos), kind="glob")
        if not file_system.exists(path):
            return _Match(files=[], kind="file")
        if file_system.isdir(path):
            infos = file_system.find(path, detail=True)
            below = {name: info for name, info in infos.items() if not _hidden_below(name, path)}
            return _Match(files=_remote_files(file_system, below), kind="folder")
        return _Match(files=_remote_files(file_system, {path: file_system.info(path)}), kind="file")


def _hidden_below(name: str, folder: str) -> bool:
    return any(_is_hidden(part) for part in name.removeprefix(folder).split("/"))


def _remote_files(file_system: Any, infos: dict[str, dict[str, Any]]) -> list[Found]:
    found = []
    for name, info in sorted(infos.items()):
        if info.get("type") != "file":
            continue
        address = str(file_system.unstrip_protocol(name))
        size = info.get("size")
        if size is None:
            raise DataError(
                "expected a file of known size, found none given by the server", where=shown(address)
            )
        found.append(Found(path=shown(address), address=address, n_bytes=int(size), tag=_tag(info)))
    return found


def _tag(info: dict[str, Any]) -> str | None:
    lfs = info.get("lfs")
    if isinstance(lfs, dict) and lfs.get("sha256"):
        return f"sha256:{lfs['sha256']}"
    for key in ("ETag", "etag", "blob_id", "md5Hash", "crc32c"):
        if info.get(key):
            return f"{key.lower()}:{str(info[key]).strip(chr(34))}"
    return None


def _with_formats(match: _Match, spec: CorpusSpec, path: str) -> list[tuple[Found, Format]]:
    """Give every match its format; a folder may hold other files, which are left out."""
    named = [(found, _format_of_name(found.path)) for found in match.files]
    if spec.format != "auto":
        given: Format = spec.format
        takes_all = match.kind != "folder" or given == "text"
        chosen = [(found, given) for found, kind in named if takes_all or kind == given]
    else:
        data = [(found, kind) for found, kind in named if kind in ("parquet", "jsonl")]
        chosen = [(found, kind) for found, kind in data or named if kind is not None]
    if chosen:
        return chosen
    raise DataError(
        f"expected {spec.format if spec.format != 'auto' else 'Parquet, JSONL or text'} files, found "
        + ", ".join(sorted({Path(found.path).suffix or "no suffix" for found in match.files})[:5]),
        where=shown(path),
        hint="name the `format` (parquet, jsonl or text), or convert the files",
    )


def _format_of_name(path: str) -> Format | None:
    name = path.rpartition("/")[2].lower()
    for suffix in _PACKED:
        if name.endswith(suffix):
            return "jsonl" if name.removesuffix(suffix).endswith(_JSONL) else None
    kinds: tuple[tuple[tuple[str, ...], Format], ...] = (
        (_PARQUET, "parquet"),
        (_JSONL, "jsonl"),
        (_TEXT, "text"),
    )
    return next((kind for suffixes, kind in kinds if name.endswith(suffixes)), None)


def _common_folder(paths: list[str]) -> str:
    """The longest folder that holds all paths, compared part by part; '' when there is none."""
    parts = [path.split("/")[:-1] for path in paths]
    if not parts:
        return ""
    shared = []
    for level in zip(*parts, strict=False):
        if len(set(level)) > 1:
            break
        shared.append(level[0])
    return "/".join(shared)


def _source_file(found: Found, kind: Format, root: str) -> SourceFile:
    name = found.path.removeprefix(root).lstrip("/") if root else found.path
    compression = _compression(found) if kind == "jsonl" else "none"
    return SourceFile(found=found, name=name, format=kind, compression=compression)


def _compression(found: Found) -> Compression:
    """The compression of a JSONL file by its first bytes, which must not contradict its name."""
    if found.path.lower().endswith(_UNREADABLE):
        raise DataError(
            "expected plain, gzip or zstd JSONL, found another kind of file",
            where=found.path,
            hint="convert it to .jsonl.zst",
        )
    with reading(found.path), open_file(found.address) as handle:
        head = bytes(handle.read(_HEAD_BYTES))
    by_bytes = _compression_of_bytes(head)
    is_packed = found.path.lower().endswith(_PACKED)
    if is_packed and not head:
        raise DataError(
            "expected a compressed stream, found an empty file", where=found.path, hint=_COPY_AGAIN
        )
    if is_packed and by_bytes == "none" and head[:1] != b"{":
        raise DataError("expected gzip or zstd, found other bytes", where=found.path, hint=_COPY_AGAIN)
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DataError(
            "expected UTF-8 text, found a UTF-16 byte order mark", where=found.path, hint="convert it"
        )
    if head.startswith(b"PAR1"):
        raise DataError(
            "expected JSONL, found a Parquet file", where=found.path, hint="set `format: parquet`"
        )
    return by_bytes


_COPY_AGAIN: Final = "the file was cut; copy or download it again"


def _compression_of_bytes(head: bytes) -> Compression:
    if head.startswith(b"\x1f\x8b"):
        return "gzip"
    is_skippable = len(head) >= 4 and 0x50 <= head[0] <= 0x5F and head[1:4] == b"\x2a\x4d\x18"
    return "zstd" if head.startswith(b"\x28\xb5\x2f\xfd") or is_skippable else "none"
