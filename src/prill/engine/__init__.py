"""How one function is applied to many shards: threads, processes, or elsewhere.

Results never depend on the engine: they come back in item order, and workers see one thread, whatever
their number. `LocalEngine` lives in `prill.engine.local`; another engine only has to fit `Engine`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, Protocol, TypeVar

__all__ = ["Engine", "Kind"]

Kind = Literal["threads", "processes", "inline"]

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class Engine(Protocol):
    """Applies a task to items; every engine gives the same results."""

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
        """The task's results in item order.

        Args:
            task: a pure function; for processes, it, the items and the results must be picklable.
            items: one for each call.
            kind: threads for work that frees the interpreter lock, processes for work that may crash or
                hold it, inline for the caller itself.
            name: what is done, for messages.
            on_result: called in the caller's thread with (index, result), in the order of completion.
            label: names an item in messages; its number when not given.
        Raises:
            PrillError: the first one that a task raised, whole.
            ResourceError: a worker died more often than is tolerated.
            InternalError: a task raised any other exception.
        """
        ...
