"""The engine of one machine: the caller itself, threads, or worker processes.

Threads share memory and suit kernels that free the interpreter lock. Processes are isolated: one that is
killed, crashes or stalls is replaced and its item tried again, a bounded number of times. Libraries in
worker processes get one thread each, so that a sum never depends on how many threads shared it.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Generic, TypeVar

from prill.engine import Kind
from prill.engine.failure import ReportRetry, no_report, task_failure
from prill.errors import PrillError, RecipeError

__all__ = ["LocalEngine"]

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

_IN_FLIGHT_PER_THREAD = 2  # submitted at once: enough to keep threads busy, few enough to stop quickly


class LocalEngine:
    """Applies tasks on this machine; fits `prill.engine.Engine`.

    Args:
        n_workers: threads or processes at a time, at least 1.
        retries: how often an item is tried again after its worker died or stalled.
        stall_s: seconds after which a worker process without a result is replaced; None means never.
            Threads cannot be replaced and have no such limit.
        on_retry: called with each `Retry`, for the diary and the screen.
    """

    def __init__(
        self,
        n_workers: int,
        retries: int = 2,
        stall_s: float | None = None,
        *,
        on_retry: ReportRetry = no_report,
    ) -> None:
        if n_workers < 1:
            raise RecipeError(f"expected at least 1 worker, found {n_workers}", where="workers")
        self.n_workers = n_workers
        self.retries = retries
        self.stall_s = stall_s
        self.on_retry = on_retry

    def map(
        self,
        task: Callable[[_Item], _Result],
        items: Sequence[_Item],
        *,
        kind: Kind,
        name: str,
        on_result: Callable[[int, _Result], None] | None = None,
        label: Callable[[_Item], str] | None = None,
    ) -> list[_Result]:
        """The task's results in item order; see `prill.engine.Engine.map`."""

        def labels(index: int) -> str:
            return label(items[index]) if label else f"item {index + 1} of {len(items)}"

        results: dict[int, _Result] = {}
        with contextlib.closing(self._results(task, items, kind=kind, name=name, labels=labels)) as stream:
            for index, result in stream:
                results[index] = result
                if on_result is not None:
                    on_result(index, result)
        return [results[index] for index in range(len(items))]

    def _results(
        self,
        task: Callable[[_Item], _Result],
        items: Sequence[_Item],
        *,
        kind: Kind,
        name: str,
        labels: Callable[[int], str],
    ) -> Generator[tuple[int, _Result], None, None]:
        guarded = _Guarded(task, name=name, labels=labels)
        if kind == "inline" or not items:
            return _inline(guarded, items)
        if kind == "threads":
            return _in_threads(guarded, items, n_workers=min(self.n_workers, len(items)))
        from prill.engine._pool import ProcessPool

        pool = ProcessPool(
            task,
            items,
            name=name,
            labels=labels,
            retries=self.retries,
            stall_s=self.stall_s,
            on_retry=self.on_retry,
        )
        return pool.run(self.n_workers)


class _Guarded(Generic[_Item, _Result]):
    """The task, telling its failures as every kind of engine tells them."""

    def __init__(self, task: Callable[[_Item], _Result], *, name: str, labels: Callable[[int], str]) -> None:
        self._task = task
        self._name = name
        self._labels = labels

    def __call__(self, index: int, item: _Item) -> _Result:
        try:
            return self._task(item)
        except Exception as error:
            failure = task_failure(error, name=self._name, label=self._labels(index))
            if failure is error:
                raise
            raise failure from error


def _inline(
    guarded: _Guarded[_Item, _Result], items: Sequence[_Item]
) -> Generator[tuple[int, _Result], None, None]:
    for index, item in enumerate(items):
        yield index, guarded(index, item)


def _in_threads(
    guarded: _Guarded[_Item, _Result], items: Sequence[_Item], *, n_workers: int
) -> Generator[tuple[int, _Result], None, None]:
    pool = ThreadPoolExecutor(n_workers, thread_name_prefix="prill")
    waiting = iter(enumerate(items))
    running: dict[Future[_Result], int] = {}
    is_stopping = True  # unless the end, or a task's own error, is reached: then running threads are awaited
    try:
        while True:
            for index, item in itertools.islice(waiting, n_workers * _IN_FLIGHT_PER_THREAD - len(running)):
                running[pool.submit(guarded, index, item)] = index
            if not running:
                break
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in sorted(done, key=lambda finished: running[finished]):
                yield running.pop(future), future.result()
        is_stopping = False
    except PrillError:
        is_stopping = False
        raise
    finally:
        pool.shutdown(wait=not is_stopping, cancel_futures=True)
