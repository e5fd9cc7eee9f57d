"""The first stretch: what every document is, which ones may be chosen, and how many tokens each has."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from prill.corpus.columns import ColumnInfo, read_columns, write_columns
from prill.corpus.corpus import Corpus
from prill.features.keyed import keyed_uniform
from prill.features.token_counts import TokenCounter
from prill.pipeline.measuring import EMPTY

__all__ = [
    "COPY",
    "HELD_OUT",
    "REST",
    "CountTokens",
    "MarkEligible",
    "first_copies",
    "pool_counts",
    "sample_texts",
]

ELIGIBLE_VERSION = 1
TOKENS_VERSION = 1

# Reasons for which a document cannot be chosen, as users read them.
COPY = "exact copy of an earlier document"
HELD_OUT = "exact copy of a target document"
REST = "held out to measure the rest"

_ELIGIBLE_COLUMNS = (
    ColumnInfo(
        name="drop_reason", unit="reason", summary="why the document cannot be chosen; null when it can"
    ),
)
_TOKEN_COLUMNS = (
    ColumnInfo(
        name="n_tokens", unit="tokens", summary="tokens with the one that ends the document; 0 if dropped"
    ),
)


def first_copies(read_parts: list[Path], *, rows_at_once: int = 20_000_000) -> list[np.ndarray]:
    """Which documents are the first with their text, a boolean array a shard.

    Works in slices of the hash range, so that memory holds about `rows_at_once` hashes and one byte a
    document, however large the corpus. The first is the lowest (shard, row), whatever the worker count.
    """
    sizes = [_n_rows(path) for path in read_parts]
    is_first = [np.ones(size, bool) for size in sizes]
    n_slices = max(1, -(-sum(sizes) // rows_at_once))
    for number in range(n_slices):
        keys, places = _hash_slice(read_parts, number, n_slices)
        order = np.lexsort((places[:, 1], places[:, 0], keys[:, 1], keys[:, 0]))
        same = (keys[order][1:] == keys[order][:-1]).all(axis=1)
        for shard, row in places[order[1:][same]]:
            is_first[shard][row] = False
    return is_first


def _hash_slice(read_parts: list[Path], number: int, n_slices: int) -> tuple[np.ndarray, np.ndarray]:
    keys, places = [], []
    for shard, path in enumerate(read_parts):
        table = read_columns(path, ["hash_high", "hash_low", "bad"])
        high, low = table["hash_high"].to_numpy(), table["hash_low"].to_numpy()
        rows = np.flatnonzero((high % np.uint64(n_slices) == number) & pc.is_null(table["bad"]).to_numpy())
        keys.append(np.stack([high[rows], low[rows]], axis=1))
        places.append(np.stack([np.full(len(rows), shard), rows], axis=1))
    return np.concatenate(keys), np.concatenate(places)


def _n_rows(path: Path) -> int:
    import pyarrow.parquet as pq

    return int(pq.read_metadata(path).num_rows)


@dataclass(frozen=True, kw_only=True)
class MarkEligible:
    """Writes why each document of a shard cannot be chosen. The first reason that holds is the one told.

    Args:
        read_parts: the parts of the read step.
        is_first: a boolean array a shard, or None when copies are kept.
        held_out_keys: 128-bit hashes of every target document, shape (D, 2).
        rest_share: documents whose keyed draw lies below this are held out as `rest`.
    """

    read_parts: list[Path]
    is_first: list[np.ndarray] | None
    held_out_keys: np.ndarray
    rest_share: float
    seed: int

    def __call__(self, item: tuple[int, Path]) -> None:
        index, path = item
        table = read_columns(self.read_parts[index], ["hash_high", "hash_low", "n_bytes", "bad"])
        low = table["hash_low"].to_numpy()
        in_target = _is_in(np.stack([table["hash_high"].to_numpy(), low], axis=1), self.held_out_keys)
        rules = [(EMPTY, table["n_bytes"].to_numpy() == 0), (HELD_OUT, in_target)]
        if self.is_first is not None:
            rules.append((COPY, ~self.is_first[index]))
        rules.append((REST, keyed_uniform(self.seed, low) < self.rest_share))
        reasons = table["bad"].combine_chunks()
        for reason, holds in rules:
            reasons = pc.if_else(pc.and_(pc.is_null(reasons), pa.array(holds)), reason, reasons)
        write_columns(path, {"drop_reason": reasons}, _ELIGIBLE_COLUMNS)


def _is_in(keys: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Which rows of `keys` (N, 2) are among the rows of `known` (M, 2)."""
    pair = np.dtype([("high", np.uint64), ("low", np.uint64)])
    left, right = (np.ascontiguousarray(array).view(pair).ravel() for array in (keys, known))
    return np.isin(left, right)


