"""Metrics that resume byte for byte, trackers of other makers, and the pace."""

from __future__ import annotations

import json
import math
import os
import sqlite3
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prill.errors import DataError, PrillError, ResourceError
from prill.lm.tracking.known import TrackerName, open_trackers
from prill.lm.tracking.observation import INCIDENTS, METRICS, TIMINGS, Observation, StepReport
from prill.lm.tracking.pace import TrainingPace
from prill.lm.tracking.records import RecordFile
from prill.lm.tracking.tracker import RunFacts, Trackers

SECRET = "sk-1234567890abcdefghij"


def facts(folder: Path, **changes: Any) -> RunFacts:
    given: dict[str, Any] = {
        "project": "prill-tests",
        "name": "pico",
        "run_id": "0a1b2c",
        "folder": folder,
        "settings": {"rate": 0.003, "optimiser": {"beta1": 0.9}, "api_key": SECRET},
    }
    return RunFacts(**(given | changes))


def report(done: int, *, loss: float = 3.0) -> StepReport:
    return StepReport(
        done=done,
        branch=None if done < 40 else 0,
        n_tokens=done * 8,
        step_tokens=16,
        losses=[loss, loss + 1 / done],
        norms=[1.0, 2.0],
        rates=[1e-3, 2e-3],
    )


def observation(folder: Path) -> Observation:
    return Observation(["dsir/0", "random/0"], facts(folder), n_steps=60, note=lambda text: None)


def observed(folder: Path, kills: list[int], every: int) -> tuple[bytes, bytes]:
    """60 steps with a spike, checkpoints every so often, killed after some steps."""
    state, at = None, 0
    for stop in [*kills, 60]:
        watch = observation(folder)
        watch.start(json.loads(json.dumps(state)))
        for done in range(at + 1, max(stop, at) + 1):
            watch.step(report(done, loss=9.0 if 30 <= done < 33 else 3.0))
            if done % every == 0:
                state, at = watch.state(), done
    watch.finish()
    return (folder / METRICS).read_bytes(), (folder / INCIDENTS).read_bytes()


@settings(max_examples=8, deadline=None)
@given(kills=st.lists(st.integers(1, 59), max_size=4), every=st.integers(1, 25))
def test_files_of_a_resumed_training_equal_those_of_an_uninterrupted_one(
    tmp_path_factory: pytest.TempPathFactory, kills: list[int], every: int
) -> None:
    whole = observed(tmp_path_factory.mktemp("whole"), [], 1000)
    assert observed(tmp_path_factory.mktemp("killed"), kills, every) == whole
    records = [json.loads(line) for line in whole[0].splitlines()]
    assert [record["step"] for record in records] == list(range(1, 61))
    assert records[39] == {
        "step": 40, "tokens": 320, "branch": 0,
        "loss/dsir/0": 3.0, "loss/random/0": 3.025,
        "gradient_norm/dsir/0": 1.0, "gradient_norm/random/0": 2.0,
        "learning_rate/dsir/0": 0.001, "learning_rate/random/0": 0.002,
    }  # fmt: skip
    assert [json.loads(line)["kind"] for line in whole[1].splitlines()] == ["loss spike"] * 2 + [
        "recovery"
    ] * 2


def test_a_person_is_told_a_few_warnings_and_the_file_all(tmp_path: Path) -> None:
    notes: list[str] = []
    watch = Observation(["a", "b"], facts(tmp_path), n_steps=200, note=notes.append)
    watch.start(None)
    for done in range(1, 151):
        watch.step(report(done, loss=9.0 if done > 30 and done % 5 == 0 else 3.0))
    watch.finish()
    kinds = [json.loads(line)["kind"] for line in (tmp_path / INCIDENTS).read_text().splitlines()]
    assert kinds.count("loss spike") == 48  # 24 steps of two models
    assert len(notes) == 11
    assert notes[-1].startswith("further warnings are told in")


def test_clocks_are_in_the_timings_alone(tmp_path: Path) -> None:
    metrics, _ = observed(tmp_path, [], 1000)
    assert b"time" not in metrics
    assert b"tokens_per_s" not in metrics
    timing = json.loads((tmp_path / TIMINGS).read_text().splitlines()[0])
    assert {"time", "step", "tokens_per_s"} <= timing.keys()


def test_a_line_torn_by_a_kill_is_cut_and_a_changed_file_is_refused(tmp_path: Path) -> None:
    file = RecordFile(tmp_path / "a.jsonl")
    file.append({"step": 1, "loss": math.nan})
    mark = file.mark()
    file.append({"step": 2})
    file.close()
    with (tmp_path / "a.jsonl").open("ab") as handle:
        handle.write(b'{"step": 3, "lo')
    resumed = RecordFile(tmp_path / "a.jsonl", mark)
    resumed.append({"step": 2})
    resumed.close()
    resumed.append({"step": 3})  # closed: ignored
    assert (tmp_path / "a.jsonl").read_text() == '{"step": 1, "loss": "nan"}\n{"step": 2}\n'
    (tmp_path / "a.jsonl").write_text('{"step": 9, "loss": "nan"}\n')
    with pytest.raises(DataError, match=r"a\.jsonl.*found others"):
        RecordFile(tmp_path / "a.jsonl", mark)
    (tmp_path / "a.jsonl").unlink()
    with pytest.raises(DataError, match="put the file back"):
        RecordFile(tmp_path / "a.jsonl", mark)


class Broken:
    """A tracker whose server goes away."""

    name = "broken"

    def __init__(self, error: Exception) -> None:
        self.error = error
        self.n_calls = 0

    def start(self, facts: RunFacts) -> None:
        return None

    def log(self, step: int, metrics: object) -> None:
        self.n_calls += 1
        raise self.error

    def alert(self, text: str) -> None:
        raise self.error

    def finish(self) -> None:
        raise self.error


