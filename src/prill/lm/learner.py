"""What the training loop drives: models behind one flat buffer of weights, and where they come from.

The loop, the optimiser and the checkpoints know only the buffer; proxies, nested sizes, sparse models and
`transformers` bases differ in what they make of it. Axes: K models, N tokens, P parameters, E extra.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

if TYPE_CHECKING:
    import torch

    from prill.lm.data import Rows
    from prill.lm.model import Packed
    from prill.lm.objectives.objective import At, Objective

__all__ = ["Learner", "Start"]


class Learner(Protocol):
    """K models that train as one.

    Attributes:
        flat: their trained weights, fp32, (K, P + E); the last E columns belong to the objective.
        n_decayed: leading columns that weight decay acts on.
    """

    @property
    def flat(self) -> torch.Tensor: ...

    @property
    def n_decayed(self) -> int: ...

    @property
    def n_models(self) -> int: ...

    def copy(self) -> Self:
        """The same models with weights of their own."""
        ...

    def pack(self, rows: Rows) -> Packed:
        """Rows of shape (K, B, T) on the device."""
        ...

    def losses_and_gradient(
        self, batch: Packed, objective: Objective | None = None, at: At | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Loss of each model (K,) and the gradient of their sum, fp32, like `flat`."""
        ...

    def token_losses(self, batch: Packed) -> torch.Tensor:
        """Plain cross-entropy of every target, nats, fp32, (K, N)."""
        ...

    def save(self, folder: Path, k: int, meta: Mapping[str, Any]) -> list[Path]:
        """Write model k; returns the files."""
        ...


class Start(Protocol):
    """Where the models of a training come from.

    Attributes:
        vocab_size: ids must be below it.
        context: the longest row, tokens.
    """

    @property
    def vocab_size(self) -> int: ...

    @property
    def context(self) -> int: ...

    @property
    def flops_per_token(self) -> int:
        """Of training, forward and backward."""
        ...

    @property
    def n_params(self) -> int:
        """Parameters of one model without embedding and head: what scaling laws count."""
        ...

    def learner(
        self,
        seeds: Sequence[int],
        *,
        n_extra: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> Learner:
        """One model a seed, with `n_extra` trailing columns of zeros.

        Raises:
            PrillError: the weights cannot be read, or K models of this kind cannot be stacked.
        """
        ...

    def width(self) -> int:
        """Width of the hidden states."""
        ...

    def as_record(self) -> dict[str, Any]:
        """What decides the models, hashes of files included. JSON-able."""
        ...
