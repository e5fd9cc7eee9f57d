"""Files that are either absent or whole.

A file is written under a temporary name in its own folder, flushed to the disk, renamed, and the rename
is flushed too. A reader, and a run that is resumed after a kill, therefore sees the old file, or no file,
or the whole new one. Failures of the machine (disk full, size limit, too few file descriptors, no right
to write) become a `ResourceError` that says what to do. Temporary names start with `TEMPORARY_PREFIX`,
so that the owner of a folder can sweep up what a killed process left behind.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from prill.errors import InternalError, ResourceError

__all__ = [
    "TEMPORARY_PREFIX",
    "atomic_path",
    "atomic_write",
    "machine_errors",
    "make_folder",
    "resource_error",
    "sweep",
    "sync_folder",
]

TEMPORARY_PREFIX = ".tmp-"

_TOKEN_BYTES = 6
_KEPT_NAME_CHARACTERS = 32  # the end of the name, so that suffixes still tell the format
_FAILED = "cannot be written or read"
_ADVICE: dict[int, tuple[str, str]] = {
    errno.ENOSPC: ("the disk is full", "free some space or use another disk, then run again: it resumes"),
    errno.EDQUOT: (
        "the disk quota is used up",
        "free some space or raise the quota, then run again: it resumes",
    ),
    errno.EFBIG: (
        "the file would exceed the file-size limit",
        "raise it (`ulimit -f unlimited`), then run again",
    ),
    errno.EMFILE: (
        "too many files are open in this process",
        "raise the limit (`ulimit -n 65536`), then run again",
    ),
    errno.ENFILE: ("too many files are open on this machine", "close other programs, then run again"),
    errno.EACCES: ("permission denied", "grant read and write access, or use another folder"),
    errno.EPERM: ("operation not permitted", "grant read and write access, or use another folder"),
    errno.EROFS: ("the file system is read-only", "use a folder that can be written"),
    errno.EIO: ("the disk reported an error", "check the disk, then run again: it resumes"),
    errno.ENOMEM: ("the machine is out of memory", "use fewer workers or a machine with more memory"),
    errno.EAGAIN: ("too many processes or threads", "raise the limit (`ulimit -u`) or use fewer workers"),
}


@contextlib.contextmanager
def atomic_path(path: Path, *, flush: bool = True) -> Iterator[Path]:
    """A temporary path that becomes `path` when the block ends without an error.

    The block must create the temporary file and close it. On any error, signals included, the temporary
    file is removed and `path` keeps what it held before.

    Args:
        flush: wait until the disk has the file and its name. Without, only a power failure can leave a
            name without content; for parts, which a step flushes itself before it trusts them.
    Raises:
        ResourceError: the machine refuses to store the file.
        InternalError: the block ended without creating the file.
    """
    with machine_errors(path):
        make_folder(path.parent)
        temporary = path.parent / _temporary_name(path.name)
        try:
            yield temporary
            if flush:
                _sync_file(temporary, path)
            elif not temporary.exists():
                raise _nothing_written(path)
            temporary.replace(path)
            if flush:
                sync_folder(path.parent)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise


def atomic_write(path: Path, content: bytes) -> None:
    """Write `content` to `path` so that nobody ever sees a part of it.

    Raises:
        ResourceError: the machine refuses to store the file.
    """
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def make_folder(path: Path) -> None:
    """Create the folder and its missing parents, and make their names durable.

    Raises:
        ResourceError: the machine refuses to.
    """
    if path.is_dir():
        return
    make_folder(path.parent)
    with machine_errors(path, "cannot be made"):
        path.mkdir(exist_ok=True)
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Flush the names in a folder to the disk. File systems that cannot do this are left alone."""
    with machine_errors(path):
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
        try:
            os.fsync(handle)
        except OSError as error:
            if error.errno not in {errno.EINVAL, errno.ENOTSUP, errno.EBADF}:
                raise
        finally:
            os.close(handle)


def sweep(folder: Path) -> int:
    """Remove temporary files that killed processes left anywhere in `folder`; returns how many.

    Only the holder of the run's lock may call this.
    """
    n_removed = 0
    with machine_errors(folder):
        for leftover in sorted(folder.rglob(f"{TEMPORARY_PREFIX}*")):
            if leftover.is_file() or leftover.is_symlink():
                leftover.unlink(missing_ok=True)
                n_removed += 1
    return n_removed


@contextlib.contextmanager
def machine_errors(path: Path | str, failed: str = _FAILED) -> Iterator[None]:
    """Turn operating-system errors that the user can cure into a `ResourceError` about `path`.

    `failed` begins the message: what could not be done.
    """
    try:
        yield
    except OSError as error:
        known = resource_error(error, path, failed)
        if known is None:
            raise
        raise known from error


def resource_error(error: OSError, path: Path | str, failed: str = _FAILED) -> ResourceError | None:
    """The `ResourceError` for a known errno, with what to do; None for any other error."""
    if error.errno is None or error.errno not in _ADVICE:
        return None
    found, hint = _ADVICE[error.errno]
    name = errno.errorcode.get(error.errno, str(error.errno))
    return ResourceError(f"{failed}: {found} ({name})", where=str(path), hint=hint)


def _temporary_name(name: str) -> str:
    return f"{TEMPORARY_PREFIX}{secrets.token_hex(_TOKEN_BYTES)}-{name[-_KEPT_NAME_CHARACTERS:]}"


def _nothing_written(path: Path) -> InternalError:
    return InternalError("expected a file to rename, found none", where=str(path))


def _sync_file(temporary: Path, path: Path) -> None:
    try:
        handle = os.open(temporary, os.O_RDONLY)
    except FileNotFoundError:
        raise _nothing_written(path) from None
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
