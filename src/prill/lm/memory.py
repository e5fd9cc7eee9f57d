"""A training step that does not fit into memory, told with the size of one that does.

What a step takes beside what is held already (weights, moments) is a gradient, a working copy and the
activations, and only these grow with the rows. When memory runs out, what the step had taken is let go, what
is then free is measured, and the estimate, raised to what has just failed, says how many rows fit.

Axes: K models, B rows, T tokens a row.
"""

from __future__ import annotations

import contextlib
import ctypes
import resource
import traceback
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import torch

from prill.errors import ResourceError
from prill.lm.shape import Shape

if TYPE_CHECKING:
    from prill.lm.learner import Learner

__all__ = ["Needs", "advice", "fitting_rows", "free_bytes", "memory_errors", "step_needs"]

Needs = Callable[[int, int], int]
"""(models, rows) -> bytes of a step, beside what stays."""

ROOM = 0.9  # of what is free
LOGITS = 128 << 20  # chunks of logits and what little else there is


@contextlib.contextmanager
def memory_errors(
    learner: Learner, *, n_rows: int, row_tokens: int, where: str = "training"
) -> Iterator[None]:
    """Within, running out of memory is a `ResourceError` that says what would fit.

    Args:
        learner: what the step is made with.
        n_rows: B of the step.
        row_tokens: T of the step.
        where: named in the error.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not _is_memory(error):
            raise
        traceback.clear_frames(error.__traceback__)  # their tensors would count as taken
        told = str(error).splitlines()[0][:200]
    else:
        return
    device = learner.flat.device
    if device.type == "cuda":
        torch.cuda.empty_cache()
    free = free_bytes(device)
    needs = step_needs(learner, row_tokens=row_tokens)
    raise ResourceError(
        f"memory must hold a step of {learner.n_models} models x {n_rows} rows x {row_tokens} tokens, "
        f"about {_gib(needs(learner.n_models, n_rows))}, found {_gib(free)} free ({told})",
        where=where,
        hint=advice(needs, free, n_models=learner.n_models, n_rows=n_rows),
    )


def fitting_rows(needs: Needs, free: int, *, n_models: int, n_rows: int) -> int:
    """The largest number of rows below `n_rows` that fits; 0: not even one.

    Args:
        needs: estimate of a step.
        free: bytes.
        n_models: K.
        n_rows: B that has failed, so the estimate of it is taken to be at least what is free.
    """
    correction = max(1.0, free / max(1, needs(n_models, n_rows)))
    fits = [rows for rows in range(1, n_rows) if needs(n_models, rows) * correction <= ROOM * free]
    return max(fits, default=0)


def step_needs(learner: Learner, *, row_tokens: int) -> Needs:
    """The estimate for a learner and a row length: proxies by their shape, bases by their layers."""
    shape = getattr(learner, "shape", None)
    width = 2 if getattr(learner, "dtype", torch.float32) == torch.bfloat16 else 4
    n_columns = int(learner.flat.shape[1])
    fixed = n_columns * (4 + (width if width == 2 else 0))
    if isinstance(shape, Shape):
        row = _row_bytes(replace(shape, seq_len=row_tokens), width)
    else:  # what does not say is taken to need as much a row as its weights
        told = getattr(learner, "row_bytes", None)
        row = n_columns * 4 if told is None else int(told(row_tokens))

    def needs(n_models: int, n_rows: int) -> int:
        return n_models * (fixed + n_rows * row) + LOGITS

    return needs


def free_bytes(device: torch.device) -> int:
    """Bytes that this process can still take on the device: what is free, within its limits."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    found = [int(psutil.virtual_memory().available)]
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY:
        found.append(limit - int(psutil.Process().memory_info().vms))
    group = _group_free()
    if group is not None:
        found.append(group)
    return max(0, min(found)) + _kept_by_malloc()


def _row_bytes(shape: Shape, width: int) -> int:
    """Activations of one row: about 16 d + 6 f values a token and layer, and attention's scores."""
    values = shape.seq_len * shape.n_layers * (16 * shape.d_model + 6 * shape.d_ff)
    scores = shape.n_layers * 2 * shape.n_heads * shape.seq_len**2 if shape.seq_len <= 256 else 0
    return (values + scores) * width + shape.seq_len**2 * width


def advice(needs: Needs, free: int, *, n_models: int, n_rows: int) -> str:
    """What to do when a step of `n_models` x `n_rows` has failed; arguments as in `fitting_rows`."""
    rows = fitting_rows(needs, free, n_models=n_models, n_rows=n_rows)
    if rows:
        return f"{rows} {'row' if rows == 1 else 'rows'} a step would fit"
    correction = max(1.0, free / max(1, needs(n_models, n_rows)))
    models = max((k for k in range(1, n_models) if needs(k, n_rows) * correction <= ROOM * free), default=0)
    if models:
        return f"stacks of {models} {'model' if models == 1 else 'models'} would fit"
    return "not even one row fits: use shorter rows, gradient checkpointing, bf16 or a smaller model"


def _is_memory(error: BaseException) -> bool:
    """Torch has a class for CUDA only; on a CPU its words must do."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    said = str(error)
    return "can't allocate memory" in said or "out of memory" in said or "not enough memory" in said


def _group_free() -> int | None:
    """What a container's limit leaves; None: no limit, or not on Linux."""
    folder = Path("/sys/fs/cgroup")
    try:
        limit = (folder / "memory.max").read_text().strip()
        taken = int((folder / "memory.current").read_text())
    except (OSError, ValueError):
        return None
    return None if limit == "max" else int(limit) - taken


def _kept_by_malloc() -> int:
    """Freed bytes that the C library keeps for this process; 0 where it is not glibc."""
    try:
        ask = ctypes.CDLL(None).mallinfo2
    except (OSError, AttributeError, TypeError):
        return 0
    ask.restype = _MallInfo2
    return int(ask().fordblks)


class _MallInfo2(ctypes.Structure):
    """struct mallinfo2 of <malloc.h>; fordblks are freed bytes that malloc holds."""

    _fields_ = (
        *((name, ctypes.c_size_t) for name in ("arena", "ordblks", "smblks", "hblks", "hblkhd")),
        *((name, ctypes.c_size_t) for name in ("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")),
    )


def _gib(n_bytes: int) -> str:
    return f"{n_bytes / 2**30:.1f} GiB"
