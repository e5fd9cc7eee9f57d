"""Tasks for the engine's tests: importable, so that worker processes find them."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from prill.errors import DataError


def square(x: int) -> int:
    return x * x


def slow_square(x: int) -> int:
    time.sleep(0.05 * (x % 3))
    return x * x


def die_once(item: tuple[str, int]) -> int:
    """The first attempt at item 2 is killed; a file remembers it."""
    folder, x = item
    flag = Path(folder) / f"died-{x}"
    if x == 2 and not flag.exists():
        flag.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return x


def die(x: int) -> int:
    if x == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return x


def leave(x: int) -> int:
    os._exit(7)


def crash(x: int) -> int:
    import ctypes

    return ctypes.string_at(0)[x]


def stall_once(item: tuple[str, int]) -> int:
    folder, x = item
    flag = Path(folder) / f"stalled-{x}"
    if x == 1 and not flag.exists():
        flag.touch()
        time.sleep(60)
    return x


def stall(x: int) -> int:
    time.sleep(60)
    return x


def bad_data(x: int) -> int:
    if x == 1:
        raise DataError(
            "`text` must be a string, found null", where="pool/a.jsonl:17", hint="repair the file"
        )
    return x


def bug(x: int) -> int:
    return x // 0


def exhausted(x: int) -> int:
    raise MemoryError


def full_disk(x: int) -> int:
    import errno

    raise OSError(errno.ENOSPC, "No space left on device", "/big/file")


def thread_limits(x: int) -> tuple[str, ...]:
    names = (
        "OMP_NUM_THREADS",
        "MKL_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "NUMBA_NUM_THREADS",
        "RAYON_NUM_THREADS",
    )
    return tuple(os.environ[name] for name in names)


def unpicklable(x: int) -> object:
    return lambda: x


def big(x: int) -> bytes:
    return bytes([x]) * 3_000_000


def length(content: bytes) -> int:
    return len(content)


def pid_then_sleep(x: int) -> int:
    time.sleep(30)
    return os.getpid()


def print_something(x: int) -> int:
    print("noise from a worker")
    return x


def fork_and_die(x: int) -> int:
    """A grandchild keeps the pipe open while the worker dies."""
    if os.fork() == 0:
        time.sleep(3)
        os._exit(0)
    os._exit(9)
