"""Conditioning, then cooldown: one stream with metadata, and one of other documents without.

The second stream is drawn by the hash of the text, so exact copies stay on one side and what the last
stretch trains on is fresh. Both go to a feed in phases; optimiser, schedule and step count go on.

Source: Gao et al. 2025, arXiv:2501.01956 (the last tenth without metadata). Differs: none.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from prill.errors import DataError, RecipeError
from prill.lm.data import TokenStream
from prill.lm.samples.chain import make_samples
from prill.lm.samples.keyed_bits import keyed, uniform
from prill.lm.samples.subset import take_documents
from prill.lm.samples.transform import Documents, SampleTransform

__all__ = ["fresh_share", "with_cooldown"]


def with_cooldown(
    documents: Documents,
    conditioned: tuple[SampleTransform, ...],
    plain: tuple[SampleTransform, ...] = (),
    *,
    cooldown_share: float = 0.1,
    seed: int,
) -> tuple[TokenStream, TokenStream]:
    """Samples of most documents with `conditioned`, and of the others with `plain`, both in their order.

    Args:
        documents: all of them; tags of `conditioned` come first in the vocabulary, then those of `plain`.
        conditioned: transforms of the first stretch.
        plain: transforms of the last one; none: documents as they are.
        cooldown_share: share of the tokens, before any transform, that the last stretch is given.
        seed: of the run.
    Returns:
        The two streams; their `origins` are numbers of `documents`, and disjoint.
    Raises:
        RecipeError: `cooldown_share` is not between 0 and 1.
        DataError: one of the two would be empty.
    """
    lengths = np.diff(documents.stream.doc_starts)
    is_fresh = fresh_share(documents.hashes, lengths, share=cooldown_share, seed=seed)
    if is_fresh.all() or not is_fresh.any():
        raise DataError(
            f"two stretches need documents each, found {len(lengths)} documents, "
            f"{int(is_fresh.sum())} of them for the last stretch",
            where=documents.stream.name,
            hint="give more documents, or another share to the cooldown",
        )
    first = take_documents(documents, np.flatnonzero(~is_fresh))
    last = take_documents(documents, np.flatnonzero(is_fresh))
    return make_samples(conditioned, first, seed=seed), make_samples(plain, last, seed=seed)


def fresh_share(
    hashes: NDArray[np.uint64], n_tokens: NDArray[np.int64], *, share: float, seed: int
) -> NDArray[np.bool_]:
    """Which documents are kept for the last stretch: those of the lowest draws, up to `share` of the tokens.

    Documents of one hash stay together.
    """
    if not 0 < share < 1:
        raise RecipeError(f"a cooldown needs a share between 0 and 1, found {share}", where="cooldown_share")
    draws = uniform(keyed(hashes, seed=seed, use="cooldown"))
    values, group = np.unique(draws, return_inverse=True)
    reached = np.cumsum(np.bincount(group, weights=n_tokens, minlength=len(values)))
    n_groups = int(np.searchsorted(reached, share * reached[-1], side="right"))
    return np.asarray(group < max(1, n_groups))
