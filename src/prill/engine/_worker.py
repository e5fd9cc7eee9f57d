"""The body of a worker process: read a task, then one item at a time, until the pipe ends.

Only the standard library and the error types are imported before the first task. A worker never outlives
its parent: the kernel kills it when the parent dies (Linux), a watcher does so elsewhere, and an idle
worker sees the pipe end. The pickles come from our own parent through an inherited pipe.
"""

from __future__ import annotations

import ctypes
import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from prill.engine.failure import task_failure
from prill.errors import PrillError

__all__ = ["LOADING_SCRIPT", "Assignment", "Reply", "main"]

LOADING_SCRIPT = "PRILL_LOADING_SCRIPT"  # set in the environment while a worker runs its parent's script

_PR_SET_PDEATHSIG = 1
_WATCH_S = 1.0


@dataclass(frozen=True, kw_only=True)
class Assignment:
    """What the parent sends once: the task (pickled), its name, and the parent's main file."""

    task: bytes
    name: str
    main_path: str | None


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What a worker sends back: the result of an item, or the error that it raised."""

    index: int
    result: Any = None
    error: PrillError | None = None


def main(handle: int, parent: int) -> None:
    """Serve until the pipe ends. Never returns."""
    _die_with(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what an interrupt means
    os.set_inheritable(handle, False)
    pipe = Connection(handle)
    try:
        pipe.send_bytes(b"ready")
        assignment: Assignment = pickle.loads(pipe.recv_bytes())
        task = _Task(assignment)
        while True:
            pipe.send_bytes(task.answer(pipe.recv_bytes()))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        _end()


class _Task:
    """The unpickled task; items of a parent's script (`__main__`) load that script once."""

    def __init__(self, assignment: Assignment) -> None:
        self._assignment = assignment
        self._function: Callable[[Any], Any] | None = None
        self._has_main = False

    def answer(self, message: bytes) -> bytes:
        """The pickled reply to one pickled (index, label, item)."""
        index, label, item_bytes = pickle.loads(message)
        try:
            result = self._load()(self._unpickle(item_bytes))
            return pickle.dumps(Reply(index=index, result=result), pickle.HIGHEST_PROTOCOL)
        except Exception as error:  # noqa: BLE001 whatever a task raises must cross to the parent
            failure = task_failure(error, name=self._assignment.name, label=label)
            return pickle.dumps(Reply(index=index, error=failure), pickle.HIGHEST_PROTOCOL)

    def _load(self) -> Callable[[Any], Any]:
        if self._function is None:
            self._function = self._unpickle(self._assignment.task)
        return self._function

    def _unpickle(self, content: bytes) -> Any:
        if b"__main__" in content and not self._has_main and self._assignment.main_path:
            self._has_main = True
            _load_script(self._assignment.main_path)
        return pickle.loads(content)


def _load_script(path: str) -> None:
    """Run the parent's script as `__mp_main__`, as the standard library does, to find its functions."""
    from multiprocessing import spawn

    os.environ[LOADING_SCRIPT] = "1"
    try:
        spawn.import_main_path(path)
    finally:
        del os.environ[LOADING_SCRIPT]


def _die_with(parent: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    else:
        threading.Thread(target=_watch, args=(parent,), daemon=True).start()
    if os.getppid() != parent:  # it died before we asked to be told
        os._exit(1)


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_WATCH_S)
    os._exit(1)


def _end() -> None:
    """Leave at once, without the exit hooks of the libraries that a task has loaded."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
