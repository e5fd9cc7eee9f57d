"""From the metrics of a training to the lines of its report, and from its weights to wanted shares."""

import json
from pathlib import Path

import numpy as np
import pytest

from prill.lm.batches import BatchTable
from prill.pipeline.train_curves import incidents_of, paths_of
from prill.pipeline.train_feeds import FeedPlan, SourcePlan
from prill.pipeline.train_report import wanted_shares


def write(folder: Path, name: str, lines: list[dict[str, object]]) -> None:
    (folder / name).write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def step(number: int, n_tokens: int, loss: object, branch: int | None = None) -> dict[str, object]:
    own = {} if branch is None else {"branch": branch}
    values = {f"{name}/seed-0": loss for name in ("loss", "gradient_norm")}
    return {"step": number, "tokens": n_tokens, **own, **values, "learning_rate/seed-0": 1.0 / number}


def test_points_are_means_of_equal_runs_of_steps(tmp_path: Path):
    write(tmp_path, "metrics.jsonl", [step(n, 10 * n, float(n)) for n in range(1, 1001)])
    (path,) = paths_of(tmp_path)
    assert len(path.points) == 100
    assert [point.n_tokens for point in path.points[:2]] == [100, 200]
    assert path.points[0].loss == pytest.approx(np.mean(range(1, 11)))
    assert path.points[-1].learning_rate == pytest.approx(1 / 1000)
    assert np.mean([point.loss for point in path.points]) == pytest.approx(500.5)


def test_branches_are_lines_of_their_own_and_bad_numbers_are_left_out(tmp_path: Path):
    trunk = [step(n, 10 * n, float(n)) for n in range(1, 5)]
    branch = [step(5, 50, "nan", branch=1.0), step(6, 60, 3.0, branch=1.0)]
    write(tmp_path, "metrics.jsonl", [*trunk, *branch])
    own, decay = paths_of(tmp_path)
    assert (own.branch, decay.branch) == (None, 1)
    assert [point.n_tokens for point in decay.points] == [50, 60]
    assert np.isnan(decay.points[0].loss)
    assert decay.points[1].loss == 3.0


def test_without_metrics_there_are_no_lines(tmp_path: Path):
    assert paths_of(tmp_path) == []
    assert incidents_of(tmp_path) == []


def test_a_recovery_belongs_to_its_finding(tmp_path: Path):
    def record(kind: str, number: int, since: int | None) -> dict[str, object]:
        return {
            "run": "seed-0",
            "step": number,
            "branch": None,
            "n_tokens": 64 * number,
            "loss": "nan",
            "gradient_norm": 1.0,
            "learning_rate": 0.1,
            "suspects": {
                "documents": ["<b>"],
                "n_documents": 1,
                "worst_rows": [{"row": 1, "loss": "inf", "documents": ["<b>"]}],
            },
            "kind": kind,
            "action": "warn",
            "before": None,
            "value": 3.0,
            "since": since,
        }

    write(tmp_path, "incidents.jsonl", [record("loss spike", 7, None), record("recovery", 9, 7)])
    (note,) = incidents_of(tmp_path)
    assert (note.kind, note.back_after, note.before) == ("loss spike", 2, None)
    assert note.rows[0].loss == float("inf")
    assert np.isnan(note.loss)


def plan(points: list[tuple[float, tuple[float, float]]], cooldown_rows: int) -> FeedPlan:
    sources = tuple(
        SourcePlan(name=name, train=Path(name), cooldown=None, max_epochs=None) for name in ("a", "b")
    )
    return FeedPlan(
        sources=sources,
        points=tuple(points),
        batches=BatchTable.constant(4, 64),
        n_rows=1000,
        cooldown_rows=cooldown_rows,
    )


@pytest.mark.parametrize(
    ("points", "cooldown_rows", "wanted"),
    [
        ([(0.0, (0.75, 0.25))], 0, {"a": 0.75, "b": 0.25}),
        ([(0.0, (1.0, 0.0)), (1.0, (0.0, 1.0))], 0, {"a": 0.5, "b": 0.5}),
        ([(0.0, (1.0, 0.0)), (0.5, (1.0, 0.0)), (1.0, (0.0, 1.0))], 0, {"a": 0.75, "b": 0.25}),
        (
            [(0.0, (0.75, 0.25))],
            100,
            {"a": 0.675, "b": 0.225, "a, cooldown": 0.075, "b, cooldown": 0.025},
        ),
    ],
)
def test_wanted_shares_are_the_mean_of_the_weights(
    points: list[tuple[float, tuple[float, float]]], cooldown_rows: int, wanted: dict[str, float]
):
    assert wanted_shares(plan(points, cooldown_rows)) == pytest.approx(wanted)
