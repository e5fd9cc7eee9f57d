"""What a run tells: events, timings, progress."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from prill.run.atomic import atomic_write
from prill.run.directory import RunDirectory, read_run
from prill.run.events import EventLog, read_events, timings
from prill.run.live import LiveProgress
from prill.run.pace import Pace, PlanPace
from prill.run.plain import PlainProgress
from prill.run.progress import Progress, SilentProgress, choose_progress


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_events_are_lines_with_a_time_and_survive_a_torn_end(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events.jsonl")
    log.emit("one", {"n": 1, "path": tmp_path, "deep": {"x": [1.5, None, True]}})
    log.close()
    log.emit("after the end")
    with (tmp_path / "events.jsonl").open("ab") as file:
        file.write(b'{"torn')
    log = EventLog(tmp_path / "events.jsonl")
    log.emit("two")
    log.close()
    events = read_events(tmp_path)
    assert [event["event"] for event in events] == ["one", "two"]
    assert events[0]["deep"] == {"x": [1.5, None, True]}
    assert str(events[0]["time"]).endswith("Z")


def test_events_hold_no_secret_and_no_control_character(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_TOKEN", "open-sesame-123")
    log = EventLog(tmp_path / "events.jsonl")
    log.emit(
        "x", {"text": "a\x1b[31m\u202e\u0085\nb open-sesame-123", "open-sesame-123": 1, "long": "x" * 9000}
    )
    log.close()
    content = (tmp_path / "events.jsonl").read_bytes()
    assert content.count(b"\n") == 1
    assert len(content) < 4000
    text = json.loads(content)["text"]
    assert text.isprintable()
    assert "sesame" not in text


def test_secrets_of_a_recipe_reach_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORE_PASSWORD", "open-sesame-123")
    recipe = {"paths": ["s3://me:hunter2hunter2@host/x"], "note": "open-sesame-123", "token": "abc"}
    with RunDirectory.open(tmp_path, recipe) as run:
        step = run.step("read", version=1, settings=recipe, inputs=[{"path": recipe["paths"][0]}])
        atomic_write(step.part(0), b"x")
        step.finish([step.part(0)])
        first = step.fingerprint
    with pytest.raises(KeyError), RunDirectory.open(tmp_path, recipe):
        raise KeyError("open-sesame-123")
    written = b"".join(p.read_bytes() for p in tmp_path.rglob("*") if p.is_file())
    assert b"hunter2" not in written
    assert b"sesame" not in written
    rotated = {**recipe, "paths": ["s3://me:another-password@host/x"]}
    with RunDirectory.open(tmp_path, rotated) as run:
        assert (
            run.step("read", version=1, settings=rotated, inputs=[{"path": rotated["paths"][0]}]).fingerprint
            == first
        )


def test_timings_tell_the_cost_of_each_finished_step(tmp_path: Path) -> None:
    for _ in range(2):
        with RunDirectory.open(tmp_path, {}) as run:
            first = run.step("first", version=1, settings={})
            if first.record is None:
                atomic_write(first.part(0), bytes(1000))
                first.finish([first.part(0)])
            run.step("second", version=1, settings={})
    (timing,) = timings(tmp_path)
    assert timing.step == "first"
    assert timing.elapsed_s >= 0
    assert timing.cpu_s >= 0
    assert timing.peak_memory_bytes > 1_000_000
    assert timing.n_sessions == 1
    kinds = [e["event"] for e in read_events(tmp_path)]
    assert kinds.count("step_reused") == 1
    assert kinds.count("session_finished") == 2
    assert timings(tmp_path / "nowhere") == []


def test_clocks_are_written_nowhere_else(tmp_path: Path) -> None:
    with RunDirectory.open(tmp_path, {}) as run:
        step = run.step("first", version=1, settings={})
        atomic_write(step.part(0), b"x")
        step.finish([step.part(0)])
    names = sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file())
    folder = f"steps/{step.folder.name}"
    assert names == [
        "events.jsonl",
        "prill-run.json",
        "prill-steps.json",
        f"{folder}/part-00000.parquet",
        f"{folder}/record.json",
    ]
    assert read_run(tmp_path).named("first")[0].fingerprint == step.fingerprint


def test_the_pace_of_a_step_gives_rates_and_the_time_left() -> None:
    clock = Clock()
    pace = Pace(10, "shards", clock)
    assert (pace.remaining_s, pace.rates()) == (None, {})
    clock.now += 20
    pace.advance(4, {"bytes": 800.0})
    assert pace.share == 0.4
    assert pace.remaining_s == pytest.approx(30.0)  # 20 s for 4 units, 6 units are left
    assert pace.rates() == {"bytes": 40.0}
    assert Pace(0, "shards", clock).share == 1.0
    assert Pace(None, "tokens", clock).share is None


def test_what_an_earlier_session_did_says_nothing_of_the_pace() -> None:
    clock = Clock()
    pace = Pace(1000, "tokens", clock)
    pace.reuse(600)
    assert pace.share == 0.6
    clock.now += 10
    assert (pace.remaining_s, pace.rates()) == (None, {})
    pace.advance(100, {})
    assert pace.remaining_s == pytest.approx(30.0)  # 10 s for 100 tokens, 300 are left
    assert pace.rates() == {"tokens": 10.0}


def test_the_time_left_of_the_run_weighs_the_announced_steps() -> None:
    clock = Clock()
    plan = PlanPace([("read", 5.0), ("hash", 1.0), ("score", 3.0)], clock)
    plan.reuse("read")
    clock.now += 10
    plan.finish("hash")
    assert plan.share("score", 0.0) == pytest.approx(0.25)
    assert plan.remaining_s("score", 0.0) == pytest.approx(30.0)  # 10 s for weight 1, weight 3 is left
    plan.finish("not planned")
    assert plan.share("score", 1.0) == pytest.approx(1.0)
    assert PlanPace([], clock).share("x", 0.5) is None


def use(progress: Progress) -> None:
    progress.plan([("read", 1.0), ("score", 2.0)])
    progress.reused("read")
    with progress.step("score", 4, "shards") as step:
        for _ in range(4):
            step.advance(1, bytes=1e6)
        step.finding("1.3 % are exact copies \x1b[31m")
    progress.note("a worker was replaced")
    with pytest.raises(KeyError), progress.step("train", None, "steps"):
        raise KeyError


def test_plain_lines_are_throttled_and_safe() -> None:
    stream, clock = io.StringIO(), Clock()
    progress = PlainProgress(stream, every_s=10.0, clock=clock)
    with progress.step("score", 100, "shards") as step:
        for _ in range(100):
            clock.now += 0.25
            step.advance(1, documents=10)
    lines = stream.getvalue().splitlines()
    assert lines == [
        "score: started (100 shards)",
        "score: 40/100 shards, 40%, 40 documents/s, about 15 s left",
        "score: 80/100 shards, 80%, 40 documents/s, about 5.0 s left",
        "score: done in 25 s, 40 documents/s",
    ]


def test_plain_progress_tells_every_step() -> None:
    stream = io.StringIO()
    progress = choose_progress(stream)
    with progress as shown:
        use(shown)
    text = stream.getvalue()
    for expected in ("read: reused", "score: 1.3 % are exact copies", "a worker was", "train: stopped after"):
        assert expected in text
    assert "\x1b" not in text


def test_the_live_display_keeps_a_list_and_obeys_no_color(monkeypatch: pytest.MonkeyPatch) -> None:
    from rich.console import Console

    monkeypatch.setenv("NO_COLOR", "1")
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=100, highlight=False, markup=False)
    with LiveProgress(stream, console) as progress:
        use(progress)
    text = stream.getvalue()
    for expected in (
        "read",
        "reused",
        "score",
        "1.3 % are exact copies",
        "a worker was replaced",
        "stopped after",
    ):
        assert expected in text
    assert "\x1b[31m" not in text.replace("\\x1b", "")


def test_a_quiet_run_says_nothing() -> None:
    stream = io.StringIO()
    with choose_progress(stream, is_quiet=True) as progress:
        assert isinstance(progress, SilentProgress)
        use(progress)
    assert stream.getvalue() == ""
