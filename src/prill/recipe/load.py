"""From a YAML file to a `Recipe`, telling every problem at once, each with its line and column."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar, cast

from pydantic import BaseModel, ValidationError

from prill.errors import Problem, RecipeError, near, printable
from prill.methods.registry import get_method, list_methods
from prill.recipe.model import Recipe
from prill.recipe.preparation import PrepareRecipe
from prill.recipe.training import TrainRecipe
from prill.recipe.yaml import Located, read_yaml

__all__ = [
    "load_any_recipe",
    "load_recipe",
    "load_train_recipe",
    "parse_preparation",
    "parse_recipe",
]

M = TypeVar("M", bound=BaseModel)

_STUDY_KEYS = {"budget", "arms", "trials"}  # a recipe with any of them is one of a whole study
_TRAINING_KEYS = {"sources", "model"}


def load_recipe(path: Path) -> Recipe:
    """The recipe in a YAML file.

    Raises:
        RecipeError: the file cannot be read, or is no valid recipe; tells all problems.
    """
    return parse_recipe(_read(path), name=str(path))


def load_train_recipe(path: Path) -> TrainRecipe:
    """The recipe of a training in a YAML file.

    Raises:
        RecipeError: the file cannot be read, or is no valid recipe; tells all problems.
    """
    expected = "a mapping with sources, model and tokens"
    return _parse(_read(path), TrainRecipe, name=str(path), expected=expected)


def load_any_recipe(path: Path) -> Recipe | PrepareRecipe | TrainRecipe:
    """The recipe in a YAML file: of a whole study, of a preparation alone, or of a training.

    Raises:
        RecipeError: the file cannot be read, or is no valid recipe; tells all problems.
    """
    text = _read(path)
    content = read_yaml(text, name=str(path)).value
    if isinstance(content, dict) and _TRAINING_KEYS & content.keys():
        return load_train_recipe(path)
    is_study = isinstance(content, dict) and bool(_STUDY_KEYS & content.keys())
    return parse_recipe(text, name=str(path)) if is_study else parse_preparation(text, name=str(path))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as problem:
        raise RecipeError(
            f"a recipe file expected: {problem.strerror}",
            where=str(path),
            hint="`prill demo` writes one to start from; `prill schema` describes every field",
        ) from None
    except UnicodeDecodeError as problem:
        raise RecipeError(
            f"UTF-8 text expected, found byte {problem.start} that is not", where=str(path)
        ) from None


def parse_recipe(text: str, *, name: str) -> Recipe:
    """The recipe in a YAML text; `name` is what errors call it."""
    return _parse(text, Recipe, name=name, expected="a mapping with corpus, targets and budget")


def parse_preparation(text: str, *, name: str) -> PrepareRecipe:
    """The recipe of a preparation in a YAML text; `name` is what errors call it."""
    return _parse(text, PrepareRecipe, name=name, expected="a mapping with corpus and prepare")


def _parse(text: str, model: type[M], *, name: str, expected: str) -> M:
    located = read_yaml(text, name=name)
    if not isinstance(located.value, dict):
        raise RecipeError(f"{expected} expected", where=name, hint="see examples/ or `prill schema`")
    problems = list(_arm_problems(located, name))
    recipe = None
    try:
        recipe = model.model_validate(located.value)
    except ValidationError as error:
        problems += [_problem(dict(detail), located, name, model=model) for detail in error.errors()]
    if problems:
        raise RecipeError.of(problems)
    return cast(M, recipe)


def _arm_problems(located: Located, name: str) -> Iterator[Problem]:
    """Unknown methods, and settings that a method does not know: what the recipe's own model cannot see."""
    arms = located.value.get("arms")
    for index, arm in enumerate(arms if isinstance(arms, list) else []):
        method = arm.get("method") if isinstance(arm, dict) else None
        if not isinstance(method, str):
            continue
        if method not in list_methods():
            where = _where(("arms", index, "method"), located, name)
            message = f"a known method expected, found {printable(method)!r}"
            yield Problem(message=message, where=where, hint=near(method, list_methods()))
            continue
        settings = get_method(method).Settings
        try:
            settings.model_validate(arm.get("settings") or {})
        except ValidationError as error:
            for detail in error.errors():
                place = ("arms", index, "settings", *detail["loc"])
                yield _problem({**detail, "loc": place}, located, name, known=list(settings.model_fields))


def _problem(
    detail: dict[str, Any],
    located: Located,
    name: str,
    *,
    model: type[BaseModel] = Recipe,
    known: list[str] | None = None,
) -> Problem:
    path = tuple(part for part in detail["loc"] if part not in ("[key]",))
    where = _where(path, located, name)
    if detail["type"] == "extra_forbidden":
        hint = near(str(path[-1]), known or _known_keys(model, path[:-1]))
        return Problem(message=f"unknown key `{printable(str(path[-1]))}`", where=where, hint=hint)
    if detail["type"] == "missing":
        return Problem(
            message=f"`{'.'.join(map(str, path))}` is missing", where=where, hint="see `prill schema`"
        )
    message = str(detail["msg"]).removeprefix("Value error, ")
    found = detail.get("input")
    shown = (
        "" if isinstance(found, dict | list) or "found" in message else f", found {printable(repr(found))}"
    )
    return Problem(message=f"{message[:1].lower()}{message[1:]}{shown}", where=where)


def _where(path: tuple[Any, ...], located: Located, name: str) -> str:
    place = located.place(path)
    position = f"{name}:{place[0]}:{place[1]}" if place else name
    return f"{position} ({'.'.join(map(str, path))})" if path else position


def _known_keys(recipe: type[BaseModel], path: tuple[Any, ...]) -> list[str]:
    """Keys that the model at `path` knows."""
    model: Any = recipe
    for part in path:
        if isinstance(part, int) or not isinstance(model, type):
            continue
        field = model.model_fields.get(part) if issubclass(model, BaseModel) else None
        model = _model_in(field.annotation) if field else model
    return list(model.model_fields) if isinstance(model, type) and issubclass(model, BaseModel) else []


def _model_in(annotation: Any) -> Any:
    """The first model class inside an annotation such as `dict[str, TargetSpec]` or `TrialSpec | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for part in getattr(annotation, "__args__", ()):
        found = _model_in(part)
        if found is not None:
            return found
    return None
