"""Methods whose score is a draw: they choose at random, and differ in what training does with the choice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from prill.features.keyed import KEYED_VERSION, derive_seed, keyed_uniform
from prill.methods.registry import Meaning, Method, Scores, State

if TYPE_CHECKING:
    from prill.features.feature import Given

__all__ = ["KeyedDraw", "WatchedSettings"]


class WatchedSettings(BaseModel):
    """What methods are told that watch the losses of training, epoch by epoch."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    passes: float = Field(
        4.0,
        ge=1,
        le=1000,
        description="Training tokens over candidate tokens: how often an unpruned training would read each.",
    )
    initial_loss: float | None = Field(
        None,
        allow_inf_nan=False,
        description="Loss of a row that was never read, nats a token; null takes the mean of those read. "
        "The reference's is 3.",
    )


class KeyedDraw(Method):
    """Uniform random selection without replacement, the same for every target.

    Attributes:
        drawn: what the draw stands for, as the column tells it.
    """

    version: ClassVar[int] = KEYED_VERSION
    default_policy: ClassVar[dict[str, Any]] = {"kind": "top_k"}
    operations_per_byte: ClassVar[float] = 0.01
    drawn: ClassVar[str] = "keyed uniform draw"

    def draw_seed(self, seed: int) -> int:
        """Seed of the draws in a run with this seed."""
        return derive_seed(seed, self.info.name)

    def score(self, state: State, given: Given, shard: int) -> Scores:
        """The same uniform draws for every target, shape (D,)."""
        return dict.fromkeys(given.targets, keyed_uniform(self.draw_seed(given.seed), given.pool.keys(shard)))

    def meaning(self) -> Meaning:
        return Meaning(unit="1", summary=self.drawn)
