"""Fresh random: the control that every method must beat, another subset for every seed.

One fixed random subset of a small budget is a lottery ticket: all its trials share its luck, and their spread
tells nothing of it. Here every seed trains on a subset of its own, so the spread over seeds holds the luck of
the draw.

Source: none; the honest form of random selection, as `prill.methods.rs2` says of one round.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import BaseModel, ConfigDict

from prill.features.keyed import derive_seed
from prill.methods._keyed_draw import KeyedDraw
from prill.methods.registry import method

if TYPE_CHECKING:
    from prill.lm.feed.in_training import InTraining

__all__ = ["FreshRandom", "FreshRandomSettings"]


class FreshRandomSettings(BaseModel):
    """Fresh random subsets have no settings: the recipe's seed and the trial's decide the draws."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@method(
    name="fresh_random",
    called="fresh random",
    title="a random subset of its own for every seed",
    paper="none",
    feature="none",
    cost="a few nanoseconds a document and seed",
    assumes="nothing; the control of equal tokens. `random` is one fixed subset, whose luck all its seeds "
    "share. The built-in control also draws anew for each seed, but from the whole pool instead of a subset "
    "of the budget's size",
    formula="seed s trains on the documents of largest u(s, hash(x)) that fit the budget; the dataset "
    "that is\nwritten is such a subset of a seed of its own",
    differs="none",
)
class FreshRandom(KeyedDraw):
    """Random subsets by seed; the score column is one draw of its own, the same for every target."""

    Settings: ClassVar[type[BaseModel]] = FreshRandomSettings

    def in_training(self) -> InTraining:
        """Another subset for every seed."""
        from prill.lm.feed.in_training import Drawn

        return Drawn(use="fresh_random")

    def draw_seed(self, seed: int) -> int:
        """Of the dataset that is written."""
        return derive_seed(super().draw_seed(seed), "dataset")
