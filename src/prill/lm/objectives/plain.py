"""Maximum likelihood: the mean cross-entropy of the tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from prill.lm.catalog import record
from prill.lm.objectives.objective import At, Terms

if TYPE_CHECKING:
    import torch

    from prill.lm.packed import Packed

__all__ = ["Plain"]


@dataclass(frozen=True, kw_only=True)
class Plain:
    """Maximum likelihood: the weighted mean cross-entropy of the tokens."""

    def n_extra(self, width: int) -> int:
        return 0

    def terms(self, hidden: torch.Tensor, batch: Packed, extra: torch.Tensor, at: At) -> Terms:
        """Nothing beside the cross-entropy."""
        return Terms()

    def as_record(self) -> dict[str, Any]:
        return record(self, "plain", 1)
