"""Sample transforms by the name that a recipe calls them: one line each."""

from __future__ import annotations

from typing import Final

from prill.lm.catalog import Catalog
from prill.lm.samples.transform import SampleTransform

__all__ = ["SAMPLES"]

SAMPLES: Final[Catalog[SampleTransform]] = Catalog(
    "a sample transform",
    {
        "denoisers": "prill.lm.samples.denoisers:Denoisers",
        "metadata": "prill.lm.samples.metadata:Metadata",
        "plain": "prill.lm.samples.plain:Plain",
        "source_prefix": "prill.lm.samples.source_prefix:SourcePrefix",
    },
)
"""`SAMPLES.entry(name)` describes a transform, `SAMPLES.build(name, settings)` makes it."""
