"""Documents behind one tag of weight 0: how a model that learnt with tags is asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from prill.lm.data import TokenStream
from prill.lm.samples.insertion import prefix_documents
from prill.lm.samples.transform import Documents

__all__ = ["Opened"]


@dataclass(frozen=True, kw_only=True)
class Opened:
    """A sample transform that puts one tag before every document.

    Args:
        tag: its number among the tags of the transform that it stands in for.
        n_added: tags of that transform.
    """

    tag: int
    n_added: int
    needs: tuple[str, ...] = ()

    def __call__(self, documents: Documents, *, seed: int) -> TokenStream:
        """The documents, each after the tag."""
        stream = documents.stream
        which = np.zeros(stream.n_documents, np.int64)
        return prefix_documents(stream, [np.array([documents.vocab_size + self.tag])], which, weight=0.0)

    def as_record(self) -> dict[str, Any]:
        return {"name": "opened", "version": 1, "settings": {"tag": self.tag, "n_added": self.n_added}}
