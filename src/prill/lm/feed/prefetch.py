"""Make the next steps' rows while the device computes.

A thread makes items in order and keeps a few of them ready. Items are pure functions of their step, so
reading ahead changes nothing but the time: results, resumption and errors are those of making each item when
it is needed. An error comes up where its item would have, after all items before it.

    with Prefetch(loop_rows, range(start, stop)) as ahead:
        for step, rows in ahead:
            ...

Packing and numpy's copies release the interpreter's lock for part of the time only; what is won is told by
`bench/feed.py`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Generic, Self, TypeVar

from prill.errors import RecipeError

__all__ = ["Prefetch"]

T = TypeVar("T")


class Prefetch(Generic[T]):
    """Items of `steps` in order, made ahead by one thread.

    Args:
        make: the item of a step; called in another thread, once a step, in order.
        steps: which, in order.
        depth: items that are made or being made before they are needed; 0: no thread, each when needed.
    Raises:
        RecipeError: a negative depth.
    """

    def __init__(self, make: Callable[[int], T], steps: Sequence[int], *, depth: int = 2) -> None:
        if depth < 0:
            raise RecipeError(f"steps ahead must not be negative, found {depth}", where="prefetch")
        self._make = make
        self._steps = steps
        self._depth = depth
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="prill-prefetch")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[tuple[int, T]]:
        if not self._depth:
            for step in self._steps:
                yield step, self._make(step)
            return
        ahead: deque[Future[T]] = deque()
        following = iter(self._steps)
        for step in self._steps:
            while len(ahead) < self._depth and (later := next(following, None)) is not None:
                ahead.append(self._pool.submit(self._make, later))
            item = ahead.popleft().result()
            if (later := next(following, None)) is not None:
                ahead.append(self._pool.submit(self._make, later))
            yield step, item

    def close(self) -> None:
        """Drop what is ahead and wait for the item that is being made."""
        self._pool.shutdown(wait=True, cancel_futures=True)
