"""A clean end on SIGTERM and SIGINT: `Stop` in the main thread, then the usual unwinding.

`Stop` is not an `Exception`, so nothing that handles errors swallows it. A watcher thread learns of the
signal even while the main thread sits in a long kernel: if the process has not ended after `DEADLINE_S`, or
at a second signal, it ends the process at once. That is safe, because a run survives `kill -9` at any
moment, and worker processes die with their parent.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import NoReturn

from prill.run.atomic import machine_errors

__all__ = ["DEADLINE_S", "Stop", "leave", "stop_on_signals"]

DEADLINE_S = 8.0

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_EXIT_BASE = 128  # the shell's convention: 128 + the number of the signal
_POLL_S = 0.1


class Stop(BaseException):
    """The user or the system asked the run to end. `exit_code` is 130 for SIGINT, 143 for SIGTERM."""

    def __init__(self, signum: int) -> None:
        self.signum = signum
        self.exit_code = _EXIT_BASE + signum
        super().__init__(f"stopped by {signal.Signals(signum).name}")


@contextlib.contextmanager
def stop_on_signals(deadline_s: float = DEADLINE_S) -> Iterator[None]:
    """Within the block, the first SIGTERM or SIGINT raises `Stop` in the main thread; a second ends at once.

    The deadline counts until the block is left; the handlers that were there before are put back. Must be
    entered in the main thread.
    """
    with machine_errors("signals", "cannot be watched"):
        reader, writer = os.pipe()
    os.set_blocking(writer, False)
    os.set_blocking(reader, False)
    watcher = _Watcher(reader, deadline_s)
    previous = {number: signal.getsignal(number) for number in _SIGNALS}
    previous_wakeup = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    watcher.start()
    try:
        for number in _SIGNALS:
            signal.signal(number, _raise_stop)
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(previous_wakeup)
        watcher.finish()
        os.close(writer)
        os.close(reader)


def leave(exit_code: int) -> NoReturn:
    """End the process now: what was written is flushed, threads that still compute are not awaited.

    For the command line, after `Stop` has unwound: the usual exit would wait for such threads.
    """
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(exit_code)


def _raise_stop(signum: int, frame: FrameType | None) -> None:
    raise Stop(signum)


class _Watcher(threading.Thread):
    """Reads the numbers of arriving signals from a pipe, also while the main thread cannot."""

    def __init__(self, reader: int, deadline_s: float) -> None:
        super().__init__(name="prill-signals", daemon=True)
        self._reader = reader
        self._deadline_s = deadline_s
        self._is_finished = threading.Event()

    def finish(self) -> None:
        """End the thread."""
        self._is_finished.set()
        self.join()

    def run(self) -> None:
        first: int | None = None
        end_at = float("inf")
        while not self._is_finished.is_set():
            for signum in self._arrived():
                if first is not None:
                    os._exit(_EXIT_BASE + signum)
                first, end_at = signum, time.monotonic() + self._deadline_s
            if first is not None and time.monotonic() > end_at:
                os._exit(_EXIT_BASE + first)

    def _arrived(self) -> list[int]:
        """Our signals that came within the next `_POLL_S` seconds."""
        ready, _, _ = select.select([self._reader], [], [], _POLL_S)
        if not ready:
            return []
        return [number for number in os.read(self._reader, 64) if number in _SIGNALS]
