"""CoLoR-Filter: keep the documents whose loss falls most when a model is fine-tuned on the target.

A prior is trained on the pool and continued on the target; what the target taught it about a document is the
score. The prior's losses are shared by every target.

Source: Brandfonbrener et al. 2024, arXiv:2406.10670, section 3, and the authors' code.
Legend: D documents.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from prill.errors import RecipeError
from prill.features.proxies import Proxy
from prill.methods._reading import ReferenceSettings, model_or_folder, samples_of, span_of, without_own
from prill.methods.registry import Meaning, Method, Scores, State, method

if TYPE_CHECKING:
    from prill.features.feature import Feature, Given

__all__ = ["ColorFilter", "ColorFilterSettings", "color_scores"]


class ColorFilterSettings(ReferenceSettings):
    """Settings of CoLoR-Filter."""

    target_tokens: int = Field(
        100_000, ge=1, description="Tokens of a target that the prior is fine-tuned on at most."
    )
    target_epochs: int = Field(
        1, ge=1, description="Passes over a target's text at most; the paper makes one."
    )
    conditional: str | None = Field(
        None,
        description="Folder of a conditional model, for one target; needs `model`, the prior it came from.",
    )


@method(
    name="color_filter",
    called="CoLoR-Filter",
    title="conditional loss reduction: what fine-tuning on the target taught a small model",
    paper="2406.10670",
    feature="loss under a prior and under its fine-tuned copy",
    cost="one training (pico, 0.4 M tokens), a fine-tuning a target (0.1 M), a forward pass each",
    assumes="the target differs from the pool: on a target like the pool the paper finds no gain at all; the "
    "pool has no near-duplicates, which enter together",
    formula="score(x) = L(x | prior) - L(x | conditional), L the mean loss in nats a token;\n"
    "the conditional is the prior after one more epoch, on the target",
    differs="""a document's first 256 tokens are scored, without its end, not blocks of 512 of a stream
the prior is a proxy trained on 0.4 M tokens of the pool at Step Law's rate (the paper: 150 M parameters and
  3.1 B tokens); its documents are left out of the choice
a small target is read once and up to 0.1 M tokens (the paper: 7 to 25 M); the rate is Step Law's for them
ties go by a keyed hash of the text; the code's order of ties is undefined
a budget of nothing chooses nothing; the code's k = 0 chooses everything
scores never compare across pairs of models""",
)
class ColorFilter(Method):
    """One score a target."""

    version: ClassVar[int] = 1
    default_policy: ClassVar[dict[str, Any]] = {"kind": "top_k", "on_non_finite": "exclude"}
    Settings: ClassVar[type[BaseModel]] = ColorFilterSettings

    def needs(self, targets: Sequence[str], base: Path) -> Mapping[str, Feature]:
        """The losses of the prior and of each target's conditional, and the prior's sample.

        Raises:
            RecipeError: a conditional without its prior or for several targets; a prior from a folder
                without a conditional, which would have to be trained here.
            PrillError: there is no usable model in a folder.
        """
        settings = self.settings
        prior = settings.reference(base)
        found: dict[str, Feature] = {"prior": settings.loss(prior), **samples_of([prior])}
        if settings.conditional is not None or not isinstance(prior, Proxy):
            if settings.conditional is None or settings.model is None or len(targets) != 1:
                raise RecipeError(
                    "`conditional` and `model` are two folders for one target, "
                    f"found {settings.conditional!r} and {settings.model!r} for {len(targets)} targets",
                    where="color_filter",
                    hint="give both and one target, or neither",
                )
            model = model_or_folder(settings.conditional, base, size=settings.size, n_tokens=settings.tokens)
            return {**found, f"conditional-{targets[0]}": settings.loss(model)}
        for name in targets:
            found[f"conditional-{name}"] = settings.loss(self.conditional(prior, name))
        return found

    def conditional(self, prior: Proxy, target: str) -> Proxy:
        """The prior, continued on a target."""
        return Proxy.of_target(
            target,
            n_tokens=self.settings.target_tokens,
            max_epochs=self.settings.target_epochs,
            start=prior,
            use="conditional",
        )

    def score(self, state: State, given: Given, shard: int) -> Scores:
        """The reduction, float64, shape (D,) a target."""
        from prill.features.losses import mean_losses

        fewest = self.settings.min_tokens
        prior = without_own(mean_losses(given.columns("prior", shard), fewest=fewest), given, shard)
        return {
            name: color_scores(prior, mean_losses(given.columns(f"conditional-{name}", shard), fewest=fewest))
            for name in given.targets
        }

    def meaning(self) -> Meaning:
        summary = "loss a token under the prior minus that under the conditional model"
        return Meaning(unit="nats", span=span_of(self.settings), summary=summary)


def color_scores(
    prior_nats_D: NDArray[np.float64], conditional_nats_D: NDArray[np.float64]
) -> NDArray[np.float64]:
    """prior - conditional, (D,), nats a token; NaN where either is."""
    return np.asarray(prior_nats_D, np.float64) - np.asarray(conditional_nats_D, np.float64)
