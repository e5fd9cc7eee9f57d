"""What is stored of scored documents: one row a document, and lists a token where asked for.

Legend: D documents of a flush.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from prill.corpus.columns import ColumnInfo
from prill.lm.scoring.stream import MOMENTS, SCORER_VERSION, Flush

__all__ = ["Detail", "columns_of", "infos_of"]

Detail = Literal["documents", "tokens", "moments"]
"""What is stored: numbers a document; also log-probabilities a token; also moments and ranks a token."""

_DOCUMENT = {
    "nats": ("nats", -1, "loss of the document: minus the sum of its tokens' log-probabilities"),
    "n_tokens": ("tokens", 0, "tokens scored, each once"),
    "n_bytes": ("bytes", 0, "length of the whole text in UTF-8"),
    "bits_per_byte": ("bits per byte", -1, "nats / (ln 2 n_bytes); null without text or where truncated"),
    "mean_log_prob": ("nats", 1, "mean over tokens of their log-probability; null without tokens"),
    "var_log_prob": ("nats^2", 0, "variance over tokens of their log-probability; null without tokens"),
    "is_truncated": ("1", 0, "only the first tokens of the document were scored"),
}
_TOKEN = {
    "log_prob": ("nats", 1, "log-probability of every token"),
    "mean_log_prob": ("nats", 0, "mean under the model of the log-probability at every token; minus entropy"),
    "var_log_prob": ("nats^2", 0, "variance under the model of the log-probability at every token"),
    "rank": ("tokens", -1, "tokens that the model holds for more likely than each token; 0 is its first"),
}


def infos_of(detail: Detail, *, state: str) -> list[ColumnInfo]:
    """What the columns mean.

    Args:
        detail: which are stored.
        state: hash of the model.
    """
    tokens = {f"token_{name}": _TOKEN[name] for name in _token_names(detail)}
    return [
        ColumnInfo(
            name=name,
            unit=unit,
            direction=-1 if sign < 0 else 1 if sign > 0 else 0,
            state=state,
            version=SCORER_VERSION,
            summary=summary,
        )
        for name, (unit, sign, summary) in {**_DOCUMENT, **tokens}.items()
    ]


def columns_of(
    flush: Flush,
    n_bytes: NDArray[np.int64],
    is_truncated: NDArray[np.bool_],
    is_good: NDArray[np.bool_],
    detail: Detail,
) -> pa.Table:
    """The columns of one flush under one model.

    Args:
        flush: of a single model.
        n_bytes, is_truncated: of its documents, (D,).
        is_good: documents that are none, (D,), have no values but zero tokens.
        detail: which columns.
    """
    n_tokens = flush.n_tokens
    nats = flush.nats()[0]
    has_tokens = n_tokens > 0
    has_rate = has_tokens & (n_bytes > 0) & ~is_truncated
    rate = nats / (math.log(2) * np.maximum(n_bytes, 1))
    found = {
        "nats": pa.array(nats, mask=~is_good),
        "n_tokens": pa.array(n_tokens),
        "n_bytes": pa.array(n_bytes),
        "bits_per_byte": pa.array(rate, mask=~has_rate),
        "mean_log_prob": pa.array(flush.means("log_prob")[0], mask=~has_tokens),
        "var_log_prob": pa.array(flush.variances("log_prob")[0], mask=~has_tokens),
        "is_truncated": pa.array(is_truncated),
    }
    offsets = pa.array(flush.starts.astype(np.int32))
    for name in _token_names(detail):
        values = flush.values[name][0]
        stored = pa.array(values.astype(np.int32) if name == "rank" else values)
        found[f"token_{name}"] = pa.ListArray.from_arrays(offsets, stored)
    return pa.table(found)


def _token_names(detail: Detail) -> tuple[str, ...]:
    return {"documents": (), "tokens": ("log_prob",), "moments": ("log_prob", *MOMENTS)}[detail]