def test_a_tracker_that_fails_is_told_once_and_training_goes_on(tmp_path: Path) -> None:
    broken, notes = Broken(ConnectionError("https://me:secret-word@host is away")), list[str]()
    watch = Observation(
        ["a", "b"], facts(tmp_path), n_steps=9, trackers=[broken, *open_trackers(["tensorboard"])],
        note=notes.append,
    )  # fmt: skip
    watch.start(None)
    for done in range(1, 4):
        watch.step(report(done))
    watch.finish()
    assert notes == [
        "broken is told nothing more, training goes on: ConnectionError: https://***@host is away"
    ]
    assert broken.n_calls == 1
    assert len((tmp_path / METRICS).read_text().splitlines()) == 3


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    names: tuple[TrackerName, ...] = ("trackio", "wandb", "mlflow", "tensorboard")
    for name in names:
        with pytest.raises(ResourceError, match=rf"pip install 'prill\[{name}\]'"):
            open_trackers([name])


def test_errors_of_the_user_are_not_swallowed(tmp_path: Path) -> None:
    group = Trackers([Broken(PrillError("no such project"))], note=lambda text: None)
    with pytest.raises(PrillError, match="no such project"):
        group.log(1, {})


def tell(name: TrackerName, folder: Path) -> None:
    """Steps 1 to 4, killed, resumed from step 3, and so steps 4 to 7."""
    notes: list[str] = []
    for resumed, first, last in ((None, 1, 4), (3, 4, 7)):
        group = Trackers(open_trackers([name]), note=notes.append)
        group.start(facts(folder, resumed_step=resumed))
        for step in range(first, last + 1):
            group.log(step, {"loss/dsir/0": 1 / step, "gradient_norm/target:a b": math.nan})
        group.alert("run 'dsir/0' has a spike")
        group.finish()
    assert notes == []
    for path in folder.rglob("*"):
        assert path.is_dir() or SECRET.encode() not in path.read_bytes()


def test_tensorboard_reads_back(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    tell("tensorboard", tmp_path)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    reader = EventAccumulator(str(tmp_path / "tensorboard"))
    reader.Reload()
    scalars = reader.Scalars("loss/dsir/0")
    assert [(event.step, round(event.value, 6)) for event in scalars] == [
        (step, round(1 / step, 6)) for step in range(1, 8)
    ]


def test_trackio_reads_back(tmp_path: Path) -> None:
    """In a process of its own, because trackio reads its folder at the first import."""
    pytest.importorskip("trackio")
    program = (
        "import sys, test_lm_tracking as t; from pathlib import Path; t.tell('trackio', Path(sys.argv[1]))"
    )
    environment = {name: value for name, value in os.environ.items() if name != "TRACKIO_DIR"}
    environment |= {"HF_HUB_OFFLINE": "1", "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        cwd=Path(__file__).parent, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    (database,) = (tmp_path / "trackio").glob("*.db")
    with sqlite3.connect(database) as connection:
        rows = connection.execute("select step, metrics from metrics order by id").fetchall()
        alerts = connection.execute("select text from alerts").fetchall()
    connection.close()
    assert [step for step, _ in rows] == [1, 2, 3, 4, 4, 5, 6, 7]
    assert json.loads(rows[-1][1])["loss/dsir/0"] == 1 / 7
    assert alerts[0] == ("run 'dsir/0' has a spike",)


def test_mlflow_reads_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow")
    tell("mlflow", tmp_path)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=(tmp_path / "mlruns").as_uri())
    experiment = client.get_experiment_by_name("prill-tests")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.params["optimiser.beta1"] == "0.9"
    history = client.get_metric_history(run.info.run_id, "loss/dsir/0")
    assert {(metric.step, metric.value) for metric in history} == {(s, 1 / s) for s in range(1, 8)}


def wandb_records(path: Path) -> Iterator[bytes]:
    """The records of a wandb file: LevelDB's log format behind a header of 7 bytes."""
    content, at, held = path.read_bytes(), 7, b""
    while at + 7 <= len(content):
        left = 32768 - at % 32768
        if left < 7:
            at += left
            continue
        _, length, kind = struct.unpack_from("<IHB", content, at)
        held += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield held
            held = b""


def wandb_losses(folder: Path) -> set[float]:
    from wandb.proto.wandb_internal_pb2 import Record

    losses: set[float] = set()
    for path in (folder / "wandb").glob("offline-run-*/run-0a1b2c.wandb"):
        for content in wandb_records(path):
            record = Record()
            record.ParseFromString(content)
            for item in record.history.item:
                if (item.key or "".join(item.nested_key)) == "loss/dsir/0":
                    losses.add(json.loads(item.value_json))
    return losses


def test_wandb_offline_files_read_back(tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    tell("wandb", tmp_path)
    expected = {1 / step for step in range(1, 8)}
    deadline = time.monotonic() + 20  # its own process writes the last lines a little after it said done
    while wandb_losses(tmp_path) != expected and time.monotonic() < deadline:
        time.sleep(0.05)
    assert wandb_losses(tmp_path) == expected


def test_pace_and_smoothed_losses() -> None:
    now = [100.0]
    pace = TrainingPace(50, clock=lambda: now[0])
    assert pace.remaining_s is None
    for done in range(11, 21):  # resumed at step 10
        now[0] += 2.0
        pace.advance(done, 1000, [2.0, math.nan if done == 12 else 4.0])
    assert pace.tokens_per_s == 500.0
    assert pace.remaining_s == 60.0  # 30 steps at 2 s
    assert pace.losses[0] == pytest.approx(2.0)
    assert pace.text() == "loss 2.000, 500 tokens/s, 1 min 00 s left"
