"""What this machine and this installation can do."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
from pathlib import Path

from prill import __version__

__all__ = ["examine"]

_EXTRAS = {
    "train": ("torch", "trains the proxies that prove a choice"),
    "clean": ("ftfy", "repairs mojibake; numbering plans and public suffixes in full"),
    "html": ("resiliparse", "extracts the text of HTML pages"),
    "semantic": ("transformers", "sentence encoders for documents that say the same"),
    "hub": ("huggingface_hub", "reads hf:// paths"),
    "s3": ("s3fs", "reads s3:// paths"),
    "gcs": ("gcsfs", "reads gs:// paths"),
}


def examine() -> str:
    """Machine, versions and extras as a text, one fact a line."""
    return "\n".join([*_machine(), "", *_packages(), "", *_extras()])


def _machine() -> list[str]:
    import psutil

    memory = psutil.virtual_memory()
    free = shutil.disk_usage(Path.cwd()).free
    return [
        f"python     {platform.python_version()} on {platform.system()} {platform.machine()}",
        f"cores      {len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()}",
        f"memory     {memory.available / 1e9:.1f} GB free of {memory.total / 1e9:.1f} GB",
        f"disk       {free / 1e9:.1f} GB free here",
    ]


def _packages() -> list[str]:
    names = ("pyarrow", "numpy", "numba", "tokenizers", "pydantic")
    return [f"{'prill':<10} {__version__}", *(f"{name:<10} {_version(name)}" for name in names)]


def _extras() -> list[str]:
    lines = []
    for extra, (module, purpose) in _EXTRAS.items():
        has = importlib.util.find_spec(module) is not None
        state = f"yes, {module} {_version(module)}" if has else f"no: pip install 'prill[{extra}]'"
        lines.append(f"{extra:<10} {purpose}: {state}")
    return [*lines, *_arithmetic()]


def _arithmetic() -> list[str]:
    if importlib.util.find_spec("torch") is None:
        return []
    from prill.lm.backend import resolve_device, resolve_precision

    device = resolve_device("auto")
    return [f"{'proxies':<10} would run on {device} in {resolve_precision('auto', device)}"]


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name.replace("_", "-"))
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
