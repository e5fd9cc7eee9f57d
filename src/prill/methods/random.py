"""Random: the control that every method must beat.

The score is a uniform draw keyed by the seed and the hash of the text, so the same document gets the same
draw in any shard, batch and order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from prill.features.keyed import KEYED_VERSION, keyed_uniform
from prill.methods.registry import Method, Scores, State, method

if TYPE_CHECKING:
    from prill.corpus.columns import ColumnInfo
    from prill.features.feature import Given

__all__ = ["Random", "RandomSettings"]


class RandomSettings(BaseModel):
    """Settings of the random control."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    seed: int = Field(0, description="Seed of the draws; a different seed is an independent control.")


@method(
    name="random",
    title="a keyed uniform draw for every document",
    paper="none",
    feature="none",
    cost="a few nanoseconds a document",
    assumes="nothing; it is the control of equal tokens",
    formula="score(x) = u(seed, hash(x)), uniform in (0, 1)",
    differs="none",
)
class Random(Method):
    """Uniform random selection without replacement, the same for every target."""

    version: ClassVar[int] = KEYED_VERSION
    default_policy: ClassVar[dict[str, Any]] = {"kind": "top_k"}
    operations_per_byte: ClassVar[float] = 0.01
    Settings: ClassVar[type[BaseModel]] = RandomSettings

    def score(self, state: State, given: Given, shard: int) -> Scores:
        """The same uniform draws for every target, shape (D,)."""
        return dict.fromkeys(given.targets, keyed_uniform(self.settings.seed, given.pool.keys(shard)))

    def columns(self, targets: Sequence[str]) -> list[ColumnInfo]:
        from prill.corpus.columns import ColumnInfo

        return [
            ColumnInfo(name=name, unit="1", direction=1, version=self.version, summary="keyed uniform draw")
            for name in targets
        ]
