"""Tensors and a little JSON in one safetensors file, written whole and checked when read.

One file means one rename, so weights, moments and counters can never disagree. The header carries the JSON
and a SHA-256 over it and over every tensor's name, type, shape and bytes; any flipped bit, cut or foreign
file is reported as a `DataError` that names the file. Nothing is ever unpickled.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from prill.errors import DataError, ResourceError
from prill.run.atomic import atomic_path

__all__ = ["read_header", "read_tensors", "require_finite", "write_tensors"]

JSON_KEY, DIGEST_KEY = "prill", "prill_sha256"


def write_tensors(path: Path, tensors: Mapping[str, torch.Tensor], meta: Mapping[str, Any]) -> None:
    """Write atomically. `meta` must be JSON-able.

    Raises:
        ResourceError: the disk is full or not writable.
    """
    kept = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    text = json.dumps(meta, sort_keys=True)
    header = {"format": "pt", JSON_KEY: text, DIGEST_KEY: _digest(kept, text)}
    with atomic_path(path) as temporary:
        try:
            save_file(kept, temporary, metadata=header)
            _order_header(temporary)
        except SafetensorError as error:
            raise ResourceError(
                f"the file could not be written: {error}",
                where=str(path),
                hint="check the free space and the limits",
            ) from error


def read_tensors(path: Path, *, is_own: bool = True) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Tensors with memory of their own, and the JSON.

    Args:
        path: the file.
        is_own: it must carry our checksum; without it there is nothing to check and the JSON is empty.

    Raises:
        DataError: the file is absent, is not one of Prill's safetensors files, or has changed since.
    """
    if not path.is_file():
        raise DataError("expected a safetensors file, found none", where=str(path))
    try:
        with safe_open(path, framework="pt") as stored:
            header = stored.metadata() or {}
            tensors = {name: stored.get_tensor(name).clone() for name in stored.keys()}  # noqa: SIM118
    except (SafetensorError, ValueError, OSError) as error:
        raise DataError(
            f"expected a whole safetensors file, found a damaged one ({error})",
            where=str(path),
            hint="delete it and run again",
        ) from error
    text = header.get(JSON_KEY)
    if not is_own and DIGEST_KEY not in header:
        return tensors, {}
    if text is None or header.get(DIGEST_KEY) != _digest(tensors, text):
        raise DataError(
            "the content differs from the checksum in its header: it was changed or damaged later",
            where=str(path),
            hint="delete it and run again",
        )
    return tensors, json.loads(text)


def read_header(path: Path) -> dict[str, Any]:
    """The JSON alone, unchecked: for what is needed before the tensors are read.

    Raises:
        DataError: the file is absent or is not one of Prill's safetensors files.
    """
    if not path.is_file():
        raise DataError("expected a safetensors file, found none", where=str(path))
    try:
        with safe_open(path, framework="pt") as stored:
            found = json.loads((stored.metadata() or {})[JSON_KEY])
    except (SafetensorError, ValueError, OSError, KeyError) as error:
        raise DataError(
            f"expected one of Prill's safetensors files, found another or a damaged one ({error})",
            where=str(path),
            hint="delete it and run again",
        ) from error
    return dict(found)


def require_finite(name: str, tensor: torch.Tensor, path: Path) -> None:
    """Raises DataError for weights that are not numbers: a model that has diverged."""
    finite = torch.isfinite(tensor)
    if not bool(finite.all()):
        raise DataError(
            f"weights must be finite, found {tensor[~finite].flatten()[0].item()} in {name}",
            where=str(path),
            hint="the model was saved after it had diverged, or the file is damaged",
        )


def _order_header(path: Path) -> None:
    """Sort the metadata, whose order the library leaves to chance: equal content must be equal bytes."""
    with path.open("r+b") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        ordered = {"__metadata__": dict(sorted(header.pop("__metadata__").items())), **header}
        text = json.dumps(ordered, separators=(",", ":"), ensure_ascii=False).encode()
        if len(text) <= size:
            file.seek(8)
            file.write(text.ljust(size))


def _digest(tensors: Mapping[str, torch.Tensor], text: str) -> str:
    seen = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        seen.update(f"|{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        seen.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return seen.hexdigest()
