"""Where models start from, in the words of a recipe: a size of the ladder, or a folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from prill.lm.bases.adapters import Lora
from prill.lm.bases.stored import open_base
from prill.lm.fresh import Fresh
from prill.lm.learner import Start
from prill.lm.nested.sizes import Nested
from prill.lm.shape import ladder_shape

__all__ = ["Grid", "continued", "fresh"]


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Nested sizes as shares of the full one; None: the usual ones."""

    widths: tuple[float, ...] | None = None
    depths: tuple[float, ...] | None = None


def fresh(
    size: str,
    *,
    vocab_size: int,
    row_tokens: int | None = None,
    nested: Grid | None = None,
    sparsity: float | None = None,
    seed: int = 0,
    recompute: bool = False,
) -> Start:
    """Fresh models of a named size.

    Args:
        size: of the ladder.
        vocab_size: token ids, tags included.
        row_tokens: tokens of the longest row; None: the size's.
        nested: sizes within one run.
        sparsity: share of the weights held at zero.
        seed: of masks, and of which nested sizes a step trains.
        recompute: blocks are computed again in the backward pass instead of kept; not with `nested`.
    Raises:
        RecipeError: no such size; shares that give no whole heads or layers.
    """
    shape = ladder_shape(size, vocab_size=vocab_size, seq_len=row_tokens)
    start: Start = Fresh(shape=shape, checkpoint_blocks=recompute)
    if nested is not None:
        start = Nested(shape=shape, widths=nested.widths, depths=nested.depths, seed=seed)
    if sparsity is None:
        return start
    from prill.lm.efficiency.sparse import Sparse

    return Sparse(start=start, sparsity=sparsity, seed=seed)


def continued(
    folder: Path,
    *,
    n_tags: int = 0,
    max_context: int | None = None,
    lora: Lora | None = None,
    recompute: bool = False,
) -> Start:
    """A model on disk, to be continued.

    Args:
        folder: of Prill's own, or of `transformers`, in safetensors.
        n_tags: ids to add for tags.
        max_context: tokens of the longest row; None: as long as the model reads.
        lora: adapters in place of all weights.
        recompute: layers are computed again in the backward pass instead of kept.
    Raises:
        DataError: there is no model.
        RecipeError: `lora` or `recompute` for one of Prill's own.
    """
    return open_base(folder, n_added=n_tags, max_context=max_context, lora=lora, is_checkpointed=recompute)
