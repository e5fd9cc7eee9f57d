"""What this machine's torch can do: whether it is installed, which device, which precision.

Torch is an optional dependency and heavy to import, so nothing outside this room imports it at the top of a
file. `precision: auto` is resolved here, once, to a value that is recorded with the result: bf16 where the
processor multiplies it in hardware (CUDA, or a CPU with AVX512-BF16 or AMX), fp32 elsewhere.
"""

from __future__ import annotations

import ctypes
import importlib.util
from typing import TYPE_CHECKING, Literal

from prill.errors import RecipeError, ResourceError

if TYPE_CHECKING:
    import torch

__all__ = [
    "Precision",
    "compute_dtype",
    "keep_freed_memory",
    "require_torch",
    "resolve_device",
    "resolve_precision",
]

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4  # <malloc.h>

Precision = Literal["auto", "fp32", "bf16"]


def require_torch() -> None:
    """Fail early and clearly when torch is absent.

    Raises:
        ResourceError: torch is not installed.
    """
    if importlib.util.find_spec("torch") is None:
        raise ResourceError(
            "training and scoring need the package torch, found none",
            where="this Python environment",
            hint="install it with: pip install 'prill[train]'",
        )


def resolve_device(device: str) -> torch.device:
    """`auto` is the first CUDA device if there is one, else the CPU.

    Raises:
        ResourceError: a CUDA device is asked for and there is none.
    """
    import torch

    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ResourceError(f"device {device!r} was asked for, found no CUDA device", where="device")
    return torch.device(device)


def resolve_precision(precision: str, device: torch.device) -> Literal["fp32", "bf16"]:
    """The precision of matrix products: weights and moments are always kept in fp32.

    Raises:
        RecipeError: not one of auto, fp32, bf16.
    """
    import torch

    if precision == "fp32":
        return "fp32"
    if precision == "bf16":
        return "bf16"
    if precision != "auto":
        raise RecipeError(f"precision must be auto, fp32 or bf16, found {precision!r}", where="precision")
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    gains = any(_cpu_has(name) for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"))
    return "bf16" if device.type == "cpu" and gains else "fp32"


def compute_dtype(precision: Literal["fp32", "bf16"]) -> torch.dtype:
    """The torch type of a resolved precision."""
    import torch

    return torch.bfloat16 if precision == "bf16" else torch.float32


def _cpu_has(probe: str) -> bool:
    import torch

    known = getattr(torch.cpu, probe, None)
    return bool(known()) if known is not None else False


def keep_freed_memory() -> bool:
    """Ask glibc to keep freed memory in this process instead of handing it back at every step.

    A training step frees and takes the same tensors again; handing pages back and faulting them in costs a
    tenth of the time of small models. Changes the whole process, so a worker process calls it, a library
    function never does. No result depends on it.

    Returns:
        Whether it took effect: False where the C library is not glibc.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return False
    mallopt.argtypes, mallopt.restype = [ctypes.c_int, ctypes.c_int], ctypes.c_int
    wanted = ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, 2**31 - 1), (M_TOP_PAD, 64 << 20))
    taken = [mallopt(option, value) == 1 for option, value in wanted]
    return all(taken)
