"""Where a training stands, and its file: buffers, counters, results, and whose they are.

The identity (settings, precision, torch version, and for each run its label, seed, rate and the hash of its
stream) is stored with the state. A file of other runs is refused; a damaged one is set aside with a reason,
and the training starts over to the same result.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from prill.errors import DataError
from prill.lm.plan import Run, TrainSettings
from prill.lm.score import EvalSet
from prill.lm.tensorfile import read_tensors, write_tensors

__all__ = ["FeedStates", "Progress", "identity_of", "read_progress", "write_progress"]

VERSION = 2
BUFFERS = ("weights", "first", "second")

Buffers = tuple[torch.Tensor, ...]
FeedStates = dict[int, dict[str, NDArray[Any]]]
Point = tuple[int, int, list[float]]


@dataclass(kw_only=True)
class Progress:
    """Counters and results; the buffers are set only on the way to and from a file.

    Attributes:
        segment, step: the next step to do.
        trunk_steps: updates the trunk's optimiser has made.
        curve: (tokens, branch or -1, mean loss of each run).
        pending: losses since the last point of the curve.
        losses: by branch and evaluation set, (K, D).
        masked: by branch, which models were out when it was evaluated.
        trunk_feeds, branch_feeds: what feeds that watch losses remember, by run.
        observation: metrics, incidents and health so far, as `prill.lm.tracking` keeps them.
    """

    segment: int = 0
    step: int = 0
    trunk_steps: int = 0
    trunk: Buffers | None = None
    branch: Buffers | None = None
    trunk_feeds: FeedStates = field(default_factory=dict)
    branch_feeds: FeedStates = field(default_factory=dict)
    curve: list[Point] = field(default_factory=list)
    pending: list[list[float]] = field(default_factory=list)
    losses: dict[int, dict[str, NDArray[np.float64]]] = field(default_factory=dict)
    masked: dict[int, list[bool]] = field(default_factory=dict)
    observation: dict[str, Any] | None = None


def identity_of(
    runs: Sequence[Run], settings: TrainSettings, eval_sets: Mapping[str, EvalSet], precision: str
) -> dict[str, Any]:
    """What a checkpoint must agree with to be continued, as it comes back from JSON."""
    identity = {
        "version": VERSION,
        "torch": torch.__version__,
        "precision": precision,
        "settings": settings.as_record(),
        "runs": [
            {"label": run.label, "seed": run.seed, "peak_rate": run.peak_rate, "feed": run.feed.digest()}
            for run in runs
        ],
        "eval_sets": {name: _digest(evals) for name, evals in sorted(eval_sets.items())},
    }
    return dict(json.loads(json.dumps(identity)))


def write_progress(path: Path, progress: Progress, identity: Mapping[str, Any]) -> None:
    """Store the state atomically.

    Raises:
        ResourceError: the disk is full or not writable.
    """
    tensors: dict[str, torch.Tensor] = {}
    for line, buffers in (("trunk", progress.trunk), ("branch", progress.branch)):
        for name, buffer in zip(BUFFERS, buffers or (), strict=False):
            tensors[f"{line}.{name}"] = buffer
    for line, feeds in (("trunk", progress.trunk_feeds), ("branch", progress.branch_feeds)):
        for k, arrays in feeds.items():
            for name, array in arrays.items():
                tensors[f"feed.{line}.{k}.{name}"] = torch.tensor(
                    array
                )  # a copy: a branch shares what it has not changed
    for number, losses in progress.losses.items():
        for name, table in losses.items():
            tensors[f"losses.{number}.{name}"] = torch.from_numpy(table)
    state = {
        "segment": progress.segment,
        "step": progress.step,
        "trunk_steps": progress.trunk_steps,
        "curve": progress.curve,
        "pending": progress.pending,
        "masked": sorted(progress.masked.items()),
        "observation": progress.observation,
    }
    write_tensors(path, tensors, {"identity": identity, "state": state})


def read_progress(path: Path | None, identity: Mapping[str, Any]) -> tuple[Progress, str | None]:
    """The stored state, or a fresh one with the reason why the file could not be used.

    Raises:
        DataError: the file belongs to other runs or settings.
    """
    if path is None or not path.exists():
        return Progress(), None
    try:
        tensors, meta = read_tensors(path)
    except DataError as error:
        return Progress(), str(error)
    if meta.get("identity") != identity:
        found = meta.get("identity") or {}
        differing = sorted(
            key for key in identity.keys() | found.keys() if identity.get(key) != found.get(key)
        )
        raise DataError(
            f"the checkpoint belongs to another training: {', '.join(differing)} differ",
            where=str(path),
            hint="use another folder, or delete the file to start over",
        )
    state = meta["state"]
    progress = Progress(segment=state["segment"], step=state["step"], trunk_steps=state["trunk_steps"])
    progress.curve = [(tokens, branch, means) for tokens, branch, means in state["curve"]]
    progress.pending = state["pending"]
    progress.masked = dict(state["masked"])
    progress.observation = state["observation"]
    progress.trunk = _buffers(tensors, "trunk")
    progress.branch = _buffers(tensors, "branch")
    for name, tensor in tensors.items():
        kind, _, rest = name.partition(".")
        if kind == "losses":
            number, _, label = rest.partition(".")
            progress.losses.setdefault(int(number), {})[label] = tensor.numpy()
        elif kind == "feed":
            line, k, label = rest.split(".", 2)
            feeds = progress.trunk_feeds if line == "trunk" else progress.branch_feeds
            feeds.setdefault(int(k), {})[label] = tensor.numpy()
    return progress, None


def _buffers(tensors: Mapping[str, torch.Tensor], line: str) -> Buffers | None:
    found = tuple(tensors[f"{line}.{name}"] for name in BUFFERS if f"{line}.{name}" in tensors)
    return found or None


def _digest(evals: EvalSet) -> str:
    """SHA-256 over the documents' token ids."""
    seen = hashlib.sha256(str(evals.eos).encode())
    for doc in evals.docs:
        seen.update(f"|{len(doc)}|".encode())
        seen.update(np.ascontiguousarray(doc, dtype="<u4").data)
    return seen.hexdigest()
