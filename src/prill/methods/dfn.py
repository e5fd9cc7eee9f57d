"""DFN, the text analogue: a small model trained only on clean text filters the pool.

The clean text is the fit part of the target. The protocol matters more than the scorer: a filter is judged by
the model that its choice trains, which is what the trials of a run do, never by its own loss.

Source: Fang et al. 2023, arXiv:2309.17425, section 3; the text analogues: Li et al. 2024, arXiv:2406.11794
(DCLM), perplexity and "top-k average logits".
Legend: D documents.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import BaseModel, Field

from prill.errors import RecipeError
from prill.features.proxies import PoolSample, Proxy
from prill.methods._reading import ReadingSettings, model_or_folder, samples_of, span_of, without_own
from prill.methods.registry import Meaning, Method, Scores, State, method

if TYPE_CHECKING:
    from prill.features.feature import Feature, Given
    from prill.features.losses import LanguageModel

__all__ = ["DFN", "DFNSettings"]

COLUMN = {"mass": "top_mass", "logits": "top_logit"}


class DFNSettings(ReadingSettings):
    """Settings of the data filtering network."""

    size: str = Field("pico", description="Size of the filter, a model trained on each target.")
    tokens: int = Field(100_000, ge=1, description="Tokens that the filter is trained on at most.")
    epochs: int = Field(4, ge=1, description="Passes over a target's text at most.")
    model: str | None = Field(None, description="Folder of a filter for all targets, in place of training.")
    score: Literal["perplexity", "mass", "logits"] = Field(
        "perplexity",
        description="perplexity: minus the mean loss; mass: mean probability of the k likeliest tokens; "
        "logits: mean of their logits. DCLM names the last two as one and leaves open which it is.",
    )
    k: int = Field(10, ge=1, description="Likeliest tokens of `mass` and `logits`.")
    noise: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Share of the filter's text that comes from the pool: to measure how contamination of "
        "the clean text harms the filter, not to choose with.",
    )


@method(
    name="dfn",
    called="DFN",
    title="a small model trained on clean text filters the pool (data filtering network, text analogue)",
    paper="2309.17425",
    feature="loss or likeliest tokens under a model of the target",
    cost="a training (pico, 0.1 M tokens) and a forward pass over the span for each target",
    assumes="the target is clean: a little noise in it ruins the filter. Fluent, generic prose is favoured "
    "over code, tables and dialogue; repetition has a high `mass`",
    formula="""perplexity: -mean over tokens of -ln p(token)
mass: mean over places of the sum of the k largest p      logits: mean over places of the k largest logits""",
    differs="""the original scores pairs of image and text by a contrastive model; text has none, so this is
  the analogue that DCLM ran, with a proxy for its 154 M parameters and the target for its clean mixture
which of `mass` and `logits` DCLM's top-k average logits are is not documented; thresholds near 0.7 suggest
  mass
a document's first 256 tokens are read (DCLM: 2,048), and the budget stands for thresholds, which do not
  transfer between models
fine-tuning on further sets and averaging of weights are left out""",
)
class DFN(Method):
    """One score a target."""

    version: ClassVar[int] = 1
    default_policy: ClassVar[dict[str, Any]] = {"kind": "top_k", "on_non_finite": "exclude"}
    Settings: ClassVar[type[BaseModel]] = DFNSettings

    def needs(self, targets: Sequence[str], base: Path) -> Mapping[str, Feature]:
        """The losses under each target's filter.

        Raises:
            RecipeError: noise for a filter that is not trained here.
            PrillError: there is no usable model in the folder.
        """
        settings = self.settings
        if settings.model is not None and settings.noise:
            raise RecipeError(
                f"`noise` goes into the text of a filter that is trained here, found it with `model` "
                f"{settings.model!r}",
                where="dfn",
            )
        top = 0 if settings.score == "perplexity" else settings.k
        found: dict[str, Feature] = {}
        for name in targets:
            model = self.filter(name, base)
            found |= {f"loss-{name}": settings.loss(model, top=top), **samples_of([model])}
        return found

    def filter(self, target: str, base: Path) -> LanguageModel:
        """The model that filters for a target."""
        settings = self.settings
        if settings.model is not None:
            return model_or_folder(settings.model, base, size=settings.size, n_tokens=settings.tokens)
        noise = PoolSample(n_tokens=settings.tokens, use="noise") if settings.noise else None
        return Proxy.of_target(
            target,
            size=settings.size,
            n_tokens=settings.tokens,
            max_epochs=settings.epochs,
            noise=noise,
            noise_share=settings.noise,
        )

    def score(self, state: State, given: Given, shard: int) -> Scores:
        """Higher is preferred, float64, shape (D,) a target."""
        return {name: self._scores(given, f"loss-{name}", shard) for name in given.targets}

    def meaning(self) -> Meaning:
        k = self.settings.k
        unit, summary = {
            "perplexity": ("nats", "minus the loss a token under the filter"),
            "mass": ("1", f"mean probability of the filter's {k} likeliest tokens"),
            "logits": ("1", f"mean logit of the filter's {k} likeliest tokens"),
        }[self.settings.score]
        return Meaning(unit=unit, span=span_of(self.settings), summary=summary)

    def _scores(self, given: Given, name: str, shard: int) -> Any:
        from prill.features.losses import mean_losses

        table = given.columns(name, shard)
        scores = -mean_losses(table, fewest=self.settings.min_tokens)
        if self.settings.score != "perplexity":
            values = np.asarray(table[COLUMN[self.settings.score]].to_numpy(), dtype=np.float64)
            scores = np.where(np.isfinite(scores), values, np.nan)
        return without_own(scores, given, shard)
