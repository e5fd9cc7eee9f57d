"""Causal attention within the segments of a packed row, and nowhere else.

A packed row is one axis of tokens that documents share without padding; a token sees the tokens of its own
segment up to itself. No mask over the whole row exists, so the cost is the sum of the squared segment
lengths. On a CPU each run of segments of one length is one call of the fused kernel on a view; short
segments of different lengths are padded to the longest of their run, because a call costs more than their
arithmetic, and padding behind a segment is invisible to causal attention. On CUDA in half precision the
whole row is one call of torch's variable-length kernel, with a fixed order of its sums.

Differentiable. What a token gets depends on its own segment alone, up to rounding of the kernel.

Axes: M rows divided alike (models of a stack), N tokens, H heads (G of keys and values), E head width.
Source: Krell et al. 2021, arXiv:2107.02027 (packing without contamination); Zhao et al. 2024,
arXiv:2404.09529, section 3 (restarted positions). Differs: no block-diagonal mask, which costs N^2.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch.nn.functional import pad, scaled_dot_product_attention

from prill.errors import InternalError

__all__ = ["Segments", "segment_attention"]

SHORT = 48  # tokens: below it a call costs more than padding (measured at 4 heads of 64)
LARGEST_GROUP = 64  # segments padded together
KERNEL_STEP = 64  # tokens: lengths are padded to multiples of it where kernels are kept by length


class Segments:
    """How a row of N tokens is divided.

    Args:
        lengths: tokens of each segment, in order, each at least 1.
    Attributes:
        n_tokens: N, their sum.
    """

    def __init__(self, lengths: Sequence[int]) -> None:
        self.lengths = tuple(int(length) for length in lengths)
        if not self.lengths or min(self.lengths) < 1:
            raise InternalError(f"expected segments of at least one token, found {self.lengths[:8]}")
        self.n_tokens = sum(self.lengths)
        self._boundaries: dict[tuple[int, torch.device], torch.Tensor] = {}

    @property
    def longest(self) -> int:
        """Tokens of the longest segment."""
        return max(self.lengths)

    @cached_property
    def starts(self) -> tuple[int, ...]:
        """Where each segment begins, and N."""
        return (0, *itertools.accumulate(self.lengths))

    @cached_property
    def groups(self) -> tuple[_Group, ...]:
        """Neighbours that are worked off in one call."""
        found: list[_Group] = []
        for length, start in zip(self.lengths, self.starts, strict=False):
            if found and found[-1].takes(length):
                found[-1].lengths.append(length)
            else:
                found.append(_Group(start, length))
        return tuple(found)

    def boundaries(self, n_rows: int, device: torch.device) -> torch.Tensor:
        """`starts` of `n_rows` such rows one after another, int32, (n_rows segments + 1,); made once."""
        key = (n_rows, device)
        if key not in self._boundaries:
            starts = torch.tensor(self.starts, dtype=torch.int32)
            every = starts[None, :-1] + self.n_tokens * torch.arange(n_rows, dtype=torch.int32)[:, None]
            end = torch.tensor([n_rows * self.n_tokens], dtype=torch.int32)
            self._boundaries[key] = torch.cat([every.reshape(-1), end]).to(device)
        return self._boundaries[key]


class _Group:
    """Neighbouring segments: of one length, or all short."""

    def __init__(self, start: int, length: int) -> None:
        self.start = start
        self.lengths = [length]

    def takes(self, length: int) -> bool:
        """Whether a segment of this length may join."""
        if length == self.lengths[0] and length == self.lengths[-1]:
            return True
        return max(length, *self.lengths) <= SHORT and len(self.lengths) < LARGEST_GROUP

    @property
    def stop(self) -> int:
        return self.start + sum(self.lengths)

    @cached_property
    def padded(self) -> tuple[torch.Tensor, torch.Tensor] | None:
        """The token each place of the padded block takes, and the place of each token; None: no padding."""
        longest = max(self.lengths)
        if min(self.lengths) == longest:
            return None
        lengths = torch.tensor(self.lengths)
        starts = lengths.cumsum(0) - lengths
        place = torch.arange(longest)
        take = starts[:, None] + torch.minimum(place, lengths[:, None] - 1)
        back = torch.nonzero((place < lengths[:, None]).reshape(-1))[:, 0]
        return take.reshape(-1), back


def segment_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    segments: Segments,
    *,
    scale: float | None = None,
    window: int | None = None,
    softcap: float | None = None,
) -> torch.Tensor:
    """softmax(scale q k^T) v within each segment, causal.

    Args:
        query: (M, H, N, E), any strides.
        key, value: (M, G, N, E); G divides H, and head h reads group h G / H.
        segments: of all M rows alike; must cover N.
        scale: 1 / sqrt(E) when not given.
        window: keys a token sees, itself included; None: its whole segment up to itself.
        softcap: c of c tanh(score / c); None: none.
    Returns:
        (M, N, H, E), contiguous.
    """
    if query.shape[2] != segments.n_tokens:
        raise InternalError(f"expected {segments.n_tokens} tokens, found {query.shape[2]}")
    rule = _Rule(scale=scale, window=window, softcap=softcap)
    if query.is_cuda and query.dtype != torch.float32 and softcap is None:
        return _on_cuda(query, key, value, segments, rule)
    sizes = [group.stop - group.start for group in segments.groups]
    cut = [torch.split(x, sizes, 2) for x in (query, key, value)]  # unlike slices, one pass backward
    parts = [
        _group_attention(q, k, v, group, rule) for q, k, v, group in zip(*cut, segments.groups, strict=True)
    ]
    return parts[0].contiguous() if len(parts) == 1 else torch.cat(parts, dim=1)


@dataclass(frozen=True, kw_only=True)
class _Rule:
    """What attention is but for its inputs; as in `segment_attention`."""

    scale: float | None
    window: int | None
    softcap: float | None


def _group_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, group: _Group, rule: _Rule
) -> torch.Tensor:
    """(M, n, H, E) of the group's n tokens, given them alone."""
    n_rows, n_heads, _, width = query.shape
    n = len(group.lengths)
    if n == 1:
        return _causal(query, key, value, rule).transpose(1, 2)
    padded = group.padded
    if padded is not None:
        take = padded[0].to(query.device)
        query, key, value = (x.index_select(2, take) for x in (query, key, value))
    query, key, value = (
        x.transpose(1, 2).reshape(n_rows * n, -1, x.shape[1], width).transpose(1, 2)
        for x in (query, key, value)
    )  # (M n, H, L, E)
    seen = _causal(query, key, value, rule).transpose(1, 2).reshape(n_rows, -1, n_heads, width)
    return seen if padded is None else seen.index_select(1, padded[1].to(query.device))


