"""Coalesce a model into a smaller one, and back: the maps of multi-level training.

Heads, residual channels, feed-forward units and layers of the large model are put in groups of equal size.
F (small x large) averages a group, T = rownorm(F^T) copies it, F T = I. A linear map W (out x in) becomes
F_out W T_in, and back T_out W F_in: an input group is summed on the way down and shared out on the way up.
So T (W x) = W_l (T x), small -> large -> small returns the weights exactly, and a widened model computes what
the small one does. Layers are averaged and copied; a deepened model computes something else.

What this family of models needs beyond the plain rule: channels follow heads, and a head keeps its width and
its rotary pairs; query, key, value and gate, up are grouped each on its own; gains are averaged and copied;
with a tied head the final gain is summed and shared out instead, because logits sum over all copies of a
channel. Sizes whose groups are not equal are refused.

Source: Zou et al. 2024, ICLR, and its released mapper (F, T, R, G; pairs h and h + H/2). Differs: the tied
head (theirs doubles tables), and gated feed-forward units in groups of their own. Axes: K models.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch

from prill.errors import RecipeError
from prill.lm.parameters import views
from prill.lm.shape import Shape

__all__ = ["Grouping", "Levels", "coalesced", "copy_matrix", "decoalesced", "interpolated", "merge_matrix"]

Grouping = Literal["halves", "adjacent"]
WHERE = "multi-level training"


@dataclass(frozen=True, kw_only=True)
class Levels:
    """A large shape and the one that groups of its parts make.

    Args:
        large: the model to train.
        width: heads, channels and units a group.
        depth: layers a group.
        heads: which heads form a group: h, h + H/2, ... (`halves`), or neighbours.
        layers: which layers form a group.
    Raises:
        RecipeError: the groups do not divide heads, units or layers.
    """

    large: Shape
    width: int = 2
    depth: int = 2
    heads: Grouping = "halves"
    layers: Grouping = "adjacent"

    def __post_init__(self) -> None:
        large = self.large
        for what, n, size in (
            ("heads", large.n_heads, self.width),
            ("feed-forward units", large.d_ff, self.width),
            ("layers", large.n_layers, self.depth),
        ):
            if size < 1 or n % size:
                raise RecipeError(f"groups of {size} must divide the {n} {what}", where=WHERE)

    @property
    def small(self) -> Shape:
        """The coalesced model; heads keep their width."""
        large = self.large
        return replace(
            large,
            d_model=large.d_model // self.width,
            n_heads=large.n_heads // self.width,
            d_ff=large.d_ff // self.width,
            n_layers=large.n_layers // self.depth,
        )

    @property
    def channel_groups(self) -> torch.Tensor:
        """The group of every residual channel, and of every channel of all heads, (d,)."""
        heads = _groups(self.large.n_heads, self.width, self.heads)
        return (heads[:, None] * self.large.head_dim + torch.arange(self.large.head_dim)).flatten()

    @property
    def unit_groups(self) -> torch.Tensor:
        """The group of every feed-forward unit, (f,)."""
        return _groups(self.large.d_ff, self.width, "halves")

    @property
    def layer_groups(self) -> list[int]:
        """The group of every layer."""
        return [int(group) for group in _groups(self.large.n_layers, self.depth, self.layers)]


def merge_matrix(groups: torch.Tensor) -> torch.Tensor:
    """F, fp64: row g averages the members of group g.

    >>> merge_matrix(torch.tensor([0, 1, 0, 1])).tolist()
    [[0.5, 0.0, 0.5, 0.0], [0.0, 0.5, 0.0, 0.5]]
    """
    onehot = torch.nn.functional.one_hot(groups).double().T
    return onehot / onehot.sum(1, keepdim=True)


def copy_matrix(groups: torch.Tensor) -> torch.Tensor:
    """T = rownorm(F^T), fp64: every member is a copy of its group."""
    return torch.nn.functional.one_hot(groups).double()


def coalesced(flat: torch.Tensor, levels: Levels) -> torch.Tensor:
    """The weights of K large models (K, P) as small ones, fp32."""
    into = flat.new_empty(flat.shape[0], levels.small.n_total)
    source, target = views(flat[:, : levels.large.n_total], levels.large), views(into, levels.small)
    for name, large in source.items():
        if not name.startswith("layers."):
            target[name].copy_(_mapped(name, large.double(), levels, _down(levels)))
    for group in range(levels.small.n_layers):
        members = [i for i, g in enumerate(levels.layer_groups) if g == group]
        for kind in ("qkv", "out", "gate_up", "down", "attention_norm", "ffn_norm"):
            mean = torch.stack([source[f"layers.{i}.{kind}"].double() for i in members]).mean(0)
            target[f"layers.{group}.{kind}"].copy_(_mapped(kind, mean, levels, _down(levels)))
    return into


def decoalesced(flat: torch.Tensor, levels: Levels) -> torch.Tensor:
    """The weights of K small models (K, P) as large ones whose grouped parts are copies, fp32."""
    into = flat.new_empty(flat.shape[0], levels.large.n_total)
    source, target = views(flat[:, : levels.small.n_total], levels.small), views(into, levels.large)
    for name, large in target.items():
        origin = name
        if name.startswith("layers."):
            _, number, kind = name.split(".")
            origin = f"layers.{levels.layer_groups[int(number)]}.{kind}"
        large.copy_(_mapped(name, source[origin].double(), levels, _up(levels)))
    return into


def interpolated(large: torch.Tensor, from_small: torch.Tensor, alpha: float) -> torch.Tensor:
    """(1 - alpha) large + alpha from_small: exactly the one at 0, exactly the other at 1.

    Raises:
        RecipeError: alpha is not from 0 to 1.
    """
    if not 0 <= alpha <= 1:
        raise RecipeError(f"`alpha` must be from 0 to 1, found {alpha}", where=WHERE)
    return torch.lerp(large, from_small, alpha)


@dataclass(frozen=True, kw_only=True)
class _Way:
    """What happens to an axis on the way down, or up.

    Attributes:
        write: an axis that is written to: averaged, or copied.
        read: an axis that is read from: summed, or copied and shared out.
    """

    write: Callable[[torch.Tensor, int, torch.Tensor], torch.Tensor]
    read: Callable[[torch.Tensor, int, torch.Tensor], torch.Tensor]


def _down(levels: Levels) -> _Way:
    def summed(values: torch.Tensor, axis: int, groups: torch.Tensor) -> torch.Tensor:
        size = list(values.shape)
        size[axis] //= levels.width
        return values.new_zeros(size).index_add_(axis, groups.to(values.device), values)

    return _Way(write=lambda v, axis, groups: summed(v, axis, groups) / levels.width, read=summed)


def _up(levels: Levels) -> _Way:
    def copied(values: torch.Tensor, axis: int, groups: torch.Tensor) -> torch.Tensor:
        return values.index_select(axis, groups.to(values.device))

    return _Way(write=copied, read=lambda v, axis, groups: copied(v, axis, groups) / levels.width)


def _mapped(name: str, values: torch.Tensor, levels: Levels, way: _Way) -> torch.Tensor:
    """One parameter of K models; linear weights are stored (K, in, out)."""
    channels, units = levels.channel_groups, levels.unit_groups
    match name.rpartition(".")[2]:
        case "embedding":
            return way.write(values, 2, channels)
        case "head":
            return way.read(values, 2, channels)
        case "final_norm":
            return (way.read if levels.large.tied else way.write)(values, 1, channels)
        case "qkv":
            parts = values.chunk(3, dim=2)
            return way.read(torch.cat([way.write(part, 2, channels) for part in parts], 2), 1, channels)
        case "out":
            return way.read(way.write(values, 2, channels), 1, channels)
        case "gate_up":
            parts = values.chunk(2, dim=2)
            return way.read(torch.cat([way.write(part, 2, units) for part in parts], 2), 1, channels)
        case "down":
            return way.read(way.write(values, 2, channels), 1, units)
        case _:  # gains
            return way.write(values, 1, channels)


def _groups(n: int, size: int, grouping: Grouping) -> torch.Tensor:
    """The group of each of n things in groups of `size`, (n,)."""
    numbers = torch.arange(n)
    return numbers % math.ceil(n / size) if grouping == "halves" else numbers // size
