"""K Llama-style models of one shape, run as one.

Every parameter has a leading model axis: a linear layer is one batched matrix product, the embedding is a
gather, attention folds the model axis into the batch. The autograd tape covers the blocks only; the embedding
and the head are differentiated by hand (`prill.lm.head`), so that logits never exist as a whole.

The loss of a model is the mean over its tokens and the stack's loss is the sum over models, so each
model's gradient is exactly its own.

Axes: K models, B rows, T tokens a row, N = B T, d width, f feed-forward width, V vocabulary, P parameters,
E parameters of the objective.
Source: Touvron et al. 2023, arXiv:2302.13971 (shape); Su et al. 2021, arXiv:2104.09864 (rotary positions).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.checkpoint import checkpoint

from prill.lm.data import Rows
from prill.lm.head import gather, head_backward, head_losses, terms_of
from prill.lm.layers import add_norm, attention, density, gated
from prill.lm.packed import Packed, pack
from prill.lm.parameters import init_flat, n_decayed, views
from prill.lm.shape import NEAR_VALUES, Shape, models_at_a_time

if TYPE_CHECKING:
    from prill.lm.objectives.objective import At, Objective

__all__ = ["Packed", "StackedLlama", "rotary_tables"]

Weights = dict[str, torch.Tensor]


class StackedLlama:
    """K models of one shape with fp32 weights `flat`, (K, P + E), computing in `dtype`; a `Learner`.

    With `checkpoint_blocks` the backward pass computes each block again instead of keeping what lies within:
    a third more time for a fraction of the memory; the gradient is the same.
    """

    def __init__(
        self,
        shape: Shape,
        flat: torch.Tensor,
        *,
        dtype: torch.dtype = torch.float32,
        checkpoint_blocks: bool = False,
    ) -> None:
        self.shape = shape
        self.flat = flat
        self.dtype = dtype
        self.checkpoint_blocks = checkpoint_blocks
        self._cos, self._sin = rotary_tables(shape, dtype=torch.float32, device=flat.device)

    @classmethod
    def init(
        cls,
        shape: Shape,
        seeds: Sequence[int],
        *,
        n_extra: int = 0,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        checkpoint_blocks: bool = False,
    ) -> StackedLlama:
        """Fresh models, one a seed, with E = `n_extra` zeros; a seed's model is the same in any stack."""
        flat = init_flat(shape, seeds, n_extra=n_extra).to(device)
        return cls(shape, flat, dtype=dtype, checkpoint_blocks=checkpoint_blocks)

    @property
    def n_models(self) -> int:
        """K."""
        return int(self.flat.shape[0])

    @property
    def n_decayed(self) -> int:
        """Leading columns of `flat` that weight decay acts on."""
        return n_decayed(self.shape)

    @property
    def extra(self) -> torch.Tensor:
        """The objective's own parameters, a view of the last columns of `flat`, (K, E)."""
        return self.flat[:, self.shape.n_total :]

    def copy(self) -> StackedLlama:
        """The same models with weights of their own."""
        return StackedLlama(
            self.shape, self.flat.clone(), dtype=self.dtype, checkpoint_blocks=self.checkpoint_blocks
        )

    def pack(self, rows: Rows) -> Packed:
        """Rows of shape (K, B, T) on the device, ready for the model."""
        return pack(rows, dtype=self.dtype, device=self.flat.device)

    def losses_and_gradient(
        self, batch: Packed, objective: Objective | None = None, at: At | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Loss of each model, nats, fp64, (K,), and the gradient of their sum, fp32, (K, P + E).

        The loss is what is minimised (`prill.lm.objectives.objective`); without an objective it is the mean
        cross-entropy over the tokens whose weight is not 0, 0 where there is none.

        Without an objective a CPU takes a few models at a time where activations are many: their memory then
        does not grow with the stack.
        """
        weights = self._weights()
        gradient = torch.empty_like(self.flat)
        losses = torch.empty(self.n_models, dtype=torch.float64, device=self.flat.device)
        size = self.n_models if objective is not None else self._at_a_time(batch)
        for first in range(0, self.n_models, size):
            k = slice(first, first + size)
            here = {name: weight[k] for name, weight in weights.items()}
            losses[k] = self._backward(here, batch.models(k), gradient[k], self.extra[k], objective, at)
        return losses, gradient

    def _backward(
        self,
        weights: Weights,
        batch: Packed,
        gradient: torch.Tensor,
        extra: torch.Tensor,
        objective: Objective | None,
        at: At | None,
    ) -> torch.Tensor:
        """Losses of the models that `weights` are of; fills in their gradient."""
        into = views(gradient, self.shape)
        blocks = {
            name: w.detach().requires_grad_()
            for name, w in weights.items()
            if name.startswith(("layers", "final"))
        }
        stream = gather(weights["embedding"], batch.inputs).float().requires_grad_()
        active: list[torch.Tensor] = []
        hidden = self._blocks(blocks, stream, batch, active)
        head = "embedding" if self.shape.tied else "head"
        if not self.shape.tied:
            into["embedding"].zero_()
        below = hidden.detach()
        terms = terms_of(objective, below, batch, extra, at)
        losses, above = head_backward(
            below, weights[head], batch.targets, into[head], terms=terms, soft=batch.soft
        )
        outputs, gradients = [hidden], [above]
        if terms.density:
            for layer in active:
                scale = terms.density / len(active)
                share, slope = density(layer.detach(), eps=terms.density_eps)
                losses += scale * share
                outputs.append(layer)
                gradients.append(slope.mul_(scale).to(layer.dtype))
        found = torch.autograd.grad(outputs, [stream, *blocks.values()], gradients)
        for name, part in zip(blocks, found[1:], strict=True):
            into[name].copy_(part)
        for k, part in enumerate(found[0]):
            into["embedding"][k].index_add_(0, batch.inputs[k], part.float())
        own = gradient[:, self.shape.n_total :]
        own.zero_() if terms.extra_gradient is None else own.copy_(terms.extra_gradient)
        return losses

    def _at_a_time(self, batch: Packed) -> int:
        """Models whose forward and backward pass run as one."""
        if self.flat.device.type != "cpu":
            return self.n_models
        n_tokens = batch.inputs.shape[1]
        return models_at_a_time(
            self.shape, n_models=self.n_models, n_tokens=n_tokens, near_values=NEAR_VALUES
        )

    def save(self, folder: Path, k: int, meta: Mapping[str, Any]) -> list[Path]:
        """Write model k, without the objective's parameters; returns the files."""
        from prill.lm.checkpoint import save_model

        return list(save_model(folder, self, k, meta))

    @torch.no_grad()
    def token_losses(self, batch: Packed) -> torch.Tensor:
        """Loss of every target token, nats, fp32, (K, N)."""
        weights = self._weights()
        hidden = self._blocks(weights, gather(weights["embedding"], batch.inputs).float(), batch)
        head = weights["embedding" if self.shape.tied else "head"]
        return head_losses(hidden, head, batch.targets)

    def logits(self, batch: Packed) -> torch.Tensor:
        """All logits, fp32, (K, N, V): for tests and small inputs."""
        return self.states_and_logits(batch)[1]

    @torch.no_grad()
    def states_and_logits(self, batch: Packed) -> tuple[torch.Tensor, torch.Tensor]:
        """Last hidden states behind the final norm, (K, N, d), and all logits, (K, N, V), both fp32."""
        weights = self._weights()
        hidden = self._blocks(weights, gather(weights["embedding"], batch.inputs).float(), batch)
        head = weights["embedding" if self.shape.tied else "head"]
        return hidden.float(), torch.bmm(hidden, head.transpose(1, 2)).float()

    @torch.no_grad()
    def states(self, batch: Packed) -> torch.Tensor:
        """Last hidden states behind the final norm, (K, N, d), in the compute type, and nothing else."""
        weights = self._weights()
        return self._blocks(weights, gather(weights["embedding"], batch.inputs).float(), batch)

    def head_matrix(self) -> torch.Tensor:
        """The head, whose product with a hidden state is its logits, (K, V, d), in the compute type."""
        name = "embedding" if self.shape.tied else "head"
        return views(self.flat.detach(), self.shape)[name].to(self.dtype)

    def _weights(self) -> Weights:
        """All weights in the compute type."""
        flat = self.flat.detach()
        if flat.device.type != "cpu":
            return views(flat.to(self.dtype), self.shape)
        # a batched product on a CPU copies operands whose models do not lie side by side, at every call
        return {
            name: w.to(self.dtype) if name in ("embedding", "head") else w.to(self.dtype).contiguous()
            for name, w in views(flat, self.shape).items()
        }

    def _blocks(
        self, weights: Weights, stream: torch.Tensor, batch: Packed, active: list[torch.Tensor] | None = None
    ) -> torch.Tensor:
        """The residual stream through all blocks and the final norm, (K, N, d) in the compute type.

        The feed-forward activations of each block, (K, N, f), are appended to `active`.
        """
        turn = self._cos[batch.positions], self._sin[batch.positions]
        eps = self.shape.norm_eps
        stream, normed = add_norm(stream, None, weights["layers.0.attention_norm"], eps)
        for i in range(self.shape.n_layers):
            if self.checkpoint_blocks and torch.is_grad_enabled():
                stream, normed, inner = checkpoint(
                    self._block,
                    i,
                    weights,
                    stream,
                    normed,
                    batch,
                    turn,
                    use_reentrant=False,
                    preserve_rng_state=False,
                )
            else:
                stream, normed, inner = self._block(i, weights, stream, normed, batch, turn)
            if active is not None:
                active.append(inner)
        return normed

    def _block(
        self,
        i: int,
        weights: Weights,
        stream: torch.Tensor,
        normed: torch.Tensor,
        batch: Packed,
        turn: tuple[torch.Tensor, torch.Tensor],
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Block i: the stream behind it, its norm for what follows, the feed-forward activations."""
        block, eps = f"layers.{i}.", self.shape.norm_eps
        seen = self._attention(normed, weights[block + "qkv"], batch, turn)
        update = torch.bmm(seen, weights[block + "out"])
        stream, normed = add_norm(stream, update, weights[block + "ffn_norm"], eps)
        inner = gated(torch.bmm(normed, weights[block + "gate_up"]))
        update = torch.bmm(inner, weights[block + "down"])
        following = f"layers.{i + 1}.attention_norm" if i + 1 < self.shape.n_layers else "final_norm"
        stream, normed = add_norm(stream, update, weights[following], eps)
        return stream, normed, inner

    def _attention(
        self,
        normed: torch.Tensor,
        qkv: torch.Tensor,
        batch: Packed,
        turn: tuple[torch.Tensor, torch.Tensor],
    ) -> torch.Tensor:
        n_models, n_tokens, width = normed.shape
        n_heads, head_dim = self.shape.n_heads, self.shape.head_dim
        mixed = torch.bmm(normed, qkv).view(n_models * batch.n_rows, batch.length, 3, n_heads, head_dim)
        return attention(mixed, turn, batch).view(n_models, n_tokens, width)


def rotary_tables(
    shape: Shape, *, dtype: torch.dtype, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """cos and sin of position x frequency, each (seq_len, head_dim / 2)."""
    half = shape.head_dim // 2
    frequency = shape.rope_theta ** -(torch.arange(half, dtype=torch.float64) / half)
    angle = torch.arange(shape.seq_len, dtype=torch.float64)[:, None] * frequency
    return angle.cos().to(device, dtype), angle.sin().to(device, dtype)
