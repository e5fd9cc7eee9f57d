"""The scoring methods: what each one must offer, and how they are found by name.

A method is one file in this folder with one class under `@method(...)`; nothing else names it. It says which
features it needs (`needs`), makes a small state of them and of the targets (`fit`), and scores the documents
of a shard as a pure function of that state and those features (`score`). What is costly is a feature, so that
methods share it. Higher scores always mean "prefer".

Legend: D documents of a shard, K targets.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeAlias, TypeVar

from numpy.typing import NDArray
from pydantic import BaseModel

from prill.errors import InternalError, RecipeError, near

if TYPE_CHECKING:
    from prill.corpus.columns import ColumnInfo
    from prill.features.feature import Feature, Given
    from prill.lm.feed.in_training import InTraining

__all__ = [
    "STRATUM",
    "Meaning",
    "Method",
    "MethodInfo",
    "Scores",
    "State",
    "describe",
    "get_method",
    "list_methods",
    "method",
    "overview",
]

State: TypeAlias = dict[str, NDArray[Any]]
Scores: TypeAlias = Mapping[str, Any]

STRATUM: Final = "(stratum)"
"""The column beside the scores by which a policy with `strata: method` divides the budget, strings."""


@dataclass(frozen=True, kw_only=True)
class MethodInfo:
    """What a reader must know of a method before trusting it.

    Attributes:
        name: the name that the literature uses, in lower case, words joined by underscores.
        called: the name as its authors write it.
        title: one line.
        paper: arXiv id or "none".
        feature: the primitive it needs, or "none".
        cost: work a byte of pool and a target.
        assumes: when it can work.
        formula: the score in plain text, symbols explained.
        differs: every deviation from the reference, with the reason.
    """

    name: str
    called: str
    title: str
    paper: str
    feature: str
    cost: str
    assumes: str
    formula: str
    differs: str


@dataclass(frozen=True, kw_only=True)
class Meaning:
    """What the scores of a method are, the higher the better.

    Attributes:
        summary: one line.
        unit: of a score; 1 for a pure number.
        span: which part of a document was seen.
    """

    summary: str
    unit: str = "1"
    span: str = "whole document"


class Method:
    """What a method is made of; subclasses override what they need.

    Attributes:
        info: filled in by `@method`.
        version: of the algorithm.
        default_policy: how scores become a choice when the recipe does not say, as in `Policy`.
        operations_per_byte: of fitting and scoring, a byte of pool, without what its features tell.
        needs_settings: whether it works only with settings that a user must give; `arms: all` leaves it out.
    """

    info: ClassVar[MethodInfo]
    version: ClassVar[int] = 1
    default_policy: ClassVar[dict[str, Any]] = {"kind": "top_k"}
    operations_per_byte: ClassVar[float] = 0.0
    needs_settings: ClassVar[bool] = False
    Settings: ClassVar[type[BaseModel]]

    def __init__(self, settings: Any) -> None:
        self.settings = settings

    def needs(self, targets: Sequence[str], base: Path) -> Mapping[str, Feature]:
        """The features it reads, each under the name by which `fit` and `score` ask for it.

        Args:
            targets: names of the targets, in the order of the recipe.
            base: folder that paths in the settings start from.
        Raises:
            PrillError: a file or package that the settings ask for is missing; told before anything runs.
        """
        return {}

    def fit(self, given: Given) -> State:
        """The fitted state for all targets: arrays that stay small, whatever the pool.

        Raises:
            DataError: a target is too small to fit; says how much would do.
        """
        return {}

    def account(self, state: State) -> Mapping[str, Any]:
        """What the record tells of the fit: what was left out, what was estimated. Plain JSON values."""
        return {}

    def score(self, state: State, given: Given, shard: int) -> Scores:
        """One column a target, float64, shape (D,), rows as in the pool; perhaps `STRATUM` beside them.

        A document that the method cannot judge gets NaN, which policies count and leave out or stop at.
        """
        raise InternalError("expected a method that scores", where=type(self).__name__)

    def meaning(self) -> Meaning:
        """What a score is: its unit, and which part of the text was seen."""
        raise InternalError("expected a method that says what its scores mean", where=type(self).__name__)

    def columns(self, targets: Sequence[str]) -> list[ColumnInfo]:
        """What the columns that `score` gives mean: one a target, then the strata if there are any."""
        from prill.corpus.columns import ColumnInfo

        told, strata = vars(self.meaning()), self.strata()
        infos = [ColumnInfo(name=name, direction=1, version=self.version, **told) for name in targets]
        return infos + ([ColumnInfo(name=STRATUM, version=self.version, **vars(strata))] if strata else [])

    def strata(self) -> Meaning | None:
        """What the column `STRATUM` beside the scores is; None: it gives none."""
        return None

    def in_training(self) -> InTraining | None:
        """What it asks of the trainings that judge it, beside the documents it chooses; None: nothing."""
        return None


M = TypeVar("M", bound=type)


def method(
    *,
    name: str,
    called: str,
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
        called=called,
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
    """Every method in a few lines: what it is, what it needs, costs and assumes."""
    infos = [get_method(name).info for name in list_methods()]
    return "\n\n".join(_entry(info) for info in infos)


def _entry(info: MethodInfo) -> str:
    facts = {"needs": info.feature, "costs": info.cost, "assumes": info.assumes}
    lines = [f"{info.name}: {info.title}"]
    for word, text in facts.items():
        first, rest = f"  {word:<8} ", " " * 11
        told = " ".join(text.split())
        lines += textwrap.wrap(told, 100, initial_indent=first, subsequent_indent=rest)
    return "\n".join(lines)


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
    title = info.title if info.called == info.name else f"{info.called}, {info.title}"
    lines = [f"{info.name}: {title}", ""]
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
