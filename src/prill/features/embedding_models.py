"""Models that turn token ids into vectors: a table of token vectors, or an encoder of `transformers`.

Both read folders of the user: tokenizer.json, model.safetensors and, for encoders, config.json. Nothing is
fetched, nothing pickled is read, and code in a folder never runs: a model that needs it is refused by name.

Legend: D documents, K dimensions, V vocabulary, B rows of a batch, T tokens.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from prill.errors import DataError, ResourceError

__all__ = [
    "MAX_TOKENS",
    "Pooling",
    "TokenModel",
    "check_encoder",
    "hidden_size",
    "n_numbers",
    "open_model",
    "stored_pooling",
]

Pooling: TypeAlias = Literal["mean", "first"]

MAX_TOKENS = 512
"""What an encoder reads of a text at most, special tokens included."""

_BATCH = 32
_PLENTY = 1 << 20  # what tokenizers say that know no limit is above this


class TokenModel(Protocol):
    """What gives token ids vectors."""

    n_dimensions: int
    max_tokens: int
    """The most ids of a document that count, without special tokens."""

    def tokens(self, documents: list[str]) -> list[list[int]]:
        """Ids of whole documents, without special tokens."""
        ...

    def vectors(self, ids: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """float32, shape (D, K); zeros where there are no ids."""
        ...


@functools.lru_cache(maxsize=2)
def open_model(kind: Literal["static", "encoder"], folder: Path, pooling: Pooling) -> TokenModel:
    """The model in a folder, loaded once a process.

    Raises:
        DataError: what lies there is not such a model.
    """
    return _Static(folder) if kind == "static" else _Encoder(folder, pooling)


def stored_pooling(folder: Path) -> Pooling:
    """What a folder in the layout of sentence-transformers says of its pooling; else the mean."""
    path = folder / "1_Pooling" / "config.json"
    return "first" if path.is_file() and _json(path).get("pooling_mode_cls_token") else "mean"


def check_encoder(folder: Path) -> None:
    """Refuse what cannot be an encoder before anything runs.

    Raises:
        DataError: config.json is missing or no JSON, or the model needs code of its folder.
        ResourceError: the packages are missing.
    """
    _, transformers = _libraries()
    config = _json(folder / "config.json")
    if config.get("model_type") not in transformers.CONFIG_MAPPING:
        code = ", which brings code of its own; that is never run" if "auto_map" in config else ""
        raise DataError(
            f"expected an encoder that transformers {transformers.__version__} knows, "
            f"found {config.get('model_type')!r}{code}",
            where=str(folder),
            hint="take a model of a known architecture, or `embedding: hashed`",
        )


def hidden_size(kind: Literal["static", "encoder"], folder: Path) -> int:
    """K of a model, from its files, without loading it.

    Raises:
        DataError: the files do not say.
    """
    if kind == "static":
        from safetensors import safe_open

        path = folder / "model.safetensors"
        with safe_open(path, framework="np") as stored:
            names = list(stored.keys())
            if "embeddings" not in names:
                message = f"expected a tensor `embeddings`, found {', '.join(sorted(names)[:5])}"
                raise DataError(message, where=str(path))
            return int(stored.get_slice("embeddings").get_shape()[1])
    _, transformers = _libraries()
    config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    return int(config.hidden_size)


def n_numbers(folder: Path) -> int:
    """How many numbers model.safetensors holds, from its header."""
    from safetensors import safe_open

    with safe_open(folder / "model.safetensors", framework="np") as stored:
        return sum(math.prod(stored.get_slice(name).get_shape()) for name in stored.keys())  # noqa: SIM118


class _Tokenizer:
    def __init__(self, folder: Path) -> None:
        from tokenizers import Tokenizer

        self._tokenizer: Any = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.encode_special_tokens = True  # do not read special tokens out of text
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()

    def tokens(self, documents: list[str]) -> list[list[int]]:
        found = self._tokenizer.encode_batch_fast(documents, add_special_tokens=False)
        return [encoded.ids for encoded in found]

    def special_ids(self) -> tuple[list[int], list[int]]:
        """Ids before and behind those of a document."""
        bare = self._tokenizer.encode("a", add_special_tokens=False).ids
        full = self._tokenizer.encode("a").ids
        for start in range(len(full) - len(bare) + 1):
            if full[start : start + len(bare)] == bare:
                return full[:start], full[start + len(bare) :]
        return [], []


class _Static(_Tokenizer):
    """The mean of a document's token vectors."""

    max_tokens = _PLENTY

    def __init__(self, folder: Path) -> None:
        from safetensors import safe_open

        super().__init__(folder)
        self.n_dimensions = hidden_size("static", folder)
        with safe_open(folder / "model.safetensors", framework="np") as stored:
            self._table_VK = np.asarray(stored.get_tensor("embeddings"), np.float32)

    def vectors(self, ids: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        found_DK = np.zeros((len(ids), self.n_dimensions), np.float32)
        for d, row in enumerate(ids):
            if row:
                found_DK[d] = self._table_VK[np.asarray(row)].mean(axis=0, dtype=np.float64)
        return found_DK


class _Encoder(_Tokenizer):
    """The mean of an encoder's last states, or the first of them; long rows are batched with long rows."""

    def __init__(self, folder: Path, pooling: Pooling) -> None:
        super().__init__(folder)
        self._pooling = pooling
        self._model, config = _load(folder)
        self._before, self._behind = self.special_ids()
        self._pad = int(config.pad_token_id or 0)
        stated = _stated_length(folder)
        places = int(getattr(config, "max_position_embeddings", _PLENTY) or _PLENTY)
        n_special = len(self._before) + len(self._behind)
        self.max_tokens = min(MAX_TOKENS, stated, places) - n_special
        self.n_dimensions = int(config.hidden_size)

    def vectors(self, ids: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        found_DK = np.zeros((len(ids), self.n_dimensions), np.float32)
        rows = sorted((row for row in range(len(ids)) if ids[row]), key=lambda row: (len(ids[row]), row))
        for first in range(0, len(rows), _BATCH):
            batch = rows[first : first + _BATCH]
            found_DK[batch] = self._of_batch([ids[row][: self.max_tokens] for row in batch])
        return found_DK

    def _of_batch(self, ids: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        torch, _ = _libraries()
        rows = [[*self._before, *row, *self._behind] for row in ids]
        longest = max(len(row) for row in rows)
        tokens_BT = torch.tensor([row + [self._pad] * (longest - len(row)) for row in rows])
        mask_BT = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
        with torch.inference_mode():
            states = self._model(input_ids=tokens_BT, attention_mask=mask_BT).last_hidden_state.float()
        if self._pooling == "first":
            return np.asarray(states[:, 0].numpy(), np.float32)
        weight = mask_BT.unsqueeze(-1).float()
        return np.asarray(((states * weight).sum(1) / weight.sum(1)).numpy(), np.float32)


def _load(folder: Path) -> tuple[Any, Any]:
    """The model, whole, and its configuration."""
    _, transformers = _libraries()
    from prill.lm.bases.loading import quiet

    check_encoder(folder)
    try:
        with quiet():
            model, info = transformers.AutoModel.from_pretrained(
                str(folder),
                use_safetensors=True,
                local_files_only=True,
                trust_remote_code=False,
                output_loading_info=True,
            )
    except (ValueError, KeyError, TypeError, OSError, RuntimeError) as error:
        message = f"expected an encoder that transformers can load, found: {str(error).splitlines()[0][:200]}"
        raise DataError(message, where=str(folder)) from error
    missing = sorted(name for name in info["missing_keys"] if "pooler" not in name)
    if missing:
        raise DataError(f"expected the tensor {missing[0]}, found none", where=str(folder))
    return model.eval(), model.config


def _stated_length(folder: Path) -> int:
    path = folder / "tokenizer_config.json"
    stated = _json(path).get("model_max_length") if path.is_file() else None
    return int(stated) if isinstance(stated, int | float) and stated < _PLENTY else _PLENTY


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(f"expected {path.name}, found none", where=str(path.parent)) from error
    except ValueError as error:
        raise DataError("expected JSON, found something else", where=str(path)) from error
    if not isinstance(found, dict):
        raise DataError("expected a JSON object, found something else", where=str(path))
    return found


def _libraries() -> tuple[Any, Any]:
    try:
        import torch
        import transformers
    except ImportError as error:
        raise ResourceError(
            f"expected the packages of sentence encoders, found no {error.name}",
            where="embedding",
            hint="pip install 'prill[semantic]', or use `embedding: hashed`",
        ) from error
    return torch, transformers
