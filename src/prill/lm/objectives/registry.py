"""Objectives by the name that a recipe calls them: one line each.

No module named here imports torch when it is imported, so that a recipe is checked without it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from prill.errors import RecipeError, printable
from prill.lm.catalog import Catalog
from prill.lm.objectives.combined import Combined
from prill.lm.objectives.objective import Objective
from prill.lm.objectives.phased import Phased

__all__ = ["OBJECTIVES", "objective_of"]

OBJECTIVES: Final[Catalog[Objective]] = Catalog(
    "an objective",
    {
        "advantage_weighted": "prill.lm.objectives.advantage_weighted:AdvantageWeighted",
        "combined": "prill.lm.objectives.combined:Combined",
        "density": "prill.lm.objectives.density:Density",
        "phased": "prill.lm.objectives.phased:Phased",
        "plain": "prill.lm.objectives.plain:Plain",
        "reward_weighted": "prill.lm.objectives.reward_weighted:RewardWeighted",
        "self_distillation": "prill.lm.objectives.self_distillation:SelfDistillation",
        "soft_labels": "prill.lm.objectives.soft_labels:SoftLabels",
        "swap_detection": "prill.lm.objectives.swaps:SwapDetection",
        "unlikelihood": "prill.lm.objectives.unlikelihood:Unlikelihood",
    },
)
"""`OBJECTIVES.entry(name)` describes an objective; `objective_of` makes it."""


def objective_of(
    spec: str | Mapping[str, Any], *, where: str = "objective", offered: Mapping[str, Any] | None = None
) -> Objective:
    """The objective that a recipe asks for.

        plain
        unlikelihood: {threshold: 0.1}
        phased: {stages: [{until: 0.9, objective: {unlikelihood: {threshold: 0}}},
                          {until: 1, objective: plain}]}
        combined: {parts: [{weight: 1, objective: plain}, {weight: 0.1, objective: {...}}]}

    Args:
        spec: as above.
        where: place in the recipe, named in errors.
        offered: fields that are no settings, such as a teacher, for the parts that have them.
    Raises:
        RecipeError: it is none of these, or a part refuses its settings; names the place.
    """
    parts = {spec: {}} if isinstance(spec, str) else dict(spec)
    if len(parts) != 1:
        raise RecipeError(
            f"expected one objective by name, found {sorted(parts)}",
            where=where,
            hint="to add objectives up or put one after another, use `combined` or `phased`",
        )
    ((name, settings),) = parts.items()
    if name == "phased":
        return Phased(stages=_listed(settings, "stages", "until", f"{where}.phased", offered))
    if name == "combined":
        return Combined(parts=_listed(settings, "parts", "weight", f"{where}.combined", offered))
    return OBJECTIVES.build(name, settings or {}, where=f"{where}.{name}", offered=offered)


def _listed(
    settings: Any, key: str, number: str, where: str, offered: Mapping[str, Any] | None
) -> tuple[tuple[float, Objective], ...]:
    """The items {number, objective} under `key` as pairs."""
    items = settings.get(key) if isinstance(settings, Mapping) and set(settings) == {key} else None
    if not isinstance(items, (list, tuple)) or not all(_is_item(item, number) for item in items):
        raise RecipeError(
            f"expected {{{key}: [{{{number}: a number, objective: ...}}, ...]}}, "
            f"found {printable(repr(settings))}",
            where=where,
        )
    return tuple(
        (float(item[number]), objective_of(item["objective"], where=f"{where}.{place}", offered=offered))
        for place, item in enumerate(items)
    )


def _is_item(item: Any, number: str) -> bool:
    return (
        isinstance(item, Mapping)
        and set(item) == {number, "objective"}
        and isinstance(item[number], (int, float))
        and isinstance(item["objective"], (str, Mapping))
    )
