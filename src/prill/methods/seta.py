"""SeTa: dynamic pruning by loss, within training.

Nothing is chosen before training: the score column is a random draw that says which documents are candidates.
Training reads the candidates several times; each epoch thins them at random, groups them by their latest loss
and reads a window of groups that slides from easy to hard; the end reads (nearly) all.

Source: Zhou et al. 2025, arXiv:2503.13385; its released sampler.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import BaseModel, Field

from prill.methods._keyed_draw import KeyedDraw, WatchedSettings
from prill.methods.registry import method

if TYPE_CHECKING:
    from prill.lm.feed.in_training import InTraining

__all__ = ["Seta", "SetaSettings"]


class SetaSettings(WatchedSettings):
    """Settings of SeTa. The reference trains CIFAR with 0.1, 5, 0.9, ImageNet with 0, 5, 0.6."""

    prune: float = Field(
        0.0, ge=0, le=0.9, description="Share of the rows that thinning leaves out, each epoch others."
    )
    groups: int = Field(10, ge=1, le=100, description="Groups of like loss.")
    window_scale: float = Field(0.5, gt=0, le=1, description="Share of the groups that an epoch reads.")
    delta: float = Field(
        0.875, ge=0, le=1, description="Share of the training behind which the window opens to all groups."
    )


@method(
    name="seta",
    called="SeTa",
    title="epochs over a sliding window of loss groups, decided within training",
    paper="2503.13385",
    feature="losses that training sees; no pass of its own",
    cost="a copy of the losses (up to 3% of a step); groups on a line each epoch, 0.05 s for 100,000 rows",
    assumes="several passes over the candidates, and losses that tell useful rows from others; the groups of "
    "highest loss in web text are mostly noise, and the window visits them. What an epoch saves goes into "
    "more epochs: trials train on as many tokens as all others",
    formula="epoch t: draw floor(N (1 - prune)) rows; group them by latest loss; w = round(G window_scale);\n"
    "t = 0 reads all groups, t >= 1 the groups from t mod (G - w + 1) on, w of them; behind delta of the\n"
    "training all groups. score(x) = u(seed, hash(x)), a random draw of the candidates",
    differs="Samples are packed rows of equal length, loss in nats a token. Draws are keyed by seed, epoch\n"
    "and row; the reference's order on one process has no seed. Groups are the exact optimum on a line\n"
    "(over a million bins where losses are more), not k-means from seed 0; equal losses make G stretches\n"
    "of the random order, in the reference perhaps fewer. A row never read counts as the mean of those\n"
    "read; 3 in the reference (initial_loss). Pruning above 0.9 is refused; the reference turns it into 0.9\n"
    "without a word. The budget is the training's tokens: how much an epoch saves is an outcome. An epoch\n"
    "is cut where delta of the training is reached; one that begins within a step does not know that step's\n"
    "losses. Decay branches of a trial see the window of the trunk they leave.",
)
class Seta(KeyedDraw):
    """A random draw of candidates; the rest happens in training."""

    drawn: ClassVar[str] = "keyed uniform draw: who is a candidate"
    Settings: ClassVar[type[BaseModel]] = SetaSettings

    def in_training(self) -> InTraining:
        """Candidates pruned epoch by epoch."""
        from prill.lm.feed.in_training import Watched
        from prill.lm.feed.pruning import SeTa

        settings = self.settings
        planner = SeTa(
            prune=settings.prune,
            n_groups=settings.groups,
            window_scale=settings.window_scale,
            delta=settings.delta,
            initial_loss=settings.initial_loss,
        )
        return Watched(planner=planner, passes=settings.passes)
