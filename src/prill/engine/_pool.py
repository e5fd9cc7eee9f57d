"""The parent's side of the worker processes: start, feed one item at a time, notice every end.

Each worker is a fresh interpreter with a pipe of its own and at most one item, so a death always names
its item, and a slow reader cannot block a slow writer. The kernel tells of a death by closing the pipe.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from multiprocessing.connection import Pipe, wait
from pathlib import Path
from typing import Any

from prill.engine._worker import LOADING_SCRIPT, Assignment, Reply
from prill.engine.failure import (
    ReportRetry,
    Retry,
    death_error,
    describe_exit,
    stall_error,
    task_failure,
)
from prill.errors import RecipeError, ResourceError
from prill.run.atomic import machine_errors

__all__ = ["ProcessPool"]

_WORKER_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "VECLIB_MAXIMUM_THREADS": "1",
    "NUMEXPR_NUM_THREADS": "1",
    "NUMBA_NUM_THREADS": "1",
    "RAYON_NUM_THREADS": "1",
    "POLARS_MAX_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "PYTHONHASHSEED": "0",  # the order of sets is the same in every worker
}
_BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[3]); from prill.engine._worker import main; "
    "main(int(sys.argv[1]), int(sys.argv[2]))"
)
_TICK_S = 0.5  # how often stalls are looked for
_EXIT_S = 2.0  # how long an idle worker may take to leave


class _Worker:
    """One process, its pipe, and the item it holds."""

    def __init__(self) -> None:
        self.pipe, theirs = Pipe()
        with contextlib.closing(theirs):
            search_path = json.dumps([path or str(Path.cwd()) for path in sys.path])
            arguments = [str(theirs.fileno()), str(os.getpid()), search_path]
            self.process = subprocess.Popen(
                [sys.executable, "-c", _BOOT, *arguments],
                env={**os.environ, **_WORKER_ENVIRONMENT},
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=2,  # standard output is for data
                process_group=0,  # an interrupt from the keyboard is for the parent, who decides
            )
        self.is_ready = False
        self.index: int | None = None
        self.since = time.monotonic()

    def kill(self) -> int | None:
        """End it now; returns the exit code that it had or got."""
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        self.pipe.close()
        return self.process.wait()

    def dismiss(self) -> None:
        """Let an idle worker leave by itself, so that its processor time is accounted."""
        self.pipe.close()


class ProcessPool:
    """Runs one map call. `run` may be called once; every way out of it leaves no process behind."""

    def __init__(
        self,
        task: Callable[[Any], Any],
        items: Sequence[Any],
        *,
        name: str,
        labels: Callable[[int], str],
        retries: int,
        stall_s: float | None,
        on_retry: ReportRetry,
    ) -> None:
        if LOADING_SCRIPT in os.environ:
            raise RecipeError(
                "expected a script that starts nothing while it is imported, found one that starts workers",
                where=_main_path(),
                hint='put its calls under `if __name__ == "__main__":`',
            )
        self._items = items
        self._name = name
        self._labels = labels
        self._retries = retries
        self._stall_s = stall_s
        self._on_retry = on_retry
        self._assignment = _pickled(
            Assignment(task=_pickled(task, name), name=name, main_path=_main_path()), name
        )
        self._workers: list[_Worker] = []
        self._waiting = deque(range(len(items)))
        self._n_failures = [0] * len(items)
        self._n_bad_starts = 0

    def run(self, n_workers: int) -> Generator[tuple[int, Any], None, None]:
        """Yield (index, result) in the order of completion."""
        n_left = len(self._items)
        try:
            while n_left:
                self._refill(min(n_workers, n_left))
                self._feed_idle()
                for index, result in self._turn():
                    n_left -= 1
                    yield index, result
            self._dismiss()
        finally:
            self._kill_all()

    def _refill(self, n_wanted: int) -> None:
        while len(self._workers) < n_wanted:
            with machine_errors(self._name, "a worker cannot be started"):
                self._workers.append(_Worker())

    def _feed_idle(self) -> None:
        """Give items that a lost worker left behind to workers that had nothing more to do."""
        for worker in [w for w in self._workers if w.is_ready and w.index is None]:
            self._feed_or_bury(worker)

    def _turn(self) -> Iterator[tuple[int, Any]]:
        """Wait for news from any worker, and deal with all of it."""
        by_pipe = {worker.pipe: worker for worker in self._workers}
        for pipe in wait(list(by_pipe), timeout=_TICK_S):
            worker = by_pipe[pipe]  # type: ignore[index]
            try:
                yield from self._hear(worker)
            except (EOFError, BrokenPipeError, ConnectionResetError):
                self._bury(worker)
        for worker in [w for w in self._workers if w.process.poll() is not None and not w.pipe.poll()]:
            self._bury(worker)  # a grandchild may hold its pipe open
        self._end_stalled()

    def _hear(self, worker: _Worker) -> Iterator[tuple[int, Any]]:
        message = worker.pipe.recv_bytes()
        if not worker.is_ready:
            worker.is_ready = True
            worker.pipe.send_bytes(self._assignment)
            self._feed(worker)
            return
        reply = _reply(message, self._name, self._labels(worker.index or 0))
        worker.index = None
        if reply.error is not None:
            raise reply.error
        self._feed_or_bury(worker)  # before the caller's turn, so that the worker is not kept waiting
        yield reply.index, reply.result

    def _feed_or_bury(self, worker: _Worker) -> None:
        try:
            self._feed(worker)
        except (BrokenPipeError, ConnectionResetError):
            self._bury(worker)

    def _feed(self, worker: _Worker) -> None:
        if not self._waiting:
            return
        index = self._waiting.popleft()
        worker.index, worker.since = index, time.monotonic()
        label = self._labels(index)
        worker.pipe.send_bytes(
            _pickled((index, label, _pickled(self._items[index], self._name, label)), self._name)
        )

    def _bury(self, worker: _Worker) -> None:
        """A worker is dead: give its item back, or stop when it has died too often."""
        self._workers.remove(worker)
        worker.pipe.close()
        reason = describe_exit(_exit_code(worker.process))
        if worker.index is None:
            self._count_bad_start(worker, reason)
            return
        label = self._labels(worker.index)
        n_failures = self._count_failure(worker.index)
        if n_failures > self._retries:
            raise death_error(name=self._name, label=label, reason=reason, n_attempts=n_failures)
        self._on_retry(Retry(name=self._name, label=label, attempt=n_failures, reason=reason))

    def _count_bad_start(self, worker: _Worker, reason: str) -> None:
        self._n_bad_starts += 1
        if self._n_bad_starts > self._retries:
            when = "while idle" if worker.is_ready else "before it was ready"
            raise ResourceError(
                f"{self._name}: a worker {reason} {when}, {self._n_bad_starts} times",
                hint="its output above may tell why; check memory and the installation, then run again",
            )
        self._on_retry(Retry(name=self._name, label="(starting)", attempt=self._n_bad_starts, reason=reason))

    def _end_stalled(self) -> None:
        if self._stall_s is None:
            return
        now = time.monotonic()
        for worker in [w for w in self._workers if w.index is not None and now - w.since > self._stall_s]:
            assert worker.index is not None
            label = self._labels(worker.index)
            self._workers.remove(worker)
            worker.kill()
            n_failures = self._count_failure(worker.index)
            if n_failures > self._retries:
                raise stall_error(name=self._name, label=label, stall_s=self._stall_s, n_attempts=n_failures)
            reason = f"gave no result within {self._stall_s:g} s"
            self._on_retry(Retry(name=self._name, label=label, attempt=n_failures, reason=reason))

    def _count_failure(self, index: int) -> int:
        self._n_failures[index] += 1
        self._waiting.appendleft(index)
        return self._n_failures[index]

    def _dismiss(self) -> None:
        for worker in self._workers:
            worker.dismiss()
        deadline = time.monotonic() + _EXIT_S
        for worker in self._workers:
            with contextlib.suppress(subprocess.TimeoutExpired):
                worker.process.wait(max(0.0, deadline - time.monotonic()))

    def _kill_all(self) -> None:
        for worker in self._workers:
            with contextlib.suppress(ProcessLookupError):
                worker.process.kill()
        for worker in self._workers:
            worker.kill()
        self._workers.clear()


def _pickled(value: object, name: str, label: str | None = None) -> bytes:
    try:
        return pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        raise task_failure(error, name=f"{name} (sending to a worker)", label=label or name) from error


def _reply(message: bytes, name: str, label: str) -> Reply:
    try:
        reply: Reply = pickle.loads(message)
    except (pickle.UnpicklingError, TypeError, AttributeError, ImportError) as error:
        raise task_failure(error, name=f"{name} (reading a result)", label=label) from error
    return reply


def _exit_code(process: subprocess.Popen[bytes]) -> int | None:
    """The code of a process whose pipe has ended; one that lingers without its pipe is killed."""
    try:
        return process.wait(_EXIT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return None


def _main_path() -> str | None:
    path = getattr(sys.modules.get("__main__"), "__file__", None)
    return str(Path(path).absolute()) if path else None
