"""A local `transformers` folder as the start of a training."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prill.errors import RecipeError
from prill.lm.bases.adapters import Lora
from prill.lm.bases.folder import base_tokenizer, folder_digest, opening_id, tensor_sizes

if TYPE_CHECKING:
    import torch

    from prill.corpus.tokenizer import TextTokenizer
    from prill.lm.bases.learner import HfLearner

__all__ = ["TransformersBase"]

LENGTH_BOUND_ROPES = ("dynamic", "longrope")


@dataclass(frozen=True, kw_only=True)
class TransformersBase:
    """Continue from any local causal language model that `transformers` knows; a `Start`.

    Args:
        folder: config.json, safetensors, and usually tokenizer.json. Nothing pickled is read.
        max_context: longest row, tokens; default: as long as the model reads.
        lora: train adapters alone; None: train the model.
        frozen: names of parameters that stay as they are, with `*` for any characters.
        is_checkpointed: compute layers again in the backward pass instead of keeping them (gradient
            checkpointing): a third more time for a fraction of the memory.
        n_added: rows to add to the vocabulary for tags; each begins as the mean of the others.
        eos: the token that ends a document; default: the one the folder names.
        trust_remote_code: run the code that the folder brings. Only for code that you have read.
    Raises:
        RecipeError: a number is out of bounds, or adapters and frozen parts are both asked for.
    """

    folder: Path
    max_context: int | None = None
    lora: Lora | None = None
    frozen: tuple[str, ...] = ()
    is_checkpointed: bool = False
    n_added: int = 0
    eos: str | None = None
    trust_remote_code: bool = False

    def __post_init__(self) -> None:
        if self.n_added < 0 or (self.max_context is not None and self.max_context < 1):
            raise RecipeError(
                "a base needs max_context >= 1 and n_added >= 0, "
                f"found {self.max_context} and {self.n_added}",
                where="base",
            )
        if self.lora is not None and (self.frozen or self.n_added):
            raise RecipeError(
                "adapters leave every other parameter as it is: `frozen` and added tags do not go with them",
                where="base",
                hint="train the whole model, or without tags",
            )

    @property
    def vocab_size(self) -> int:
        """Rows of the embedding, added ones included."""
        return int(self._config.vocab_size) + self.n_added

    @property
    def context(self) -> int:
        """The longest row, tokens.

        Raises:
            RecipeError: `max_context` is longer than what the model reads.
        """
        longest = self._longest()
        if self.max_context is not None and self.max_context > longest:
            raise RecipeError(
                f"`max_context` must be at most the model's {longest} tokens, found {self.max_context}",
                where="base.max_context",
            )
        return self.max_context or longest

    @property
    def n_params(self) -> int:
        """Parameters without embedding and head."""
        config = self._config
        sizes = self._sizes.values()
        tables = sum(math.prod(size) for size in sizes if tuple(size[:1]) == (int(config.vocab_size),))
        return sum(math.prod(size) for size in sizes) - tables

    @property
    def flops_per_token(self) -> int:
        """Of training in rows of full length; with adapters, weights have no gradient: two thirds."""
        config = self._config
        heads = int(config.num_attention_heads)
        head_dim = int(getattr(config, "head_dim", None) or self.width() // heads)
        matmul = 2 * (self.n_params + self.vocab_size * self.width())
        attention = 2 * int(config.num_hidden_layers) * self.context * heads * head_dim
        return (2 if self.lora is not None else 3) * matmul + 3 * attention

    def width(self) -> int:
        """Width of the hidden states."""
        return int(self._config.hidden_size)

    def tokenizer(self) -> TextTokenizer:
        """The model's own tokenizer, checked against the model.

        Raises:
            DataError: there is none, or it does not match.
        """
        return base_tokenizer(self.folder, vocab_size=int(self._config.vocab_size), eos=self.eos)

    def learner(
        self, seeds: Sequence[int], *, n_extra: int, dtype: torch.dtype, device: torch.device
    ) -> HfLearner:
        """The model, with `n_extra` trailing columns of zeros; the seed decides adapters only.

        Raises:
            RecipeError: more than one seed; parts that do not exist.
            DataError: the folder is damaged, pickled, not finite, or of a class that cannot be packed.
            ResourceError: transformers or peft is not installed.
        """
        if len(seeds) != 1:
            raise RecipeError(
                f"a real base trains alone, found {len(seeds)} models to stack",
                where="base",
                hint="set the stack size to 1",
            )
        from prill.lm.bases.building import build_learner

        return build_learner(self, seeds[0], n_extra=n_extra, dtype=dtype, device=device)

    def opening_id(self) -> int | None:
        """What the model was trained to open a document with, if not end-of-text."""
        return opening_id(self.folder) if (self.folder / "tokenizer.json").is_file() else None

    def as_record(self) -> dict[str, Any]:
        """What decides the model: hashes of its files, and the settings; not where it lies."""
        record = asdict(self)
        del record["folder"], record["is_checkpointed"], record["trust_remote_code"]
        return {"start": "transformers", "version": 1, "files": self._digest, **record}

    @functools.cached_property
    def _config(self) -> Any:
        from prill.lm.bases.loading import read_config

        return read_config(self.folder, trust_remote_code=self.trust_remote_code).get_text_config()

    @functools.cached_property
    def _digest(self) -> dict[str, str]:
        return folder_digest(self.folder)

    @functools.cached_property
    def _sizes(self) -> dict[str, tuple[int, ...]]:
        return tensor_sizes(self.folder)

    def _longest(self) -> int:
        config = self._config
        rope = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
        kind = rope.get("rope_type", rope.get("type")) if isinstance(rope, dict) else None
        if kind in LENGTH_BOUND_ROPES:  # beyond it, a document's positions depend on its neighbours' length
            original = getattr(config, "original_max_position_embeddings", None)
            return int(
                rope.get("original_max_position_embeddings") or original or config.max_position_embeddings
            )
        return int(config.max_position_embeddings)
