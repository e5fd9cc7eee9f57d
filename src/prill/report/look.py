"""Which look belongs to which arm: one class name and one label, the same in every chart and table.

The first control is grey, the first candidate carries the page's accent colour, the others follow a
palette that colour-blind readers can tell apart; from the ninth on the lines are dashed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from prill.report.model import Arm

__all__ = ["N_COLOURS", "Look", "looks"]

N_COLOURS = 8


@dataclass(frozen=True, kw_only=True)
class Look:
    """Class names and shown label of one arm."""

    css: str
    label: str


def looks(arms: Sequence[Arm]) -> Mapping[str, Look]:
    """Arm name to look; candidates get their colours first, so that the accent goes to one of them."""
    order = {"candidate": 0, "reference": 1, "control": 2}
    controls = [arm for arm in arms if arm.role == "control"]
    grey = controls[0].name if controls else None
    coloured = sorted((arm for arm in arms if arm.name != grey), key=lambda arm: order[arm.role])
    css = {arm.name: _colour(index) for index, arm in enumerate(coloured)}
    return {arm.name: Look(css=css.get(arm.name, "arm-control"), label=arm.label) for arm in arms}


def _colour(index: int) -> str:
    colour = f"arm-{index % N_COLOURS + 1}"
    return f"{colour} dashed" if index // N_COLOURS % 2 else colour
