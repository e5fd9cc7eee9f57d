"""InfoBatch: soft pruning with weights, within training.

Nothing is chosen before training: the score column is a random draw that says which documents are candidates.
Training reads the candidates several times; each epoch leaves out a share of the rows whose latest loss is
below the mean, and weighs those of them that it keeps up by as much, so that the expected gradient stays that
of all rows.

Source: Qin et al. 2024, arXiv:2303.04947, section 3; the baseline in SeTa's released sampler.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from prill.features.keyed import KEYED_VERSION, derive_seed, keyed_uniform
from prill.methods.registry import Method, Scores, State, method

if TYPE_CHECKING:
    from prill.corpus.columns import ColumnInfo
    from prill.features.feature import Given
    from prill.lm.feed.in_training import InTraining

__all__ = ["InfoBatch", "InfoBatchSettings"]


class InfoBatchSettings(BaseModel):
    """Settings of InfoBatch."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    prune: float = Field(
        0.5, ge=0, le=0.9, description="Share of the rows below the mean loss that an epoch leaves out."
    )
    delta: float = Field(
        0.875, ge=0, le=1, description="Share of the training behind which all rows are read, with weight 1."
    )
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


@method(
    name="infobatch",
    title="rows below the mean loss thinned and weighed up, decided within training",
    paper="2303.04947",
    feature="losses that training sees; no pass of its own",
    cost="a copy of the losses (up to 3% of a step)",
    assumes="several passes over the candidates, among which easy rows teach little. What an epoch saves "
    "goes into more epochs: trials train on as many tokens as all others",
    formula="epoch t: rows with loss >= mean are read with weight 1; of the n others floor(n (1 - prune)),\n"
    "drawn at random, with weight 1 / (1 - prune); behind delta of the training all rows with weight 1.\n"
    "score(x) = u(seed, hash(x)), a random draw of the candidates",
    differs="Samples are packed rows of equal length, loss in nats a token; a step's loss is the sum of\n"
    "weighted token losses over the number of tokens, as in the reference. Draws are keyed by seed, epoch\n"
    "and row. A row never read counts as the mean of those read; 3 in the reference (initial_loss). Pruning\n"
    "above 0.9 is refused. The budget is the training's tokens. An epoch is cut where delta of the training\n"
    "is reached; one that begins within a step does not know that step's losses. SeTa's released sampler\n"
    "keeps the last epoch's weights for the annealing where delta x epochs is no whole number; here they\n"
    "are 1 as in the paper.",
)
class InfoBatch(Method):
    """A random draw of candidates; the rest happens in training."""

    version: ClassVar[int] = KEYED_VERSION
    default_policy: ClassVar[dict[str, Any]] = {"kind": "top_k"}
    operations_per_byte: ClassVar[float] = 0.01
    Settings: ClassVar[type[BaseModel]] = InfoBatchSettings

    def in_training(self) -> InTraining:
        """Candidates thinned epoch by epoch."""
        from prill.lm.feed import pruning
        from prill.lm.feed.in_training import Watched

        settings = self.settings
        planner = pruning.InfoBatch(
            prune=settings.prune, delta=settings.delta, initial_loss=settings.initial_loss
        )
        return Watched(planner=planner, passes=settings.passes)

    def score(self, state: State, given: Given, shard: int) -> Scores:
        """A uniform draw, shape (D,)."""
        seed = derive_seed(given.seed, "infobatch")
        return dict.fromkeys(given.targets, keyed_uniform(seed, given.pool.keys(shard)))

    def columns(self, targets: Sequence[str]) -> list[ColumnInfo]:
        from prill.corpus.columns import ColumnInfo

        summary = "keyed uniform draw: who is a candidate"
        return [
            ColumnInfo(name=name, unit="1", direction=1, version=self.version, summary=summary)
            for name in targets
        ]
