"""Data-parallel training under torchrun: several processes, one trajectory.

    torchrun --nproc-per-node 8 -m prill train recipe.yaml

Every process holds all K models and reads its part of each step's rows, a function of its rank alone. Losses
and gradients are means over a process's own trained tokens; weighted by their numbers and summed they are
those of the whole step, whatever the parts (`World.reduce`). All processes get the same bits from that sum,
so they update the same weights to the same weights; nothing else is ever sent. The main process alone writes.
The result equals that of one process to rounding: sums are taken in another order.

    with joined(device) as world:
        first, count = world.part(step_rows.first_row, step_rows.n_rows)
        counted = Counted(objective)
        losses, gradient = learner.losses_and_gradient(learner.pack(rows), counted, at)
        losses, gradient = world.reduce(losses, gradient, counted.counts)

Exact are the token losses. Auxiliary losses and density terms, means over a process's rows, are weighted by
trained tokens like the rest, which differs from one process where parts hold unequal numbers of them.

K models, P parameters.
Source: the usual synchronous data parallelism; weighting by tokens: none.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray

from prill.errors import DataError, RecipeError, ResourceError
from prill.lm.objectives.objective import At, Objective, Terms
from prill.lm.objectives.plain import Plain
from prill.lm.packed import Packed

__all__ = ["Counted", "World", "joined"]

TIMEOUT = datetime.timedelta(hours=12)  # before the first step the main process reads all sources
NAMES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True, kw_only=True)
class World:
    """This process among those that train together; alone by default.

    Attributes:
        rank: number of this process, from 0.
        size: number of processes.
        local_rank: number of this process on its machine: which device it takes.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def is_main(self) -> bool:
        """This process writes checkpoints, metrics and models."""
        return self.rank == 0

    def device(self, device: torch.device) -> torch.device:
        """The device of this process: its own one of several, the given one if it has a number."""
        is_open = device.type == "cuda" and device.index is None and self.size > 1
        return torch.device("cuda", self.local_rank) if is_open else device

    def part(self, first: int, count: int) -> tuple[int, int]:
        """First and number of the rows that this process reads of `first` to `first + count`.

        Raises:
            RecipeError: there are fewer rows than processes.
        """
        if count < self.size:
            raise RecipeError(
                f"a step needs at least one row a process, found {count} rows and {self.size} processes",
                where="batches",
                hint=f"use at least {self.size} rows a step, or fewer processes",
            )
        start, stop = (count * rank // self.size for rank in (self.rank, self.rank + 1))
        return first + start, stop - start

    def reduce(
        self, losses: torch.Tensor, gradient: torch.Tensor, counts: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Losses and gradient of the whole step from those of the parts; the same bits in every process.

        Args:
            losses: mean over this process's trained tokens, (K,).
            gradient: of these means, (K, P); overwritten.
            counts: trained tokens of this process, (K,).
        Returns:
            Losses, fp64, (K,), and the gradient; 0 where no process trains a token.
        Raises:
            ResourceError: another process is gone.
        """
        if self.size == 1:
            return losses, gradient
        own = counts.to(losses.device, torch.float64)
        sums = torch.stack([losses.double() * own, own])
        self._sum(sums)
        total = sums[1].clamp_min(1.0)
        gradient.mul_((own / total).to(gradient.dtype)[:, None])
        self._sum(gradient)
        return sums[0] / total, gradient

    def gathered(self, own: NDArray[np.float64], first: int, total: int) -> NDArray[np.float64]:
        """Values of all rows of a step, (K, total), from those of this process, (K, b), at place `first`.

        Raises:
            ResourceError: another process is gone.
        """
        if self.size == 1:
            return own
        whole = torch.zeros(own.shape[0], total, dtype=torch.float64)
        whole[:, first : first + own.shape[1]] = torch.from_numpy(own)
        whole = self._on_device(whole)
        self._sum(whole)
        return np.asarray(whole.cpu().numpy())

    def agree(self, what: str, value: str) -> None:
        """Make sure that all processes hold the same value, such as where a checkpoint stands.

        Raises:
            DataError: they do not.
            ResourceError: another process is gone.
        """
        if self.size == 1:
            return
        digest = hashlib.sha256(value.encode()).digest()
        own = torch.tensor(list(digest[:7]), dtype=torch.float64)
        sums = self._on_device(torch.cat([own, own * own]))
        self._sum(sums)
        mean, square = sums.cpu().view(2, -1) / self.size
        if bool((square - mean * mean).abs().max() > 1e-6):
            raise DataError(
                f"all {self.size} processes must agree on {what}, found different ones",
                where=f"process {self.rank}",
                hint="give all processes the same folders, on a file system that they share",
            )

    def told(self, value: Any = None) -> Any:
        """What the main process gives, in every process: plain Python objects between processes of one start.

        Raises:
            ResourceError: another process is gone.
        """
        if self.size == 1:
            return value
        held = [value]
        try:
            dist.broadcast_object_list(held, src=0)
        except RuntimeError as error:
            raise ResourceError(
                f"process {self.rank} of {self.size} has lost another one ({_first_line(error)})",
                where="distributed training",
                hint="the message of the process that ended first says why; run again: it resumes",
            ) from error
        return held[0]

    def _on_device(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.cuda(self.local_rank) if dist.get_backend() == "nccl" else tensor

    def _sum(self, tensor: torch.Tensor) -> None:
        try:
            dist.all_reduce(tensor)
        except RuntimeError as error:
            raise ResourceError(
                f"process {self.rank} of {self.size} has lost another one ({_first_line(error)})",
                where="distributed training",
                hint="the message of the process that ended first says why; run again: it resumes",
            ) from error


class Counted:
    """An objective that remembers how many tokens of each model it trained: `counts`, int64, (K,)."""

    def __init__(self, objective: Objective | None) -> None:
        self._objective: Objective = objective or Plain()
        self.counts = torch.zeros(0, dtype=torch.int64)

    def n_extra(self, width: int) -> int:
        """E of the objective."""
        return self._objective.n_extra(width)

    def terms(self, hidden: torch.Tensor, batch: Packed, extra: torch.Tensor, at: At) -> Terms:
        """The objective's terms."""
        found = self._objective.terms(hidden, batch, extra, at)
        weights = batch.weights if found.weights is None else found.weights
        n_models, n_tokens = batch.targets.shape
        self.counts = (
            torch.full((n_models,), n_tokens, device=batch.targets.device)
            if weights is None
            else (weights != 0).sum(1)
        )
        return found

    def as_record(self) -> dict[str, Any]:
        """The objective's."""
        return self._objective.as_record()


@contextlib.contextmanager
def joined(device: torch.device, environment: Mapping[str, str] | None = None) -> Iterator[World]:
    """The world that torchrun describes in the environment, for the length of the block; else a world of one.

    Args:
        device: what is trained on: NCCL carries CUDA tensors, Gloo all others.
        environment: the process environment when None.
    Raises:
        RecipeError: the environment is incomplete or contradicts itself.
        ResourceError: the processes do not find each other, or there are fewer devices than processes.
    """
    world = _world(os.environ if environment is None else environment)
    if world.size == 1:
        yield world
        return
    is_cuda = device.type == "cuda"
    if is_cuda:
        if world.local_rank >= torch.cuda.device_count():
            raise ResourceError(
                f"process {world.local_rank} of this machine needs a device of its own, "
                f"found {torch.cuda.device_count()}",
                where="distributed training",
                hint="start fewer processes: torchrun --nproc-per-node",
            )
        torch.cuda.set_device(world.local_rank)
    try:
        dist.init_process_group(
            "nccl" if is_cuda else "gloo", rank=world.rank, world_size=world.size, timeout=TIMEOUT
        )
    except (RuntimeError, ValueError) as error:
        raise ResourceError(
            f"process {world.rank} of {world.size} cannot reach the others ({_first_line(error)})",
            where="distributed training",
            hint="start all processes with one torchrun command",
        ) from error
    try:
        yield world
    finally:
        dist.destroy_process_group()


def _world(environment: Mapping[str, str]) -> World:
    given = [name for name in NAMES if environment.get(name)]
    if "WORLD_SIZE" not in given or environment["WORLD_SIZE"] == "1":
        return World()
    missing = [name for name in NAMES if name not in given]
    try:
        rank, size, local = (int(environment.get(name, "-1")) for name in NAMES[:3])
    except ValueError:
        rank = size = local = -1
    if missing or not 0 <= rank < size or local < 0:
        found = {name: environment.get(name) for name in NAMES[:3]}
        raise RecipeError(
            f"distributed training needs {', '.join(NAMES)}, found {found}"
            + (f" without {', '.join(missing)}" if missing else ""),
            where="environment",
            hint="start with torchrun, or unset WORLD_SIZE",
        )
    return World(rank=rank, size=size, local_rank=local)


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0][:200]
