"""Signals: one unwinds, two end at once, and a main thread that cannot listen is ended in time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from prill.run.signals import Stop, stop_on_signals


def test_a_signal_is_raised_as_stop_and_the_handlers_are_put_back() -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with pytest.raises(Stop) as caught:
        _signal_myself()
    assert caught.value.exit_code == 143
    assert not isinstance(caught.value, Exception)
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


def _signal_myself() -> None:
    with stop_on_signals():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)


_STUCK = """
import hashlib, sys, time
from prill.run.signals import Stop, stop_on_signals
with stop_on_signals(deadline_s=float(sys.argv[1])):
    try:
        sys.stdout.write("ready\\n")
        sys.stdout.flush()
        if sys.argv[2] == "kernel":  # without the interpreter lock, deaf to Python's handlers, about a minute
            hashlib.pbkdf2_hmac("sha256", b"a" * 8, b"b" * 8, 100_000_000)
        time.sleep(30)
    except Stop:
        time.sleep(30)  # an unwinding that takes too long
"""


def stuck(deadline_s: float, where: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", _STUCK, str(deadline_s), where]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("where", ["kernel", "unwinding"])
def test_a_run_that_cannot_unwind_is_ended_at_the_deadline(where: str) -> None:
    process = stuck(0.5, where)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=10)
    assert process.returncode == 130


def test_a_second_signal_ends_at_once() -> None:
    process = stuck(60.0, "unwinding")
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=10)
    assert process.returncode == 143
