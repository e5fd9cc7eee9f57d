"""Training a linear classifier of words and hashed n-grams, and its probabilities over the pool as a feature.

Training follows fastText's: mean of feature vectors, softmax, one step of stochastic gradient descent a
document, a learning rate that falls linearly with the words done. It is a pure function of texts, labels and
seed: documents come in an order drawn from the hashes of their texts, on one thread, so the same bytes come
out whatever the machine's load and workers. Vectors are short (16 floats, a cache line, against fastText's
100), which is enough for few labels and several times faster.

Source: Joulin et al. 2017, arXiv:1607.01759. Differs: the dimension; an order of documents that is drawn, not
the file's; features that training never saw weigh nothing (fastText leaves random vectors there).
Legend: D documents, L labels, V words, B buckets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from prill.corpus.batch import text_buffers
from prill.corpus.columns import ColumnInfo
from prill.errors import DataError, InternalError
from prill.features.feature import ColumnFeature, Feature, Given
from prill.features.keyed import derive_seed, keyed_uniform
from prill.features.linear_model import LinearModel, one_line, word_table
from prill.features.text_hash import hash_documents

if TYPE_CHECKING:
    from prill.corpus.batch import Batch

__all__ = ["ClassifierScores", "LinearModel", "TrainingCounts", "train_linear"]

_BATCH_BYTES = 1 << 22
_LANES = 16


@dataclass(frozen=True, kw_only=True)
class TrainingCounts:
    """What a training took.

    Attributes:
        n_documents, n_words: of one epoch; n_words counts `</s>` behind each document.
        n_vocabulary: words that the model knows, V.
        flops: floating-point operations.
        loss_nats: mean loss a document in the last epoch, before its step.
    """

    n_documents: int
    n_words: int
    n_vocabulary: int
    flops: float
    loss_nats: float


def train_linear(
    text: pa.Array,
    labels: NDArray[np.integer[Any]],
    *,
    n_labels: int,
    label_names: Sequence[str] | None = None,
    dim: int = 16,
    epochs: int = 5,
    lr: float = 0.1,
    word_ngrams: int = 2,
    n_buckets: int = 2_000_000,
    min_count: int = 1,
    repeats: NDArray[np.integer[Any]] | None = None,
    seed: int = 0,
) -> tuple[LinearModel, TrainingCounts]:
    """A classifier of documents by their words and n-grams, and what it took.

    Args:
        text: large_string without nulls, D documents; line breaks are spaces.
        labels: integers 0..L-1, shape (D,).
        n_labels: L, at least 2; every label needs an example.
        label_names: default "0", "1" and so on.
        dim: length of the vectors, a multiple of 16; at least L - 1 loses nothing.
        epochs: passes over the documents.
        lr: learning rate at the start; falls linearly to 0.
        word_ngrams: longest n-gram, words.
        n_buckets: B; n-grams share them by hash. Vectors of all take 4 * dim * B bytes while training.
        min_count: words that occur less often are not learnt; n-grams always are.
        repeats: how often each document comes in an epoch, shape (D,); None: once.
        seed: of the order and the first vectors.
    Raises:
        DataError: fewer than two labels have examples, no word occurs often enough, or the learning rate is
            so high that the numbers overflow.
    """
    labels_D = np.ascontiguousarray(labels, dtype=np.int64)
    _check(text, labels_D, n_labels, dim)
    n_buckets = n_buckets if word_ngrams > 1 else 0
    order = _order(text, labels_D, repeats, seed)
    prints, words_D = _vocabulary(text, min_count)
    if len(prints) == 0 and n_buckets == 0:
        raise DataError(f"expected words that occur at least {min_count} times, found none")
    n_words = int(words_D[order].sum())
    from prill.features._linear_training_kernel import start_rows

    rows = np.empty((len(prints) + n_buckets, dim), np.float32)
    start = np.uint64(derive_seed(seed, "classifier.start"))
    start_rows(rows, start, np.float32(1.0 / dim))
    outputs = np.zeros((n_labels, dim), np.float32)
    learnt = _Learner(
        rows=rows,
        outputs=outputs,
        table=word_table(prints, np.arange(len(prints), dtype=np.uint32)),
        word_ngrams=word_ngrams,
        n_buckets=n_buckets,
        n_rows=len(prints),
        lr=lr,
        total=float(n_words * epochs),
    )
    loss, n_features, done = 0.0, 0, 0.0
    for _ in range(epochs):
        loss, n_features = 0.0, 0
        for places in _stretches(text, order):
            some, features = learnt.step(text.take(pa.array(places)), labels_D[places], words_D[places], done)
            done += float(words_D[places].sum())
            loss, n_features = loss + some, n_features + features
    names = tuple(label_names) if label_names is not None else tuple(str(i) for i in range(n_labels))
    counts = TrainingCounts(
        n_documents=len(order),
        n_words=n_words,
        n_vocabulary=len(prints),
        flops=float(2 * dim * n_features * epochs + 6 * dim * n_labels * len(order) * epochs),
        loss_nats=loss / len(order),
    )
    return _folded(learnt, prints, names, start), counts


@dataclass(frozen=True, kw_only=True)
class _Learner:
    """The parameters, and the place of every feature among them."""

    rows: NDArray[np.float32]
    outputs: NDArray[np.float32]
    table: NDArray[np.uint64]
    word_ngrams: int
    n_buckets: int
    n_rows: int
    lr: float
    total: float

    def step(
        self, text: pa.Array, labels_D: NDArray[np.int64], words_D: NDArray[np.int64], done: float
    ) -> tuple[float, int]:
        """Train on some documents in order; the sum of losses and the number of features."""
        from prill.features._linear_kernel import feature_ids
        from prill.features._linear_training_kernel import train

        offsets, data = text_buffers(one_line(text))
        ids = np.empty(self.word_ngrams * int(words_D.sum()) + 64, np.uint32)
        ends_D = np.empty(len(text), np.int64)
        n = feature_ids(offsets, data, self.word_ngrams, self.n_buckets, self.table, self.n_rows, ids, ends_D)
        schedule = (float(self.lr), done, self.total)
        loss = train(ids[: max(n, 1)], ends_D, labels_D, words_D, schedule, self.rows, self.outputs)
        return float(loss), int(n)


def _folded(
    learnt: _Learner, prints: NDArray[np.uint64], names: tuple[str, ...], start: np.uint64
) -> LinearModel:
    """What each feature adds to the scores."""
    from prill.features._linear_training_kernel import fold_rows

    outputs_CK = learnt.outputs.astype(np.float64)
    if len(names) == 2:
        outputs_CK = outputs_CK[1:] - outputs_CK[:1]
    values = []
    for first, n in ((0, learnt.n_rows), (learnt.n_rows, learnt.n_buckets)):
        values.append(np.empty((n, len(outputs_CK)), np.float32))
        scale = np.float32(1.0 / learnt.rows.shape[1])
        fold_rows(learnt.rows, first, outputs_CK, start, scale, values[-1])
    if not all(np.isfinite(some).all() for some in values):
        raise DataError(
            f"expected a training that ends, found one that diverged at the learning rate {learnt.lr:g}",
            hint="lower the learning rate",
        )
    return LinearModel.of_values(prints, values[0], values[1], labels=names, word_ngrams=learnt.word_ngrams)


def _check(text: pa.Array, labels_D: NDArray[np.int64], n_labels: int, dim: int) -> None:
    if len(text) != len(labels_D) or dim < 1 or dim % _LANES:
        raise InternalError(
            f"expected as many labels as texts and a dimension that is a multiple of {_LANES}, "
            f"found {len(text)} texts, {len(labels_D)} labels, dimension {dim}"
        )
    if len(labels_D) and (labels_D.min() < 0 or labels_D.max() >= n_labels):
        raise InternalError(
            f"expected labels 0 to {n_labels - 1}, found {labels_D.min()} to {labels_D.max()}"
        )
    found = np.unique(labels_D)
    if len(found) < 2:
        raise DataError(
            f"expected examples of at least 2 labels to tell apart, found {len(found)}",
            hint="give examples of both kinds",
        )


def _order(
    text: pa.Array, labels_D: NDArray[np.int64], repeats: NDArray[np.integer[Any]] | None, seed: int
) -> NDArray[np.int64]:
    """The documents in the order of draws by their hash; of one that is repeated, each copy has its own."""
    _, low_D = hash_documents(text)
    repeats_D = np.ones(len(text), np.int64) if repeats is None else np.asarray(repeats, np.int64)
    rows = np.repeat(np.arange(len(text)), repeats_D)
    copies = np.arange(len(rows)) - np.repeat(np.cumsum(repeats_D) - repeats_D, repeats_D)
    draws = np.empty(len(rows))
    for copy in range(int(repeats_D.max(initial=0))):
        some = copies == copy
        use = "classifier.order" if copy == 0 else f"classifier.order.{copy}"
        draws[some] = keyed_uniform(derive_seed(seed, use), low_D[rows[some]])
    return rows[np.lexsort((labels_D[rows], low_D[rows], draws))]


def _stretches(text: pa.Array, order: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """The order in pieces of a few megabytes of text."""
    offsets, _ = text_buffers(text)
    sizes = np.diff(offsets)[order]
    piece = np.cumsum(sizes) // _BATCH_BYTES
    return np.split(order, np.flatnonzero(np.diff(piece)) + 1)


def _vocabulary(text: pa.Array, min_count: int) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Fingerprints of the words that occur often enough, sorted, and every document's number of words."""
    from prill.features._linear_kernel import count_prints, word_prints

    keys, counts, n_keys = np.zeros(1 << 16, np.uint64), np.zeros(1 << 16, np.int64), 0
    words_D = np.empty(len(text), np.int64)
    for places in _stretches(text, np.arange(len(text))):
        offsets, data = text_buffers(one_line(text.slice(int(places[0]), len(places))))
        found = np.empty(int(offsets[-1] - offsets[0]) // 2 + 2 * len(places) + 1024, np.uint64)
        found = found[: word_prints(offsets, data, found, words_D[places[0] : places[-1] + 1])]
        first = 0
        while first < len(found):
            first, n_keys = count_prints(found, first, keys, counts, n_keys)
            if first < len(found):
                keys, counts, n_keys = _grown(keys, counts)
    enough = (keys != 0) & (counts >= min_count)
    return np.sort(keys[enough]), words_D


def _grown(
    keys: NDArray[np.uint64], counts: NDArray[np.int64]
) -> tuple[NDArray[np.uint64], NDArray[np.int64], int]:
    """The same counts in four times the room."""
    from prill.features._linear_kernel import move_prints

    larger, moved = np.zeros(4 * len(keys), np.uint64), np.zeros(4 * len(keys), np.int64)
    return larger, moved, int(move_prints(keys, counts, larger, moved))


@dataclass(frozen=True, kw_only=True)
class ClassifierScores(ColumnFeature):
    """P(label) of every document under a linear model.

    Attributes:
        model: a feature whose only file is a `LinearModel`, or whose file number `part` is one.
        n_labels: L of that model.
        part: which of its files.
    """

    kind: ClassVar[str] = "classifier-scores"
    model: Feature
    n_labels: int = 2
    part: int = 0

    @property
    def label(self) -> str:
        return f"probabilities under the {self.model.label}"

    @property
    def columns(self) -> Sequence[ColumnInfo]:
        summary = "probability of label {} under the {}; NaN without a known word"
        return [
            ColumnInfo(name=f"p_{i}", summary=summary.format(i, self.model.label))
            for i in range(self.n_labels)
        ]

    def flops(self, given: Given) -> float:
        return float(given.pool.n_bytes) / 3 * max(1, self.n_labels - 1)  # one addition a word and n-gram

    def open(self, given: Given) -> LinearModel:
        """The model."""
        path = given.files(self.model)[self.part]
        model = LinearModel.load(Path(path))
        if model.n_labels != self.n_labels:
            raise InternalError(f"expected {self.n_labels} labels, found {model.n_labels}", where=str(path))
        return model

    def of_batch(self, given: Given, opened: Any, batch: Batch) -> Mapping[str, Any]:
        p_DL = opened.predict(batch.text)
        return {f"p_{i}": np.ascontiguousarray(p_DL[:, i]) for i in range(self.n_labels)}
