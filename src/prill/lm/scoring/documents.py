"""Documents in, columns out: one model folder, one layout, a flush at a time.

Whoever reads documents (`prill score`, the loss features of a run) hands over their token ids and gets
tables in their order. What is scored of a long document is declared: all of it, its first tokens, or windows
spread evenly over it. A process loads a model once and keeps it for the next shard.

Legend: D documents of a flush.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from prill.corpus.columns import ColumnInfo
from prill.errors import RecipeError
from prill.lm.scoring.columns import Detail, columns_of, infos_of
from prill.lm.scoring.stream import Flush, ScoreSettings, check_windows, score_stream
from prill.run.fingerprint import fingerprint

if TYPE_CHECKING:
    from prill.lm.scoring.models import ModelFolder
    from prill.lm.scoring.scorer import TokenScorer

__all__ = ["Document", "DocumentScorer", "Span", "kept_tokens"]

Span = Literal["head", "spread"]
"""What of a document longer than `max_tokens` is scored: its first tokens, or windows spread over it."""


@dataclass(frozen=True, kw_only=True)
class Document:
    """A document to score: token ids without end-of-text, its length in UTF-8, and whether it is one."""

    tokens: NDArray[Any]
    n_bytes: int
    is_good: bool = True


@dataclass(frozen=True, kw_only=True)
class DocumentScorer:
    """How documents are scored. Picklable; loads the model when it is first used in a process.

    Args:
        model: checked, not loaded.
        layout: of windows and rows.
        detail: what is stored.
        max_tokens: tokens of a document that are scored at most; None: all.
        span: which ones.
        precision: of matrix products.
        device: `cpu` or `cuda`.
    Raises:
        RecipeError: a window does not fit the model, or a number is out of bounds.
    """

    model: ModelFolder
    layout: ScoreSettings
    detail: Detail = "documents"
    max_tokens: int | None = None
    span: Span = "head"
    precision: Literal["fp32", "bf16"] = "fp32"
    device: str = "cpu"

    def __post_init__(self) -> None:
        if self.max_tokens is not None and self.max_tokens < 1:
            raise RecipeError(f"`max_tokens` must be at least 1, found {self.max_tokens}", where="scoring")
        if self.span == "spread" and self.layout.context != 1:
            raise RecipeError(
                f"windows that are spread over a document have no context in common, "
                f"found `context` {self.layout.context}",
                where="scoring",
            )
        check_windows(self.layout, self.model.context)

    @property
    def settings(self) -> dict[str, Any]:
        """Everything that decides the columns, rounding included. JSON-able."""
        spread = {"span": self.span} if self.span != "head" else {}
        return {
            "model": dict(self.model.record),
            "layout": self.layout.as_record(),
            "detail": self.detail,
            "max_tokens": self.max_tokens,
            "precision": self.precision,
            "device": self.device,
            **spread,
        }

    @property
    def infos(self) -> list[ColumnInfo]:
        """What the columns mean."""
        state = fingerprint(dict(self.model.record))
        return infos_of(self.detail, state=state, top=self.layout.top, span=self.told_span)

    @property
    def told_span(self) -> str:
        """The part of a document that is seen, in words."""
        if self.max_tokens is None:
            return "whole document"
        where = "first" if self.span == "head" else "evenly spread"
        return f"{where} {self.max_tokens} tokens"

    @property
    def window(self) -> int:
        """Tokens of the longest window."""
        return self.layout.max_len or min(self.model.context, self.layout.row_tokens)

    def tables(
        self, documents: Iterable[Document], *, place: Callable[[int], str] = "document {}".format
    ) -> Iterator[pa.Table]:
        """Columns of the documents, in order, a flush at a time; one empty table where there are none.

        Raises:
            PrillError: as `score_stream`; the model cannot be loaded.
        """
        waiting: list[tuple[int, int, bool, bool]] = []
        lengths = self.model.tokenizer.token_bytes()

        def tokens() -> Iterator[NDArray[Any]]:
            for document in documents:
                kept = kept_tokens(document.tokens, self.max_tokens, span=self.span, window=self.window)
                is_cut = len(kept) < len(document.tokens)
                known = _bytes_of(kept, lengths) if is_cut else document.n_bytes
                waiting.append((document.n_bytes, known, is_cut, document.is_good))
                yield kept

        n_flushes = 0
        for flush in score_stream(self._scorer(), tokens(), self.layout, place=place):
            here, waiting[:] = waiting[: len(flush.n_tokens)], waiting[len(flush.n_tokens) :]
            n_flushes += 1
            yield self._table(flush, here)
        if not n_flushes:
            values = {name: np.zeros((1, 0), np.float32) for name in self.layout.quantities}
            yield self._table(Flush(first=0, starts=np.zeros(1, np.int64), values=values), [])

    def _scorer(self) -> TokenScorer:
        return _loaded(_Kept(self.model), self.precision, self.device)

    def _table(self, flush: Flush, known: list[tuple[int, int, bool, bool]]) -> pa.Table:
        facts = np.array(known, dtype=np.int64).reshape(-1, 4).T
        return columns_of(flush, facts[0], facts[2] > 0, facts[3] > 0, self.detail, n_bytes_scored=facts[1])


def kept_tokens(tokens: NDArray[Any], max_tokens: int | None, *, span: Span, window: int) -> NDArray[Any]:
    """The tokens of a document that are scored.

    With `spread` they are as many whole windows as fit into `max_tokens`, at equal distances from the first
    token to the last; each is read alone but for its first token, which is predicted from the last token of
    the window before.

    Args:
        tokens: of the document.
        max_tokens: at most so many; None: all.
        span: which.
        window: tokens of a window.
    """
    if max_tokens is None or len(tokens) <= max_tokens:
        return tokens
    n_windows = max_tokens // window
    if span == "head" or n_windows < 2:
        return tokens[:max_tokens]
    starts = np.linspace(0, len(tokens) - window, n_windows).astype(np.int64)
    return np.concatenate([tokens[start : start + window] for start in starts])


class _Kept:
    """A model as the key of the cache: by folder and content."""

    def __init__(self, model: ModelFolder) -> None:
        self.model = model
        self._key = (str(model.folder), fingerprint(dict(model.record)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Kept) and other._key == self._key

    def __hash__(self) -> int:
        return hash(self._key)


@functools.lru_cache(maxsize=1)
def _loaded(kept: _Kept, precision: Literal["fp32", "bf16"], device: str) -> TokenScorer:
    """The model of this process; the one before it is let go."""
    import torch

    from prill.lm.backend import compute_dtype

    return kept.model.load(dtype=compute_dtype(precision), device=torch.device(device))


def _bytes_of(tokens: NDArray[Any], lengths: NDArray[np.int64] | None) -> int:
    """UTF-8 bytes of some tokens; -1 where the tokenizer's tokens are no bytes."""
    return -1 if lengths is None else int(lengths[tokens].sum())
