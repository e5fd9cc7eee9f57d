"""Any objective, with a note of every token's cross-entropy: what a feed that learns from losses is told.

The head hands the negative log-likelihood of each chunk of tokens to the objective's token loss, so noting it
there costs a copy and no pass of its own; loss and gradient stay what they are without.

Axes: K models, B base rows, N tokens.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from prill.errors import InternalError
from prill.lm.objectives.objective import At, Objective, Terms
from prill.lm.objectives.plain import Plain
from prill.lm.packed import Packed

__all__ = ["Noted"]


class Noted:
    """An objective that remembers what its last batch cost, token by token."""

    def __init__(self, objective: Objective | None) -> None:
        self._objective: Objective = objective or Plain()
        self._nll = torch.zeros(0, 0)
        self._n_missing = 0

    def n_extra(self, width: int) -> int:
        """E of the objective."""
        return self._objective.n_extra(width)

    def terms(self, hidden: torch.Tensor, batch: Packed, extra: torch.Tensor, at: At) -> Terms:
        """The objective's terms, with a token loss that notes what it is given."""
        found = self._objective.terms(hidden, batch, extra, at)
        self._nll = torch.zeros(batch.targets.shape, device=hidden.device)
        self._n_missing = batch.targets.numel()

        def token_loss(nll: torch.Tensor, models: slice, tokens: slice) -> tuple[torch.Tensor, torch.Tensor]:
            if self._n_missing:  # sizes nested in the model come by again, after it
                self._nll[models, tokens] = nll
                self._n_missing -= nll.numel()
            if found.token_loss is not None:
                return found.token_loss(nll, models, tokens)
            return nll, torch.ones_like(nll)

        return dataclasses.replace(found, token_loss=token_loss)

    def row_losses(self, batch: Packed, n_rows: int) -> NDArray[np.float64]:
        """Mean cross-entropy of each base row over its tokens whose weight is not 0, nats, (K, B).

        NaN for a row without such a token. A row's weight does not enter: it is the same for all its tokens.

        Args:
            batch: what was trained on.
            n_rows: B base rows in it, which may have been cut into shorter ones.
        Raises:
            InternalError: the learner did not pass through the head as a whole.
        """
        if self._n_missing:
            raise InternalError(
                f"expected the loss of every token, {self._n_missing} are missing",
                where="training",
                hint="this kind of model cannot tell a feed its losses",
            )
        nll = self._nll.double().view(batch.n_models, n_rows, -1)
        if batch.weights is None:
            return np.asarray(nll.mean(2).cpu().numpy())
        is_trained = (batch.weights != 0).view(nll.shape)
        sums, counts = torch.where(is_trained, nll, 0.0).sum(2), is_trained.sum(2)
        return np.asarray((sums / counts).cpu().numpy())  # 0 / 0 is NaN

    def as_record(self) -> dict[str, Any]:
        """The objective's."""
        return self._objective.as_record()
