"""Trained bases back on disk: a folder that `transformers` reads, adapters, adapters merged.

Everything is written in fp32 under temporary names and renamed, configuration last, so a folder with
config.json is whole. Frozen weights that were cast for computing are read again from the base, so they keep
their bits. Merging is in fp32: low-rank changes are smaller than bf16's steps.
"""

from __future__ import annotations

import importlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from prill.errors import DataError
from prill.lm.bases.adapters import without_warnings
from prill.lm.bases.folder import TOKENIZER_FILES, read_json
from prill.lm.bases.loading import load_base, quiet
from prill.lm.bases.skeleton import Skeleton
from prill.run.atomic import TEMPORARY_PREFIX, atomic_write, machine_errors, sync_folder

__all__ = ["merge_adapters", "read_adapters", "save_adapters", "save_base", "write_model"]

META = "prill.json"
ADAPTERS, ADAPTER_CONFIG = "adapter_model.safetensors", "adapter_config.json"
SHARD = "4GB"


def save_base(
    skeleton: Skeleton, flat: torch.Tensor, folder: Path, meta: Mapping[str, Any], *, shard: str = SHARD
) -> list[Path]:
    """Write a whole model with its tokenizer; returns the files.

    Args:
        skeleton: of the model.
        flat: its trained weights, (1, P + E).
        folder: made if absent.
        meta: kept in `prill.json`.
        shard: largest weight file.
    Raises:
        ResourceError: the disk is full or not writable.
    """
    model = skeleton.model
    trained = {slot.name: slot.of(flat) for slot in skeleton.flat.slots}
    known = dict(model.named_parameters())
    if skeleton.flat.dtype != torch.float32 and len(trained) < len(known):
        source = load_base(skeleton.folder, trust_remote_code=skeleton.trust_remote_code)
        known = dict(source.named_parameters())
    state = {name: trained.get(name, parameter.data) for name, parameter in known.items()}
    return write_model(model, state, skeleton.folder, folder, meta, shard=shard)


def save_adapters(
    wrapped: Any, trained: Mapping[str, torch.Tensor], source: Path, folder: Path, meta: Mapping[str, Any]
) -> list[Path]:
    """Write adapters alone, as peft reads them; returns the files.

    Args:
        wrapped: peft's wrapper.
        trained: the adapters by the names of the model inside it.
        source: folder of the base, which the adapters name.
        folder: made if absent.
        meta: kept in `prill.json`.
    Raises:
        ResourceError: the disk is full or not writable.
    """
    state = {f"base_model.model.{name}": value.detach().cpu().clone() for name, value in trained.items()}

    def fill(temporary: Path) -> None:
        wrapped.save_pretrained(temporary, state_dict=state)
        (temporary / "README.md").unlink(missing_ok=True)
        config = read_json(temporary / ADAPTER_CONFIG) | {"base_model_name_or_path": str(source)}
        _write_json(temporary / ADAPTER_CONFIG, config)
        _write_json(temporary / META, meta)

    return _moved(folder, fill, last=ADAPTER_CONFIG)


def merge_adapters(
    adapters: Path, folder: Path, *, base: Path | None = None, trust_remote_code: bool = False
) -> list[Path]:
    """Add adapters to their base in fp32 and write the sum as a plain model; returns the files.

    Args:
        adapters: what `save_adapters` or peft wrote, in safetensors.
        folder: made if absent.
        base: default: the folder that the adapters name.
        trust_remote_code: the base's own code may run.
    Raises:
        DataError: adapters or base are damaged, pickled, or do not fit each other.
    """
    wrapped, source = read_adapters(adapters, base=base, trust_remote_code=trust_remote_code)
    model = wrapped.merge_and_unload()
    state = {name: parameter.data for name, parameter in model.named_parameters()}
    meta = read_json(adapters / META) if (adapters / META).is_file() else {}
    return write_model(model, state, source, folder, meta)


def read_adapters(
    adapters: Path, *, base: Path | None = None, trust_remote_code: bool = False
) -> tuple[Any, Path]:
    """peft's wrapper around the base in fp32, and the base's folder.

    Raises:
        DataError: as `merge_adapters`.
    """
    peft: Any = importlib.import_module("peft")
    config = read_json(adapters / ADAPTER_CONFIG)
    if not (adapters / ADAPTERS).is_file():
        raise DataError(f"expected {ADAPTERS}, found none", where=str(adapters))
    source = base or Path(str(config.get("base_model_name_or_path")))
    if not source.is_dir():
        raise DataError(
            f"expected the base of the adapters as a local folder, found none at {str(source)!r}",
            where=str(adapters / ADAPTER_CONFIG),
            hint="name the folder of the base",
        )
    model = load_base(source, trust_remote_code=trust_remote_code)
    try:
        with torch.random.fork_rng(devices=[]), without_warnings():
            wrapped = peft.PeftModel.from_pretrained(model, str(adapters), autocast_adapter_dtype=False)
    except (RuntimeError, ValueError, KeyError, TypeError) as error:
        told = " ".join(str(error).split())[:300]
        raise DataError(f"expected adapters of this base, found: {told}", where=str(adapters)) from error
    return wrapped.eval(), source


def write_model(
    model: Any,
    state: Mapping[str, torch.Tensor],
    source: Path,
    folder: Path,
    meta: Mapping[str, Any],
    *,
    shard: str = SHARD,
) -> list[Path]:
    """Write tensors as a model of this class; the library writes names, shards and configuration.

    Args:
        model: says what to write; its own weights are not read.
        state: parameters by name, without those that repeat others; buffers are the model's.
        source: folder whose tokenizer goes along.
        folder, meta, shard: as in `save_base`.
    """
    buffers = {name: value for name, value in model.state_dict().items() if name not in _parameters(model)}
    state = {**state, **buffers}
    # values of their own: the library would keep views of one buffer together
    whole = {name: value.detach().cpu().clone() for name, value in state.items()}

    def fill(temporary: Path) -> None:
        with quiet():
            model.save_pretrained(temporary, state_dict=whole, max_shard_size=shard)
        config = read_json(temporary / "config.json") | {"dtype": "float32"}
        _write_json(temporary / "config.json", config)
        for name in (*TOKENIZER_FILES, "generation_config.json"):
            if (source / name).is_file():
                shutil.copyfile(source / name, temporary / name)
        _write_json(temporary / META, meta)

    return _moved(folder, fill, last="config.json")


def _moved(folder: Path, fill: Any, *, last: str) -> list[Path]:
    """Files that `fill` makes, moved into a folder one by one, the one that makes it whole at the end."""
    temporary = folder / f"{TEMPORARY_PREFIX}model-{os.getpid()}"
    with machine_errors(folder):
        temporary.mkdir(parents=True, exist_ok=True)
        try:
            fill(temporary)
            names = sorted((p.name for p in temporary.iterdir()), key=lambda name: (name == last, name))
            for old in folder.glob("*.safetensors*"):
                if old.name not in names:
                    old.unlink()
            for name in names:
                with (temporary / name).open("rb") as stream:
                    os.fsync(stream.fileno())
                (temporary / name).replace(folder / name)
            sync_folder(folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return [folder / name for name in names]


def _write_json(file: Path, content: Mapping[str, Any]) -> None:
    atomic_write(file, json.dumps(dict(content), indent=2, sort_keys=True).encode() + b"\n")


def _parameters(model: Any) -> set[str]:
    """Every name of every parameter, also those that repeat another."""
    return {name for name, _ in model.named_parameters(remove_duplicate=False)}
