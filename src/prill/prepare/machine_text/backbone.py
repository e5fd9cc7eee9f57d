"""The backbone: hidden states and metrics of documents under a causal language model of Llama's family.

A document is read behind the end-of-text token, up to a number of tokens, one document a call: no padding,
and the result does not depend on its neighbours.

Source: Miralles-Gonzalez et al. 2025 (PAWN), arXiv:2501.03940, section 3.1. Differs: the first token is
predicted too, from end-of-text, as in the training of these models.
"""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

import numpy as np
import torch

from prill.corpus.tokenizer import TextTokenizer, load_tokenizer
from prill.lm.data import Rows
from prill.lm.hf import import_llama
from prill.lm.model import StackedLlama
from prill.prepare.machine_text.metrics import METRICS, token_metrics
from prill.prepare.machine_text.training import Traits
from prill.run.atomic import machine_errors

__all__ = ["Backbone", "backbone_id", "load_backbone"]


_MOST_CHARACTERS = 64
"""Characters a token that are read; only text of longer tokens than that is cut before `max_tokens`."""


class Backbone:
    """A frozen causal language model with its tokenizer."""

    def __init__(self, model: StackedLlama, tokenizer: TextTokenizer) -> None:
        self._model = model
        self._tokenizer = tokenizer

    @property
    def d_model(self) -> int:
        """Width of the hidden states."""
        return self._model.shape.d_model

    def read(self, text: str, *, max_tokens: int) -> tuple[Traits, torch.Tensor] | None:
        """Traits of a document's first T tokens, and metrics with the variance, (T, 6); None for no token.

        Args:
            max_tokens: largest T; the context of the model bounds it too.
        """
        (ids,) = self._tokenizer.encode_batch([text[: max_tokens * _MOST_CHARACTERS]])
        n = min(len(ids), max_tokens, self._model.shape.seq_len - 1)
        if n < 1:
            return None
        following = ids[:n].astype(np.int64)
        inputs = np.concatenate([[self._tokenizer.eos_id], following])[None, None]
        rows = Rows(
            inputs=inputs,
            targets=inputs,
            positions=np.arange(n + 1)[None, None],
            segments=np.zeros((1, 1, n + 1), np.int64),
        )
        states, logits = self._model.states_and_logits(self._model.pack(rows))
        metrics = token_metrics(logits[0, :-1], torch.from_numpy(following))
        return Traits(states=states[0].half(), metrics=metrics[:, : len(METRICS)]), metrics


def backbone_id(folder: Path) -> str:
    """Hash of the model's and the tokenizer's files, 16 hexadecimal digits."""
    digest = hashlib.sha256()
    with machine_errors(folder):
        for path in sorted(folder.glob("*")):
            if path.suffix in (".json", ".safetensors"):
                with path.open("rb") as file:
                    digest.update(f"{path.name}|{hashlib.file_digest(file, 'sha256').hexdigest()}|".encode())
    return digest.hexdigest()[:16]


@functools.lru_cache(maxsize=1)
def load_backbone(folder: Path) -> Backbone:
    """The model and the tokenizer.json of a folder; kept for the process.

    Raises:
        DataError: either is missing or damaged.
    """
    return Backbone(import_llama(folder), load_tokenizer(folder / "tokenizer.json"))
