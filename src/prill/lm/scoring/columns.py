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
from prill.lm.scoring.learnable import learnable_scores
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
    "is_truncated": ("1", 0, "only some tokens of the document were scored"),
    "n_bytes_scored": ("bytes", 0, "length of the scored tokens in UTF-8; null where tokens are not bytes"),
}
_TOP = {
    "top_share": ("1", 1, "share of tokens that are among the model's k likeliest; null without tokens"),
    "median_top_loss": ("nats", 0, "median over tokens of their loss, 0 for those that are not among the k"),
    "median_kept_loss": ("nats", 0, "median of the loss of the tokens that are among the k; 0 without any"),
    "top_mass": ("1", 1, "mean over tokens of the probability of the k likeliest; null without tokens"),
    "top_logit": ("1", 1, "mean over tokens of the mean logit of the k likeliest; null without tokens"),
}
_TOKEN = {
    "log_prob": ("nats", 1, "log-probability of every token"),
    "mean_log_prob": ("nats", 0, "mean under the model of the log-probability at every token; minus entropy"),
    "var_log_prob": ("nats^2", 0, "variance under the model of the log-probability at every token"),
    "rank": ("tokens", -1, "tokens that the model holds for more likely than each token; 0 is its first"),
}


def infos_of(detail: Detail, *, state: str, top: int = 0, span: str = "whole document") -> list[ColumnInfo]:
    """What the columns mean.

    Args:
        detail: which are stored.
        state: hash of the model.
        top: k of the likeliest tokens; 0: no columns of them.
        span: the part of a document that was seen.
    """
    tokens = {f"token_{name}": _TOKEN[name] for name in _token_names(detail)}
    highest = _TOP if top else {}
    return [
        ColumnInfo(
            name=name,
            unit=unit,
            direction=-1 if sign < 0 else 1 if sign > 0 else 0,
            state=state,
            version=SCORER_VERSION,
            span=span,
            summary=summary + (f"; k = {top}" if name in highest else ""),
        )
        for name, (unit, sign, summary) in {**_DOCUMENT, **highest, **tokens}.items()
    ]


def columns_of(
    flush: Flush,
    n_bytes: NDArray[np.int64],
    is_truncated: NDArray[np.bool_],
    is_good: NDArray[np.bool_],
    detail: Detail,
    *,
    n_bytes_scored: NDArray[np.int64],
) -> pa.Table:
    """The columns of one flush under one model.

    Args:
        flush: of a single model.
        n_bytes, is_truncated: of its documents, (D,).
        is_good: documents that are none, (D,), have no values but zero tokens.
        detail: which columns.
        n_bytes_scored: bytes of the scored tokens, -1 where they are not known, (D,).
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
        "n_bytes_scored": pa.array(n_bytes_scored, mask=n_bytes_scored < 0),
    }
    if "is_top" in flush.values:
        found |= _top_columns(flush, has_tokens)
    offsets = pa.array(flush.starts.astype(np.int32))
    for name in _token_names(detail):
        values = flush.values[name][0]
        stored = pa.array(values.astype(np.int32) if name == "rank" else values)
        found[f"token_{name}"] = pa.ListArray.from_arrays(offsets, stored)
    return pa.table(found)


def _top_columns(flush: Flush, has_tokens: NDArray[np.bool_]) -> dict[str, pa.Array]:
    """What the k likeliest tokens say of each document."""
    is_top = flush.values["is_top"][0] > 0
    rank = np.where(is_top, 1, 2).astype(np.int64)
    losses = -flush.values["log_prob"][0].astype(np.float64)
    found = {
        "top_share": flush.means("is_top")[0],
        "median_top_loss": learnable_scores(losses, rank, flush.starts, k=1),
        "median_kept_loss": learnable_scores(losses, rank, flush.starts, k=1, beyond="drop"),
        "top_mass": flush.means("top_mass")[0],
        "top_logit": flush.means("top_logit")[0],
    }
    return {name: pa.array(values, mask=~has_tokens) for name, values in found.items()}


def _token_names(detail: Detail) -> tuple[str, ...]:
    return {"documents": (), "tokens": ("log_prob",), "moments": ("log_prob", *MOMENTS)}[detail]
