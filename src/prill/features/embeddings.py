"""Vectors of documents: hashed words, or a model of the user from a local folder.

`hashed` needs no model: a random projection of the words and word pairs. It knows words, not meanings.
`static` is a table of token vectors (tokenizer.json and model.safetensors, the layout of model2vec), the mean
of which is the vector of a document. `encoder` is a sentence encoder in the layout of transformers, with the
mean of its last states. Folders are read, never fetched, and no code in them runs.

Legend: D documents, K dimensions.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from prill.corpus.batch import text_buffers
from prill.errors import DataError
from prill.features.embedding_models import (
    MAX_TOKENS,
    Pooling,
    TokenModel,
    check_encoder,
    hidden_size,
    n_numbers,
    open_model,
    stored_pooling,
)
from prill.features.windows import BYTES_PER_TOKEN, byte_windows, windows

__all__ = ["EMBEDDING_VERSION", "Embedder", "Embedding", "Pooling"]

Embedding: TypeAlias = Literal["hashed", "static", "encoder"]

EMBEDDING_VERSION = 2
"""Version of the vectors made here; it changes whenever one changes."""

_MAX_CHARACTERS = 20_000  # of a document that a model sees when it is asked for the whole
_MAX_WINDOWED = 1_000_000  # of a document whose tokens are counted to place windows exactly


@dataclass(frozen=True, kw_only=True)
class Embedder:
    """Gives documents vectors. Picklable: a model is loaded where it is first used.

    Attributes:
        kind: what gives the vectors.
        n_dimensions: K; of `hashed` a power of two.
        folder: of the model.
        digest: hash of the folder's weights and tokenizer.
        pooling: of an encoder's last states.
    """

    kind: Embedding
    n_dimensions: int = 256
    folder: Path | None = None
    digest: str = ""
    pooling: Pooling = "mean"

    @classmethod
    def of(
        cls,
        kind: Embedding,
        *,
        n_dimensions: int = 256,
        folder: Path | None = None,
        pooling: Pooling | None = None,
    ) -> Embedder:
        """Check that what is needed is there.

        Args:
            pooling: of an encoder; None takes what its folder says, else the mean.
        Raises:
            DataError: no model lies in the folder, or one that needs code of its own.
            ResourceError: the packages of `encoder` are missing.
        """
        if kind == "hashed":
            return cls(kind=kind, n_dimensions=n_dimensions)
        if folder is None or not (folder / "tokenizer.json").is_file():
            raise DataError("expected a folder with tokenizer.json and model.safetensors", where=str(folder))
        if not (folder / "model.safetensors").is_file():
            raise DataError("expected model.safetensors, found none", where=str(folder))
        if kind == "encoder":
            check_encoder(folder)
        digest = hashlib.sha256()
        for name in ("config.json", "model.safetensors", "tokenizer.json"):
            if (folder / name).is_file():
                with (folder / name).open("rb") as file:
                    digest.update(hashlib.file_digest(file, "sha256").digest())
        return cls(
            kind=kind,
            n_dimensions=hidden_size(kind, folder),
            folder=folder,
            digest=digest.hexdigest(),
            pooling=pooling or stored_pooling(folder),
        )

    def __call__(self, text: pa.Array) -> NDArray[np.float32]:
        """Vectors, float32, shape (D, K), not normalised; zeros for a document without words.

        Args:
            text: large_string array without nulls, D documents, any slice.
        """
        if self.kind == "hashed":
            return _hashed(text, self.n_dimensions)
        model = self._model()
        cut = [document[:_MAX_CHARACTERS] for document in text.to_pylist()]
        return model.vectors(model.tokens(cut))

    def in_windows(
        self, text: pa.Array, n_tokens: int, *, is_head: bool
    ) -> tuple[list[NDArray[np.float32]], NDArray[np.int8]]:
        """Vectors of the windows of every document.

        Args:
            text: large_string array without nulls, D documents.
            n_tokens: of a window: of the model, at most what it reads; 4 bytes each for `hashed`.
            is_head: the top window only, else top, middle and bottom.
        Returns:
            Vectors, float32, shape (D, K), for each window, zeros where a document has none; and how many
            windows each document has.
        """
        if self.kind == "hashed":
            pieces, n_windows_D = byte_windows(text, n_tokens * BYTES_PER_TOKEN, is_head=is_head)
            return [_hashed(piece, self.n_dimensions) for piece in pieces], n_windows_D
        model = self._model()
        width = min(n_tokens, model.max_tokens)
        rows = [
            [ids[a:b] for a, b in windows(len(ids), width)] if ids else []
            for ids in model.tokens([_shortened(document) for document in text.to_pylist()])
        ]
        names = range(1 if is_head else 3)
        found = [model.vectors([row[w] if w < len(row) else [] for row in rows]) for w in names]
        return found, np.array([min(len(row), len(names)) for row in rows], np.int8)

    @property
    def span(self) -> str:
        """What is seen of a whole document, in words."""
        if self.kind == "hashed":
            return "whole document"
        if self.kind == "static":
            return f"first {_MAX_CHARACTERS:,} characters"
        return f"first {MAX_TOKENS:,} tokens"

    @property
    def n_parameters(self) -> int:
        """Numbers stored in the model's folder."""
        return 0 if self.folder is None else n_numbers(self.folder)

    def _model(self) -> TokenModel:
        assert self.kind != "hashed"
        assert self.folder is not None
        return open_model(self.kind, self.folder, self.pooling)


def _shortened(document: str) -> str:
    """A huge document without what lies far from its windows, so that its tokens can be counted."""
    if len(document) <= _MAX_WINDOWED:
        return document
    part = _MAX_WINDOWED // 3
    middle = (len(document) - part) // 2
    return document[:part] + document[middle : middle + part] + document[-part:]


def _hashed(text: pa.Array, n_dimensions: int) -> NDArray[np.float32]:
    """Signed sums of hashed words and word pairs, damped: the sign times the root.

    Source: Charikar, Chen and Farach-Colton 2002, count sketch. Differs: the root keeps the commonest words
    from being all that counts.
    """
    from prill.features._sketch_kernel import sketch
    from prill.features.patterns import word_table

    offsets, data = text_buffers(text)
    tail = np.concatenate([data[-8:], np.zeros(16, np.uint8)])
    sums_DK = np.zeros((len(text), n_dimensions), np.float32)
    sketch(offsets, data, word_table(), tail, sums_DK)
    return np.asarray(np.sign(sums_DK) * np.sqrt(np.abs(sums_DK)), np.float32)
