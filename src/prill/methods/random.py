"""Random: the control that every method must beat.

The score is a uniform draw keyed by the seed and the hash of the text, so the same document gets the same
draw in any shard, batch and order.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from prill.features.keyed import KEYED_VERSION, keyed_uniform
from prill.methods.registry import Partial, State, method

if TYPE_CHECKING:
    from prill.corpus.batch import Batch
    from prill.corpus.columns import ColumnInfo

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
class Random:
    """Uniform random selection without replacement, the same for every target."""

    version: ClassVar[int] = KEYED_VERSION
    default_policy: ClassVar[dict[str, Any]] = {"kind": "top_k"}
    operations_per_byte: ClassVar[float] = 0.01
    Settings: ClassVar[type[BaseModel]] = RandomSettings

    def __init__(self, settings: RandomSettings) -> None:
        self.settings = settings

    def empty(self) -> Partial:
        return {}

    def observe(self, batch: Batch) -> Partial:
        return {}

    def merge(self, a: Partial, b: Partial) -> Partial:
        return {}

    def fit(self, pool: Partial, targets: Mapping[str, pa.Array]) -> State:
        """Only the names of the targets: a draw needs no fit."""
        return {"targets": np.frombuffer(json.dumps(list(targets)).encode("utf-8"), dtype=np.uint8)}

    def score(self, state: State, batch: Batch, keys: NDArray[np.uint64]) -> dict[str, NDArray[np.float64]]:
        draws_D = keyed_uniform(self.settings.seed, keys)
        return dict.fromkeys(json.loads(state["targets"].tobytes()), draws_D)

    def columns(self, targets: Sequence[str]) -> list[ColumnInfo]:
        from prill.corpus.columns import ColumnInfo

        return [
            ColumnInfo(name=name, unit="1", direction=1, version=self.version, summary="keyed uniform draw")
            for name in targets
        ]
