"""The parts of a training that a recipe names: lists and pages for people."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Mapping
from typing import Any

from prill.errors import RecipeError, near
from prill.lm.catalog import Catalog, Entry
from prill.lm.objectives import registry
from prill.lm.objectives.objective import Objective
from prill.lm.samples.registry import SAMPLES

__all__ = ["KINDS", "describe", "objective_of", "overview"]

KINDS: dict[str, Catalog[Any]] = {"objectives": registry.OBJECTIVES, "sample transforms": SAMPLES}


def objective_of(
    named: Mapping[str, Mapping[str, Any]] | None, offered: Mapping[str, Any] | None = None
) -> Objective | None:
    """The objective that a recipe names; None for plain cross-entropy.

    Raises:
        RecipeError: the name or a setting is unknown or refused.
    """
    return None if named is None else registry.objective_of(named, offered=offered)


def overview() -> str:
    """One line a part, by kind."""
    width = max(len(name) for catalog in KINDS.values() for name in catalog.names)
    lines: list[str] = []
    for kind, catalog in KINDS.items():
        lines += ["", f"{kind}:"] if lines else [f"{kind}:"]
        lines += [f"  {name:<{width}}  {catalog.entry(name).description}" for name in catalog.names]
    return "\n".join(lines)


def describe(name: str) -> str:
    """The page of one part, of both where an objective and a transform share the name.

    Raises:
        RecipeError: nothing has this name.
    """
    found = [(kind, catalog.entry(name)) for kind, catalog in KINDS.items() if name in catalog.names]
    if not found:
        known = [part for catalog in KINDS.values() for part in catalog.names]
        raise RecipeError(f"no objective or sample transform is called {name!r}", hint=near(name, known))
    return "\n\n".join(_page(kind, entry) for kind, entry in found)


def _page(kind: str, entry: Entry[Any]) -> str:
    module = inspect.getmodule(entry.make)
    about = inspect.cleandoc((module.__doc__ if module else None) or "")
    lines = [f"{entry.name} ({kind.removesuffix('s')})", "", about, "", "settings"]
    for setting in entry.settings:
        default = "required" if setting.is_required else f"default {setting.default!r}"
        lines.append(f"  {setting.name} ({default})")
        lines += textwrap.wrap(setting.description, 100, initial_indent="    ", subsequent_indent="    ")
    return "\n".join(lines if entry.settings else [*lines, "  none"])
