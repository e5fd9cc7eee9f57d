"""Loss and gradient of a small stack as one CUDA graph, so that the host no longer launches every kernel.

This was written without a GPU at hand and has never been run on one: only the way around it, taken where it
is off or the model is not on CUDA, is tested. No training uses it; `bench/gpu.py --graphs` does.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch

from prill.lm.model import StackedLlama
from prill.lm.packed import Packed

__all__ = ["GraphedStack"]

WARM_UP = 3  # passes before the recording, on a stream of their own, as torch asks


class GraphedStack:
    """A stack whose `losses_and_gradient` is recorded at its first batch and replayed for others like it.

    A batch of other sizes, or with soft labels, takes the ordinary way. What is returned is overwritten by
    the next call. Attention goes by the mask of whole rows, whose size does not change from batch to batch,
    so this suits short rows. Weights may change between calls in place only, as the optimiser does.

    Args:
        model: on CUDA, or it is never recorded.
        is_on: False: always the ordinary way.
    """

    def __init__(self, model: StackedLlama, *, is_on: bool = True) -> None:
        self.model = model
        self.is_on = is_on and model.flat.device.type == "cuda"
        self._recorded: tuple[torch.cuda.CUDAGraph, Packed, tuple[torch.Tensor, torch.Tensor]] | None = None

    def losses_and_gradient(self, batch: Packed) -> tuple[torch.Tensor, torch.Tensor]:
        """As of the model without an objective: losses, (K,), and gradient, (K, P + E)."""
        if not self.is_on or batch.soft is not None:
            return self.model.losses_and_gradient(batch)
        if self._recorded is None:
            self._record(batch)
        assert self._recorded is not None
        graph, batch_kept, found = self._recorded
        kept, given = _tensors(batch_kept), _tensors(batch)
        if _sizes(kept) != _sizes(given):
            return self.model.losses_and_gradient(batch)
        for name, tensor in kept.items():
            tensor.copy_(given[name])
        graph.replay()
        return found

    def _record(self, batch: Packed) -> None:
        aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(WARM_UP):
                self.model.losses_and_gradient(_own(batch))
        torch.cuda.current_stream().wait_stream(aside)
        graph, kept = torch.cuda.CUDAGraph(), _own(batch)
        with torch.cuda.graph(graph):  # the mask is made within, from the segments of each batch
            found = self.model.losses_and_gradient(kept)
        self._recorded = graph, kept, found


def _tensors(batch: Packed) -> dict[str, torch.Tensor]:
    """What of a batch changes from step to step."""
    names = ("inputs", "targets", "segments", "positions", "visible", "weights")
    found = {name: getattr(batch, name) for name in names}
    return {name: tensor for name, tensor in found.items() if tensor is not None}


def _sizes(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in tensors.items()}


def _own(batch: Packed) -> Packed:
    """A copy in memory of its own, without a mask yet and without pieces, whose number changes."""
    copies: dict[str, Any] = {name: tensor.clone() for name, tensor in _tensors(batch).items()}
    return dataclasses.replace(batch, pieces=None, span=None, scores=None, **copies)
