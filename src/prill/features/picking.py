"""Text of documents that something else has chosen, as tokens: one pass over the shards they lie in."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from prill.errors import DataError
from prill.features.feature import Given
from prill.features.keyed import derive_seed, keyed_uniform

__all__ = ["all_places", "target_tokens", "tokens_at"]


def all_places(given: Given) -> tuple[NDArray[np.int64], NDArray[np.uint64], NDArray[np.int64]]:
    """Place (shard, row), key and tokens of every document that may be chosen and has text."""
    places, keys, sizes = [], [], []
    for shard in range(given.pool.n_shards):
        n_tokens = given.pool.n_tokens(shard)
        rows = np.flatnonzero(given.pool.is_eligible(shard) & (n_tokens > 1))
        places.append(np.stack([np.full(len(rows), shard), rows], axis=1).astype(np.int64))
        keys.append(given.pool.keys(shard)[rows])
        sizes.append(n_tokens[rows])
    return np.concatenate(places), np.concatenate(keys), np.concatenate(sizes)


def tokens_at(given: Given, place: NDArray[np.int64], *, longest: int) -> list[NDArray[np.uint32]]:
    """The first `longest` tokens of the documents at (shard, row), in the order asked for."""
    from prill.features.token_counts import TokenCounter

    counter = TokenCounter.of(given.pool.tokenizer.read_bytes())
    found: dict[tuple[int, int], NDArray[np.uint32]] = {}
    for shard in np.unique(place[:, 0]).tolist():
        rows = np.unique(place[place[:, 0] == shard, 1])
        for batch in given.pool.batches(shard):
            here = rows[(rows >= batch.first_row) & (rows < batch.first_row + batch.n_rows)]
            if not len(here):
                continue
            encoded = counter.encode(batch.text.take(pa.array(here - batch.first_row))).documents()
            for row, tokens in zip(here.tolist(), encoded, strict=True):
                found[shard, row] = tokens[:longest].copy()
    return [found[shard, row] for shard, row in place.tolist()]


def target_tokens(given: Given, name: str, *, n_tokens: int, longest: int, use: str) -> list[NDArray[Any]]:
    """Items of a target's fit part, cut to `longest` tokens, in keyed order until they hold `n_tokens`.

    Raises:
        DataError: the target holds fewer than 64 tokens.
    """
    from prill.features.token_counts import TokenCounter

    counter = TokenCounter.of(given.pool.tokenizer.read_bytes())
    documents = counter.encode(given.targets[name]).documents()
    draws = keyed_uniform(
        derive_seed(given.seed, f"{use} {name}"), np.arange(len(documents), dtype=np.uint64)
    )
    kept: list[NDArray[Any]] = []
    total = 0
    for number in np.argsort(draws, kind="stable").tolist():
        document = documents[number][:longest]
        if len(document) and total < n_tokens:
            kept.append(document[: n_tokens - total])
            total += len(kept[-1])
    if total < 64:
        raise DataError(
            f"expected at least 64 tokens of target {name!r} to judge models by, found {total}",
            where=f"target {name!r}",
            hint="add items to the target",
        )
    return kept
