"""What a user asks of preparation, and the measures and groupings it means, in the order of verdicts."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from prill.prepare.measure import Grouping, Measure
from prill.prepare.urls import Urls, UrlSpec

__all__ = ["PrepareSpec", "groupings", "measures"]


class PrepareSpec(BaseModel):
    """What is measured on every document, and what that means for it. A part that is null is left out."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    urls: UrlSpec | None = Field(None, description="URLs: normal form, domain, lists of unwanted ones.")
    memory: int = Field(
        1_000_000_000,
        ge=16_000_000,
        description="About how much memory the search for copies may hold, bytes.",
    )


def measures(spec: PrepareSpec, base: Path) -> list[Measure]:
    """Everything measured on single documents, in the order in which it judges.

    Raises:
        PrillError: a list, an index or a package that a part needs is missing or wrong.
    """
    found: list[Measure] = []
    if spec.urls is not None:
        found.append(Urls.of(spec.urls, base))
    return found


def groupings(spec: PrepareSpec, base: Path) -> list[Grouping]:
    """Everything that compares documents, in the order in which it judges."""
    return []
