"""Scores documents as they come: a flush at a time, so that memory knows nothing of the corpus.

Documents are gathered until there are enough of them or of their tokens, laid out in packed rows, scored,
and handed on in the order in which they came. Memory is that of one flush, one row and the model. A document
that is longer than a flush is a flush of its own.

Sums over a document are taken in fp64 in the order of its tokens, so they do not depend on packing; the
values themselves depend on it by rounding of the matrix products only.

Axes: K models, D documents, S tokens of all documents of a flush.
Source: the rolling windows of lm-evaluation-harness; packing of Zhao et al. 2024, arXiv:2404.09529.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from prill.errors import DataError, RecipeError
from prill.lm.scoring.rows import Layout, packed_rows
from prill.lm.scoring.windows import windows

if TYPE_CHECKING:
    from prill.lm.scoring.scorer import TokenScorer

__all__ = [
    "MOMENTS",
    "SCORER_VERSION",
    "TOP",
    "Flush",
    "ScoreSettings",
    "check_windows",
    "layout_of",
    "score_stream",
]

SCORER_VERSION = 1
ROW_STEP = 256  # tokens
MOMENTS = ("mean_log_prob", "var_log_prob", "rank")
TOP = ("is_top", "top_mass", "top_logit")

Docs = list[NDArray[Any]]


@dataclass(frozen=True, kw_only=True)
class ScoreSettings:
    """How documents are laid out for scoring.

    Args:
        prefix: the token from which a document's first token is predicted.
        max_len: longest window, tokens; None: the model's context, but no more than a row.
        context: fewest tokens that a window after a document's first reads before what it predicts.
        row_tokens: places of a row, shared by documents; for K models at once, each has 1 / K of them.
        most_windows: windows of a row at most.
        flush_documents, flush_tokens: documents are packed as soon as there are so many, or so many tokens.
        is_whole: moments of the model's distribution and ranks of every token too.
        top: k; of every token, whether it is among the k likeliest, and their mass and mean logit; 0: not.
    Raises:
        RecipeError: a number is not positive (`top`: is negative).
    """

    prefix: int
    max_len: int | None = None
    context: int = 1
    row_tokens: int = 4096
    most_windows: int = 256
    flush_documents: int = 8192
    flush_tokens: int = 1 << 20
    is_whole: bool = False
    top: int = 0

    def __post_init__(self) -> None:
        for name in ("max_len", "context", "row_tokens", "most_windows", "flush_documents", "flush_tokens"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise RecipeError(f"`{name}` must be at least 1, found {value}", where="scoring")
        if self.top < 0:
            raise RecipeError(f"`top` must be at least 0, found {self.top}", where="scoring")

    def as_record(self) -> dict[str, Any]:
        """What decides the result, rounding included. JSON-able."""
        record = {"scorer_version": SCORER_VERSION, **asdict(self)}
        return record if self.top else {name: value for name, value in record.items() if name != "top"}

    @property
    def quantities(self) -> tuple[str, ...]:
        """What is known of every token."""
        moments = MOMENTS if self.is_whole else ()
        return ("log_prob", *moments, *(TOP if self.top else ()))


@dataclass(frozen=True, kw_only=True)
class Flush:
    """Scored documents.

    Attributes:
        first: number of the first of them, from 0.
        starts: where each begins among their tokens, int64, (D + 1,).
        values: of every token: `log_prob` and, if asked for, the moments and `rank`; fp32, (K, S).
    """

    first: int
    starts: NDArray[np.int64]
    values: Mapping[str, NDArray[np.float32]]

    @property
    def n_tokens(self) -> NDArray[np.int64]:
        """Tokens scored in each document, (D,)."""
        return np.diff(self.starts)

    def nats(self) -> NDArray[np.float64]:
        """Summed loss of every document, (K, D)."""
        return -self.sums("log_prob")

    def sums(self, name: str) -> NDArray[np.float64]:
        """Sum of a value over each document, 0 for an empty one, fp64, (K, D)."""
        return _segment_sums(self.values[name].astype(np.float64), self.starts)

    def means(self, name: str) -> NDArray[np.float64]:
        """Mean of a value over each document, NaN for an empty one, (K, D)."""
        n_tokens = self.n_tokens.astype(np.float64)
        return self.sums(name) / np.where(n_tokens > 0, n_tokens, np.nan)

    def variances(self, name: str) -> NDArray[np.float64]:
        """Variance of a value over each document (divided by its tokens), NaN for an empty one, (K, D)."""
        n_tokens = self.n_tokens
        centre = np.repeat(np.nan_to_num(self.means(name)), n_tokens, axis=1)
        squares = (self.values[name] - centre) ** 2
        return _segment_sums(squares, self.starts) / np.where(n_tokens > 0, n_tokens, np.nan)


def score_stream(
    scorer: TokenScorer,
    documents: Iterable[NDArray[Any]],
    settings: ScoreSettings,
    *,
    place: Callable[[int], str] = "document {}".format,
) -> Iterator[Flush]:
    """Score documents in order, a flush at a time.

    Args:
        scorer: K models.
        documents: token ids of each, without end-of-text; an empty one scores 0 nats over 0 tokens.
        settings: of layout.
        place: names a document in errors, by number.
    Raises:
        DataError: a token id is outside the vocabulary, or a value is not finite; names the document.
        RecipeError: a window cannot be had with this model.
        ResourceError: memory does not suffice for a row; says which one would fit.
    """
    layout = layout_of(scorer, settings)
    if (settings.is_whole or settings.top) and not scorer.gives_moments:
        raise RecipeError("this model gives losses only, found a request for moments", where="scoring")
    if settings.top > scorer.vocab_size:
        raise RecipeError(
            f"`top` must be at most the vocabulary of {scorer.vocab_size} tokens, found {settings.top}",
            where="scoring",
        )
    first = 0
    for docs in _flushes(documents, settings):
        _check_ids(docs, scorer.vocab_size, lambda i, first=first: place(first + i))  # type: ignore[misc]
        flush = _scored(scorer, docs, layout, settings, first)
        _check_finite(flush, place)
        yield flush
        first += len(docs)


def check_windows(settings: ScoreSettings, model_context: int) -> None:
    """Whether a model with this context can read such windows.

    Raises:
        RecipeError: the window is longer than the model's context, or its own context is longer than it.
    """
    if settings.max_len is not None and settings.max_len > model_context:
        raise RecipeError(
            f"a window may have at most the {model_context} tokens of the model's context, "
            f"found {settings.max_len}",
            where="max_len",
        )
    windows(0, settings.max_len or min(model_context, settings.row_tokens), context=settings.context)


def layout_of(scorer: TokenScorer, settings: ScoreSettings) -> Layout:
    """The rows that these settings mean for a model.

    Raises:
        RecipeError: as `check_windows`.
    """
    check_windows(settings, scorer.context)
    max_len = settings.max_len or min(scorer.context, settings.row_tokens)
    row_tokens = max(settings.row_tokens // scorer.n_models, max_len)
    if scorer.row_tokens is not None:
        row_tokens = max(max_len, min(row_tokens, scorer.row_tokens))
    return Layout(
        row_tokens=row_tokens,
        max_len=max_len,
        context=settings.context,
        most_windows=settings.most_windows,
        row_step=ROW_STEP,
    )


def _flushes(documents: Iterable[NDArray[Any]], settings: ScoreSettings) -> Iterator[Docs]:
    docs: Docs = []
    n_tokens = 0
    for doc in documents:
        if docs and n_tokens + len(doc) > settings.flush_tokens:
            yield docs
            docs, n_tokens = [], 0
        docs.append(doc)
        n_tokens += len(doc)
        if len(docs) >= settings.flush_documents:
            yield docs
            docs, n_tokens = [], 0
    if docs:
        yield docs


def _scored(scorer: TokenScorer, docs: Docs, layout: Layout, settings: ScoreSettings, first: int) -> Flush:
    from prill.lm.scoring.fitting import scored_row

    starts = np.zeros(len(docs) + 1, dtype=np.int64)
    np.cumsum([len(doc) for doc in docs], out=starts[1:])
    names = settings.quantities
    values = {name: np.zeros((scorer.n_models, int(starts[-1])), dtype=np.float32) for name in names}
    for row in packed_rows(docs, starts, layout, prefix=settings.prefix):
        is_scored = row.scores >= 0
        into = row.scores[is_scored]
        for k, found in enumerate(scored_row(scorer, row, is_whole=settings.is_whole, top=settings.top)):
            for name in names:
                values[name][k, into] = getattr(found, name).cpu().numpy()[is_scored]
    return Flush(first=first, starts=starts, values=values)


def _check_ids(docs: Sequence[NDArray[Any]], vocab_size: int, place: Callable[[int], str]) -> None:
    for index, doc in enumerate(docs):
        if len(doc) and (int(doc.max()) >= vocab_size or int(doc.min()) < 0):
            raise DataError(
                f"token ids must be below the vocabulary size {vocab_size}, found {int(doc.max())}",
                where=place(index),
                hint="use the tokenizer the model was trained with",
            )


def _check_finite(flush: Flush, place: Callable[[int], str]) -> None:
    for values in flush.values.values():
        if not np.isfinite(values).all():
            k, token = np.argwhere(~np.isfinite(values))[0]
            document = int(np.searchsorted(flush.starts, token, side="right")) - 1
            raise DataError(
                f"a loss must be finite, found {values[k, token]} under model {k}",
                where=place(flush.first + document),
                hint="the model has diverged: lower the learning rate, or score in precision fp32",
            )


def _segment_sums(values: NDArray[np.float64], starts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Sums between neighbouring starts along the last axis, 0 where they are equal."""
    found = np.zeros((len(values), len(starts) - 1))
    is_filled = starts[1:] > starts[:-1]
    if is_filled.any():
        found[:, is_filled] = np.add.reduceat(values, starts[:-1][is_filled], axis=1)
    return found
