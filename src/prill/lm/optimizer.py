"""AdamW for a stack: one model's update never depends on another's.

Weights and moments are flat (K, P) buffers, so a step is two fused passes a model: one over the embeddings
and matrices, which decay, one over the gains, which do not. Clipping uses each model's own norm and enters
the fused pass as a scale; learning rates are one number a model.

    m = b1 m + (1 - b1) g;  v = b2 v + (1 - b2) g^2
    w = w - rate (decay w + m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps))

Source: Loshchilov & Hutter 2019, arXiv:1711.05101, algorithm 2; the stacked form: one clip a model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.optim.adamw import adamw

__all__ = ["AdamSettings", "StackedAdamW"]


@dataclass(frozen=True, kw_only=True)
class AdamSettings:
    """AdamW's constants and the largest gradient norm of one model."""

    beta1: float = 0.9
    beta2: float = 0.95
    eps: float = 1e-8
    weight_decay: float = 0.1
    clip_norm: float = 1.0


class StackedAdamW:
    """Moments of K models; `first` and `second` are fp32, (K, P); `n_steps` counts updates."""

    def __init__(
        self,
        settings: AdamSettings,
        *,
        n_decayed: int,
        first: torch.Tensor,
        second: torch.Tensor,
        n_steps: int = 0,
    ) -> None:
        self.settings = settings
        self.n_decayed = n_decayed
        self.first = first
        self.second = second
        self.n_steps = n_steps

    def copy(self) -> StackedAdamW:
        """The same state with buffers of its own."""
        return StackedAdamW(
            self.settings,
            n_decayed=self.n_decayed,
            first=self.first.clone(),
            second=self.second.clone(),
            n_steps=self.n_steps,
        )

    @torch.no_grad()
    def step(
        self,
        flat: torch.Tensor,
        gradient: torch.Tensor,
        rates: Sequence[float],
        norms: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Update the weights in place; returns each model's gradient norm before clipping, (K,).

        `norms` are those, where the caller has them already.
        """
        if norms is None:
            norms = torch.linalg.vector_norm(gradient, dim=1)
        for k, rate in enumerate(rates):
            # the fused pass divides the gradient by `grad_scale`
            scale = (norms[k] / self.settings.clip_norm).clamp_min(1.0)
            for part in (slice(0, self.n_decayed), slice(self.n_decayed, None)):
                self._update(flat, gradient, k, part, rate, scale)
        self.n_steps += 1
        return norms

    def _update(
        self,
        flat: torch.Tensor,
        gradient: torch.Tensor,
        k: int,
        part: slice,
        rate: float,
        scale: torch.Tensor,
    ) -> None:
        settings = self.settings
        adamw(
            [flat[k, part]],
            [gradient[k, part]],
            [self.first[k, part]],
            [self.second[k, part]],
            [],
            [torch.tensor(float(self.n_steps), device=flat.device)],
            fused=True,
            grad_scale=scale,
            amsgrad=False,
            beta1=settings.beta1,
            beta2=settings.beta2,
            lr=rate,
            weight_decay=settings.weight_decay if part.start == 0 else 0.0,
            eps=settings.eps,
            maximize=False,
        )
