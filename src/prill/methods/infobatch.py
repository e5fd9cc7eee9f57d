"""InfoBatch: soft pruning with weights, within training.

Nothing is chosen before training: the score column is a random draw that says which documents are candidates.
Training reads the candidates several times; each epoch leaves out a share of the rows whose latest loss is
below the mean, and weighs those of them that it keeps up by as much, so that the expected gradient stays that
of all rows.

Source: Qin et al. 2024, arXiv:2303.04947, section 3; the baseline in SeTa's released sampler.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import BaseModel, Field

from prill.methods._keyed_draw import KeyedDraw, WatchedSettings
from prill.methods.registry import method

if TYPE_CHECKING:
    from prill.lm.feed.in_training import InTraining

__all__ = ["InfoBatch", "InfoBatchSettings"]


class InfoBatchSettings(WatchedSettings):
    """Settings of InfoBatch."""

    prune: float = Field(
        0.5, ge=0, le=0.9, description="Share of the rows below the mean loss that an epoch leaves out."
    )
    delta: float = Field(
        0.875, ge=0, le=1, description="Share of the training behind which all rows are read, with weight 1."
    )


@method(
    name="infobatch",
    called="InfoBatch",
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
class InfoBatch(KeyedDraw):
    """A random draw of candidates; the rest happens in training."""

    drawn: ClassVar[str] = "keyed uniform draw: who is a candidate"
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
