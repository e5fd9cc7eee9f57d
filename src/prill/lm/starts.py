"""Where models start from, in the words of a recipe: a size of the ladder, or a folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prill.errors import DataError
from prill.lm.fresh import Fresh
from prill.lm.learner import Start
from prill.lm.shape import ladder_shape

__all__ = ["continued", "fresh"]


def fresh(
    size: str,
    *,
    vocab_size: int,
    row_tokens: int | None,
    nested: Mapping[str, Any] | None = None,
    sparsity: float | None = None,
    seed: int = 0,
) -> Start:
    """Fresh models of a named size.

    Args:
        size: of the ladder.
        vocab_size: token ids, tags included.
        row_tokens: tokens of a row; None: the size's.
        nested: `widths` and `depths` as shares, for sizes within one run.
        sparsity: share of the weights held at zero.
        seed: of the masks.
    """
    start: Start = Fresh(shape=ladder_shape(size, vocab_size=vocab_size, seq_len=row_tokens))
    return start


def continued(folder: Path, *, vocab_size: int | None, lora: Mapping[str, Any] | None = None) -> Start:
    """A model on disk, to be continued.

    Args:
        folder: of a `transformers` causal language model, in safetensors.
        vocab_size: ids that the data holds; None: not known yet.
        lora: settings of adapters; None trains all weights.
    Raises:
        DataError: there is no such folder, or the model has fewer ids than the data.
    """
    raise DataError("a base expected", where=str(folder))
