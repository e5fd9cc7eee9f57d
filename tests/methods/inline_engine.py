"""An engine without worker processes: each would import torch anew, which takes longer than a tiny model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from prill.engine import Kind
from prill.engine.local import LocalEngine

Item = TypeVar("Item")
Result = TypeVar("Result")


class InlineEngine(LocalEngine):
    """What would run in processes runs here, one item after the other."""

    def map(
        self,
        task: Callable[[Item], Result],
        items: Sequence[Item],
        *,
        kind: Kind,
        name: str,
        on_result: Callable[[int, Result], None] | None = None,
        label: Callable[[Item], str] | None = None,
    ) -> list[Result]:
        here: Kind = "inline" if kind == "processes" else kind
        return super().map(task, items, kind=here, name=name, on_result=on_result, label=label)
