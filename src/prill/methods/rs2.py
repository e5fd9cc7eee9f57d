"""RS2: repeated sampling of random subsets.

Each round of a training reads a fresh random part of the pool. Nothing is decided about content: it is the
baseline that every selector must beat at equal total cost.

Source: Okanovic et al. 2024, arXiv:2305.18424, section 3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from prill.features.keyed import derive_seed
from prill.methods._keyed_draw import KeyedDraw
from prill.methods.registry import method

if TYPE_CHECKING:
    from prill.lm.feed.in_training import InTraining

__all__ = ["Rs2", "Rs2Settings"]


class Rs2Settings(BaseModel):
    """Settings of RS2."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rounds: int = Field(
        4,
        ge=1,
        le=1000,
        description="Rounds of one training; each reads a subset of its own for equally long.",
    )
    with_replacement: bool = Field(
        False,
        description="Draw every round independently of the others; false serves one permutation of the pool "
        "after another, so that no document returns before all were read.",
    )
    wrap: Literal["refill", "drop"] = Field(
        "refill",
        description="The rest of a permutation that fills no round: the next permutation completes it, or it "
        "is dropped.",
    )


@method(
    name="rs2",
    called="RS2",
    title="another random subset of the pool in every round of training",
    paper="2305.18424",
    feature="none",
    cost="a few nanoseconds a document and round; no model",
    assumes="nothing; the baseline that a selector must beat at equal total cost, scoring included. With "
    "fewer tokens than the pool holds, rounds without replacement are one pass over fresh random text",
    formula="round k of seed s reads positions k b to (k + 1) b of the documents in the order of\n"
    "falling u(s, pass, hash(x)); with replacement the first b in the order of u(s, k, hash(x)); b is the\n"
    "size of the budget. The dataset that is written is one such subset, score(x) = u(seed, 0, hash(x))",
    differs="The released sampler advances a block's end modulo N + 1: where b does not divide N, the block\n"
    "at the seam is one short and reads heads of the old permutation again. Here the next permutation\n"
    "completes it, or the tail is dropped; `prill.features.rounds` repeats the sampler as wrap `reference`.\n"
    "Draws are keyed by seed, pass and text instead of a global generator's state. A round reads rows drawn\n"
    "from its subset, as every trial does from its choice. The learning rate spans the trial's tokens (the\n"
    "compressed schedule, to which reviewers attribute much of the result); all arms have the same one.",
)
class Rs2(KeyedDraw):
    """Random subsets by round; the score column is the draw of round 0, the same for every target."""

    drawn: ClassVar[str] = "keyed uniform draw of round 0"
    Settings: ClassVar[type[BaseModel]] = Rs2Settings

    def in_training(self) -> InTraining:
        """Another subset in every round of every seed."""
        from prill.lm.feed.in_training import Drawn

        settings = self.settings
        return Drawn(
            use="rs2", n_rounds=settings.rounds, replaces=settings.with_replacement, wrap=settings.wrap
        )

    def draw_seed(self, seed: int) -> int:
        """Of the first round: the best are the head of its permutation."""
        return derive_seed(super().draw_seed(seed), "round 0")
