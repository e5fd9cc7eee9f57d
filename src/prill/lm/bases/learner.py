"""One `transformers` model behind the training loop's contract.

The row of documents goes through the model's body once, by autograd, with attention kept within documents;
the head and the loss are `prill.lm.head`'s, so all logits never exist. Dropout is off.

Axes: K = 1 model, B rows, T tokens a row, N = B T, d width, V vocabulary, P parameters, E extra.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from prill.errors import RecipeError
from prill.lm.bases.rows import divided_rows, division_for
from prill.lm.bases.skeleton import Skeleton
from prill.lm.head import terms_of
from prill.lm.layers import density

if TYPE_CHECKING:
    from prill.lm.data import Rows
    from prill.lm.objectives.objective import At, Objective, Terms
    from prill.lm.packed import Packed

__all__ = ["HfLearner"]


class HfLearner:
    """A `Learner` of one `transformers` model; `flat` is fp32, (1, P + E)."""

    def __init__(self, skeleton: Skeleton, flat: torch.Tensor) -> None:
        self.skeleton = skeleton
        self.flat = flat

    @property
    def n_models(self) -> int:
        """1."""
        return 1

    @property
    def n_decayed(self) -> int:
        """Leading columns of `flat` that weight decay acts on: matrices and tables."""
        return self.skeleton.flat.n_decayed

    @property
    def dtype(self) -> torch.dtype:
        """The compute type."""
        return self.skeleton.flat.dtype

    @property
    def extra(self) -> torch.Tensor:
        """The objective's own parameters, a view, (1, E)."""
        return self.flat[:, self.skeleton.flat.n_total :]

    def copy(self) -> HfLearner:
        """The same model with trained weights of its own; frozen ones are shared."""
        return HfLearner(self.skeleton, self.flat.clone())

    def pack(self, rows: Rows) -> Packed:
        """Rows of shape (1, B, T) on the device."""
        return divided_rows(
            rows,
            dtype=self.dtype,
            device=self.flat.device,
            opening_id=self.skeleton.opening_id,
            eos_id=self.skeleton.eos_id,
        )

    def losses_and_gradient(
        self, batch: Packed, objective: Objective | None = None, at: At | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Loss, fp64, (1,), and its gradient, fp32, (1, P + E).

        Raises:
            RecipeError: the objective asks for a density that this model cannot give.
        """
        skeleton, flat = self.skeleton, self.skeleton.flat
        flat.load(self.flat)
        gradient = torch.zeros_like(self.flat)
        wanted = objective is not None and not skeleton.is_checkpointed
        with flat.gradients_in(gradient), skeleton.keeping_activations(wanted=wanted) as active:
            hidden = self._hidden(batch)
            below = hidden.detach()
            terms = terms_of(objective, below, batch, self.extra, at)
            losses, above = self._through_head(below, batch, gradient, terms)
            outputs, gradients = [hidden], [above]
            if terms.density:
                skeleton.check_density()
                losses = losses + _densities(active, terms, outputs, gradients)
            self._backward(outputs, gradients)
        if terms.extra_gradient is not None:
            gradient[:, flat.n_total :] = terms.extra_gradient
        return losses, gradient

    @torch.no_grad()
    def token_losses(self, batch: Packed) -> torch.Tensor:
        """Plain cross-entropy of every target, nats, fp32, (1, N)."""
        return self.skeleton.rule.losses(self.states(batch), self.skeleton.head(), batch.targets)

    @torch.no_grad()
    def states(self, batch: Packed) -> torch.Tensor:
        """Last hidden states behind the final norm, (1, N, d), in the compute type, without gradient."""
        self.skeleton.flat.load(self.flat)
        return self._hidden(batch)

    def head_matrix(self) -> torch.Tensor:
        """The head, whose product with a hidden state is its logits, (1, V, d), in the compute type.

        Raises:
            RecipeError: logits of this model are not a product.
        """
        rule = self.skeleton.rule
        if rule.cap is not None:
            raise RecipeError(
                f"expected a model whose logits are a product, found a soft cap of {rule.cap}",
                where=str(self.skeleton.folder),
                hint="use another model as teacher",
            )
        self.skeleton.flat.load(self.flat)
        head = self.skeleton.head()
        return head if rule.scale == 1.0 else head * rule.scale

    def row_bytes(self, row_tokens: int) -> int:
        """About what the activations of one row take in a step, bytes."""
        return self.skeleton.row_bytes(row_tokens)

    def save(self, folder: Path, k: int, meta: Mapping[str, Any]) -> list[Path]:
        """Write a folder that `transformers` reads, or the adapters alone; returns the files.

        Raises:
            ResourceError: the disk is full or not writable.
        """
        from prill.lm.bases.export import save_adapters, save_base

        self.skeleton.flat.load(self.flat)
        if self.skeleton.wrapped is not None:
            trained = {slot.name: slot.of(self.flat) for slot in self.skeleton.flat.slots}
            return save_adapters(self.skeleton.wrapped, trained, self.skeleton.folder, folder, meta)
        return save_base(self.skeleton, self.flat, folder, meta)

    def _hidden(self, batch: Packed) -> torch.Tensor:
        division = division_for(batch)
        return self.skeleton.hidden(batch.inputs, batch.positions.view(1, -1), division)

    def _through_head(
        self, below: torch.Tensor, batch: Packed, gradient: torch.Tensor, terms: Terms
    ) -> tuple[torch.Tensor, torch.Tensor]:
        head = self.skeleton.head()
        into = self.skeleton.flat.head_part(gradient)
        return self.skeleton.rule.backward(below, head, batch.targets, into, terms=terms, soft=batch.soft)

    def _backward(self, outputs: list[torch.Tensor], gradients: list[torch.Tensor]) -> None:
        pairs = [(o, g) for o, g in zip(outputs, gradients, strict=True) if o.requires_grad]
        if pairs:
            torch.autograd.backward([o for o, _ in pairs], [g.to(o.dtype) for o, g in pairs])


def _densities(
    active: list[torch.Tensor],
    terms: Terms,
    outputs: list[torch.Tensor],
    gradients: list[torch.Tensor],
) -> torch.Tensor:
    """The density term over all layers, (1,); what it adds to the backward pass is appended."""
    total = torch.zeros(1, dtype=torch.float64, device=outputs[0].device)
    for layer in active:
        scale = terms.density / len(active)
        share, slope = density(layer.detach(), eps=terms.density_eps)
        total += scale * share
        outputs.append(layer)
        gradients.append(slope.mul_(scale))
    return total
