"""Loss of every document of a set under every model of a stack, in nats.

Every token is scored once, the first from end-of-text alone; a long document is read in windows. Windows
are packed, and attention never crosses one (`prill.lm.scoring`). Axes: K models, D documents.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from prill.errors import DataError
from prill.lm.scoring.windows import Window, windows

if TYPE_CHECKING:
    from prill.lm.learner import Learner
    from prill.lm.scoring.stream import Flush

__all__ = ["EvalSet", "Window", "score_documents", "windows"]


@dataclass(frozen=True, kw_only=True)
class EvalSet:
    """Documents to score.

    Args:
        docs: token ids of each document, without end-of-text.
        n_bytes: UTF-8 length of each document, int64, (D,).
        eos: the end-of-text token.
        name: named in errors.
        n_given: opening tokens of each document that are read but not scored (a prefix), int64, (D,); None:
            none. A window behind the first does not see them.
    Raises:
        DataError: lengths differ, the set or a document is empty, or all of a document is given.
    """

    docs: Sequence[NDArray[Any]]
    n_bytes: NDArray[np.int64]
    eos: int
    name: str = "evaluation set"
    n_given: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        if not len(self.docs) or len(self.docs) != len(self.n_bytes):
            raise DataError(
                f"an evaluation set needs one byte length a document and at least one document, "
                f"found {len(self.docs)} documents and {len(self.n_bytes)} lengths",
                where=self.name,
            )
        for index, doc in enumerate(self.docs):
            if not len(doc):
                raise DataError(
                    "a document must have at least one token, found 0", where=f"{self.name}, {index}"
                )
        if self.n_given is not None and (
            len(self.n_given) != len(self.docs) or bool((self.n_tokens < 1).any())
        ):
            raise DataError(
                "given tokens need one count a document, below its length, found others", where=self.name
            )

    @property
    def n_tokens(self) -> NDArray[np.int64]:
        """Tokens scored in each document, (D,)."""
        lengths = np.array([len(doc) for doc in self.docs], dtype=np.int64)
        return lengths if self.n_given is None else lengths - self.n_given


def score_documents(model: Learner, evals: EvalSet, *, max_len: int | None = None) -> NDArray[np.float64]:
    """Summed token loss of every document under every model, nats, (K, D).

    Args:
        model: a stack or another learner; its precision is used.
        evals: what to score.
        max_len: longest window, at most (and by default) the model's context.
    Raises:
        DataError: a token id is outside the vocabulary, or a loss is not finite.
        ResourceError: memory does not suffice for a row.
    """
    from prill.lm.scoring.scorer import scorer_of
    from prill.lm.scoring.stream import ScoreSettings, score_stream

    scorer = scorer_of(model)
    length = scorer.context if max_len is None else min(max_len, scorer.context)
    opening = scorer.opening_id
    settings = ScoreSettings(prefix=evals.eos if opening is None else opening, max_len=length)
    flushes = score_stream(scorer, evals.docs, settings, place=lambda i: f"{evals.name}, document {i}")
    return np.concatenate([_nats(flush, evals.n_given) for flush in flushes], axis=1)


def _nats(flush: Flush, n_given: NDArray[np.int64] | None) -> NDArray[np.float64]:
    """Summed loss of the documents of a flush without their given tokens, (K, D)."""
    if n_given is None:
        return flush.nats()
    values = flush.values["log_prob"].copy()
    given = n_given[flush.first : flush.first + len(flush.n_tokens)]
    is_given = np.arange(values.shape[1]) - np.repeat(flush.starts[:-1], flush.n_tokens)
    values[:, is_given < np.repeat(given, flush.n_tokens)] = 0.0
    return replace(flush, values={"log_prob": values}).nats()
