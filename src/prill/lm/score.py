"""Loss of every document of a set under every model of a stack, in nats.

The first token of a document is predicted from the end-of-text token alone. A document longer than the
context m is read in windows: the first predicts m tokens, each next one the following m - c + 1 with the
tokens before them as context (c = 1), and the last one reaches back as far as m allows. Every token is
scored exactly once. Windows are packed into rows; attention never crosses a window, so packing changes
nothing beyond rounding (tested to 1e-5 relative in fp32).

Sums are taken in fp64 in a fixed order. K models, D documents, B rows, T tokens a row.
Source: the rolling windows of EleutherAI's lm-evaluation-harness. Differs: the prefix is end-of-text, as in
training.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from prill.errors import DataError
from prill.lm.data import Rows, positions_of

if TYPE_CHECKING:
    from prill.lm.model import StackedLlama

__all__ = ["EvalSet", "Window", "score_documents", "windows"]

BATCH_TOKENS = 4096


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


class Window(NamedTuple):
    """Tokens `first`..`stop` of a document are read, `scored`..`stop` are scored."""

    first: int
    scored: int
    stop: int


def windows(n_tokens: int, max_len: int, *, context: int = 1) -> list[Window]:
    """The windows of a document; token `first` of each is predicted from the token before it.

    Args:
        n_tokens: length of the document.
        max_len: longest window, m.
        context: c, the fewest tokens a window after the first reads before what it predicts; 1 <= c <= m.
    """
    found = [Window(0, 0, min(max_len, n_tokens))]
    while found[-1].stop < n_tokens:
        scored = found[-1].stop
        stop = min(n_tokens, scored + max_len - context + 1)
        found.append(Window(stop - max_len, scored, stop))
    return found


def score_documents(
    model: StackedLlama, evals: EvalSet, *, max_len: int | None = None
) -> NDArray[np.float64]:
    """Summed token loss of every document under every model, nats, (K, D).

    Args:
        model: a stack; its precision is used.
        evals: what to score.
        max_len: longest window, at most (and by default) the model's `seq_len`.
    Raises:
        DataError: a token id is outside the vocabulary, or a loss is not finite.
    """
    length = model.shape.seq_len if max_len is None else min(max_len, model.shape.seq_len)
    _check_ids(evals, model.shape.vocab_size)
    total = np.zeros((model.n_models, len(evals.docs)))
    for rows, owner_BT in _batches(evals, length, model.n_models):
        losses = model.token_losses(model.pack(rows)).double().cpu().numpy()
        scored = owner_BT.reshape(-1) >= 0
        owner = owner_BT.reshape(-1)[scored]
        for k in range(model.n_models):
            total[k] += np.bincount(owner, weights=losses[k][scored], minlength=len(evals.docs))
    if not np.isfinite(total).all():
        k, document = np.argwhere(~np.isfinite(total))[0]
        raise DataError(
            f"a loss must be finite, found {total[k, document]} under model {k}",
            where=f"{evals.name}, document {document}",
            hint="the model has diverged: lower the learning rate",
        )
    return total


def _check_ids(evals: EvalSet, vocab_size: int) -> None:
    for index, doc in enumerate(evals.docs):
        if int(doc.max()) >= vocab_size or int(doc.min()) < 0:
            raise DataError(
                f"token ids must be below the vocabulary size {vocab_size}, found {int(doc.max())}",
                where=f"{evals.name}, document {index}",
                hint="use the tokenizer the model was trained with",
            )


def _batches(evals: EvalSet, length: int, n_models: int) -> Iterator[tuple[Rows, NDArray[np.int64]]]:
    """Packed rows for K models, and the document that owns each scored position (-1: none), (B, T)."""
    cut = [(index, window) for index, doc in enumerate(evals.docs) for window in windows(len(doc), length)]
    rows = _pack([window.stop - window.first for _, window in cut], length)
    n_rows = max(1, BATCH_TOKENS // (length * n_models))
    for start in range(0, len(rows), n_rows):
        part = rows[start : start + n_rows]
        filled = _fill(evals, [[cut[i] for i in row] for row in part], length)
        inputs, targets, segments, owner = filled
        one = Rows(inputs=inputs, targets=targets, positions=positions_of(segments), segments=segments)
        yield _repeat(one, n_models), owner


def _pack(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Best fit, longest first: rows of item numbers whose lengths sum to at most `capacity`."""
    rows: list[list[int]] = []
    by_room: list[list[int]] = [[] for _ in range(capacity + 1)]
    for item in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        need = lengths[item]
        room = next((room for room in range(need, capacity + 1) if by_room[room]), None)
        if room is None:
            rows.append([])
            row, room = len(rows) - 1, capacity
        else:
            row = by_room[room].pop()
        rows[row].append(item)
        by_room[room - need].append(row)
    return rows


def _fill(
    evals: EvalSet, rows: list[list[tuple[int, Window]]], length: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Inputs, targets, segments and owners of packed rows, each (B, T)."""
    inputs = np.full((len(rows), length), evals.eos, dtype=np.int64)
    targets = np.full((len(rows), length), evals.eos, dtype=np.int64)
    segments = np.full((len(rows), length), -1, dtype=np.int64)
    owner = np.full((len(rows), length), -1, dtype=np.int64)
    for b, row in enumerate(rows):
        at = 0
        for number, (index, window) in enumerate(row):
            stop = at + window.stop - window.first
            tokens = evals.docs[index]
            targets[b, at:stop] = tokens[window.first : window.stop]
            inputs[b, at] = tokens[window.first - 1] if window.first else evals.eos
            inputs[b, at + 1 : stop] = targets[b, at : stop - 1]
            segments[b, at:stop] = number
            given = 0 if evals.n_given is None else min(int(evals.n_given[index]), window.stop)
            owner[b, at + max(window.scored, given) - window.first : stop] = index
            at = stop
    return inputs, targets, segments, owner


def _repeat(rows: Rows, n_models: int) -> Rows:
    """The same rows for every model."""

    def wide(array: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.repeat(array[None], n_models, axis=0)

    return Rows(
        inputs=wide(rows.inputs),
        targets=wide(rows.targets),
        positions=wide(rows.positions),
        segments=wide(rows.segments),
    )
