"""The trained parameters of a torch module as views of one flat buffer.

The loop, the optimiser and the checkpoints know one fp32 row. In fp32 the module's parameters are views of
it, and their gradients views of the gradient, so nothing is copied. In bf16 the module computes with one
cast copy, made anew at each call; the embedding stays a view of the fp32 row, because a table is read by row
and its gradient is a sum over many tokens.

Order: embedding, head if it has weights of its own, other matrices; then vectors, which do not decay.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn

__all__ = ["FlatParameters", "Slot"]


@dataclass(frozen=True, kw_only=True)
class Slot:
    """One trained parameter and its columns of the flat buffer."""

    name: str
    parameter: nn.Parameter
    start: int
    stop: int
    shape: torch.Size

    def of(self, flat: torch.Tensor) -> torch.Tensor:
        """Its view of a buffer (1, P + E)."""
        return flat[0, self.start : self.stop].view(self.shape)


class FlatParameters:
    """Which parameters of a module are trained, and where each lies.

    Args:
        module: parameters with `requires_grad` are trained.
        embedding: the input table.
        head: the output table; the same parameter where it is tied.
        dtype: the compute type.
    Attributes:
        slots: in storage order.
        n_decayed: columns of matrices and tables.
        n_total: P.
    """

    def __init__(
        self, module: nn.Module, *, embedding: nn.Parameter, head: nn.Parameter, dtype: torch.dtype
    ) -> None:
        trained = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
        tables = [embedding, head]

        def rank(item: tuple[str, nn.Parameter]) -> int:
            place = next((i for i, table in enumerate(tables) if item[1] is table), None)
            return place if place is not None else 2 if item[1].dim() > 1 else 3

        slots: list[Slot] = []
        for name, parameter in sorted(trained, key=rank):
            start = slots[-1].stop if slots else 0
            stop = start + parameter.numel()
            slots.append(Slot(name=name, parameter=parameter, start=start, stop=stop, shape=parameter.shape))
        self.slots = tuple(slots)
        self.n_total = slots[-1].stop if slots else 0
        self.n_decayed = max((slot.stop for slot in slots if len(slot.shape) > 1), default=0)
        self.dtype = dtype
        self._plain = tuple(s for s in slots if dtype == torch.float32 or s.parameter is embedding)
        self._cast = tuple(s for s in slots if s not in self._plain)
        self._head = next((s for s in slots if s.parameter is head), None)
        self._embedding = next((s for s in slots if s.parameter is embedding), None)
        self._work: torch.Tensor | None = None
        self._loaded: tuple[torch.Tensor, int] | None = None

    def gather(self, *, n_extra: int, device: torch.device) -> torch.Tensor:
        """The module's present values, fp32, with zeros behind: (1, P + E)."""
        flat = torch.zeros(1, self.n_total + n_extra, device=device)
        for slot in self.slots:
            slot.of(flat).copy_(slot.parameter.detach())
        return flat

    def load(self, flat: torch.Tensor) -> None:
        """Let the module compute with these weights as they are now."""
        if self._loaded is not None and self._loaded[0] is flat and self._loaded[1] == flat._version:
            return
        self._loaded = flat, flat._version
        for slot in self.slots:
            slot.parameter.grad = None
        for slot in self._plain:
            slot.parameter.data = slot.of(flat)
        if not self._cast:
            return
        first, last = self._cast[0].start, self._cast[-1].stop
        if self._work is None or self._work.device != flat.device:
            self._work = torch.empty(last - first, dtype=self.dtype, device=flat.device)
            for slot in self._cast:
                part = self._work[slot.start - first : slot.stop - first]
                slot.parameter.data = part.view(slot.shape)
        self._work.copy_(flat[0, first:last])

    @contextmanager
    def gradients_in(self, gradient: torch.Tensor) -> Iterator[None]:
        """Within, `backward` adds to `gradient`, like the flat buffer; the head's part is the caller's."""
        for slot in self._plain:
            slot.parameter.grad = slot.of(gradient)
        body = [slot for slot in self._cast if slot is not self._head]
        scratch = None
        if body:
            first, last = body[0].start, body[-1].stop
            scratch = torch.zeros(last - first, dtype=self.dtype, device=gradient.device)
            for slot in body:
                part = scratch[slot.start - first : slot.stop - first]
                slot.parameter.grad = part.view(slot.shape)
        try:
            yield
            if scratch is not None:
                gradient[0, first:last].copy_(scratch)
        finally:
            for slot in self.slots:
                slot.parameter.grad = None

    def head_part(self, buffer: torch.Tensor) -> torch.Tensor | None:
        """The head's view of a buffer, (1, V, d); None where the head is not trained."""
        return None if self._head is None else self._head.of(buffer)[None]
