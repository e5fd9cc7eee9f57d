"""Objectives by the name that a recipe calls them: one line each.

No module named here imports torch when it is imported, so that a recipe is checked without it.
"""

from __future__ import annotations

from typing import Final

from prill.lm.catalog import Catalog
from prill.lm.objectives.objective import Objective

__all__ = ["OBJECTIVES"]

OBJECTIVES: Final[Catalog[Objective]] = Catalog(
    "an objective",
    {
        "plain": "prill.lm.objectives.plain:Plain",
    },
)
"""`OBJECTIVES.entry(name)` describes an objective, `OBJECTIVES.build(name, settings)` makes it."""
