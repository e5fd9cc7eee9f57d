"""The scoring methods: what each one must offer, and how they are found by name.

A method is one file in this folder with one class under `@method(...)`; nothing else names it. It is fitted
by map and reduce (`observe` a batch, `merge` partials, `fit` with the targets) and then scores documents as
a pure function of the fitted state and the text. Higher scores always mean "prefer".

Legend: D documents, K targets.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeAlias, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import BaseModel

from prill.errors import RecipeError, near

if TYPE_CHECKING:
    from prill.corpus.batch import Batch
    from prill.corpus.columns import ColumnInfo

__all__ = [
    "Method",
    "MethodInfo",
    "Partial",
    "State",
    "describe",
    "get_method",
    "list_methods",
    "method",
    "overview",
]

Partial: TypeAlias = dict[str, NDArray[Any]]
State: TypeAlias = dict[str, NDArray[Any]]


@dataclass(frozen=True, kw_only=True)
class MethodInfo:
    """What a reader must know of a method before trusting it.

    Attributes:
        name: the name that the literature uses, in lower case.
        title: one line.
        paper: arXiv id or "none".
        feature: the primitive it needs, or "none".
        cost: work a byte of pool and a target.
        assumes: when it can work.
        formula: the score in plain text, symbols explained.
        differs: every deviation from the reference, with the reason.
    """

    name: str
    title: str
    paper: str
    feature: str
    cost: str
    assumes: str
    formula: str
    differs: str


class Method(Protocol):
    """The interface of a method; `keys` are the lower halves of the text hashes, uint64, shape (D,)."""

    info: ClassVar[MethodInfo]
    version: ClassVar[int]
    default_policy: ClassVar[dict[str, Any]]
    operations_per_byte: ClassVar[float]  # of fitting and scoring, a byte of pool
    Settings: ClassVar[type[BaseModel]]
    settings: BaseModel

    def __init__(self, settings: Any) -> None: ...

    def empty(self) -> Partial:
        """The statistics of no documents."""

    def observe(self, batch: Batch) -> Partial:
        """The statistics of one batch of the pool."""

    def merge(self, a: Partial, b: Partial) -> Partial:
        """The statistics of both; exact, associative and commutative."""

    def fit(self, pool: Partial, targets: Mapping[str, pa.Array]) -> State:
        """The fitted state for K targets, given by the text of their fit parts."""

    def score(self, state: State, batch: Batch, keys: NDArray[np.uint64]) -> dict[str, NDArray[np.float64]]:
        """One column of scores for each target, float64, shape (D,)."""

    def columns(self, targets: Sequence[str]) -> list[ColumnInfo]:
        """What the score columns mean."""


M = TypeVar("M", bound=type)


def method(
    *,
    name: str,
    title: str,
    paper: str,
    feature: str,
    cost: str,
    assumes: str,
    formula: str,
    differs: str,
) -> Callable[[M], M]:
    """Mark a class as the method `name`; see `MethodInfo` for the arguments."""
    info = MethodInfo(
        name=name,
        title=title,
        paper=paper,
        feature=feature,
        cost=cost,
        assumes=assumes,
        formula=formula,
        differs=differs,
    )

    def mark(cls: M) -> M:
        cls.info = info  # type: ignore[attr-defined]
        return cls

    return mark


def get_method(name: str) -> type[Method]:
    """The class of the method `name`.

    Raises:
        RecipeError: no method has this name; the hint names the nearest.
    """
    found = _methods()
    if name not in found:
        raise RecipeError(f"expected the name of a method, found {name!r}", hint=near(name, list_methods()))
    return found[name]


def list_methods() -> list[str]:
    """The names of all methods, sorted."""
    return sorted(_methods())


def overview() -> str:
    """One line a method: name, title, feature."""
    infos = [get_method(name).info for name in list_methods()]
    width = max(len(info.name) for info in infos)
    return "\n".join(f"{info.name:<{width}}  {info.title} [needs: {info.feature}]" for info in infos)


def describe(name: str) -> str:
    """The page of one method: formula, source, cost, assumptions, deviations, settings.

    Raises:
        RecipeError: no method has this name.
    """
    cls = get_method(name)
    info = cls.info
    paper = info.paper if info.paper == "none" else f"arXiv:{info.paper}"
    policy = ", ".join(f"{key}={value}" for key, value in cls.default_policy.items())
    facts = {
        "formula": info.formula,
        "paper": paper,
        "needs": info.feature,
        "cost": info.cost,
        "assumes": info.assumes,
        "differs": info.differs,
        "policy": policy,
        "version": str(cls.version),
    }
    lines = [f"{info.name}: {info.title}", ""]
    lines += [f"{key:<8} {_indented(value)}" for key, value in facts.items()]
    return "\n".join([*lines, "", "settings", *_settings_lines(cls.Settings)])


def _settings_lines(settings: type[BaseModel]) -> list[str]:
    fields = settings.model_json_schema()["properties"]
    lines = []
    for name, field in fields.items():
        choices = f"  ({' | '.join(field['enum'])})" if "enum" in field else ""
        lines.append(f"  {name} = {field.get('default')}{choices}")
        lines += textwrap.wrap(field["description"], 92, initial_indent=" " * 6, subsequent_indent=" " * 6)
    return lines


def _indented(text: str) -> str:
    return text.strip().replace("\n", "\n" + " " * 9)


@functools.cache
def _methods() -> dict[str, type[Method]]:
    """Every marked class of every public module beside this one."""
    import prill.methods as package

    found: dict[str, type[Method]] = {}
    for module_info in pkgutil.iter_modules(package.__path__):
        if module_info.name.startswith("_") or module_info.name == "registry":
            continue
        module = importlib.import_module(f"{package.__name__}.{module_info.name}")
        for value in vars(module).values():
            if isinstance(value, type) and value.__module__ == module.__name__ and hasattr(value, "info"):
                found[value.info.name] = value
    return found
