"""What all methods that read losses are set by: which model, which part of a document, how short is short.

With the usual settings every method that needs a reference of the pool asks for one and the same: `pico`,
trained on 400,000 tokens. It serves perplexity filtering, CoLoR's prior, MiniPLM's small model, SALT's scorer
and a rung of PreSelect's ladder, and its losses are computed once for all of them that read the same span.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from prill.features.proxies import PoolSample, Proxy

if TYPE_CHECKING:
    from prill.features.feature import Feature, Given
    from prill.features.losses import LanguageModel, Loss

__all__ = ["ReadingSettings", "ReferenceSettings", "model_or_folder", "samples_of", "span_of", "without_own"]

REFERENCE_SIZE, REFERENCE_TOKENS = "pico", 400_000


class ReadingSettings(BaseModel):
    """How documents are read."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_tokens: int | None = Field(
        256, ge=1, description="Tokens of a document that are scored at most; null scores all of them."
    )
    span: Literal["head", "spread"] = Field(
        "head",
        description="Which ones: the first, or windows of `window` tokens spread evenly over the document.",
    )
    window: int | None = Field(
        None, ge=1, description="Tokens of a window; null: the model's context, at most `max_tokens`."
    )
    min_tokens: int = Field(
        16,
        ge=1,
        description="Scored tokens below which a mean is too noisy: such a document has no score.",
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto", description="Of matrix products; auto is bf16 where the processor gains by it."
    )

    def loss(self, model: LanguageModel, *, top: int = 0) -> Loss:
        """The losses of the pool under a model."""
        from prill.features.losses import Loss

        return Loss(
            model=model,
            max_tokens=self.max_tokens,
            span=self.span,
            window=self.window,
            top=top,
            precision=self.precision,
        )


class ReferenceSettings(ReadingSettings):
    """How documents are read, and the reference model of the pool."""

    size: str = Field(REFERENCE_SIZE, description="Size of the reference model that is trained on the pool.")
    tokens: int = Field(
        REFERENCE_TOKENS, ge=1, description="Tokens of the pool that the reference is trained on."
    )
    model: str | None = Field(
        None, description="Folder of a causal language model to use in place of one trained here."
    )

    def reference(self, base: Path) -> LanguageModel:
        """The reference: the user's, or one trained on a sample of the pool.

        Raises:
            PrillError: there is no usable model in the folder.
        """
        return model_or_folder(self.model, base, size=self.size, n_tokens=self.tokens)


def model_or_folder(
    folder: str | None, base: Path, *, size: str, n_tokens: int, text_tokens: int | None = None
) -> LanguageModel:
    """The model in a folder, relative to `base`; without one, a proxy trained on a sample of the pool.

    Args:
        folder: of the model, or None.
        base: folder that paths start from.
        size, n_tokens, text_tokens: of the proxy, as in `Proxy.of_pool`.
    Raises:
        PrillError: there is no usable model in the folder.
    """
    if folder is None:
        return Proxy.of_pool(size=size, n_tokens=n_tokens, text_tokens=text_tokens)
    from prill.features.losses import ModelDirectory

    return ModelDirectory.at(base / folder)


def samples_of(models: Iterable[Feature]) -> dict[str, PoolSample]:
    """The samples of the pool that models, and what they go on from, were trained on, by a name."""
    found: dict[str, PoolSample] = {}
    for model in models:
        at: Any = model
        while isinstance(at, Proxy):
            for sample in (at.sample, at.noise):
                if sample is not None:
                    found[f"sample-{sample.digest[:8]}"] = sample
            at = at.start
    return found


def without_own(values_D: NDArray[np.float64], given: Given, shard: int) -> NDArray[np.float64]:
    """The values, NaN for documents that a model was trained on: they would look easier than they are.

    Samples are those that the method needs under names that begin with `sample-`.
    """
    found = values_D.copy()
    for name, sample in given.named.items():
        if name.startswith("sample-") and isinstance(sample, PoolSample):
            found[sample.holds(given.file(name), shard, len(found))] = np.nan
    return found


def span_of(settings: ReadingSettings) -> str:
    """The part of a document that is seen, in words."""
    if settings.max_tokens is None:
        return "whole document"
    return f"{'first' if settings.span == 'head' else 'evenly spread'} {settings.max_tokens} tokens"
