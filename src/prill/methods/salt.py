"""SALT-DS: keep what a small model finds hard and yet could have said.

    score = median over tokens of ( loss where the true token is among the model's k likeliest, else 0 )

Easy text has a low median, noise has one of 0 since its tokens are beyond the top k, and challenging but
learnable text is high. The highest are meant for the first phase of a training, with soft labels
(`prill.lm.objectives`); the published tables find no consistent gain of this choice over soft labels alone.

Source: Rawat et al. 2024, arXiv:2410.18779, section 4 (SALT_DS).
Legend: D documents.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from prill.methods._reading import ReferenceSettings, samples_of, span_of, without_own
from prill.methods.registry import Meaning, Method, Scores, State, method

if TYPE_CHECKING:
    from prill.features.feature import Feature, Given
    from prill.lm.feed.in_training import InTraining

__all__ = ["Salt", "SaltSettings"]


class SaltSettings(ReferenceSettings):
    """Settings of SALT-DS."""

    k: int = Field(10, ge=1, description="Likeliest tokens of the small model that count as learnable.")
    beyond: Literal["zero", "drop"] = Field(
        "zero",
        description="Tokens that are not among them count as 0 nats, or are left out; which the paper does "
        "is not settled by what was read of it.",
    )
    first_phase: float = Field(
        1.0,
        gt=0,
        le=1,
        description="Share of a trial that reads the choice; the rest reads the whole pool. The paper's is "
        "36k of 208k steps, 0.17; 1 compares the choice as all others are compared.",
    )


@method(
    name="salt",
    called="SALT",
    title="SALT-DS: median loss of a small model over tokens it could have said",
    paper="2410.18779",
    feature="loss and likeliest tokens under a reference",
    cost="one training (pico, 0.4 M tokens) and one forward pass over the span with top-k logits",
    assumes="hard but learnable text teaches a large model more early on; no target is read. Ablated in one "
    "table only, where it adds nothing to soft labels",
    formula="score(x) = median_i a_i, a_i = -ln p(x_i) if fewer than k tokens are likelier than x_i, else 0",
    differs="""a document's first 256 tokens, not sequences of 1,280; a proxy of the pool is the small model
the reference's own documents and those below min_tokens have no score
a token that equals the k-th likeliest counts as among them; the paper names no rule
ties, of which a score of 0 makes many, go by a keyed hash of the text; the fit tells how many there are
trials read the choice throughout; first_phase 0.17 gives the paper's, without its soft labels""",
)
class Salt(Method):
    """The same scores for every target."""

    version: ClassVar[int] = 1
    default_policy: ClassVar[dict[str, Any]] = {"kind": "top_k", "on_non_finite": "exclude"}
    Settings: ClassVar[type[BaseModel]] = SaltSettings

    def needs(self, targets: Sequence[str], base: Path) -> Mapping[str, Feature]:
        """The losses with the top k, and the sample that the reference was trained on."""
        reference = self.settings.reference(base)
        return {"loss": self.settings.loss(reference, top=self.settings.k), **samples_of([reference])}

    def fit(self, given: Given) -> State:
        """How many documents have a score, and how many one of 0, the largest tie; int64, shape (1,)."""
        n_scored, n_zero = 0, 0
        for shard in range(given.pool.n_shards):
            scores = self._scores(given, shard)
            n_scored += int(np.isfinite(scores).sum())
            n_zero += int((scores == 0).sum())
        return {"n_scored": np.array([n_scored]), "n_zero": np.array([n_zero])}

    def score(self, state: State, given: Given, shard: int) -> Scores:
        """The median, float64, shape (D,), the same for every target."""
        return dict.fromkeys(given.targets, self._scores(given, shard))

    def in_training(self) -> InTraining | None:
        """The choice for the first phase alone, where the settings say so."""
        from prill.lm.feed.in_training import Early

        return Early(share=self.settings.first_phase) if self.settings.first_phase < 1 else None

    def meaning(self) -> Meaning:
        others = "0" if self.settings.beyond == "zero" else "left out"
        summary = (
            f"median over tokens of the loss, {others} where {self.settings.k} or more tokens are likelier"
        )
        return Meaning(unit="nats", span=span_of(self.settings), summary=summary)

    def _scores(self, given: Given, shard: int) -> NDArray[np.float64]:
        name = "median_top_loss" if self.settings.beyond == "zero" else "median_kept_loss"
        table = given.columns("loss", shard, [name, "n_tokens"])
        medians = np.asarray(table[name].to_numpy(), dtype=np.float64)
        is_long = table["n_tokens"].to_numpy() >= self.settings.min_tokens
        return without_own(np.where(is_long, medians, np.nan), given, shard)
