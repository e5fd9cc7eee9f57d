"""Where a sub-model's weights lie in the buffer of the full one.

A model's row of the buffer holds the full model as `prill.lm.parameters.layout` orders it, then the gains of
each smaller width, widest first: those of the attention and of the feed-forward norm of every layer, then the
final one. A smaller model's matrices are the leading corner of the full ones; the three parts of the joint
attention projection and the two of the gated layer are cut one by one.

K models, P parameters of the full one, G gains of the smaller widths, d, H, f and L of a sub-model.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from prill.lm.parameters import layout, views
from prill.lm.shape import Shape

__all__ = ["add_parts", "n_gains", "parts", "take_parts"]


def n_gains(full: Shape, widths: Sequence[int]) -> int:
    """G."""
    return sum((2 * full.n_layers + 1) * width for width in widths if width != full.d_model)


def parts(flat: torch.Tensor, full: Shape, size: Shape, widths: Sequence[int]) -> dict[str, torch.Tensor]:
    """Views of the buffer, one a parameter of the sub-model, each with as many numbers as it has.

    Args:
        flat: (K, at least P + G).
        full, size: the shapes of the full model and of the sub-model.
        widths: all widths, falling, the full one included.
    """
    whole = views(flat, full)
    gains = _own_gains(flat, full, size.d_model, widths)
    return {
        spec.name: gains[spec.name] if spec.std is None and gains else _corner(spec.name, whole, full, size)
        for spec in layout(size)
    }


def take_parts(found: dict[str, torch.Tensor], size: Shape, gain_scale: float) -> torch.Tensor:
    """A plain buffer (K, P_z) of the sub-model; its final gain is multiplied by `gain_scale`."""
    first = next(iter(found.values()))
    flat = first.new_empty(first.shape[0], size.n_total)
    for name, view in views(flat, size).items():
        view.view(found[name].shape).copy_(found[name])
    views(flat, size)["final_norm"].mul_(gain_scale)
    return flat


def add_parts(
    found: dict[str, torch.Tensor], size: Shape, gradient: torch.Tensor, *, gain_scale: float, share: float
) -> None:
    """Add `share` of a sub-model's gradient, (K, P_z), to the views of the full one's."""
    for name, view in views(gradient, size).items():
        alpha = share * gain_scale if name == "final_norm" else share
        found[name].add_(view.view(found[name].shape), alpha=alpha)


def _corner(name: str, whole: dict[str, torch.Tensor], full: Shape, size: Shape) -> torch.Tensor:
    """The leading part of one of the full model's parameters."""
    weight, d, f = whole[name], size.d_model, size.d_ff
    match name.rpartition(".")[2]:
        case "embedding" | "head":
            return weight[:, :, :d]
        case "qkv":
            return weight.view(-1, full.d_model, 3, full.d_model)[:, :d, :, :d]
        case "out":
            return weight[:, :d, :d]
        case "gate_up":
            return weight.view(-1, full.d_model, 2, full.d_ff)[:, :d, :, :f]
        case "down":
            return weight[:, :f, :d]
        case _:
            return weight


def _own_gains(flat: torch.Tensor, full: Shape, width: int, widths: Sequence[int]) -> dict[str, torch.Tensor]:
    """The gains of a smaller width by name; none for the full width, whose gains are the full model's."""
    if width == full.d_model:
        return {}
    start = full.n_total + n_gains(full, [other for other in widths if other > width])
    names = [f"layers.{i}.{kind}_norm" for i in range(full.n_layers) for kind in ("attention", "ffn")]
    block = flat[:, start : start + n_gains(full, [width])].view(flat.shape[0], -1, width)
    return {name: block[:, number] for number, name in enumerate([*names, "final_norm"])}
