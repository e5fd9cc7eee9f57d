"""Sample transforms by the name that a recipe calls them: one line each."""

from __future__ import annotations

from typing import Final

from prill.lm.catalog import Catalog
from prill.lm.samples.transform import SampleTransform

__all__ = ["SAMPLES"]

SAMPLES: Final[Catalog[SampleTransform]] = Catalog(
    "a sample transform",
    {
        "plain": "prill.lm.samples.plain:Plain",
    },
)
"""`SAMPLES.entry(name)` describes a transform, `SAMPLES.build(name, settings)` makes it."""
