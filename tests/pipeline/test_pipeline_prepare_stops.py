"""A preparation that is killed, stopped, raced or refused space goes on to the same bytes."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from small_study import hashes as all_hashes
from small_study import prill

from prill.demo.machine_text import MachineDocument

CODE = "from prill.cli import main; main()"
RECIPE = """\
corpus: {{paths: [pool/*], shard_bytes: {shard_bytes}}}
prepare: {{memory: 16000000, repair: {{}}, rules: {{presets: [gopher_repetition]}}, exact: {{by: normal}},
  same_url: {{}}, lines: {{}}, substring: {{}}, semantic: {{}}}}
output: out
"""


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory, machine_text: list[MachineDocument]) -> Path:
    """A small corpus with copies of every kind, to which all parts are applied."""
    folder = tmp_path_factory.mktemp("stops")
    rows = [
        {"id": str(i), "text": document.text, "url": f"http://example.org/{i % 90}"}
        for i, document in enumerate(machine_text[:120])
    ]
    rows += rows[:10]
    (folder / "pool").mkdir()
    pq.write_table(pa.Table.from_pylist(rows[:60]), folder / "pool" / "a.parquet", row_group_size=20)
    (folder / "pool" / "b.jsonl").write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows[60:]))
    path = folder / "recipe.yaml"
    path.write_text(RECIPE.format(shard_bytes=100_000))
    return path


@pytest.fixture(scope="module")
def whole(recipe: Path) -> dict[str, str]:
    """What an uninterrupted run with one worker leaves."""
    prill("prepare", recipe, "-q", "-j", "1")
    return hashes(recipe.parent / "out")


def hashes(run: Path) -> dict[str, str]:
    """SHA-256 of every file but the one that says where the recipe lies."""
    return {name: digest for name, digest in all_hashes(run).items() if name != "prill-place.json"}


def start(recipe: Path, output: Path, *, limit: str = ":") -> subprocess.Popen[str]:
    command = ["sh", "-c", f'{limit}; exec "$@"', "sh", sys.executable, "-c", CODE, "prepare", str(recipe)]
    return subprocess.Popen(
        [*command, "-q", "-j", "2", "-o", str(output)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "NO_COLOR": "1"},
    )


def wait_for_steps(running: subprocess.Popen[str], output: Path, n_steps: int) -> None:
    """Returns when so many steps have begun, or the run has ended."""
    deadline = time.monotonic() + 60
    while running.poll() is None and time.monotonic() < deadline:
        if len(list(output.glob("steps/*"))) >= n_steps:
            return
        time.sleep(0.01)


def test_killed_again_and_again_it_ends_with_the_same_bytes(
    recipe: Path, whole: dict[str, str], tmp_path: Path
) -> None:
    moments = random.Random(5)
    n_killed = 0
    for n_steps in (2, 10, 16):
        running = start(recipe, tmp_path / "run")
        wait_for_steps(running, tmp_path / "run", n_steps)
        time.sleep(moments.uniform(0, 0.3))
        running.kill()
        running.communicate()
        n_killed += running.returncode == -signal.SIGKILL
    assert n_killed >= 2
    prill("prepare", recipe, "-q", "-o", tmp_path / "run")
    assert hashes(tmp_path / "run") == whole


def test_a_stopped_run_says_so_and_goes_on(recipe: Path, whole: dict[str, str], tmp_path: Path) -> None:
    running = start(recipe, tmp_path / "run")
    wait_for_steps(running, tmp_path / "run", 3)
    began = time.monotonic()
    running.terminate()
    _, said = running.communicate(timeout=15)
    assert running.returncode == 143, said
    assert time.monotonic() - began < 10
    assert "Traceback" not in said
    racers = [start(recipe, tmp_path / "run") for _ in range(2)]
    errors = [racer.communicate(timeout=90)[1] for racer in racers]
    assert sorted(racer.returncode for racer in racers) == [0, 4], errors
    assert "another run holds this folder" in "".join(errors)
    assert hashes(tmp_path / "run") == whole


def test_a_file_that_may_not_grow_is_one_error_and_the_rerun_is_whole(
    recipe: Path, whole: dict[str, str], tmp_path: Path
) -> None:
    running = start(recipe, tmp_path / "run", limit="ulimit -f 16")
    _, said = running.communicate(timeout=60)
    assert running.returncode == 4, said
    assert said.startswith("error: ")
    assert "Traceback" not in said
    assert not (tmp_path / "run" / "report.html").exists()
    prill("prepare", recipe, "-q", "-o", tmp_path / "run")
    assert hashes(tmp_path / "run") == whole


def test_shards_of_another_size_leave_the_same_documents(
    recipe: Path, whole: dict[str, str], tmp_path: Path
) -> None:
    again = recipe.with_name("again.yaml")
    again.write_text(RECIPE.format(shard_bytes=1_000_000))
    prill("prepare", again, "-q", "-o", tmp_path / "run")
    assert prepared(tmp_path / "run") == prepared(recipe.parent / "out")
    assert len(prepared(tmp_path / "run")) > 10


def prepared(run: Path) -> list[str]:
    """The texts that were left, sorted: of equal documents, which one stays depends on their places."""
    return sorted(
        text for path in (run / "prepared").iterdir() for text in pq.read_table(path)["text"].to_pylist()
    )
