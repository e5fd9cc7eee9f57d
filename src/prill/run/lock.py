"""One holder at a time for a run directory.

The operating system's file lock (`flock`) decides; it is released by the kernel when its holder dies, so a
dead holder never blocks anyone. The holder writes its process id, host and start into the file, only so that
the other side can name it. The file is removed at the end, under the lock; a waiter that got the lock of a
removed file notices by the inode and starts over.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import time
from pathlib import Path
from types import TracebackType

from prill.errors import ResourceError, printable
from prill.run.atomic import machine_errors, make_folder

__all__ = ["LOCK_NAME", "RunLock"]

LOCK_NAME = "prill-run.lock"

_GRACE_S = 2.0  # for a holder that is just dying, or has not yet written its name
_POLL_S = 0.05
_MAX_HOLDER_BYTES = 4096


class RunLock:
    """The lock of one run directory, held from construction until `release`.

    Raises:
        ResourceError: another process holds it; names the process, host and start.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / LOCK_NAME
        make_folder(folder)
        self._handle: int | None = _acquire(self.path)

    def release(self) -> None:
        """Give the lock back; safe to call twice."""
        handle, self._handle = self._handle, None
        if handle is None:
            return
        self.path.unlink(missing_ok=True)
        os.close(handle)

    def __enter__(self) -> RunLock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def _acquire(path: Path) -> int:
    """A locked handle of the file that is at `path` now, with our name in it."""
    deadline = time.monotonic() + _GRACE_S
    while True:
        handle = _try_once(path)
        if handle is not None:
            return _signed(handle)
        holder = _holder(path)
        if time.monotonic() > deadline or _is_alive(holder):
            raise _held(path, holder)
        time.sleep(_POLL_S)


def _signed(handle: int) -> int:
    """The locked handle with our name in the file; given back when the disk has no room for a name."""
    try:
        with machine_errors("the run's lock"):
            os.ftruncate(handle, 0)
            os.write(handle, json.dumps(_me()).encode())
    except BaseException:
        os.close(handle)
        raise
    return handle


def _try_once(path: Path) -> int | None:
    with machine_errors(path):
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_same_file(handle, path):
                return handle
        except OSError as error:
            if error.errno in {errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS}:
                os.close(handle)
                raise ResourceError(
                    "expected a file system with file locks, found none",
                    where=str(path),
                    hint="put the run directory on a local disk",
                ) from error
            if error.errno not in {errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES}:
                os.close(handle)
                raise
        os.close(handle)
        return None


def _is_same_file(handle: int, path: Path) -> bool:
    try:
        named = path.stat()
    except FileNotFoundError:
        return False
    held = os.fstat(handle)
    return (named.st_dev, named.st_ino) == (held.st_dev, held.st_ino)


def _me() -> dict[str, object]:
    started = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return {"pid": os.getpid(), "host": socket.gethostname(), "started": started}


def _holder(path: Path) -> dict[str, object]:
    try:
        with path.open("rb") as file:
            content = json.loads(file.read(_MAX_HOLDER_BYTES))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _is_alive(holder: dict[str, object]) -> bool:
    pid = holder.get("pid")
    if not isinstance(pid, int) or isinstance(pid, bool) or pid <= 0:
        return False
    if holder.get("host") != socket.gethostname():
        return True  # cannot be asked from here; its lock is held, so it is taken to be alive
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def _held(path: Path, holder: dict[str, object]) -> ResourceError:
    if holder:
        named = ", ".join(f"{key} {holder[key]}" for key in ("pid", "host", "started") if key in holder)
    else:
        named = "an unnamed process"
    return ResourceError(
        f"another run holds this folder ({printable(named)})",
        where=str(path.parent),
        hint="wait for it to end, stop it, or use another folder",
    )
