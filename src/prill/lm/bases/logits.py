"""Heads of `transformers` models: what lies between the last hidden state and the loss.

Most are a plain product, for which `prill.lm.head` never holds all logits. Some bend the logits below a cap;
some scale them. Axes: K = 1 model, N tokens (n in a chunk), d width, V vocabulary.
Source: soft capping, Gemma 2, arXiv:2408.00118, section 2.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from prill.errors import DataError
from prill.lm.head import head_backward, head_losses

if TYPE_CHECKING:
    from prill.lm.objectives.objective import Terms
    from prill.lm.packed import SoftLabels

__all__ = ["HeadRule", "head_rule"]

CHUNK_BYTES = 8 << 20
ACCELERATOR_CHUNK_BYTES = 256 << 20


@dataclass(frozen=True, kw_only=True)
class HeadRule:
    """cap tanh(scale h W^T / cap); without a cap, scale h W^T."""

    scale: float = 1.0
    cap: float | None = None

    def losses(self, hidden: torch.Tensor, head: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Cross-entropy of every target, nats, fp32, (1, N), for hidden (1, N, d) and head (1, V, d)."""
        scaled = hidden if self.scale == 1.0 else hidden * self.scale
        if self.cap is None:
            return head_losses(scaled, head, targets)
        found = torch.empty(targets.shape, dtype=torch.float32, device=hidden.device)
        for part in _chunks(scaled, head.shape[1]):
            shares = self._log_shares((scaled[0, part] @ head[0].T).float())
            found[0, part] = -shares.gather(1, targets[0, part, None])[:, 0]
        return found

    def backward(
        self,
        hidden: torch.Tensor,
        head: torch.Tensor,
        targets: torch.Tensor,
        into: torch.Tensor | None,
        *,
        terms: Terms,
        soft: SoftLabels | None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """As `prill.lm.head.head_backward`: loss (1,), gradient for `hidden` and, `into`, for the head."""
        own = hidden if self.scale == 1.0 else hidden * self.scale
        if self.cap is None:
            inner = terms if self.scale == 1.0 else _without_auxiliary(terms)
            losses, below = head_backward(own, head, targets, into, terms=inner, soft=soft)
            if self.scale == 1.0:
                return losses, below
        else:
            losses, below = self._capped_backward(own, head, targets, into, terms, soft)
        below.mul_(self.scale)
        if terms.auxiliary is not None:
            losses = losses + terms.auxiliary
        if terms.hidden_gradient is not None:
            below += terms.hidden_gradient
        return losses, below

    def _log_shares(self, raw: torch.Tensor) -> torch.Tensor:
        """Log probabilities, fp32, (n, V), from products (n, V)."""
        assert self.cap is not None
        return torch.log_softmax(torch.tanh(raw / self.cap) * self.cap, dim=1)

    def _capped_backward(
        self,
        hidden: torch.Tensor,
        head: torch.Tensor,
        targets: torch.Tensor,
        into: torch.Tensor | None,
        terms: Terms,
        soft: SoftLabels | None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if into is not None:
            into.zero_()
        below = torch.empty_like(hidden)
        loss = torch.zeros(1, dtype=torch.float64, device=hidden.device)
        for part in _chunks(hidden, head.shape[1]):
            raw = (hidden[0, part] @ head[0].T).float().requires_grad_()
            with torch.enable_grad():
                shares = self._log_shares(raw)
            value, above = _weighed(shares.detach(), targets, part, terms, soft)
            loss += value
            (slope,) = torch.autograd.grad(shares, raw, above)
            slope = slope.to(hidden.dtype)
            below[0, part] = slope @ head[0]
            if into is not None:
                into[0].add_(slope.T @ hidden[0, part])
        n_trained = float(targets.shape[1])
        if terms.weights is not None:
            n_trained = max(1.0, float((terms.weights != 0).sum()))
        if into is not None:
            into.div_(n_trained)
        return loss / n_trained, below.div_(n_trained)


def head_rule(config: Any) -> HeadRule:
    """The rule that a model's configuration describes.

    Raises:
        DataError: it has two rules at once.
    """
    cap = getattr(config, "final_logit_softcapping", None)
    divisor, factor = getattr(config, "logits_scaling", None), getattr(config, "logit_scale", None)
    if divisor and factor:
        raise DataError(f"expected one scale of logits, found {divisor} and {factor}", where="config.json")
    scale = 1.0 / divisor if divisor else factor or 1.0
    return HeadRule(scale=float(scale), cap=None if cap is None else float(cap))


def _weighed(
    shares: torch.Tensor, targets: torch.Tensor, part: slice, terms: Terms, soft: SoftLabels | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Summed loss of a chunk, fp64, and its gradient for the log probabilities (n, V)."""
    wanted = targets[:, part]
    nll = -shares.gather(1, wanted[0, :, None])[:, 0][None]
    loss, slope = nll, torch.ones_like(nll)
    if terms.token_loss is not None:
        loss, slope = terms.token_loss(nll, slice(0, 1), part)
    weight = torch.ones_like(nll) if terms.weights is None else terms.weights[:, part]
    above = torch.zeros_like(shares)
    share = terms.teacher_share
    if share:
        teacher = _teacher(shares, part, terms, soft)
        loss = (1 - share) * loss - share * (teacher * shares).sum(1)[None]
        above.sub_(teacher * (share * weight[0])[:, None])
    own = torch.where(weight != 0, slope * (weight * (1 - share)), 0.0)
    above.scatter_add_(1, wanted[0, :, None], -own[0][:, None])
    total = torch.where(weight != 0, loss * weight, 0.0).sum(1, dtype=torch.float64)
    return total, above


def _teacher(shares: torch.Tensor, part: slice, terms: Terms, soft: SoftLabels | None) -> torch.Tensor:
    """The teacher's probabilities, (n, V)."""
    if terms.teacher is not None:
        return terms.teacher(slice(0, 1), part)[0].float()
    if soft is None:
        raise DataError("the objective asks for a teacher: the rows need soft labels, found none")
    return torch.zeros_like(shares).scatter_add_(1, soft.ids[0, part], soft.shares[0, part])


def _without_auxiliary(terms: Terms) -> Terms:
    import dataclasses

    return dataclasses.replace(terms, auxiliary=None, hidden_gradient=None)


def _chunks(hidden: torch.Tensor, vocab_size: int) -> Iterator[slice]:
    room = CHUNK_BYTES if hidden.device.type == "cpu" else ACCELERATOR_CHUNK_BYTES
    size = max(16, room // (4 * vocab_size))
    for start in range(0, hidden.shape[1], size):
        yield slice(start, min(hidden.shape[1], start + size))
