"""The diary of a run: `events.jsonl`, one JSON object a line. The only place where clocks are written.

Nothing reads it to decide anything; a run without it gives the same results. Text is redacted (see
`redact`), control characters are escaped, and long text is cut, so that a document cannot write into a
log. Each step's wall time, processor time (workers included) and peak memory are kept here.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import resource
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from prill.errors import printable
from prill.run.atomic import machine_errors
from prill.run.redact import redact_json

__all__ = ["EVENTS_NAME", "EventLog", "Stopwatch", "Timing", "read_events", "timings"]

EVENTS_NAME = "events.jsonl"

_MAX_TEXT = 2000
_MAX_ITEMS = 200
_KIB = 1024


class EventLog:
    """Appends events to a file; one line is one write, so lines of two writers never mix."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with machine_errors(path):
            flags = os.O_RDWR | os.O_CREAT | os.O_APPEND
            self._handle: int | None = os.open(path, flags, 0o666)
            size = os.fstat(self._handle).st_size
            if size and os.pread(self._handle, 1, size - 1) != b"\n":
                os.write(self._handle, b"\n")  # a kill tore the last line

    def emit(self, event: str, fields: Mapping[str, object] | None = None) -> None:
        """Append one event with the time; a closed log ignores it.

        Raises:
            ResourceError: the machine refuses to store it.
        """
        if self._handle is None:
            return
        clean = _clean(redact_json(dict(fields or {})))
        content = {"time": _now(), "event": event, **(clean if isinstance(clean, dict) else {})}
        with machine_errors(self.path):
            os.write(self._handle, json.dumps(content, ensure_ascii=True).encode() + b"\n")

    def close(self) -> None:
        """Close the file; safe to call twice."""
        handle, self._handle = self._handle, None
        if handle is not None:
            os.close(handle)


class Stopwatch:
    """Wall and processor time since it was made, workers that ended included; peak memory of the session."""

    def __init__(self) -> None:
        self._wall = time.monotonic()
        self._cpu = _cpu_s()

    def read(self) -> dict[str, float | int]:
        """`elapsed_s`, `cpu_s`, and the peaks so far: `peak_memory_bytes`, `peak_worker_memory_bytes`."""
        return {
            "elapsed_s": round(time.monotonic() - self._wall, 3),
            "cpu_s": round(_cpu_s() - self._cpu, 3),
            "peak_memory_bytes": _maxrss_bytes(resource.RUSAGE_SELF),
            "peak_worker_memory_bytes": _maxrss_bytes(resource.RUSAGE_CHILDREN),
        }


@dataclass(frozen=True, kw_only=True)
class Timing:
    """What one step cost in the session that finished it; `n_sessions` counts all that worked on it.

    `label` is what people call the step.
    Peaks are of that session up to the step's end: of Prill's own process, and of its largest worker.
    """

    step: str
    label: str
    elapsed_s: float
    cpu_s: float
    peak_memory_bytes: int
    peak_worker_memory_bytes: int
    n_sessions: int


def timings(run_dir: Path) -> list[Timing]:
    """The cost of each finished step in the order in which they finished last, from the events."""
    n_sessions: dict[str, int] = {}
    finished: dict[str, Timing] = {}
    for event in read_events(run_dir):
        folder = event.get("folder")
        if not isinstance(folder, str):
            continue
        if event.get("event") == "step_started":
            n_sessions[folder] = n_sessions.get(folder, 0) + 1
        if event.get("event") == "step_finished":
            finished.pop(folder, None)
            finished[folder] = _timing(event, n_sessions.get(folder, 1))
    return list(finished.values())


def read_events(run_dir: Path) -> list[dict[str, object]]:
    """All whole lines of a run's diary; torn or damaged lines are left out."""
    try:
        content = (run_dir / EVENTS_NAME).read_bytes()
    except FileNotFoundError:
        return []
    events = []
    for line in content.splitlines():
        with contextlib.suppress(ValueError, RecursionError):
            event = json.loads(line)
            if isinstance(event, dict):
                events.append(event)
    return events


def _timing(event: Mapping[str, object], n_sessions: int) -> Timing:
    return Timing(
        step=str(event.get("step", "")),
        label=str(event.get("label") or event.get("step", "")),
        elapsed_s=_number(event.get("elapsed_s")),
        cpu_s=_number(event.get("cpu_s")),
        peak_memory_bytes=int(_number(event.get("peak_memory_bytes"))),
        peak_worker_memory_bytes=int(_number(event.get("peak_worker_memory_bytes"))),
        n_sessions=n_sessions,
    )


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


def _clean(value: object) -> object:
    """Plain JSON with safe text: cut, escaped, and never more than `_MAX_ITEMS` entries."""
    if isinstance(value, str):
        return printable(value, limit=_MAX_TEXT)
    if isinstance(value, Mapping):
        return {printable(str(key)): _clean(item) for key, item in list(value.items())[:_MAX_ITEMS]}
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
        return [_clean(item) for item in value[:_MAX_ITEMS]]
    if value is None or isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    return printable(str(value), limit=_MAX_TEXT)


def _now() -> str:
    now = time.time()
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1000):03d}Z"


def _cpu_s() -> float:
    own, ended = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + ended.ru_utime + ended.ru_stime


def _maxrss_bytes(who: int) -> int:
    peak = resource.getrusage(who).ru_maxrss
    return peak if sys.platform == "darwin" else peak * _KIB
