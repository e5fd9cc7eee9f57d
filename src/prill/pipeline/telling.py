"""How far a training is: workers tell it in small files outside the run, and the display follows.

A counter file is one record of numbers that a worker overwrites. Beside it lies a file of JSON lines with
what a person should read. Nothing is decided by them; the worst of a kill is a wrong number on the screen.
"""

from __future__ import annotations

import json
import math
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from prill.lm.tracking.pace import TrainingPace
from prill.run.progress import StepProgress

if TYPE_CHECKING:
    from prill.lm.plan import EvaluationInfo, StepInfo, TrainSettings

__all__ = ["COUNTS", "Telling", "counters", "followed"]

POLL_S = 0.5
COUNTS = np.dtype([("tokens", "<i8"), ("resumed", "<i8"), ("loss", "<f8"), ("low", "<f8"), ("high", "<f8")])
"""Tokens done, those of them by earlier sessions, and the models' smoothed training loss (0: not known).

The tokens come first: a worker that tells nothing else writes one int64."""

Kind = Literal["note", "finding"]


@contextmanager
def counters(n: int) -> Iterator[list[Path]]:
    """Files for `n` workers."""
    with tempfile.TemporaryDirectory(prefix="prill-") as folder:
        paths = [Path(folder) / str(number) for number in range(n)]
        for path in paths:
            path.write_bytes(bytes(COUNTS.itemsize))
        yield paths


class Telling:
    """A worker's side.

    Args:
        counter: its file.
        settings: of the training.
        seeds: of the models of its stack.
        n_bytes: of each held-out set that is told.
    """

    def __init__(
        self, counter: Path, settings: TrainSettings, seeds: Sequence[int], n_bytes: Mapping[str, int]
    ) -> None:
        self._counts: NDArray[Any] = np.memmap(counter, COUNTS, "r+", shape=(1,))
        self._said = _said(counter)
        self._settings = settings
        self._seeds = tuple(seeds)
        self._n_bytes = dict(n_bytes)
        self._pace = TrainingPace(settings.n_steps)

    def step(self, step: StepInfo) -> None:
        """A step is done."""
        if step.resumed_from is not None:
            self._counts["resumed"] = self._settings.tokens_done(step.resumed_from) * len(self._seeds)
        tokens = self._settings.tokens_done(step.done) * len(self._seeds)
        self._pace.advance(step.done, 0, step.losses)
        losses = [loss for loss in self._pace.losses if math.isfinite(loss)]
        if losses:
            self._counts["loss"] = math.fsum(losses) / len(losses)
            self._counts["low"], self._counts["high"] = min(losses), max(losses)
        self._counts["tokens"] = tokens

    def evaluation(self, done: EvaluationInfo) -> None:
        """An evaluation is done."""
        told = []
        kept = [k for k, is_masked in enumerate(done.masked) if not is_masked]
        for name, n_bytes in self._n_bytes.items() if kept else ():
            bits = done.losses[name][kept].sum(1) / (math.log(2) * n_bytes)
            told.append(f"{name} {float(bits.mean()):.3f}")
        if told:
            who = ", ".join(f"seed {self._seeds[k]}" for k in kept)
            self._say("finding", f"{', '.join(told)} bits per byte after {done.n_tokens:,} tokens ({who})")

    def note(self, text: str) -> None:
        """Something a person should see."""
        self._say("note", text)

    def _say(self, kind: Kind, text: str) -> None:
        with self._said.open("a", encoding="utf-8") as file:
            file.write(json.dumps([kind, text]) + "\n")


@contextmanager
def followed(
    display: StepProgress, paths: Sequence[Path], note: Callable[[str], None] | None = None
) -> Iterator[None]:
    """Let the display follow the workers' files until the block ends; `note` gets what they note."""
    following = _Following(display, paths, note)
    stop = threading.Event()

    def follow() -> None:
        while not stop.wait(POLL_S):
            following.look()

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        following.look()


class _Following:
    """The display's side: what it has seen so far."""

    def __init__(
        self, display: StepProgress, paths: Sequence[Path], note: Callable[[str], None] | None
    ) -> None:
        self._display = display
        self._note = note
        self._counts = [np.memmap(path, COUNTS, "r", shape=(1,)) for path in paths]
        self._files = {_said(path): 0 for path in paths}
        self._seen = self._reused = 0

    def look(self) -> None:
        """Tell what is new."""
        losses = [counts for counts in self._counts if counts["loss"][0]]
        if losses:
            mean = math.fsum(float(counts["loss"][0]) for counts in losses) / len(losses)
            low = min(float(counts["low"][0]) for counts in losses)
            high = max(float(counts["high"][0]) for counts in losses)
            spread = f" ({low:.3f} to {high:.3f})" if high > low else ""
            self._display.status(f"loss {mean:.3f}{spread}")
        reused = sum(int(counts["resumed"][0]) for counts in self._counts)
        tokens = sum(int(counts["tokens"][0]) for counts in self._counts)
        if reused > self._reused:
            self._display.reused(reused - self._reused)
            self._reused = reused
        if tokens - self._reused > self._seen:
            self._display.advance(tokens - self._reused - self._seen)
            self._seen = tokens - self._reused
        for path, start in self._files.items():
            self._files[path] = self._read(path, start)

    def _read(self, path: Path, start: int) -> int:
        """Tell the whole lines of a file from a place on; returns where they end."""
        if not path.exists():
            return start
        with path.open("rb") as file:
            file.seek(start)
            content = file.read()
        whole = content[: content.rfind(b"\n") + 1]
        for line in whole.splitlines():
            kind, text = json.loads(line)
            if kind == "finding":
                self._display.finding(text)
            elif self._note is not None:
                self._note(text)
        return start + len(whole)


def _said(counter: Path) -> Path:
    """Where a worker's words lie."""
    return counter.with_suffix(".said")
