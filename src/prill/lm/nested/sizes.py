"""Which sub-models a nested training holds, and when each is trained. Free of torch.

A sub-model is the *first* channels, heads, feed-forward units and layers of the full model (a sorted
network), on a grid of widths x depths. Heads keep their size, so a width is a share of the heads. Every width
has RMSNorm gains of its own. The first `full_only` of the steps train the full model alone; after that each
step trains the full model, the smallest one, and one of the others drawn by (seed, step), and their gradients
are averaged.

Source: SortedNet, Valipour et al. 2023, arXiv:2309.00255 (prefixes, gradients accumulated over sub-models);
Once-for-All, Cai et al. 2020, arXiv:1908.09791 (the largest first, soft labels from the full model, draws by
step number). Differs: one shrinking stage instead of several; full and smallest model in every step, so
that no weight's moments grow stale; own gains a width, and logits scaled by the width.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from prill.errors import RecipeError
from prill.lm.shape import Shape, flops_per_token

if TYPE_CHECKING:
    import torch

    from prill.lm.nested.learner import NestedLearner

__all__ = ["MAX_SIZES", "Nested", "size_name"]

MAX_SIZES = 6
WIDTHS, DEPTHS = (0.25, 0.5, 1.0), (0.5, 1.0)


def size_name(shape: Shape) -> str:
    """`d64-l2`: width and depth tell the sizes of one grid apart."""
    return f"d{shape.d_model}-l{shape.n_layers}"


@dataclass(frozen=True, kw_only=True)
class Nested:
    """Fresh nested models, one a seed; a `Start`.

    Args:
        shape: the full model.
        widths: shares of its heads (and so of its channels and feed-forward units), rising, the last 1;
            None: those of 1/4, 1/2, 1 that give whole heads.
        depths: shares of its layers, rising, the last 1; None: those of 1/2, 1 that give whole layers.
        full_only: share of the training that the full model has to itself.
        distilled: share of a smaller model's loss that is cross-entropy against the full one.
        seed: of the draws.
    Raises:
        RecipeError: a share gives no whole heads or layers; fewer than 2 or more than 6 sizes.
    """

    shape: Shape
    widths: tuple[float, ...] | None = None
    depths: tuple[float, ...] | None = None
    full_only: float = 0.3
    distilled: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        for name, shares, total in (
            ("widths", self.widths, self.shape.n_heads),
            ("depths", self.depths, self.shape.n_layers),
        ):
            _check_shares(name, shares, total)
        if not (0 <= self.full_only <= 1 and 0 <= self.distilled <= 1):
            raise RecipeError(
                f"`full_only` and `distilled` must be shares from 0 to 1, found {self.full_only} and "
                f"{self.distilled}",
                where="nested sizes",
            )
        if not 2 <= len(self.sizes) <= MAX_SIZES:
            raise RecipeError(
                f"nested training needs 2 to {MAX_SIZES} sizes, found {len(self.sizes)}",
                where="nested sizes",
                hint="name fewer or more `widths` and `depths`; a model of one head has one width only",
            )

    @property
    def sizes(self) -> tuple[Shape, ...]:
        """All sizes, the full one first, then by parameters, falling."""
        widths = self.widths or _whole(WIDTHS, self.shape.n_heads)
        depths = self.depths or _whole(DEPTHS, self.shape.n_layers)
        found = [self._size(width, depth) for width in widths for depth in depths]
        return tuple(sorted(found, key=lambda size: (-size.n_params, size.n_layers)))

    def drawn(self, step: int, progress: float) -> tuple[Shape, ...]:
        """The sizes that a step trains, the full one first.

        Args:
            step: number of the step.
            progress: share of the training that is done.
        """
        full, *others = self.sizes
        if progress < self.full_only:
            return (full,)
        *middle, smallest = others
        if not middle:
            return full, smallest
        key = hashlib.sha256(f"prill-nested-1:{self.seed}:{step}".encode()).digest()
        return full, middle[int.from_bytes(key[:8], "little") % len(middle)], smallest

    @property
    def vocab_size(self) -> int:
        """Ids must be below it."""
        return self.shape.vocab_size

    @property
    def context(self) -> int:
        """The longest row, tokens."""
        return self.shape.seq_len

    @property
    def n_params(self) -> int:
        """Parameters of the full model without embedding and head."""
        return self.shape.n_params

    @property
    def flops_per_token(self) -> int:
        """Of training all sizes, the mean over steps; the teacher's logits are computed once more a size."""
        full, *middle, smallest = (flops_per_token(size) for size in self.sizes)
        others = smallest + (sum(middle) // len(middle) if middle else 0)
        teacher = (2 if middle else 1) * 2 * self.shape.vocab_size * self.shape.d_model
        return full + int((1 - self.full_only) * (others + (teacher if self.distilled else 0)))

    def width(self) -> int:
        """Width of the full model's hidden states."""
        return self.shape.d_model

    def learner(
        self, seeds: Sequence[int], *, n_extra: int, dtype: torch.dtype, device: torch.device
    ) -> NestedLearner:
        """One model a seed, with `n_extra` trailing columns of zeros."""
        from prill.lm.nested.learner import NestedLearner

        return NestedLearner.init(self, seeds, n_extra=n_extra, dtype=dtype, device=device)

    def as_record(self) -> dict[str, Any]:
        """What decides the models beside their seeds."""
        return {"start": "nested", "version": 1, "init": 2, **asdict(self)}

    def _size(self, width: float, depth: float) -> Shape:
        full = self.shape
        n_heads = round(full.n_heads * width)
        return Shape(
            vocab_size=full.vocab_size,
            d_model=n_heads * full.head_dim,
            n_layers=round(full.n_layers * depth),
            n_heads=n_heads,
            d_ff=max(1, full.d_ff * n_heads // full.n_heads),
            seq_len=full.seq_len,
            tied=full.tied,
            rope_theta=full.rope_theta,
            norm_eps=full.norm_eps,
        )


def _whole(shares: Sequence[float], total: int) -> tuple[float, ...]:
    """The shares of `total` that are whole."""
    return tuple(share for share in shares if (total * share).is_integer())


def _check_shares(name: str, shares: tuple[float, ...] | None, total: int) -> None:
    if shares is None:
        return
    is_rising = all(a < b for a, b in pairwise(shares))
    is_whole = all(
        abs(total * share - round(total * share)) < 1e-9 and total * share > 0.5 for share in shares
    )
    if not shares or shares[-1] != 1 or not is_rising or not is_whole:
        possible = ", ".join(f"{number}/{total}" for number in range(1, total + 1))
        raise RecipeError(
            f"`{name}` must rise to 1 in shares of {total}, found {list(shares)}",
            where="nested sizes",
            hint=f"possible are {possible}",
        )
