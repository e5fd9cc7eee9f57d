"""Fresh proxies: stacked models with random weights, one a seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from prill.lm.shape import Shape, flops_per_token

if TYPE_CHECKING:
    import torch

    from prill.lm.model import StackedLlama

__all__ = ["Fresh"]


@dataclass(frozen=True, kw_only=True)
class Fresh:
    """Models of one shape that start from their seeds; a `Start`.

    Args:
        shape: of every model.
        checkpoint_blocks: compute blocks again in the backward pass instead of keeping what lies within:
            less memory, about a third more time, the same models to the last bit.
    """

    shape: Shape
    checkpoint_blocks: bool = False

    @property
    def vocab_size(self) -> int:
        """Ids must be below it."""
        return self.shape.vocab_size

    @property
    def context(self) -> int:
        """The longest row, tokens."""
        return self.shape.seq_len

    @property
    def flops_per_token(self) -> int:
        """Of training, forward and backward, in rows of full length."""
        return flops_per_token(self.shape)

    @property
    def n_params(self) -> int:
        """Parameters of one model without embedding and head."""
        return self.shape.n_params

    def width(self) -> int:
        """Width of the hidden states."""
        return self.shape.d_model

    def learner(
        self, seeds: Sequence[int], *, n_extra: int, dtype: torch.dtype, device: torch.device
    ) -> StackedLlama:
        """One model a seed, with `n_extra` trailing columns of zeros."""
        from prill.lm.model import StackedLlama

        return StackedLlama.init(
            self.shape,
            seeds,
            n_extra=n_extra,
            dtype=dtype,
            device=device,
            checkpoint_blocks=self.checkpoint_blocks,
        )

    def as_record(self) -> dict[str, Any]:
        """What decides the models beside their seeds; blocks computed again change no bit."""
        return {"start": "fresh", "init": 2, "shape": asdict(self.shape)}
