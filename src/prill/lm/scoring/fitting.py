"""A row that does not fit into memory, told with the size of one that does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from prill.errors import ResourceError
from prill.lm.scoring.rows import ScoringRow

if TYPE_CHECKING:
    from prill.lm.scoring.scorer import TokenScorer
    from prill.lm.scoring.token_values import TokenValues

__all__ = ["scored_row"]

SMALLEST = 16


def scored_row(
    scorer: TokenScorer, row: ScoringRow, *, is_whole: bool, top: int = 0
) -> Sequence[TokenValues]:
    """The row's values.

    Raises:
        ResourceError: memory does not suffice; names the longest row, by halves, that was found to fit.
    """
    found = _tried(scorer, row, is_whole=is_whole, top=top)
    if found is not None:
        return found
    size = row.n_tokens // 2
    while size >= SMALLEST and _tried(scorer, _blank(size), is_whole=is_whole, top=top) is None:
        size //= 2
    longest = max(row.lengths)
    raise ResourceError(
        f"memory must hold a row of {row.n_tokens} tokens for {scorer.n_models} models, "
        f"found too little of it",
        where="scoring",
        hint=f"a row of {size} tokens fits: set `row_tokens` to {size * scorer.n_models}"
        + (f" and `max_len` to at most {size}" if longest > size else "")
        if size >= SMALLEST
        else "the model itself leaves no room: use precision bf16, a smaller model or another device",
    )


def _tried(scorer: TokenScorer, row: ScoringRow, *, is_whole: bool, top: int) -> Sequence[TokenValues] | None:
    """The row's values; None where memory runs out."""
    try:
        return scorer.score(row, is_whole=is_whole, top=top)
    except torch.OutOfMemoryError:
        torch.cuda.empty_cache()
    except MemoryError:
        pass
    except RuntimeError as error:
        if "memory" not in str(error):  # torch has no class of its own for a CPU that runs out
            raise
    return None


def _blank(n_tokens: int) -> ScoringRow:
    """One window of token 0."""
    zeros = np.zeros(n_tokens, dtype=np.int64)
    return ScoringRow(inputs=zeros, targets=zeros, lengths=(n_tokens,), scores=zeros)
