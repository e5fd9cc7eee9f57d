"""The local engine: order, errors, deaths, stalls, and nothing left behind."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import engine_tasks as tasks
import psutil
import pytest

from prill.engine import Engine, Kind
from prill.engine.failure import Retry, TaskError
from prill.engine.local import LocalEngine
from prill.errors import DataError, RecipeError, ResourceError

KINDS: list[Kind] = ["inline", "threads", "processes"]


def n_children() -> int:
    return len(psutil.Process().children(recursive=True))


@pytest.mark.parametrize("kind", KINDS)
def test_results_come_in_item_order_and_are_reported_once(kind: Kind) -> None:
    engine: Engine = LocalEngine(2)
    seen: dict[int, int] = {}
    results = engine.map(tasks.slow_square, range(7), kind=kind, name="square", on_result=seen.__setitem__)
    assert results == [0, 1, 4, 9, 16, 25, 36]
    assert sorted(seen.items()) == list(enumerate(results))
    assert n_children() == 0


@pytest.mark.parametrize("kind", KINDS)
def test_no_items_start_nothing(kind: Kind) -> None:
    assert LocalEngine(2).map(tasks.square, [], kind=kind, name="square") == []


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_for_the_user_crosses_whole(kind: Kind) -> None:
    with pytest.raises(DataError) as caught:
        LocalEngine(2).map(tasks.bad_data, range(5), kind=kind, name="read")
    (problem,) = caught.value.problems
    assert (problem.where, problem.hint) == ("pool/a.jsonl:17", "repair the file")
    assert n_children() == 0


@pytest.mark.parametrize("kind", KINDS)
def test_any_other_exception_is_internal_and_keeps_its_traceback(kind: Kind) -> None:
    with pytest.raises(TaskError) as caught:
        LocalEngine(2).map(tasks.bug, [4], kind=kind, name="divide", label=lambda x: f"shard {x}")
    assert str(caught.value).startswith("shard 4: divide failed with ZeroDivisionError: ")
    assert "in bug" in caught.value.detail
    assert "Traceback" not in str(caught.value)
    assert caught.value.exit_code == 5


@pytest.mark.parametrize("kind", KINDS)
def test_errors_of_the_machine_are_resource_errors(kind: Kind) -> None:
    with pytest.raises(ResourceError, match="ran out of memory"):
        LocalEngine(1).map(tasks.exhausted, [0], kind=kind, name="load")
    with pytest.raises(ResourceError, match=r"/big/file: .*ENOSPC"):
        LocalEngine(1).map(tasks.full_disk, [0], kind=kind, name="load")


def test_a_killed_worker_is_replaced_and_the_retry_reported(tmp_path: Path) -> None:
    retries: list[Retry] = []
    engine = LocalEngine(2, on_retry=retries.append)
    items = [(str(tmp_path), x) for x in range(5)]
    assert engine.map(tasks.die_once, items, kind="processes", name="count") == [0, 1, 2, 3, 4]
    assert [(r.label, r.attempt) for r in retries] == [("item 3 of 5", 1)]
    assert str(retries[0]).startswith("count: the worker for item 3 of 5 was killed by SIGKILL")
    assert "SIGKILL" in retries[0].reason


def test_the_last_item_is_retried_although_other_workers_are_idle(tmp_path: Path) -> None:
    items = [(str(tmp_path), x) for x in range(3)]
    assert LocalEngine(2).map(tasks.die_once, items, kind="processes", name="count") == [0, 1, 2]


@pytest.mark.parametrize(
    ("task", "reason"),
    [
        (tasks.die, "was killed by SIGKILL (out of memory?)"),
        (tasks.leave, "exited with code 7"),
        (tasks.crash, "was killed by SIGSEGV"),
        (tasks.fork_and_die, "exited with code 9"),
    ],
)
def test_a_worker_that_always_dies_ends_the_run_with_the_item_and_reason(
    task: Callable[[int], int], reason: str
) -> None:
    engine = LocalEngine(1, retries=1)
    with pytest.raises(ResourceError) as caught:
        engine.map(task, [1], kind="processes", name="score", label=lambda x: f"shard {x} (pool/a.jsonl)")
    assert str(caught.value).startswith(f"score: the worker for shard 1 (pool/a.jsonl) {reason}, 2 times")
    assert "hint:" in str(caught.value)


def test_a_stalled_worker_is_replaced(tmp_path: Path) -> None:
    retries: list[Retry] = []
    engine = LocalEngine(2, stall_s=1.0, on_retry=retries.append)
    items = [(str(tmp_path), x) for x in range(3)]
    assert engine.map(tasks.stall_once, items, kind="processes", name="count") == [0, 1, 2]
    assert [r.reason for r in retries] == ["gave no result within 1 s"]


def test_a_shard_that_always_stalls_is_named() -> None:
    with pytest.raises(ResourceError, match=r"count: item 1 of 1 gave no result within 0\.5 s"):
        LocalEngine(1, retries=0, stall_s=0.5).map(tasks.stall, [1], kind="processes", name="count")
    assert n_children() == 0


def test_workers_get_one_thread_whatever_their_number() -> None:
    limits = LocalEngine(2).map(tasks.thread_limits, [0, 1], kind="processes", name="look")
    assert limits == [("1",) * 5] * 2


def test_big_items_and_results_pass() -> None:
    contents = LocalEngine(2).map(tasks.big, [1, 2, 3], kind="processes", name="big")
    assert [len(c) for c in contents] == [3_000_000] * 3
    assert LocalEngine(2).map(tasks.length, contents, kind="processes", name="len") == [3_000_000] * 3


def test_what_cannot_be_pickled_is_named() -> None:
    with pytest.raises(TaskError, match="send failed with"):
        LocalEngine(1).map(tasks.unpicklable, [0], kind="processes", name="send")
    with pytest.raises(TaskError, match="sending to a worker"):
        LocalEngine(1).map(lambda x: x, [0], kind="processes", name="send")


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_of_the_caller_ends_the_map(kind: Kind) -> None:
    def refuse(index: int, result: int) -> None:
        raise KeyError(index)

    with pytest.raises(KeyError):
        LocalEngine(2).map(tasks.square, range(9), kind=kind, name="square", on_result=refuse)
    assert n_children() == 0


def test_less_than_one_worker_is_refused() -> None:
    with pytest.raises(RecipeError, match="found 0"):
        LocalEngine(0)


def test_a_task_error_survives_pickling_with_its_detail() -> None:
    again = pickle.loads(pickle.dumps(TaskError("a", where="b", hint="c", detail="d")))
    assert (str(again), again.detail) == ("b: a\nhint: c", "d")


_SCRIPT = """
import sys
from prill.engine.local import LocalEngine

