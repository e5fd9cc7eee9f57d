"""Data-parallel training: the same trajectory as one process, resumption, and the death of a process."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prill.errors import RecipeError

torch = pytest.importorskip("torch")

import worker_distributed  # noqa: E402

from prill.lm.distributed import World, joined  # noqa: E402

WORKER = Path(__file__).with_name("worker_distributed.py")


def environment() -> dict[str, str]:
    path = os.pathsep.join(entry for entry in sys.path if entry)
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}


def run(folder: Path, size: int, *arguments: int) -> list[tuple[int, str]]:
    """Exit code and standard error of every process."""
    folder.mkdir(exist_ok=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    processes = [
        subprocess.Popen(
            [sys.executable, str(WORKER), str(folder), *map(str, arguments)],
            env=environment() | place | {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(size)
    ]
    told = [process.communicate(timeout=240)[1] for process in processes]
    return [(process.returncode, text) for process, text in zip(processes, told, strict=True)]


def test_two_processes_train_as_one_resume_and_tell_of_a_dead_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    worker_distributed.main(one)
    whole = json.loads((one / "told-1-0.json").read_text())

    dead = run(two, 2, 33)  # a row of process 1 at step 6; the last checkpoint follows the branch of step 3
    assert dead[1][0] == -9
    code, text = dead[0]
    assert code == 4
    assert "process 0 of 2 has lost another one" in text
    assert "run again: it resumes" in text
    assert "Traceback" not in text
    assert len((two / "metrics.jsonl").read_text().splitlines()) == 7

    assert run(two, 2) == [(0, ""), (0, "")]
    told = [json.loads((two / f"told-2-{rank}.json").read_text()) for rank in (0, 1)]
    for key in ("curves", "losses"):  # the same weights in both processes, bit for bit
        assert told[0][key] == told[1][key]
    np.testing.assert_allclose(told[0]["curves"], whole["curves"], rtol=1e-6)
    np.testing.assert_allclose(told[0]["losses"], whole["losses"], rtol=1e-6)
    assert told[1]["disagreement"].startswith("process 1: all 2 processes must agree on the checkpoint")
    files = sorted(
        path.relative_to(one) for path in one.rglob("*") if path.is_file() and "told" not in path.name
    )
    assert len(files) >= 8
    assert all((two / path).is_file() for path in files)
    steps = [json.loads(line)["step"] for line in (two / "metrics.jsonl").read_text().splitlines()]
    assert steps == list(range(1, 14))


@pytest.mark.slow
def test_torchrun_starts_the_processes(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
         str(WORKER), str(tmp_path)],
        env=environment(), capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "told-2-1.json").exists()


@given(size=st.integers(1, 9), count=st.integers(0, 40), first=st.integers(0, 1000))
def test_parts_are_the_rows_in_order_each_once(size: int, count: int, first: int) -> None:
    worlds = [World(rank=rank, size=size, local_rank=rank) for rank in range(size)]
    if count < size:
        with pytest.raises(RecipeError, match=f"found {count} rows and {size} processes"):
            worlds[0].part(first, count)
        return
    parts = [world.part(first, count) for world in worlds]
    assert [row for start, n in parts for row in range(start, start + n)] == list(range(first, first + count))
    assert max(n for _, n in parts) - min(n for _, n in parts) <= 1


def test_one_process_changes_nothing() -> None:
    with joined(torch.device("cpu"), {}) as world:
        assert world == World()
        losses, gradient = torch.tensor([1.5]), torch.tensor([[1.0, 2.0]])
        assert world.reduce(losses, gradient, torch.tensor([3])) == (losses, gradient)
        assert world.is_main


@pytest.mark.parametrize(
    "given",
    [
        {"WORLD_SIZE": "2"},
        {"WORLD_SIZE": "2", "RANK": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "a", "MASTER_PORT": "1"},
        {"WORLD_SIZE": "two", "RANK": "0", "LOCAL_RANK": "0", "MASTER_ADDR": "a", "MASTER_PORT": "1"},
    ],
)
def test_an_environment_that_makes_no_sense_is_refused(given: dict[str, str]) -> None:
    with pytest.raises(RecipeError, match="start with torchrun"), joined(torch.device("cpu"), given):
        pass


def test_each_process_takes_its_own_device() -> None:
    world = World(rank=5, size=8, local_rank=1)
    assert world.device(torch.device("cuda")) == torch.device("cuda", 1)
    assert world.device(torch.device("cuda", 3)) == torch.device("cuda", 3)
    assert world.device(torch.device("cpu")) == torch.device("cpu")
