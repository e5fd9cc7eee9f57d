"""K nested models that train as one: the full models and all their sub-models in one buffer.

A sub-model is trained by cutting its weights out of the buffer into a plain `StackedLlama` of its shape,
and adding that one's gradient back where the weights came from; nothing else in Prill knows about nesting.
Cutting costs one copy of the weights. The smaller models learn half from the tokens and half from the full
model's distribution, which is computed anew chunk by chunk, so that logits never exist as a whole.

The objective acts in full on the full model. The smaller ones take its token weights, its token loss and its
density term; auxiliary losses and the objective's own parameters belong to the full width.

K models, N tokens, V vocabulary, P parameters of the full model, G gains of the smaller widths, E extra.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from prill.lm.checkpoint import save_model
from prill.lm.data import Rows
from prill.lm.model import StackedLlama
from prill.lm.nested.sizes import Nested, size_name
from prill.lm.nested.slices import add_parts, n_gains, parts, take_parts
from prill.lm.objectives.objective import At, Objective, Terms
from prill.lm.objectives.plain import Plain
from prill.lm.packed import Packed
from prill.lm.parameters import init_flat, n_decayed
from prill.lm.shape import Shape

__all__ = ["NestedLearner"]


class NestedLearner:
    """K nested models; a `Learner` whose losses are those of the full models. `flat` is (K, P + G + E)."""

    def __init__(self, nested: Nested, flat: torch.Tensor, *, dtype: torch.dtype = torch.float32) -> None:
        self.nested = nested
        self.shape = nested.shape
        self.flat = flat
        self.dtype = dtype
        self.widths = sorted({size.d_model for size in nested.sizes}, reverse=True)
        self._n_own = self.shape.n_total + n_gains(self.shape, self.widths)

    @classmethod
    def init(
        cls,
        nested: Nested,
        seeds: Sequence[int],
        *,
        n_extra: int = 0,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> NestedLearner:
        """The full models start as a training of their shape alone would; the other gains start at 1."""
        whole = init_flat(nested.shape, seeds)
        widths = {size.d_model for size in nested.sizes}
        gains = torch.ones(len(seeds), n_gains(nested.shape, sorted(widths)))
        extra = torch.zeros(len(seeds), n_extra)
        return cls(nested, torch.cat([whole, gains, extra], 1).to(device), dtype=dtype)

    @property
    def n_models(self) -> int:
        """K."""
        return int(self.flat.shape[0])

    @property
    def n_decayed(self) -> int:
        """Leading columns of `flat` that weight decay acts on: embeddings and matrices."""
        return n_decayed(self.shape)

    def copy(self) -> NestedLearner:
        """The same models with weights of their own."""
        return NestedLearner(self.nested, self.flat.clone(), dtype=self.dtype)

    def pack(self, rows: Rows) -> Packed:
        """Rows of shape (K, B, T) on the device."""
        return self.extract(self.shape).pack(rows)

    def extract(self, size: Shape) -> StackedLlama:
        """The sub-models of one size as plain models with weights of their own.

        Their final gain holds the width's own factor d / d_z on the logits. The full size is cut out
        unchanged, without the objective's parameters.
        """
        found = parts(self.flat, self.shape, size, self.widths)
        return StackedLlama(size, take_parts(found, size, self._scale(size)), dtype=self.dtype)

    def losses_and_gradient(
        self, batch: Packed, objective: Objective | None = None, at: At | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The full models' losses (K,), and the mean of the gradients of the sizes that the step draws.

        Without `at` the step is taken as one behind the phase of the full model alone.
        """
        at = at or At(step=0, progress=1.0)
        smaller = self.nested.drawn(at.step, at.progress)[1:]
        share = 1 / (1 + len(smaller))
        told = _Told(objective or Plain())
        gradient = torch.zeros_like(self.flat)
        losses = self._add_full(batch, told, at, gradient, share)
        small = _Distilled(told, self._teacher(told), self.nested.distilled)
        for size in smaller:
            model = self.extract(size)
            _, found = model.losses_and_gradient(batch, small, at)
            into = parts(gradient, self.shape, size, self.widths)
            add_parts(into, size, found, gain_scale=self._scale(size), share=share)
        return losses, gradient

    @torch.no_grad()
    def token_losses(self, batch: Packed, size: Shape | None = None) -> torch.Tensor:
        """Plain cross-entropy of every target under the full models, or those of a size; nats, (K, N)."""
        return self.extract(size or self.shape).token_losses(batch)

    def save(self, folder: Path, k: int, meta: Mapping[str, Any]) -> list[Path]:
        """Write the full model k into `folder` and its sub-models into `sizes/<name>/` below; all plain."""
        written: list[Path] = []
        for size in self.nested.sizes:
            place = folder if size == self.shape else folder / "sizes" / size_name(size)
            written += save_model(place, self.extract(size), k, {**meta, "nested": size_name(size)})
        return written

    def _add_full(
        self, batch: Packed, told: _Told, at: At, gradient: torch.Tensor, share: float
    ) -> torch.Tensor:
        """The full models' losses; `share` of their gradient goes to `gradient`."""
        whole, extra = self.flat[:, : self.shape.n_total], self.flat[:, self._n_own :]
        model = StackedLlama(self.shape, torch.cat([whole, extra], 1), dtype=self.dtype)
        losses, found = model.losses_and_gradient(batch, told, at)
        gradient[:, : self.shape.n_total] = found[:, : self.shape.n_total] * share
        gradient[:, self._n_own :] = found[:, self.shape.n_total :] * share
        return losses

    def _teacher(self, told: _Told) -> Callable[[slice, slice], torch.Tensor] | None:
        """The full models' probabilities of a chunk of tokens, in the compute type, (k, n, V)."""
        if not self.nested.distilled:
            return None
        whole = parts(self.flat, self.shape, self.shape, self.widths)
        head = whole["embedding" if self.shape.tied else "head"].to(self.dtype)

        def shares(models: slice, tokens: slice) -> torch.Tensor:
            hidden = told.hidden[models, tokens]
            return torch.bmm(hidden, head[models].transpose(1, 2)).softmax(2)

        return shares

    def _scale(self, size: Shape) -> float:
        return self.shape.d_model / size.d_model


class _Told:
    """An objective that remembers the hidden states it was shown and the terms it gave."""

    def __init__(self, objective: Objective) -> None:
        self._objective = objective
        self.hidden = torch.empty(0)
        self.given = Terms()

    def n_extra(self, width: int) -> int:
        return self._objective.n_extra(width)

    def terms(self, hidden: torch.Tensor, batch: Packed, extra: torch.Tensor, at: At) -> Terms:
        self.hidden = hidden
        self.given = self._objective.terms(hidden, batch, extra, at)
        return self.given

    def as_record(self) -> dict[str, Any]:
        return self._objective.as_record()


class _Distilled:
    """What a smaller model minimises, given what the full one did in this step."""

    def __init__(
        self, told: _Told, teacher: Callable[[slice, slice], torch.Tensor] | None, share: float
    ) -> None:
        self._told = told
        self._teacher = teacher
        self._share = share

    def n_extra(self, width: int) -> int:
        return 0

    def terms(self, hidden: torch.Tensor, batch: Packed, extra: torch.Tensor, at: At) -> Terms:
        given = self._told.given
        return Terms(
            weights=given.weights,
            token_loss=given.token_loss,
            teacher_share=self._share,
            teacher=self._teacher,
            density=given.density,
            density_eps=given.density_eps,
        )

    def as_record(self) -> dict[str, Any]:
        return self._told.as_record()
