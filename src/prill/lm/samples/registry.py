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
        "preference_filter": "prill.lm.samples.preference:PreferenceFilter",
        "preference_scores": "prill.lm.samples.preference:PreferenceScores",
        "preference_tags": "prill.lm.samples.preference:PreferenceTags",
        "sketches": "prill.lm.samples.sketches:Sketches",
        "source_prefix": "prill.lm.samples.source_prefix:SourcePrefix",
        "token_weights": "prill.lm.samples.token_weights:TokenWeights",
    },
)
"""`SAMPLES.entry(name)` describes a transform, `SAMPLES.build(name, settings)` makes it."""
