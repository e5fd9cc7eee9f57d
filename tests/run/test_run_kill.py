"""Kill it anywhere, damage it, race it: run it again and get the same bytes, or one clear error."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from prill.run.verify import verify

SCRIPT = Path(__file__).parent / "toy_pipeline.py"


def start(folder: Path, n_workers: int = 2, nap_s: float = 0.01) -> subprocess.Popen[str]:
    command = [sys.executable, str(SCRIPT), str(folder), str(n_workers), str(nap_s)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def finish(folder: Path, n_workers: int = 2) -> None:
    process = start(folder, n_workers, nap_s=0.0)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 0, said


def contents(folder: Path) -> dict[str, bytes]:
    files = (p for p in folder.rglob("*") if p.is_file() and p.name != "events.jsonl")
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in files}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What an uninterrupted run with one worker leaves."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    finish(folder, n_workers=1)
    assert verify(folder).is_whole
    return contents(folder)


@pytest.mark.parametrize("n_workers", [1, 2])
def test_killed_at_random_moments_and_resumed_it_has_the_same_bytes(
    tmp_path: Path, whole: dict[str, bytes], n_workers: int
) -> None:
    moments = random.Random(n_workers)
    n_killed = 0
    for attempt in range(5):
        process = start(tmp_path / "run", n_workers)
        time.sleep(moments.uniform(0.05, 0.15) * (1 + attempt))  # short ones first: a quick machine finishes
        process.kill()
        process.communicate()
        n_killed += process.returncode == -signal.SIGKILL
    finish(tmp_path / "run", n_workers)
    assert n_killed >= 1
    assert contents(tmp_path / "run") == whole


def test_work_that_was_done_before_the_kill_is_not_redone(tmp_path: Path, whole: dict[str, bytes]) -> None:
    process = start(tmp_path, 1, nap_s=0.05)
    journal = _wait_for(tmp_path, "parts.jsonl", n_lines=3)
    process.kill()
    process.communicate()
    n_done = len(journal.read_bytes().splitlines())
    kept = {p: p.stat().st_mtime_ns for p in sorted(journal.parent.glob("part-*.bin"))[:n_done]}
    finish(tmp_path)
    assert len(kept) == n_done
    assert {p: p.stat().st_mtime_ns for p in kept} == kept
    assert contents(tmp_path) == whole


@pytest.mark.parametrize("damage", ["flip", "cut", "zero", "delete"])
def test_damage_between_kill_and_resume_changes_nothing(
    tmp_path: Path, whole: dict[str, bytes], damage: str
) -> None:
    process = start(tmp_path, 2, nap_s=0.02)
    _wait_for(tmp_path, "record.json")
    _wait_for(tmp_path, "parts.jsonl", n_lines=2)
    process.kill()
    process.communicate()
    chosen = random.Random(damage)
    victims = [p for p in sorted((tmp_path / "steps").rglob("*")) if p.is_file()]
    for victim in chosen.sample(victims, 5):
        _damage(victim, damage, chosen)
    finish(tmp_path)
    assert contents(tmp_path) == whole
    assert verify(tmp_path).is_whole


def test_of_two_racing_runs_one_wins_and_the_other_names_it(tmp_path: Path, whole: dict[str, bytes]) -> None:
    racers = [start(tmp_path / "run", 1, nap_s=0.025) for _ in range(2)]
    began = time.monotonic()
    said = [racer.communicate(timeout=60)[1] for racer in racers]
    codes = sorted(racer.returncode for racer in racers)
    assert codes == [0, 4], said
    winner = racers[0] if racers[0].returncode == 0 else racers[1]
    assert f"another run holds this folder (pid {winner.pid}, host " in "".join(said)
    assert time.monotonic() - began < 30
    assert contents(tmp_path / "run") == whole


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_the_run_with_no_child_and_it_resumes(
    tmp_path: Path, whole: dict[str, bytes], number: signal.Signals, code: int
) -> None:
    process = start(tmp_path, 2, nap_s=0.5)
    children = _wait_for_children(process.pid, 2)
    began = time.monotonic()
    process.send_signal(number)
    _, said = process.communicate(timeout=10)
    assert time.monotonic() - began < 10
    assert (process.returncode, said) == (code, f"stopped by {number.name}")
    _, alive = psutil.wait_procs(children, timeout=2)
    assert alive == []
    assert not (tmp_path / "prill-run.lock").exists()
    finish(tmp_path)
    assert contents(tmp_path) == whole


def test_a_killed_parent_leaves_no_child_and_no_lock(tmp_path: Path, whole: dict[str, bytes]) -> None:
    process = start(tmp_path, 2, nap_s=0.5)
    children = _wait_for_children(process.pid, 2)
    process.kill()
    process.communicate()
    _, alive = psutil.wait_procs(children, timeout=2)
    assert alive == []
    finish(tmp_path)
    assert contents(tmp_path) == whole


@pytest.mark.parametrize(("limit", "name"), [("-f 8", "EFBIG"), ("-n 10", "EMFILE")])
def test_a_process_limit_is_one_error_and_the_rerun_is_identical(
    tmp_path: Path, whole: dict[str, bytes], limit: str, name: str
) -> None:
    limited = f"ulimit {limit}; exec {sys.executable} {SCRIPT} {tmp_path} 1"
    ended = subprocess.run(["sh", "-c", limited], capture_output=True, text=True, check=False)
    assert ended.returncode == 4, ended.stderr
    assert name in ended.stderr
    assert "Traceback" not in ended.stderr
    finish(tmp_path)
    assert contents(tmp_path) == whole


def _damage(path: Path, how: str, chosen: random.Random) -> None:
    content = bytearray(path.read_bytes())
    if how == "delete" or not content:
        path.unlink()
    elif how == "cut":
        path.write_bytes(content[: chosen.randrange(len(content))])
    elif how == "zero":
        path.write_bytes(bytes(len(content)))
    else:
        content[chosen.randrange(len(content))] ^= 1 << chosen.randrange(8)
        path.write_bytes(content)


def _wait_for(folder: Path, name: str, n_lines: int = 0) -> Path:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        for path in folder.rglob(name):
            try:
                if path.read_bytes().count(b"\n") >= n_lines:
                    return path
            except FileNotFoundError:
                continue
        time.sleep(0.005)
    raise AssertionError(f"no {name}")


def _wait_for_children(pid: int, n: int) -> list[psutil.Process]:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        children = psutil.Process(pid).children(recursive=True)
        if len(children) >= n:
            time.sleep(0.1)
            return children
        time.sleep(0.02)
    raise AssertionError("no children were started")
