"""Vectors of documents: hashed words, or a model of the user from a local folder.

`hashed` needs no model: a random projection of the words and word pairs. It knows words, not meanings.
`static` is a table of token vectors (tokenizer.json and model.safetensors, the layout of model2vec), the mean
of which is the vector of a document. `encoder` is a sentence encoder in the layout of transformers, with the
mean of its last states. Folders are read, never fetched, and no code in them runs.

Legend: D documents, K dimensions.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from prill.corpus.batch import text_buffers
from prill.errors import DataError, ResourceError

__all__ = ["EMBEDDING_VERSION", "Embedder", "Embedding"]

Embedding: TypeAlias = Literal["hashed", "static", "encoder"]

EMBEDDING_VERSION = 1
"""Version of the vectors made here; it changes whenever one changes."""

_MAX_CHARACTERS = 20_000  # of a document that a model sees
_MAX_TOKENS = 512
_BATCH = 32


@dataclass(frozen=True, kw_only=True)
class Embedder:
    """Gives documents vectors. Picklable: a model is loaded where it is first used.

    Attributes:
        kind: what gives the vectors.
        n_dimensions: K of `hashed`, a power of two; of no meaning for models.
        folder: of the model.
        digest: hash of the folder's weights and tokenizer.
    """

    kind: Embedding
    n_dimensions: int = 256
    folder: Path | None = None
    digest: str = ""

    @classmethod
    def of(cls, kind: Embedding, *, n_dimensions: int = 256, folder: Path | None = None) -> Embedder:
        """Check that what is needed is there.

        Raises:
            DataError: no model lies in the folder.
            ResourceError: the packages of `encoder` are missing.
        """
        if kind == "hashed":
            return cls(kind=kind, n_dimensions=n_dimensions)
        if folder is None or not (folder / "tokenizer.json").is_file():
            raise DataError("expected a folder with tokenizer.json and model.safetensors", where=str(folder))
        if not (folder / "model.safetensors").is_file():
            raise DataError("expected model.safetensors, found none", where=str(folder))
        if kind == "encoder":
            _torch()
        digest = hashlib.sha256()
        for name in ("config.json", "model.safetensors", "tokenizer.json"):
            if (folder / name).is_file():
                with (folder / name).open("rb") as file:
                    digest.update(hashlib.file_digest(file, "sha256").digest())
        return cls(kind=kind, folder=folder, digest=digest.hexdigest())

    def __call__(self, text: pa.Array) -> NDArray[np.float32]:
        """Vectors, float32, shape (D, K), not normalised; zeros for a document without words.

        Args:
            text: large_string array without nulls, D documents, any slice.
        """
        if self.kind == "hashed":
            return _hashed(text, self.n_dimensions)
        documents = [document[:_MAX_CHARACTERS] for document in text.to_pylist()]
        assert self.folder is not None
        model = _static(self.folder) if self.kind == "static" else _encoder(self.folder)
        return model(documents)


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


@functools.lru_cache(maxsize=2)
def _static(folder: Path) -> Callable[[list[str]], NDArray[np.float32]]:
    from safetensors import safe_open
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    with safe_open(folder / "model.safetensors", framework="np") as stored:
        names = list(stored.keys())
        if "embeddings" not in names:
            message = f"expected a tensor `embeddings`, found {', '.join(sorted(names)[:5])}"
            raise DataError(message, where=str(folder / "model.safetensors"))
        table_VK = np.asarray(stored.get_tensor("embeddings"), np.float32)

    def embed(documents: list[str]) -> NDArray[np.float32]:
        found_DK = np.zeros((len(documents), table_VK.shape[1]), np.float32)
        for d, encoded in enumerate(tokenizer.encode_batch_fast(documents, add_special_tokens=False)):
            if encoded.ids:
                found_DK[d] = table_VK[np.asarray(encoded.ids)].mean(axis=0, dtype=np.float64)
        return found_DK

    return embed


@functools.lru_cache(maxsize=1)
def _encoder(folder: Path) -> Callable[[list[str]], NDArray[np.float32]]:
    torch, transformers = _torch()
    options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(folder), **options)
    model = transformers.AutoModel.from_pretrained(str(folder), use_safetensors=True, **options).eval()

    def embed(documents: list[str]) -> NDArray[np.float32]:
        parts = []
        for first in range(0, len(documents), _BATCH):
            batch = tokenizer(
                documents[first : first + _BATCH],
                padding=True,
                truncation=True,
                max_length=min(_MAX_TOKENS, tokenizer.model_max_length),
                return_tensors="pt",
            )
            with torch.inference_mode():
                states = model(**batch).last_hidden_state.float()
            mask = batch["attention_mask"].unsqueeze(-1).float()
            parts.append(((states * mask).sum(1) / mask.sum(1).clamp(min=1)).cpu().numpy())
        return np.concatenate(parts).astype(np.float32) if parts else np.zeros((0, 1), np.float32)

    return embed


def _torch() -> tuple[Any, Any]:
    try:
        import torch
        import transformers
    except ImportError as error:
        raise ResourceError(
            f"expected the packages of sentence encoders, found no {error.name}",
            where="semantic.embedding",
            hint="pip install 'prill[semantic]', or use `embedding: hashed`",
        ) from error
    return torch, transformers
