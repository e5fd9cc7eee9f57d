"""Rows on the device: what a model, its attention and an objective read of one step.

Axes: K models, B rows, T tokens a row, N = B T, k labels a token.
"""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from prill.lm.attention import Segments
from prill.lm.data import Ints, Rows

__all__ = ["Packed", "SoftLabels", "Span", "attention_mask", "pack", "pieces_of", "span_of"]


class SoftLabels(NamedTuple):
    """A teacher's most likely tokens: ids, int64, and their probabilities, fp32, both (K, N, k)."""

    ids: torch.Tensor
    shares: torch.Tensor


class Span(NamedTuple):
    """The first and the last place of its row that each token sees, int64, both (K B, T)."""

    first: torch.Tensor
    last: torch.Tensor


@dataclass(frozen=True, kw_only=True)
class Packed:
    """Rows of K models on the device, with what attention and objectives need to know about them.

    Attributes:
        inputs, targets: token ids, (K, N) int64.
        segments: equal where attention is allowed, (K B, T) int64.
        positions: place of each token in its document, (K B, T) int64.
        dtype: the compute type, which the mask gets.
        n_rows: B.
        span: what each token sees where that is all between two places; None: see `mask`.
        visible: tokens that their whole segment sees, bool, (K B, T); None: none.
        pieces: the segments of all rows one after another, where an accelerator attends by them (half
            precision, nothing visible); None: see `mask`.
        weights: weight of each target's loss, fp32, (K, N); None: all 1.
        scores: what the objective reads of each target, fp32, (K, N); None: nothing.
        soft: a teacher's distribution for each target; None: none.
    """

    inputs: torch.Tensor
    targets: torch.Tensor
    segments: torch.Tensor
    positions: torch.Tensor
    dtype: torch.dtype
    n_rows: int
    span: Span | None = None
    visible: torch.Tensor | None = None
    pieces: Segments | None = None
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

    @functools.cached_property
    def mask(self) -> torch.Tensor:
        """0 where attention is allowed, else -inf, (K B, 1, T, T), made when first asked for."""
        return attention_mask(self.segments, self.visible, self.dtype)

    def models(self, chosen: slice) -> Packed:
        """The rows of some of the models."""
        start, stop, _ = chosen.indices(self.n_models)
        rows = slice(start * self.n_rows, stop * self.n_rows)

        def cut(tensor: torch.Tensor | None, part: slice) -> torch.Tensor | None:
            return None if tensor is None else tensor[part]

        return dataclasses.replace(
            self,
            inputs=self.inputs[chosen],
            targets=self.targets[chosen],
            segments=self.segments[rows],
            positions=self.positions[rows],
            span=None if self.span is None else Span(*(x[rows] for x in self.span)),
            visible=cut(self.visible, rows),
            pieces=self.pieces if stop - start == self.n_models else None,
            weights=cut(self.weights, chosen),
            scores=cut(self.scores, chosen),
            soft=None if self.soft is None else SoftLabels(*(x[chosen] for x in self.soft)),
        )


def pack(rows: Rows, *, dtype: torch.dtype, device: torch.device) -> Packed:
    """Rows of shape (K, B, T) on the device; `dtype` is the compute type, which the mask gets."""
    n_models, n_rows, length = rows.inputs.shape

    def moved(values: NDArray[Any], *shape: int) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(values)).to(device).view(*shape)

    span = span_of(rows) if device.type == "cpu" else None
    divided = device.type == "cuda" and dtype != torch.float32 and rows.visible is None
    soft = None
    if rows.soft is not None:
        n_labels = rows.soft.ids.shape[-1]
        soft = SoftLabels(*(moved(x, n_models, -1, n_labels) for x in (rows.soft.ids, rows.soft.shares)))
    return Packed(
        inputs=moved(rows.inputs, n_models, -1),
        targets=moved(rows.targets, n_models, -1),
        segments=moved(rows.segments, -1, length),
        positions=moved(rows.positions, -1, length),
        dtype=dtype,
        n_rows=n_rows,
        span=None if span is None else Span(*(moved(x, -1, length) for x in span)),
        visible=None if rows.visible is None else moved(rows.visible, -1, length),
        pieces=pieces_of(rows) if divided else None,
        weights=None if rows.weights is None else moved(rows.weights, n_models, -1),
        scores=None if rows.scores is None else moved(rows.scores, n_models, -1),
        soft=soft,
    )


def span_of(rows: Rows) -> tuple[Ints, Ints] | None:
    """The first and the last place that each token sees, (K B, T); None where it sees no one stretch.

    That needs every segment to be one stretch of its row, and its visible tokens to open it.
    """
    segments = rows.segments.reshape(-1, rows.segments.shape[-1])
    n_rows, length = segments.shape
    opens = np.ones(segments.shape, np.bool_)
    opens[:, 1:] = segments[:, 1:] != segments[:, :-1]
    if np.any((segments[:, 1:] < segments[:, :-1]) & (segments[:, 1:] >= 0)):
        return None  # a segment may come back later
    number = np.cumsum(opens.reshape(-1)) - 1
    starts = np.flatnonzero(opens)
    first = (starts % length)[number].reshape(n_rows, length)
    last = np.tile(np.arange(length), (n_rows, 1))
    if rows.visible is not None:
        visible = rows.visible.reshape(n_rows, length)
        if np.any(visible[:, 1:] & ~visible[:, :-1] & ~opens[:, 1:]):
            return None
        seen = np.add.reduceat(visible.reshape(-1).astype(np.int64), starts)
        last = np.maximum(last, first + seen[number].reshape(n_rows, length) - 1)
    return first, last


def pieces_of(rows: Rows) -> Segments:
    """The segments of all rows one after another; none crosses from a row into the next."""
    segments = rows.segments.reshape(-1, rows.segments.shape[-1])
    opens = np.ones(segments.shape, np.bool_)
    opens[:, 1:] = segments[:, 1:] != segments[:, :-1]
    starts = np.flatnonzero(opens)
    return Segments(np.diff(starts, append=segments.size).tolist())


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
