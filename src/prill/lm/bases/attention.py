"""Attention of `transformers` models over packed documents.

The model's own attention is replaced through the library's registry: queries, keys and values come rotated
and normalised, as the class makes them, and only the mixing is ours. How the row is divided travels as a
keyword through the class, so that it is also there when gradient checkpointing computes a layer again. What
a class asks of its attention and this one cannot do is refused by name, never left out.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import scaled_dot_product_attention

from prill.errors import DataError
from prill.lm.attention import Segments, segment_attention

if TYPE_CHECKING:
    from prill.lm.packed import Packed

__all__ = ["ATTENTION", "KEYWORD", "Division", "division_of", "register"]

ATTENTION, KEYWORD = "prill_packed", "prill_division"

# what these say is said already: by restarted positions, or by the division
HARMLESS = frozenset({"position_ids", "use_cache", "cache_position", "output_attentions", "is_causal"})


@dataclass(kw_only=True)
class Division:
    """How the N tokens of a step are divided.

    Attributes:
        segments: runs of tokens that see each other.
        mask: 0 or -inf, (B, 1, T, T), where some tokens are visible to those before them; else None.
        n_rows: B.
        n_asked: attention layers that have used it.
    """

    segments: Segments
    mask: torch.Tensor | None
    n_rows: int
    n_asked: int = 0


def division_of(batch: Packed) -> Division:
    """The division of one model's rows; a segment ends where its row does."""
    ids = batch.segments
    opens = torch.ones_like(ids, dtype=torch.bool)
    opens[:, 1:] = ids[:, 1:] != ids[:, :-1]
    starts = torch.nonzero(opens.reshape(-1))[:, 0]
    ends = torch.cat([starts[1:], starts.new_tensor([ids.numel()])])
    return Division(
        segments=Segments((ends - starts).tolist()),
        mask=batch.mask if batch.visible is not None and bool(batch.visible.any()) else None,
        n_rows=batch.n_rows,
    )


def register() -> None:
    """Make the attention known to `transformers`; done again it changes nothing."""
    library: Any = importlib.import_module("transformers")
    library.AttentionInterface.register(ATTENTION, _attention)


def _attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **rest: Any,
) -> tuple[torch.Tensor, None]:
    """What the registry asks for: (1, H, N, e) to (1, N, H, e)."""
    division = rest.pop(KEYWORD, None)
    _refuse(module, division, attention_mask, rest)
    division.n_asked += 1
    if division.mask is not None:
        return _masked(query, key, value, division, scaling, sliding_window or softcap), None
    seen = segment_attention(
        query, key, value, division.segments, scale=scaling, window=sliding_window, softcap=softcap
    )
    return seen, None


def _refuse(
    module: torch.nn.Module, division: Division | None, mask: torch.Tensor | None, rest: dict[str, Any]
) -> None:
    name = type(module).__name__
    if division is None or mask is not None:
        raise DataError(
            "expected a model that hands its division into documents to every layer, found one that does not",
            where=name,
            hint="documents in one row would see each other: use another model class",
        )
    unknown = sorted(key for key, value in rest.items() if value is not None and key not in HARMLESS)
    if unknown:
        raise DataError(
            f"expected plain attention, found one with `{unknown[0]}`, which packed rows cannot have",
            where=name,
        )


def _masked(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    division: Division,
    scaling: float | None,
    bent: float | None,
) -> torch.Tensor:
    """Attention through an explicit mask, row by row."""
    if bent is not None:
        raise DataError(
            "tokens that are visible to those before them need attention without windows and soft caps",
            where="model",
            hint="use a model class without sliding windows, or causal samples",
        )
    assert division.mask is not None
    n_heads, n_tokens, width = query.shape[1:]

    def rows(x: torch.Tensor) -> torch.Tensor:
        return x.view(x.shape[1], division.n_rows, -1, width).transpose(0, 1)

    seen = scaled_dot_product_attention(
        rows(query.contiguous()),
        rows(key.contiguous()),
        rows(value.contiguous()),
        attn_mask=division.mask,
        scale=scaling,
        enable_gqa=key.shape[1] != n_heads,
    )
    return seen.transpose(1, 2).reshape(1, n_tokens, n_heads, width)
