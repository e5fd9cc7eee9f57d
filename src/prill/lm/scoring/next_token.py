"""The next token after some tokens, under any local causal language model.

A `transformers` model keeps what it has computed while its text grows at the end; one of our own proxies is
small enough to be computed anew. Axes: N tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from prill.lm.bases.folder import CONFIG
from prill.lm.data import Rows

if TYPE_CHECKING:
    from prill.lm.model import StackedLlama

__all__ = ["NextToken", "open_next_token"]


class NextToken:
    """Log-probabilities of the next token. Not for two threads at once."""

    n_flops: int = 0

    def __call__(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        """Natural logarithms over the vocabulary, float32, shape (V,).

        Args:
            tokens: at least one, at most the model's context.
        """
        with torch.inference_mode():
            logits = self._logits(list(tokens)).float()
            return np.asarray(torch.log_softmax(logits, dim=0).cpu().numpy())

    def _logits(self, tokens: list[int]) -> torch.Tensor:
        raise AssertionError("expected one of the two kinds below")


class _Library(NextToken):
    """A `transformers` model with its cache of keys and values."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._seen: list[int] = []
        self._cache: Any = None
        self._n_parameters = sum(p.numel() for p in model.parameters())

    def _logits(self, tokens: list[int]) -> torch.Tensor:
        n_seen = len(self._seen)
        if not (0 < n_seen < len(tokens) and tokens[:n_seen] == self._seen):
            n_seen, self._cache = 0, None
        found = self._model(
            input_ids=torch.tensor([tokens[n_seen:]], device=self._model.device),
            past_key_values=self._cache,
            use_cache=True,
        )
        self._seen, self._cache = tokens, found.past_key_values
        self.n_flops += 2 * self._n_parameters * (len(tokens) - n_seen)
        last: torch.Tensor = found.logits[0, -1]
        return last


class _Proxy(NextToken):
    """A model of our own."""

    def __init__(self, model: StackedLlama) -> None:
        self._model = model

    def _logits(self, tokens: list[int]) -> torch.Tensor:
        ids = np.asarray(tokens, np.int64)[None, None]
        rows = Rows(
            inputs=ids,
            targets=np.zeros_like(ids),
            positions=np.arange(len(tokens), dtype=np.int64)[None, None],
            segments=np.zeros_like(ids),
        )
        states = self._model.states(self._model.pack(rows))[0, -1]
        self.n_flops += 2 * self._model.shape.n_params * len(tokens)
        return self._model.head_matrix()[0] @ states


def open_next_token(folder: Path, *, device: str = "cpu") -> NextToken:
    """The model of a folder, in fp32.

    Raises:
        DataError: there is no model, it is damaged, pickled, not finite, or needs code of its own.
        ResourceError: transformers is needed and not installed.
    """
    if not (folder / CONFIG).is_file():
        from prill.lm.checkpoint import load_model

        return _Proxy(load_model(folder, device=device)[0])
    from prill.lm.bases.loading import load_base, set_attention

    model = load_base(folder)
    set_attention(model, "eager")
    return _Library(model.to(device))
