"""The total order of a selection, as unsigned integers: better documents come first.

A document's place is (score key, tie key, shard, row), compared from the left, smaller first. The score key
is the 64-bit pattern of the score, rearranged so that unsigned order is the reverse of score order; the tie
key is a draw keyed by (seed, text hash), so ties are cut at random but the same way for any sharding. Only
exact copies, which share both keys, are told apart by shard and row.

Legend: D documents of one shard's table.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from prill.errors import DataError
from prill.features.keyed import derive_seed, keyed_gumbel, keyed_uniform
from prill.select.policy import Policy
from prill.stats.order_key import order_key, value_of_key

__all__ = ["ALL", "Ranked", "ordered", "rank", "score_key", "score_of_key", "tie_of_key"]

ALL = ""
"""Name of the single stratum when the policy has none."""

_STRATUM_COLUMNS = {"source": "source", "method": "stratum"}
_COLUMNS = ("row", "score", "n_tokens", "n_bytes", "key", "eligible")


@dataclass(frozen=True, kw_only=True)
class Ranked:
    """One shard's rows with their place in the total order; every array has shape (D,)."""

    shard: int
    row: NDArray[np.int64]
    score: NDArray[np.float64]
    score_key: NDArray[np.uint64]
    tie_key: NDArray[np.uint64]
    units: NDArray[np.int64]
    """Shape (D, 3): documents (1), tokens, bytes."""
    eligible: NDArray[np.bool_]
    """Eligible and with a finite score (and past the threshold, if the policy has one)."""
    is_non_finite: NDArray[np.bool_]
    """Otherwise eligible, but without a usable score."""
    is_below: NDArray[np.bool_]
    """Otherwise eligible, but below the policy's threshold."""
    strata: tuple[str, ...]
    stratum: NDArray[np.int64]
    """Index into `strata`."""


def rank(table: pa.Table, shard: int, policy: Policy, seed: int) -> Ranked:
    """Reads one shard's table: row, score, n_tokens, n_bytes, key, eligible, and what the strata are.

    Raises:
        DataError: a column is missing, a count is negative, or an eligible row has no finite score and the
            policy says to stop.
    """
    missing = [name for name in _COLUMNS if name not in table.column_names]
    if missing:
        raise DataError(
            f"expected the columns {', '.join(_COLUMNS)}, found no {', '.join(missing)}",
            where=f"shard {shard}",
        )
    score = _floats(table["score"])
    eligible = np.asarray(_without_nulls(table, "eligible", shard), dtype=np.bool_)
    row, key = _counts(table, "row", shard), np.asarray(_without_nulls(table, "key", shard), dtype=np.uint64)
    is_non_finite = eligible & ~np.isfinite(score)
    if policy.on_non_finite == "stop" and is_non_finite.any():
        _stop_at_non_finite(score, row, is_non_finite, shard)
    eligible = eligible & ~is_non_finite
    is_below = eligible & (
        np.where(eligible, score, 0.0) < (-np.inf if policy.threshold is None else policy.threshold)
    )
    eligible = eligible & ~is_below
    order = ordered(np.where(eligible, score, 0.0), key, policy, seed)
    strata, stratum = _strata(table, policy, shard)
    tokens, sizes = _counts(table, "n_tokens", shard), _counts(table, "n_bytes", shard)
    return Ranked(
        shard=shard,
        row=row,
        score=score,
        score_key=score_key(order),
        tie_key=keyed_uniform(derive_seed(seed, "select.tie"), key).view(np.uint64),
        units=np.stack([np.ones_like(tokens), tokens, sizes], axis=1),
        eligible=eligible,
        is_non_finite=is_non_finite,
        is_below=is_below,
        strata=strata,
        stratum=stratum,
    )


def ordered(
    score: NDArray[np.float64], key: NDArray[np.uint64], policy: Policy, seed: int
) -> NDArray[np.float64]:
    """What the policy sorts by: the score, or score / temperature + keyed Gumbel noise."""
    if policy.kind != "gumbel":
        return score
    return np.asarray(score / policy.temperature + keyed_gumbel(derive_seed(seed, "select.gumbel"), key))


