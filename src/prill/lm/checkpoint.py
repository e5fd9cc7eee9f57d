"""One trained model in a folder: `model.safetensors` and `model.json`.

The JSON holds the shape, the free-form `meta`, and nothing executable; it is repeated in the header of the
weights, which is what counts. Folders of pickled weights are refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from prill.errors import DataError, RecipeError
from prill.lm.model import StackedLlama
from prill.lm.parameters import layout, views
from prill.lm.shape import Shape
from prill.lm.tensorfile import read_header, read_tensors, require_finite, write_tensors
from prill.run.atomic import atomic_write

__all__ = ["load_model", "read_shape", "save_model"]

WEIGHTS, CONFIG = "model.safetensors", "model.json"
PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt")


def save_model(
    folder: Path, model: StackedLlama, k: int, meta: Mapping[str, Any] | None = None
) -> tuple[Path, Path]:
    """Write model `k` of a stack, fp32; returns the two files.

    Raises:
        ResourceError: the disk is full or not writable.
    """
    config = {"format": 1, "shape": asdict(model.shape), "meta": dict(meta or {})}
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: view[k] for name, view in views(model.flat, model.shape).items()}
    write_tensors(folder / WEIGHTS, tensors, config)
    atomic_write(folder / CONFIG, json.dumps(config, indent=1, sort_keys=True).encode() + b"\n")
    return folder / WEIGHTS, folder / CONFIG


def load_model(
    folder: Path, *, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> tuple[StackedLlama, dict[str, Any]]:
    """A stack of one model, and its `meta`.

    Raises:
        DataError: no model is there, it is pickled, damaged, not finite, or does not have the parameters of
            its shape.
    """
    path = _weights_of(folder)
    tensors, config = read_tensors(path)
    shape = _shape_of(config, path)
    flat = torch.empty(1, shape.n_total)
    _fill(flat, shape, tensors, path)
    return StackedLlama(shape, flat.to(device), dtype=dtype), dict(config.get("meta", {}))


def read_shape(folder: Path) -> Shape:
    """The shape of a stored model, from the header of its weights, which are not read.

    Raises:
        DataError: no model is there, it is pickled or damaged.
    """
    path = _weights_of(folder)
    return _shape_of(read_header(path), path)


def _weights_of(folder: Path) -> Path:
    path = folder / WEIGHTS
    if not path.is_file():
        pickled = sorted(p.name for p in folder.glob("*") if p.suffix in PICKLES)
        found = f"found only pickled weights ({pickled[0]}), which can run code" if pickled else "found none"
        raise DataError(
            f"expected {WEIGHTS}, {found}", where=str(folder), hint="convert the model to safetensors"
        )
    return path


def _shape_of(config: Mapping[str, Any], path: Path) -> Shape:
    try:
        return Shape(**config["shape"])
    except (KeyError, TypeError, RecipeError) as error:
        raise DataError(f"expected a model's shape in the header, found {error}", where=str(path)) from error


def _fill(flat: torch.Tensor, shape: Shape, tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    expected = {spec.name: spec.shape for spec in layout(shape)}
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if expected != found:
        wrong = sorted(
            name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name)
        )
        raise DataError(
            f"expected parameter {wrong[0]} of shape {expected.get(wrong[0])}, found {found.get(wrong[0])}",
            where=str(path),
        )
    for name, view in views(flat, shape).items():
        require_finite(name, tensors[name], path)
        view[0].copy_(tensors[name])
