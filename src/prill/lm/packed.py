"""Rows on the device: what a model, its attention and an objective read of one step.

Axes: K models, B rows, T tokens a row, N = B T, k labels a token.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from prill.lm.data import Rows

__all__ = ["Packed", "SoftLabels", "attention_mask", "pack"]


class SoftLabels(NamedTuple):
    """A teacher's most likely tokens: ids, int64, and their probabilities, fp32, both (K, N, k)."""

    ids: torch.Tensor
    shares: torch.Tensor


@dataclass(frozen=True, kw_only=True)
class Packed:
    """Rows of K models on the device, with what attention and objectives need to know about them.

    Attributes:
        inputs, targets: token ids, (K, N) int64.
        segments: equal where attention is allowed, (K B, T) int64.
        positions: place of each token in its document, (K B, T) int64.
        mask: 0 where attention is allowed, else -inf, (K B, 1, T, T) in the compute type.
        n_rows: B.
        weights: weight of each target's loss, fp32, (K, N); None: all 1.
        scores: what the objective reads of each target, fp32, (K, N); None: nothing.
        soft: a teacher's distribution for each target; None: none.
    """

    inputs: torch.Tensor
    targets: torch.Tensor
    segments: torch.Tensor
    positions: torch.Tensor
    mask: torch.Tensor
    n_rows: int
    weights: torch.Tensor | None = None
    scores: torch.Tensor | None = None
    soft: SoftLabels | None = None

    @property
    def n_models(self) -> int:
        """K."""
        return int(self.inputs.shape[0])

    @property
    def length(self) -> int:
        """T."""
        return int(self.segments.shape[1])


def pack(rows: Rows, *, dtype: torch.dtype, device: torch.device, has_mask: bool = True) -> Packed:
    """Rows of shape (K, B, T) on the device; `dtype` is the compute type, which the mask gets.

    `has_mask`: False leaves the mask empty, for models that read the division into documents elsewhere.
    """
    n_models, n_rows, length = rows.inputs.shape

    def moved(values: NDArray[Any], *shape: int) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(values)).to(device).view(*shape)

    segments = moved(rows.segments, -1, length)
    visible = None if rows.visible is None else moved(rows.visible, -1, length)
    soft = None
    if rows.soft is not None:
        n_labels = rows.soft.ids.shape[-1]
        soft = SoftLabels(*(moved(x, n_models, -1, n_labels) for x in (rows.soft.ids, rows.soft.shares)))
    return Packed(
        inputs=moved(rows.inputs, n_models, -1),
        targets=moved(rows.targets, n_models, -1),
        segments=segments,
        positions=moved(rows.positions, -1, length),
        mask=attention_mask(segments, visible, dtype) if has_mask else torch.empty(0, device=device),
        n_rows=n_rows,
        weights=None if rows.weights is None else moved(rows.weights, n_models, -1),
        scores=None if rows.scores is None else moved(rows.scores, n_models, -1),
        soft=soft,
    )


def attention_mask(segments: torch.Tensor, visible: torch.Tensor | None, dtype: torch.dtype) -> torch.Tensor:
    """Who may see whom, (rows, 1, T, T): 0 where attention is allowed, -inf elsewhere.

    A token sees the tokens of its segment that come before it, itself, and those of its segment that are
    `visible`, wherever they are. Both arguments are (rows, T).
    """
    length = segments.shape[1]
    seen = torch.ones(length, length, dtype=torch.bool, device=segments.device).tril_()
    if visible is not None:
        seen = seen | visible[:, None, :]
    allowed = (segments[:, :, None] == segments[:, None, :]) & seen
    blank = torch.zeros(allowed.shape, dtype=dtype, device=segments.device)
    return blank.masked_fill_(~allowed, -torch.inf)[:, None]
