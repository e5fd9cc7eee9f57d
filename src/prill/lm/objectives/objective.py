"""The contract of objectives: what is added to, or put in place of, the plain cross-entropy of a token.

Every model computes the hidden states, asks the objective for its `Terms`, and folds them into the one pass
over the head that never holds all logits:

    loss = sum over tokens of weight x [ (1 - share) token_loss(nll) + share CE(teacher, model) ] / n_trained
           + auxiliary loss

Here nll is -log p of the target. A token loss is any function of nll with its derivative (cross-entropy,
unlikelihood, weighting by reward, deformed logarithms), because the gradient on the logits is then
slope x (p - onehot). n_trained counts the tokens whose weight is not 0.

Axes: K models, N tokens, d width, V vocabulary, E extra parameters that belong to the objective.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch

    from prill.lm.model import Packed

__all__ = ["At", "Objective", "Terms", "TokenLoss"]

TokenLoss = Callable[["torch.Tensor", slice, slice], "tuple[torch.Tensor, torch.Tensor]"]
"""(nll of a chunk (k, n) fp32, which models, which tokens) -> (loss, d loss / d nll), both (k, n)."""

TeacherShares = Callable[[slice, slice], "torch.Tensor"]
"""(which models, which tokens) -> the teacher's probabilities of all tokens, (k, n, V), any float type."""


@dataclass(frozen=True, kw_only=True)
class At:
    """Where in training a step is: its number, and progress from 0 to 1 over the whole plan."""

    step: int
    progress: float


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What one step minimises beside plain cross-entropy; whatever is None is plain.

    Attributes:
        weights: in place of the rows' weights, fp32, (K, N).
        token_loss: the loss as a function of nll. Chunks come in any size and order, so values of its own
            are cut with the two slices.
        teacher_share: share of the teacher's term, the same for all tokens.
        teacher: the teacher's full distribution; None and a share above 0: the rows' `soft`.
        auxiliary: loss of each model, fp32, (K,), without gradient.
        hidden_gradient: of the auxiliary loss, (K, N, d).
        extra_gradient: of the auxiliary loss for the objective's own parameters, fp32, (K, E).
        density: weight of mean(h^2 / (h^2 + density_eps)) over the feed-forward activations h.
    """

    weights: torch.Tensor | None = None
    token_loss: TokenLoss | None = None
    teacher_share: float = 0.0
    teacher: TeacherShares | None = None
    auxiliary: torch.Tensor | None = None
    hidden_gradient: torch.Tensor | None = None
    extra_gradient: torch.Tensor | None = None
    density: float = 0.0
    density_eps: float = 1e-7


class Objective(Protocol):
    """A training objective. It may hold a frozen teacher, never state that changes."""

    def n_extra(self, width: int) -> int:
        """E: parameters of its own for models of this width; they start at 0 and do not decay."""
        ...

    def terms(self, hidden: torch.Tensor, batch: Packed, extra: torch.Tensor, at: At) -> Terms:
        """The terms of one step.

        Args:
            hidden: last hidden states behind the final norm, detached, (K, N, d).
            batch: the rows on the device; `batch.weights`, `.scores` and `.soft` are (K, N), or None.
            extra: its own parameters, fp32, (K, E).
            at: where in training.
        """
        ...

    def as_record(self) -> dict[str, Any]:
        """Name, version and settings: what decides the result. JSON-able."""
        ...
