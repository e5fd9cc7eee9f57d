"""The pool as features and methods see it: texts, and what earlier steps learnt of every document."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from prill.corpus.columns import read_columns
from prill.features.keyed import keyed_uniform

if TYPE_CHECKING:
    from prill.corpus.batch import Batch
    from prill.corpus.corpus import Corpus

__all__ = ["PoolView", "Sample"]


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Documents of the pool chosen by keyed hash, in the order of the corpus, N of them.

    Attributes:
        text: large_string, shape (N,).
        shard, row: where each is, int64, shape (N,).
        key: lower half of the text's hash, uint64, shape (N,).
    """

    text: pa.Array
    shard: NDArray[np.int64]
    row: NDArray[np.int64]
    key: NDArray[np.uint64]


@dataclass(frozen=True, kw_only=True)
class PoolView:
    """The pool. Picklable.

    Attributes:
        corpus: the files; features read only `text` unless their definition says otherwise.
        read_parts, eligible_parts, token_parts: columns of the first steps, one file a shard.
        tokenizer: the run's tokenizer.json.
    """

    corpus: Corpus
    read_parts: tuple[Path, ...]
    eligible_parts: tuple[Path, ...]
    token_parts: tuple[Path, ...]
    tokenizer: Path

    @property
    def n_shards(self) -> int:
        """Shards, numbered from 0."""
        return len(self.corpus.shards)

    @property
    def n_bytes(self) -> int:
        """About the bytes of text in the pool: the sizes of its shards."""
        return sum(shard.n_bytes for shard in self.corpus.shards)

    def batches(self, shard: int, names: Sequence[str] = ("text",)) -> Iterator[Batch]:
        """The documents of a shard, in order; every batch knows its `first_row`."""
        wanted = [name for name in self.corpus.fields if name in names]
        return self.corpus.batches(self.corpus.shards[shard], wanted)

    def keys(self, shard: int) -> NDArray[np.uint64]:
        """Lower halves of the text hashes: the key of everything drawn."""
        return self._numbers(self.read_parts[shard], "hash_low")

    def is_eligible(self, shard: int) -> NDArray[np.bool_]:
        """Which documents may be chosen; only from these may anything be fitted."""
        reasons = read_columns(self.eligible_parts[shard], ["drop_reason"])["drop_reason"]
        return np.asarray(pc.is_null(reasons).to_numpy())

    def n_tokens(self, shard: int) -> NDArray[np.int64]:
        """Tokens of every document with its end token; 0 for those that may not be chosen."""
        return self._numbers(self.token_parts[shard], "n_tokens")

    def document_bytes(self, shard: int) -> NDArray[np.int64]:
        """Length of every text in UTF-8."""
        return self._numbers(self.read_parts[shard], "n_bytes")

    def total_tokens(self) -> int:
        """Tokens of all documents that may be chosen."""
        return sum(int(self.n_tokens(shard).sum()) for shard in range(self.n_shards))

    def is_sampled(self, shard: int, *, share: float, seed: int) -> NDArray[np.bool_]:
        """Eligible documents whose keyed draw lies below `share`: the rows that `sample` gives."""
        return np.asarray(self.is_eligible(shard) & (keyed_uniform(seed, self.keys(shard)) < share))

    def sample(self, *, seed: int, n_tokens: int | None = None, n_documents: int | None = None) -> Sample:
        """About so many tokens, or documents, of the eligible pool, the same whatever the shards.

        Args:
            seed: of the draws.
            n_tokens, n_documents: how much; exactly one of them. The whole pool where it holds less.
        """
        assert (n_tokens is None) != (n_documents is None)
        share = self.share_of(n_tokens=n_tokens, n_documents=n_documents)
        texts, places, keys = [], [], []
        for shard in range(self.n_shards):
            chosen = self.is_sampled(shard, share=share, seed=seed)
            if not chosen.any():
                continue
            for batch in self.batches(shard):
                rows = np.flatnonzero(chosen[batch.first_row : batch.first_row + batch.n_rows])
                texts.append(batch.text.take(pa.array(rows)))
            rows = np.flatnonzero(chosen)
            places.append(np.stack([np.full(len(rows), shard), rows], axis=1))
            keys.append(self.keys(shard)[rows])
        place = np.concatenate(places) if places else np.empty((0, 2), np.int64)
        return Sample(
            text=pa.concat_arrays(texts) if texts else pa.array([], pa.large_string()),
            shard=place[:, 0],
            row=place[:, 1],
            key=np.concatenate(keys) if keys else np.empty(0, np.uint64),
        )

    def share_of(self, *, n_tokens: int | None = None, n_documents: int | None = None) -> float:
        """The share of the eligible pool that so many tokens or documents are, at most 1."""
        if n_tokens is not None:
            return min(1.0, n_tokens / max(1, self.total_tokens()))
        assert n_documents is not None
        n_eligible = sum(int(self.is_eligible(shard).sum()) for shard in range(self.n_shards))
        return min(1.0, n_documents / max(1, n_eligible))

    def _numbers(self, part: Path, column: str) -> NDArray[Any]:
        return np.asarray(read_columns(part, [column])[column].to_numpy())