def _causal(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, rule: _Rule) -> torch.Tensor:
    """Causal attention of whole blocks, (m, H, L, E)."""
    if rule.softcap is not None:
        return _capped(query, key, value, rule, rule.softcap)
    length = query.shape[2]
    if _keeps_kernels(query) and length > KERNEL_STEP and length % KERNEL_STEP:
        query, key, value = (pad(x, (0, 0, 0, -length % KERNEL_STEP)) for x in (query, key, value))
        return _causal(query, key, value, rule)[:, :, :length]
    is_whole = rule.window is None or rule.window >= length
    return scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=None if is_whole else _allowed(length, rule.window, query.device),
        is_causal=is_whole,
        scale=rule.scale,
        enable_gqa=query.shape[1] != key.shape[1],
    )


def _keeps_kernels(query: torch.Tensor) -> bool:
    """Whether the library compiles and keeps a kernel for every length it meets: memory would not be flat."""
    return query.device.type == "cpu" and query.dtype == torch.bfloat16


def _capped(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, rule: _Rule, softcap: float
) -> torch.Tensor:
    """Attention whose scores are bent below `softcap`: no fused kernel of torch does. Softmax in fp32."""
    n_heads, length, width = query.shape[1:]
    if key.shape[1] != n_heads:
        key, value = (x.repeat_interleave(n_heads // x.shape[1], dim=1) for x in (key, value))
    scores = query @ key.transpose(2, 3) * (width**-0.5 if rule.scale is None else rule.scale)
    scores = torch.tanh(scores.float() / softcap) * softcap
    scores = scores.masked_fill(~_allowed(length, rule.window, query.device), -torch.inf)
    return torch.softmax(scores, dim=3).to(value.dtype) @ value


def _allowed(length: int, window: int | None, device: torch.device) -> torch.Tensor:
    """(L, L) bool: the keys up to the query, at most the last `window`."""
    causal = torch.ones(length, length, dtype=torch.bool, device=device).tril_()
    return causal if window is None else causal.triu_(1 - window)


def _on_cuda(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, segments: Segments, rule: _Rule
) -> torch.Tensor:
    """One call of the variable-length flash kernel; keys in one split, so that neighbours do not matter."""
    from torch.nn.attention.varlen import varlen_attn

    n_rows, n_heads, n_tokens, width = query.shape
    flat = [x.transpose(1, 2).reshape(n_rows * n_tokens, -1, width) for x in (query, key, value)]
    bounds = segments.boundaries(n_rows, query.device)
    seen = varlen_attn(
        flat[0],
        flat[1],
        flat[2],
        bounds,
        bounds,
        segments.longest,
        segments.longest,
        scale=rule.scale,
        window_size=(-1 if rule.window is None else rule.window - 1, 0),
        enable_gqa=key.shape[1] != n_heads,
        num_splits=1,
    )
    assert isinstance(seen, torch.Tensor)
    return seen.view(n_rows, n_tokens, n_heads, width)