def score_key(score: NDArray[np.float64]) -> NDArray[np.uint64]:
    """The score's bits rearranged so that a smaller unsigned integer is a higher score; -0 counts as 0."""
    return np.asarray(~order_key(score), dtype=np.uint64)


def score_of_key(key: int) -> float:
    """The (possibly perturbed) score that has this key: the inverse of `score_key`."""
    return float(value_of_key(~np.array([key], dtype=np.uint64))[0])


def tie_of_key(key: int) -> float:
    """The uniform draw of a tie key, between 0 and 1."""
    return float(np.array([key], dtype=np.uint64).view(np.float64)[0])


def _strata(table: pa.Table, policy: Policy, shard: int) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    names = [_STRATUM_COLUMNS[part] for part in policy.strata.split(" x ")] if policy.strata else []
    for name in names:
        if name not in table.column_names:
            raise DataError(
                f"expected a column `{name}` to choose within (`strata: {policy.strata}`), found none",
                where=f"shard {shard}",
                hint="read the source of each document, or remove `strata` from the policy"
                if name == "source"
                else "take a method that tells a stratum of each document, or choose within the source",
            )
    if not names:
        return (ALL,), np.zeros(table.num_rows, dtype=np.int64)
    found = [_encoded(table[name]) for name in names]
    return found[0] if len(found) == 1 else _crossed(*found)


def _encoded(column: pa.ChunkedArray) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    values = column.combine_chunks().cast(pa.large_string()).fill_null("(none)").dictionary_encode()
    codes = np.asarray(values.indices.to_numpy(zero_copy_only=False), dtype=np.int64)
    return tuple(values.dictionary.to_pylist()), codes


def _crossed(
    a: tuple[tuple[str, ...], NDArray[np.int64]], b: tuple[tuple[str, ...], NDArray[np.int64]]
) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """The pairs that occur, named `a / b`; a slash between spaces within a name is doubled."""
    pairs, codes = np.unique(a[1] * len(b[0]) + b[1], return_inverse=True)
    named = [[name.replace(" / ", " // ") for name in part] for part in (a[0], b[0])]
    names = [f"{named[0][pair // len(b[0])]} / {named[1][pair % len(b[0])]}" for pair in pairs.tolist()]
    return tuple(names), codes.astype(np.int64)


def _floats(column: pa.ChunkedArray) -> NDArray[np.float64]:
    values = column.combine_chunks().cast(pa.float64())
    return np.asarray(values.to_numpy(zero_copy_only=False), dtype=np.float64)  # a null becomes NaN


def _counts(table: pa.Table, name: str, shard: int) -> NDArray[np.int64]:
    values = np.asarray(_without_nulls(table, name, shard), dtype=np.int64)
    if values.size and values.min() < 0:
        first = int(np.argmax(values < 0))
        raise DataError(
            f"`{name}` must not be negative, found {values[first]}", where=f"shard {shard}, row {first}"
        )
    return values


def _without_nulls(table: pa.Table, name: str, shard: int) -> NDArray[np.generic]:
    column = table[name].combine_chunks()
    if column.null_count:
        raise DataError(
            f"`{name}` must have a value in every row, found {column.null_count} nulls",
            where=f"shard {shard}",
        )
    values: NDArray[np.generic] = column.to_numpy(zero_copy_only=False)
    return values


def _stop_at_non_finite(
    score: NDArray[np.float64], row: NDArray[np.int64], bad: NDArray[np.bool_], shard: int
) -> None:
    first = int(np.argmax(bad))
    raise DataError(
        f"a score must be a finite number, found {score[first]} ({int(bad.sum())} such rows in this shard)",
        where=f"shard {shard}, row {row[first]}",
        hint="repair the scores, or set `on_non_finite: exclude` to leave such documents out and count them",
    )
