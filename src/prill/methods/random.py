"""Random: the control that every method must beat.

The score is a uniform draw keyed by the seed and the hash of the text, so the same document gets the same
draw in any shard, batch and order.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field

from prill.methods._keyed_draw import KeyedDraw
from prill.methods.registry import method

__all__ = ["Random", "RandomSettings"]


class RandomSettings(BaseModel):
    """Settings of the random control."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    seed: int = Field(0, description="Seed of the draws; a different seed is an independent control.")


@method(
    name="random",
    called="random",
    title="a keyed uniform draw for every document",
    paper="none",
    feature="none",
    cost="a few nanoseconds a document",
    assumes="nothing; it is the control of equal tokens",
    formula="score(x) = u(seed, hash(x)), uniform in (0, 1)",
    differs="none",
)
class Random(KeyedDraw):
    """Uniform random selection without replacement, the same for every target."""

    Settings: ClassVar[type[BaseModel]] = RandomSettings

    def draw_seed(self, seed: int) -> int:
        """The control's own seed, whatever the run's."""
        return int(self.settings.seed)