@dataclass(frozen=True, kw_only=True)
class CountTokens:
    """Counts the tokens of every document of a shard that may be chosen or evaluated."""

    corpus: Corpus
    eligible_parts: list[Path]
    tokenizer: bytes

    def __call__(self, item: tuple[int, Path]) -> None:
        index, path = item
        counter = TokenCounter.of(self.tokenizer)
        eligible = pc.is_null(read_columns(self.eligible_parts[index])["drop_reason"]).to_numpy()
        n_tokens = np.zeros(len(eligible), np.int64)
        for batch in self.corpus.batches(self.corpus.shards[index]):
            rows = batch.first_row + np.flatnonzero(
                eligible[batch.first_row : batch.first_row + batch.n_rows]
            )
            n_tokens[rows] = counter.count_batch(batch.text.take(pa.array(rows - batch.first_row))) + 1
        write_columns(path, {"n_tokens": n_tokens}, _TOKEN_COLUMNS)


def sample_texts(
    corpus: Corpus, read_parts: list[Path], eligible_parts: list[Path], *, n_bytes: int, seed: int
) -> Iterator[str]:
    """Eligible texts of about `n_bytes` in all, chosen by keyed hash, in corpus order."""
    total = sum(
        int(t["n_bytes"].to_numpy().sum()) for t in (read_columns(path, ["n_bytes"]) for path in read_parts)
    )
    share = n_bytes / max(1, total)
    for shard in corpus.shards:
        chosen = pc.is_null(read_columns(eligible_parts[shard.index])["drop_reason"]).to_numpy()
        chosen &= (
            keyed_uniform(seed, read_columns(read_parts[shard.index], ["hash_low"])["hash_low"].to_numpy())
            < share
        )
        if not chosen.any():
            continue
        for batch in corpus.batches(shard):
            rows = np.flatnonzero(chosen[batch.first_row : batch.first_row + batch.n_rows])
            yield from batch.text.take(pa.array(rows)).to_pylist()


def pool_counts(
    read_parts: list[Path], eligible_parts: list[Path], token_parts: list[Path]
) -> dict[str, object]:
    """The account of the pool: in = eligible + dropped by reason, exactly."""
    totals = {"n_documents": 0, "n_bytes": 0, "n_eligible": 0, "n_eligible_bytes": 0, "n_tokens": 0}
    dropped: dict[str, int] = {}
    for read, eligible, tokens in zip(read_parts, eligible_parts, token_parts, strict=True):
        n_bytes = read_columns(read, ["n_bytes"])["n_bytes"].to_numpy()
        reasons = read_columns(eligible, ["drop_reason"])["drop_reason"]
        is_eligible = pc.is_null(reasons).to_numpy()
        totals["n_documents"] += len(n_bytes)
        totals["n_bytes"] += int(n_bytes.sum())
        totals["n_eligible"] += int(is_eligible.sum())
        totals["n_eligible_bytes"] += int(n_bytes[is_eligible].sum())
        totals["n_tokens"] += int(read_columns(tokens, ["n_tokens"])["n_tokens"].to_numpy().sum())
        for entry in pc.value_counts(reasons.combine_chunks().drop_null()).to_pylist():
            dropped[entry["values"]] = dropped.get(entry["values"], 0) + entry["counts"]
    return {**totals, "dropped": dict(sorted(dropped.items()))}
