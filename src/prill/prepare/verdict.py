"""Verdicts: every reason that holds for a document, in order, and the account of what each reason does.

The first reason that holds is the one that counts in `in = kept + dropped by reason`; the others are kept
beside it, so that one can see what a rule removes that no other rule would have removed.

Legend: D documents, R reasons.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from prill.corpus.columns import ColumnInfo
from prill.prepare.measure import Drops

__all__ = ["VERDICT_COLUMNS", "ReasonCount", "account", "joined", "verdict_columns"]

VERDICT_COLUMNS = (
    ColumnInfo(name="drop_reason", unit="reason", summary="the first reason to drop; null for a kept one"),
    ColumnInfo(name="reasons", unit="reasons", summary="every reason that holds, in the order of the rules"),
    ColumnInfo(name="n_bytes_after", unit="bytes", summary="length of the text after all edits"),
    ColumnInfo(name="n_bytes_cut", unit="bytes", summary="bytes of the text that the edits take out"),
)


@dataclass(frozen=True, kw_only=True)
class ReasonCount:
    """What one reason does, in documents and in bytes of text.

    Attributes:
        fired: it holds.
        alone: it is the only one that holds.
        first: it is the first that holds, so it is the one that drops the document.
    """

    reason: str
    fired: int
    alone: int
    first: int
    fired_bytes: int
    alone_bytes: int
    first_bytes: int


def joined(drops: Sequence[Drops]) -> Drops:
    """The drops of several judges as one, in their order; a reason that two give is either's."""
    found: Drops = {}
    for one in drops:
        for reason, holds in one.items():
            found[reason] = found[reason] | holds if reason in found else holds
    return found


def verdict_columns(
    drops: Drops, n_bytes_after: NDArray[np.int64], n_bytes_cut: NDArray[np.int64]
) -> dict[str, pa.Array]:
    """The columns of `VERDICT_COLUMNS` for D documents."""
    n_documents = len(n_bytes_after)
    fired = np.array(list(drops.values()), bool).reshape(len(drops), n_documents)
    documents, numbers = np.nonzero(fired.T)
    offsets = np.searchsorted(documents, np.arange(n_documents + 1))
    names = pa.array(list(drops), pa.string())
    values = names.take(pa.array(numbers))
    first = np.full(n_documents, -1)
    first[documents[::-1]] = numbers[::-1]
    place = pa.array(first, mask=first < 0)
    return {
        "drop_reason": names.take(place),
        "reasons": pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), values),
        "n_bytes_after": pa.array(n_bytes_after, pa.int64()),
        "n_bytes_cut": pa.array(n_bytes_cut, pa.int64()),
    }


def account(names: Sequence[str], tables: Sequence[tuple[pa.Table, NDArray[np.int64]]]) -> list[ReasonCount]:
    """What every reason of `names` does over all tables, in that order; reasons that never fire too.

    Args:
        tables: verdict columns with the bytes of the documents, one pair a shard.
    """
    counts: Mapping[str, NDArray[np.int64]] = {name: np.zeros(6, np.int64) for name in names}
    for table, n_bytes in tables:
        reasons = table["reasons"].combine_chunks()
        lengths = np.asarray(pc.list_value_length(reasons), np.int64)
        documents = np.repeat(np.arange(len(lengths)), lengths)
        encoded = reasons.flatten().dictionary_encode()
        is_alone, is_first = lengths[documents] == 1, np.diff(documents, prepend=-1) > 0
        numbers = np.asarray(encoded.indices)
        for number, name in enumerate(encoded.dictionary.to_pylist()):
            of = numbers == number
            for column, which in enumerate((of, of & is_alone, of & is_first)):
                counts[name][column] += which.sum()
                counts[name][column + 3] += n_bytes[documents[which]].sum()
    return [
        ReasonCount(
            reason=name,
            **{
                key: int(value)
                for key, value in zip(
                    ("fired", "alone", "first", "fired_bytes", "alone_bytes", "first_bytes"),
                    counts[name],
                    strict=True,
                )
            },
        )
        for name in names
    ]
