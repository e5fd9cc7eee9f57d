"""Length: the control for methods whose score may be little more than a rule of lengths.

A method that does not beat it has found how long the target's documents are, or that long ones train better.

Legend: D documents of a shard, K targets.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict, Field

from prill.methods.registry import Meaning, Method, Scores, State, method

if TYPE_CHECKING:
    from prill.features.feature import Given

__all__ = ["Length", "LengthSettings"]


class LengthSettings(BaseModel):
    """Settings of the length control."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    prefer: Literal["long", "short", "near"] = Field(
        "near", description="near: lengths like the target's; long, short: the longest or shortest documents."
    )


@method(
    name="length",
    called="length",
    title="a rule of lengths: like the target's, or the longest, or the shortest",
    paper="none",
    feature="none",
    cost="a few nanoseconds a document",
    assumes="nothing; it is the control for scores that depend on length",
    formula="""near: score(x) = -|ln |x| - m|; long: ln |x|; short: -ln |x|
|x| = bytes of UTF-8, m = median of ln |t| over the target's texts""",
    differs="none; empty documents have no score (NaN)",
)
class Length(Method):
    """Log length, or its distance from the target's."""

    version: ClassVar[int] = 1
    default_policy: ClassVar[dict[str, Any]] = {"kind": "top_k", "on_non_finite": "exclude"}
    operations_per_byte: ClassVar[float] = 0.01
    Settings: ClassVar[type[BaseModel]] = LengthSettings

    def fit(self, given: Given) -> State:
        """Median log length of every target, shape (K,)."""
        n_bytes = [np.asarray(pc.binary_length(text)) for text in given.targets.values()]
        return {"median": np.array([np.median(np.log(n[n > 0])) for n in n_bytes])}

    def score(self, state: State, given: Given, shard: int) -> Scores:
        """Scores, float64, shape (D,) for each target."""
        n_bytes = given.pool.document_bytes(shard).astype(np.float64)
        log_D = np.full(len(n_bytes), np.nan)
        np.log(n_bytes, out=log_D, where=n_bytes > 0)
        if self.settings.prefer == "near":
            return {
                name: -np.abs(log_D - median)
                for name, median in zip(given.targets, state["median"].tolist(), strict=True)
            }
        return dict.fromkeys(given.targets, log_D if self.settings.prefer == "long" else -log_D)

    def meaning(self) -> Meaning:
        summary = {
            "near": "minus the distance of log length from the target's median",
            "long": "log length in bytes",
            "short": "minus log length in bytes",
        }[self.settings.prefer]
        return Meaning(unit="nats", summary=summary)
