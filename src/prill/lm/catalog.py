"""Parts of a training that a recipe chooses by name: sample transforms, objectives.

A part is a frozen dataclass. The first sentence of its docstring says what it is, and each field with a
`description` in its metadata is a setting, so forms, help and checks can be made without a second list:

    threshold: float = field(default=0.5, metadata={"description": "Scores above it are penalised."})

Fields without a description are no settings; whoever builds the part gives them.
"""

from __future__ import annotations

import dataclasses
import importlib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast, get_type_hints

from prill.errors import PrillError, Problem, RecipeError, near, printable

__all__ = ["Catalog", "Entry", "Setting", "record"]

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One setting of a part.

    Attributes:
        name: key in a recipe.
        annotation: its type.
        default: value where the recipe says nothing; None when `is_required`.
        is_required: the recipe must give it.
        description: one sentence.
    """

    name: str
    annotation: Any
    default: Any
    is_required: bool
    description: str


@dataclass(frozen=True, kw_only=True)
class Entry(Generic[T]):
    """A part that a recipe can name.

    Attributes:
        name: key in a recipe.
        make: its class.
        description: one sentence.
        settings: what the recipe may say of it.
    """

    name: str
    make: type[T]
    description: str
    settings: tuple[Setting, ...]


class Catalog(Generic[T]):
    """The parts of one kind by name; a part's module is imported when it is first asked for."""

    def __init__(self, kind: str, places: Mapping[str, str]) -> None:
        """A catalog of `kind` (named in errors); `places` are `module:Class` by name."""
        self.kind = kind
        self._places = dict(places)

    @property
    def names(self) -> tuple[str, ...]:
        """All names, sorted."""
        return tuple(sorted(self._places))

    def entry(self, name: str) -> Entry[T]:
        """The part `name`.

        Raises:
            RecipeError: there is none; the hint names the nearest.
        """
        if name not in self._places:
            raise RecipeError(
                f"expected the name of {self.kind}, found {name!r}", hint=near(name, self.names)
            )
        module, _, label = self._places[name].partition(":")
        make = getattr(importlib.import_module(module), label)
        return Entry(name=name, make=make, description=_first_sentence(make), settings=_settings(make))

    def build(
        self,
        name: str,
        settings: Mapping[str, Any],
        *,
        where: str | None = None,
        given: Mapping[str, Any] | None = None,
        offered: Mapping[str, Any] | None = None,
    ) -> T:
        """The part `name` with these settings.

        Args:
            name: of the part.
            settings: as a recipe says them; lists become tuples, whole numbers floats.
            where: place in the recipe, named in errors.
            given: fields that are no settings.
            offered: values of fields that the part may have; what the recipe says goes before them.
        Raises:
            RecipeError: unknown or missing settings, all told at once; or a value that the part refuses.
        """
        entry = self.entry(name)
        known = {setting.name: setting for setting in entry.settings}
        place = where or name
        problems = [
            Problem(message=f"unknown setting {key!r}", where=place, hint=near(key, tuple(known)))
            for key in settings
            if key not in known
        ] + [
            Problem(message=f"`{key}` must be given, found nothing", where=place, hint=setting.description)
            for key, setting in known.items()
            if setting.is_required and key not in settings and key not in (offered or {})
        ]
        values = {key: settings[key] for key in known if key in settings}
        problems += _fit_types(values, known, place)
        if problems:
            raise RecipeError.of(problems)
        try:
            fields = {item.name for item in dataclasses.fields(cast(Any, entry.make))}
            taken = {
                key: value for key, value in (offered or {}).items() if key in fields and key not in values
            }
            return entry.make(**values, **(given or {}), **taken)
        except PrillError as error:
            if where is None:
                raise
            raise RecipeError.of(
                Problem(message=p.message, where=where, hint=p.hint) for p in error.problems
            ) from error


def _fit_types(values: dict[str, Any], known: Mapping[str, Setting], where: str) -> list[Problem]:
    """Make each value one of its setting's type, where that loses nothing; and what could not be made so."""
    from pydantic import PydanticSchemaGenerationError, TypeAdapter, ValidationError

    problems = []
    for key, value in values.items():
        try:
            values[key] = TypeAdapter(known[key].annotation).validate_python(value)
        except PydanticSchemaGenerationError:
            continue  # a part within a part: whoever builds it looks at it
        except ValidationError as error:
            said = error.errors()[0]["msg"].removeprefix("Input ")
            problems.append(
                Problem(
                    message=f"`{key}` {said}, found {printable(repr(value))}",
                    where=where,
                    hint=known[key].description,
                )
            )
    return problems


def record(part: Any, name: str, version: int) -> dict[str, Any]:
    """What decides a part's results: its name, version and settings, JSON-able."""
    settings = {setting.name: _plain(getattr(part, setting.name)) for setting in _settings(type(part))}
    return {"name": name, "version": version, "settings": settings}


def _plain(value: Any) -> Any:
    """Without tuples and infinite numbers, which JSON does not have."""
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _settings(make: type[Any]) -> tuple[Setting, ...]:
    hints = get_type_hints(make)
    found = []
    for item in dataclasses.fields(make):
        if "description" in item.metadata:
            is_required = item.default is dataclasses.MISSING
            found.append(
                Setting(
                    name=item.name,
                    annotation=hints[item.name],
                    default=None if is_required else item.default,
                    is_required=is_required,
                    description=item.metadata["description"],
                )
            )
    return tuple(found)


def _first_sentence(make: type[Any]) -> str:
    text = " ".join((make.__doc__ or "").split("\n\n")[0].split())
    return re.split(r"(?<=\.)\s", text, maxsplit=1)[0]
