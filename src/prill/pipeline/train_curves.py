"""What the metrics files of a training hold, thinned for a page: losses by step, and what went wrong."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prill.lm.tracking.observation import INCIDENTS, METRICS
from prill.report.training_model import BadRow, IncidentNote, PathPoint, TrainingPath

__all__ = ["broken_from", "incidents_of", "paths_of"]

MOST_POINTS, LEAST_POINTS = 100, 6
RECOVERY = "recovery"
COLUMNS = ("loss", "gradient_norm", "learning_rate")


@dataclass(kw_only=True)
class _Steps:
    """The steps of one path: tokens, and every column of every model, by step."""

    tokens: list[int] = field(default_factory=list)
    values: list[list[float]] = field(default_factory=list)


def paths_of(folder: Path) -> list[TrainingPath]:
    """Every model's trunk and branches from the metrics of one stack; nothing where there is no file.

    The longest path has at most 100 points; all points stand for about as many steps, but a short branch has
    at least six.
    """
    labels: list[str] = []
    found: dict[int | None, _Steps] = {}
    for line in _lines(folder / METRICS):
        labels = labels or [name.partition("/")[2] for name in line if name.startswith("loss/")]
        steps = found.setdefault(line.get("branch"), _Steps())
        steps.tokens.append(int(line["tokens"]))
        steps.values.append([float(line[f"{column}/{label}"]) for column in COLUMNS for label in labels])
    steps_a_point = max(1, -(-max((len(steps.tokens) for steps in found.values()), default=0) // MOST_POINTS))
    paths = []
    for branch in sorted(found, key=lambda number: -1 if number is None else number):
        number = None if branch is None else int(branch)
        table = np.array(found[branch].values).reshape(-1, len(COLUMNS), len(labels))
        n_points = max(LEAST_POINTS, len(table) // steps_a_point)
        for k, label in enumerate(labels):
            points = tuple(_points(found[branch].tokens, table[:, :, k], n_points))
            paths.append(TrainingPath(run=label, branch=number, points=points))
    return paths


def incidents_of(folder: Path) -> list[IncidentNote]:
    """What went wrong in one stack, in order; a recovery is told with what it ended."""
    records = list(_lines(folder / INCIDENTS))
    ends: dict[tuple[str, int], int] = {}
    for record in records:
        if record["kind"] == RECOVERY:
            ends.setdefault((record["run"], record["since"]), record["step"])
    return [
        _incident(record, ends.get((record["run"], record["step"])))
        for record in records
        if record["kind"] != RECOVERY
    ]


def broken_from(folder: Path) -> dict[str, list[tuple[int, int | None]]]:
    """Where models were left out of their stack: (step of the whole plan, branch) by model."""
    found: dict[str, list[tuple[int, int | None]]] = {}
    for note in incidents_of(folder):
        if note.action == "mask":
            found.setdefault(note.run, []).append((note.step, note.branch))
    return found


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    if path.is_file():
        with path.open(encoding="utf-8") as file:
            yield from map(json.loads, file)


def _points(tokens: Sequence[int], values: NDArray[np.float64], n_most: int) -> Iterator[PathPoint]:
    """`values` (steps, columns): loss, norm, rate."""
    for rows in np.array_split(np.arange(len(tokens)), min(n_most, len(tokens))):
        losses, norms = values[rows, 0], values[rows, 1]
        yield PathPoint(
            n_tokens=tokens[int(rows[-1])],
            loss=_of_finite(losses, np.mean),
            gradient_norm=_of_finite(norms, np.median),
            learning_rate=float(values[rows[-1], 2]),
        )


def _of_finite(values: NDArray[np.float64], what: Any) -> float:
    kept = values[np.isfinite(values)]
    return float(what(kept)) if len(kept) else float("nan")


def _incident(record: Mapping[str, Any], ended: int | None) -> IncidentNote:
    held = record["suspects"]
    return IncidentNote(
        run=record["run"],
        step=record["step"],
        n_tokens=record["n_tokens"],
        branch=record["branch"],
        kind=record["kind"],
        action=record["action"],
        before=None if record["before"] is None else float(record["before"]),
        value=float(record["value"]),
        loss=float(record["loss"]),
        learning_rate=float(record["learning_rate"]),
        back_after=None if ended is None else ended - record["step"],
        documents=tuple(held["documents"]),
        n_documents=held["n_documents"],
        rows=tuple(
            BadRow(loss=float(row["loss"]), documents=tuple(row["documents"])) for row in held["worst_rows"]
        ),
    )
