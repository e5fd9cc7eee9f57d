"""A model folder that documents are scored under: a proxy of ours, or any causal language model.

Opening checks everything that can be checked without loading weights: which kind of folder it is, whether
the tokenizer belongs to it, and what its files hash to. What is opened is small and can be sent to worker
processes, each of which then loads the weights once. A plain Llama is computed by our own layers, which
need no other package and are faster; every other class by `transformers`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from prill.corpus.tokenizer import TextTokenizer, load_tokenizer
from prill.errors import DataError
from prill.lm.bases.base import TransformersBase
from prill.lm.bases.folder import base_tokenizer
from prill.lm.bases.stored import open_base

if TYPE_CHECKING:
    import torch

    from prill.lm.scoring.scorer import TokenScorer

__all__ = ["ModelFolder", "open_model"]


@dataclass(frozen=True, kw_only=True)
class ModelFolder:
    """A model that can be loaded, with the tokenizer that belongs to it.

    Attributes:
        folder: where it is.
        tokenizer: checked against the model.
        prefix: the token from which the first token of a document is predicted.
        context: the longest window, tokens.
        record: hashes of everything that decides the losses. JSON-able.
    """

    folder: Path
    tokenizer: TextTokenizer
    prefix: int
    context: int
    record: Mapping[str, Any]

    def load(self, *, dtype: torch.dtype, device: torch.device) -> TokenScorer:
        """The model, ready to score.

        Raises:
            DataError: weights are missing, pickled, damaged, not finite, or of a class that cannot be packed.
            ResourceError: transformers is needed and not installed.
        """
        from prill.lm.bases.stored import load_scorer
        from prill.lm.hf import import_llama
        from prill.lm.scoring.scorer import scorer_of

        if (self.folder / "config.json").is_file():
            try:
                return scorer_of(import_llama(self.folder, dtype=dtype, device=device))
            except DataError:  # not a plain Llama, or damaged: the general way says which
                pass
        return scorer_of(load_scorer(self.folder, dtype=dtype, device=device))


def open_model(folder: Path, *, tokenizer: Path | None = None) -> ModelFolder:
    """Look at a model folder without loading its weights.

    Args:
        folder: with model.json and model.safetensors of ours, or config.json and safetensors of
            `transformers`.
        tokenizer: the tokenizer.json of one of our own models; default: the one in the folder.
    Raises:
        DataError: there is no model; no tokenizer; or the tokenizer does not belong to the model.
    """
    start = open_base(folder)
    if isinstance(start, TransformersBase):
        if tokenizer is not None and tokenizer.resolve() != (folder / "tokenizer.json").resolve():
            raise DataError(
                "a `transformers` model is read with its own tokenizer, found another one named",
                where=str(tokenizer),
                hint="leave --tokenizer out",
            )
        own = base_tokenizer(folder, vocab_size=start.vocab_size)
        opening = start.opening_id()
    else:
        own, opening = _own_tokenizer(folder, tokenizer, start.vocab_size), None
    return ModelFolder(
        folder=folder,
        tokenizer=own,
        prefix=own.eos_id if opening is None else opening,
        context=start.context,
        record={"files": start.as_record()["files"], "tokenizer_sha256": own.sha256},
    )


def _own_tokenizer(folder: Path, named: Path | None, vocab_size: int) -> TextTokenizer:
    """The tokenizer of one of our checkpoints, which may say which one it was."""
    file = named or folder / "tokenizer.json"
    if not file.is_file():
        raise DataError(
            f"expected the tokenizer that this model was trained with, found none at {file}",
            where=str(folder),
            hint="name its tokenizer.json with --tokenizer",
        )
    own = load_tokenizer(file)
    meta = orjson.loads((folder / "model.json").read_bytes()).get("meta", {})
    trained_with = str(meta.get("tokenizer_sha256", own.sha256))
    if own.vocab_size > vocab_size or trained_with != own.sha256:
        raise DataError(
            f"expected the tokenizer of a model with {vocab_size} token ids"
            + ("" if trained_with == own.sha256 else f" (sha256 {trained_with[:12]})")
            + f", found one with {own.vocab_size} (sha256 {own.sha256[:12]})",
            where=str(file),
            hint="use the tokenizer that this model was trained with",
        )
    return own