def double(x):
    return 2 * x

sys.stdout.write(repr(LocalEngine(2).map(double, [1, 2, 3], kind="processes", name="double")))
"""


def test_a_script_may_use_its_own_functions_behind_a_guard(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(_SCRIPT.replace("\nsys.stdout", "\nif __name__ == '__main__':\n    sys.stdout"))
    ended = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)
    assert (ended.stdout, ended.stderr) == ("[2, 4, 6]", "")


def test_a_script_without_a_guard_is_told_and_does_not_multiply(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(_SCRIPT)
    ended = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, check=False, timeout=30
    )
    assert ended.returncode == 1
    assert "RecipeError" in ended.stderr
    assert "if __name__ ==" in ended.stderr


_PARENT = """
import sys
sys.path.insert(0, sys.argv[1])
import engine_tasks
from prill.engine.local import LocalEngine
LocalEngine(2).map(engine_tasks.pid_then_sleep, [1, 2], kind="processes", name="sleep")
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_no_child_outlives_its_parent(number: signal.Signals) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", _PARENT, str(Path(__file__).parent)], stderr=subprocess.DEVNULL
    )
    try:
        children = _wait_for_children(parent.pid, 2)
        os.kill(parent.pid, number)
        parent.wait(10)
        _, alive = psutil.wait_procs(children, timeout=5)
        assert alive == []
    finally:
        parent.kill()
        parent.wait()


def test_workers_do_not_write_to_standard_output() -> None:
    code = _PARENT.replace("pid_then_sleep", "print_something")
    command = [sys.executable, "-c", code, str(Path(__file__).parent)]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ended.stdout == ""
    assert ended.stderr.count("noise from a worker") == 2


def _wait_for_children(pid: int, n: int) -> list[psutil.Process]:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        children = psutil.Process(pid).children(recursive=True)
        if len(children) >= n:
            time.sleep(0.2)
            return children
        time.sleep(0.02)
    raise AssertionError("no children were started")
