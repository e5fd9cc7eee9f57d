"""A linear softmax classifier of words and hashed word n-grams, and how it is applied.

The classifier of fastText: a document is the mean of the vectors of its words and of the buckets of its
n-grams, and a matrix turns that mean into one score a label. Both steps are linear, so what a feature adds to
each score is one number, and a model of two labels needs one number a feature: the difference. That is all
that is kept, 1/100 of what fastText holds in memory at its default of 100 dimensions, and applying it is
hashing and adding.

A word is what stands between white space; `</s>` stands behind the last. A document is one line: its line
breaks, of any kind that Python knows, separate words. Tokens that begin with `__label__` are no words.

Source: Joulin et al. 2017, arXiv:1607.01759; the features are those of fastText's source, version 0.9.2.
Differs: characters' n-grams and hierarchical softmax are left out.
Legend: D documents, L labels, C columns (1 for two labels, else L), V words, B buckets.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from prill.corpus.batch import text_buffers
from prill.errors import DataError
from prill.run.atomic import atomic_write, machine_errors

__all__ = ["FASTTEXT_OFFSET", "LinearModel", "one_line", "word_fingerprints", "word_table"]

FASTTEXT_OFFSET = 1e-5
"""What fastText adds to each probability that it reports."""

_FORMAT = "prill.linear.1"
_BATCH_DOCUMENTS = 4096
_BATCH_BYTES = 1 << 20
_WAYS = 8
_LOAD = 5.0  # words a set of eight places, on average


@dataclass(frozen=True, kw_only=True)
class LinearModel:
    """What each word and n-gram adds to the score of each label.

    Attributes:
        labels: their names, L of them; column `p_<i>` is the probability of the i-th.
        word_ngrams: longest n-gram, words.
        table: words, uint64, eight places a set: fingerprint above, below it the value (two labels: the
            float32 that it adds to log P(second) - log P(first)) or its row.
        word_values: float32, shape (V, L), or (0, 1) for two labels.
        bucket_values: float32, shape (B, C).
    """

    labels: tuple[str, ...]
    word_ngrams: int
    table: NDArray[np.uint64] = field(repr=False)
    word_values: NDArray[np.float32] = field(repr=False)
    bucket_values: NDArray[np.float32] = field(repr=False)

    @property
    def n_labels(self) -> int:
        """L."""
        return len(self.labels)

    @property
    def n_bytes(self) -> int:
        """Memory of all tables."""
        return int(self.table.nbytes + self.word_values.nbytes + self.bucket_values.nbytes)

    @classmethod
    def of_values(
        cls,
        prints: NDArray[np.uint64],
        word_values: NDArray[np.float32],
        bucket_values: NDArray[np.float32],
        *,
        labels: tuple[str, ...],
        word_ngrams: int,
    ) -> LinearModel:
        """A model from the fingerprints of its words (`word_fingerprints`), shape (V,), and values (V, C)."""
        if len(labels) == 2:
            payloads = np.ascontiguousarray(word_values[:, 0]).view(np.uint32)
            kept = np.empty((0, 1), np.float32)
        else:
            payloads = np.arange(len(prints), dtype=np.uint32)
            kept = np.ascontiguousarray(word_values)
        return cls(
            labels=labels,
            word_ngrams=word_ngrams,
            table=word_table(prints, payloads),
            word_values=kept,
            bucket_values=np.ascontiguousarray(bucket_values),
        )

    def margins(self, text: pa.Array) -> NDArray[np.float64]:
        """Mean of the values of each document's features, float64, shape (D, C).

        For two labels that is log P(second) - log P(first), nats; else each label's logit. NaN for a document
        of which the model knows nothing, which only models that do not know `</s>` have.
        """
        found = []
        for batch in _batches(text):
            margins_DC = self._margins(batch)
            rows, lines = _joined(batch)
            if len(rows):
                margins_DC[rows] = self._margins(lines)
            found.append(margins_DC)
        return np.concatenate(found) if found else np.empty((0, self._n_columns), np.float64)

    def predict(self, text: pa.Array) -> NDArray[np.float32]:
        """P(label), float32, shape (D, L); rows add up to 1, or are NaN as in `margins`.

        Args:
            text: large_string without nulls, any slice.
        """
        return _softmax(self.margins(text)).astype(np.float32)

    def log_odds(self, text: pa.Array, label: int) -> NDArray[np.float64]:
        """ln P(label) - ln P(any other label), nats, float64, shape (D,); NaN as in `margins`."""
        margins_DC = self.margins(text)
        if self.n_labels == 2:
            return np.asarray(margins_DC[:, 0] if label == 1 else -margins_DC[:, 0])
        others_DC = np.delete(margins_DC, label, axis=1)
        highest_D = others_DC.max(axis=1, keepdims=True)
        rest_D = highest_D[:, 0] + np.log(np.exp(others_DC - highest_D).sum(axis=1))
        return np.asarray(margins_DC[:, label] - rest_D)

    def reported(self, text: pa.Array) -> NDArray[np.float64]:
        """The probabilities as fastText reports them, each 1e-5 too high, float64, shape (D, L)."""
        return _softmax(self.margins(text)) + FASTTEXT_OFFSET

    def without_end(self) -> LinearModel:
        """The model in which `</s>` adds nothing, but still counts as a feature.

        Its share of the mean falls with length, so its value is a bonus for short or for long documents.

        Source: arXiv:2503.00808, appendix: the weight of `</s>` set to 0 against a length bias.
        """
        prints = word_fingerprints(["</s>"])
        found = self._place_of(prints[0])
        if found is None:
            return self
        if self.n_labels == 2:
            table = self.table.copy()
            table[found] &= np.uint64(0xFFFFFFFF00000000)
            return replace(self, table=_aligned(table))
        values = self.word_values.copy()
        values[int(self.table[found]) & 0xFFFFFFFF] = 0
        return replace(self, word_values=values)

    def save(self, path: Path) -> None:
        """Write a safetensors file, whole or not at all; the same model gives the same bytes.

        Raises:
            ResourceError: the machine refuses to store it.
        """
        from safetensors.numpy import save

        arrays: dict[str, NDArray[Any]] = {
            "bucket_values": self.bucket_values,
            "table": self.table,
            "word_values": self.word_values,
        }
        about = {"format": _FORMAT, "labels": list(self.labels), "word_ngrams": self.word_ngrams}
        atomic_write(path, save(arrays, metadata={"prill": json.dumps(about, sort_keys=True)}))

    @classmethod
    def load(cls, path: Path) -> LinearModel:
        """Read what `save` wrote.

        Raises:
            DataError: it is missing, damaged, or something else.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with machine_errors(str(path)), safe_open(path, framework="numpy") as file:
                about = json.loads((file.metadata() or {}).get("prill", "{}"))
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, FileNotFoundError, json.JSONDecodeError) as error:
            raise DataError(
                f"expected a linear model, found a file that cannot be read ({error})", where=str(path)
            ) from error
        return cls(**_checked(about, arrays, path))

    @property
    def _n_columns(self) -> int:
        return 1 if self.n_labels == 2 else self.n_labels

    def _margins(self, text: pa.Array) -> NDArray[np.float64]:
        from prill.features._linear_kernel import sum_values

        if self.n_labels != 2:
            return self._row_margins(text)
        offsets, data = text_buffers(text)
        sums_D, n_features_D = np.empty(len(text)), np.empty(len(text), np.int64)
        floats, values_B = self.table.view(np.float32), self.bucket_values[:, 0]
        sum_values(offsets, data, self.word_ngrams, self.table, floats, values_B, sums_D, n_features_D)
        return _means(sums_D[:, None], n_features_D)

    def _row_margins(self, text: pa.Array) -> NDArray[np.float64]:
        from prill.features._linear_kernel import feature_ids, sum_rows

        offsets, data = text_buffers(text)
        room = (self.word_ngrams + 1) * (int(offsets[-1] - offsets[0]) + len(text)) // 2
        ids = np.empty(room + 2 * self.word_ngrams * (len(text) + 1), np.uint32)
        ends_D = np.empty(len(text), np.int64)
        n_buckets, n_rows = self.bucket_values.shape[0], self.word_values.shape[0]
        n = feature_ids(offsets, data, self.word_ngrams, n_buckets, self.table, n_rows, ids, ends_D)
        sums_DC = np.empty((len(text), self.n_labels))
        sum_rows(ids[: max(n, 1)], ends_D, self.word_values, self.bucket_values, sums_DC)
        return _means(sums_DC, np.diff(ends_D, prepend=0))

    def _place_of(self, fingerprint: np.uint64) -> int | None:
        n_sets = len(self.table) // _WAYS
        home = ((int(fingerprint) & 0xFFFFFFFF) * n_sets >> 32) * _WAYS
        tag = int(fingerprint) >> 32 | 1
        for step in range(len(self.table)):
            at = (home + step) % len(self.table)
            if int(self.table[at]) == 0:
                return None
            if int(self.table[at]) >> 32 == tag:
                return at
        return None


def one_line(text: pa.Array) -> pa.Array:
    """The texts, those with unusual line breaks or spaces at their ends as `" ".join(strip().splitlines())`.

    The others are taken as that line without being written anew: their breaks are plain white space.
    """
    rows, lines = _joined(text)
    if len(rows) == 0:
        return text
    places = np.arange(len(text))
    places[rows] = len(text) + np.arange(len(rows))
    return pa.concat_arrays([text, lines]).take(pa.array(places))


def word_fingerprints(words: list[str]) -> NDArray[np.uint64]:
    """The fingerprint of each word, uint64; words must hold no white space and no label."""
    from prill.features._linear_kernel import word_prints

    joined = pa.array([" ".join(words)], pa.large_string())
    offsets, data = text_buffers(joined)
    out = np.empty(len(words) + 1024, np.uint64)
    n = word_prints(offsets, data, out, np.empty(1, np.int64))
    return out[: min(n, len(words))].copy()


def word_table(prints: NDArray[np.uint64], payloads: NDArray[np.uint32]) -> NDArray[np.uint64]:
    """The table of words that kernels read; sets begin at cache lines."""
    from prill.features._linear_kernel import put_words

    table = _aligned(np.zeros(_WAYS * max(1, int(len(prints) / _LOAD) + 1), np.uint64))
    put_words(table, prints, payloads)
    return table


def _joined(text: pa.Array) -> tuple[NDArray[np.int64], pa.Array]:
    """The rows of the texts that kernels do not read as one line by themselves, and those lines."""
    from prill.features._word_hash_kernel import find_unusual

    offsets, data = text_buffers(text)
    found_D = np.zeros(len(text), np.bool_)
    find_unusual(offsets, data, found_D)
    rows = np.flatnonzero(found_D)
    documents = text.take(pa.array(rows)).to_pylist()
    lines = [" ".join(document.strip().splitlines()) for document in documents]
    return rows, pa.array(lines, pa.large_string())


def _batches(text: pa.Array) -> list[pa.Array]:
    """Slices of at most a megabyte, unless a document is longer."""
    offsets, _ = text_buffers(text)
    found, first = [], 0
    while first < len(text):
        last = int(np.searchsorted(offsets, offsets[first] + _BATCH_BYTES, side="right")) - 1
        last = min(max(last, first + 1), first + _BATCH_DOCUMENTS, len(text))
        found.append(text.slice(first, last - first))
        first = last
    return found


def _means(sums_DC: NDArray[np.float64], n_features_D: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.where(n_features_D[:, None] > 0, sums_DC / np.maximum(n_features_D[:, None], 1), np.nan)


def _softmax(margins_DC: NDArray[np.float64]) -> NDArray[np.float64]:
    if margins_DC.shape[1] == 1:
        margins_DC = np.concatenate([np.zeros_like(margins_DC), margins_DC], axis=1)
        margins_DC[np.isnan(margins_DC[:, 1])] = np.nan
    raised = np.exp(margins_DC - margins_DC.max(axis=1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=1, keepdims=True))


def _aligned(table: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """A copy that begins at a cache line."""
    room = np.empty(len(table) + _WAYS, np.uint64)
    first = -(room.ctypes.data // 8) % _WAYS
    kept = room[first : first + len(table)]
    kept[:] = table
    return kept


def _checked(about: dict[str, Any], arrays: dict[str, NDArray[Any]], path: Path) -> dict[str, Any]:
    labels = about.get("labels")
    kinds = {"table": (np.uint64, 1), "word_values": (np.float32, 2), "bucket_values": (np.float32, 2)}
    is_right = about.get("format") == _FORMAT and isinstance(labels, list) and set(arrays) == set(kinds)
    if is_right:
        n_columns = 1 if len(labels or []) == 2 else len(labels or [])
        is_right = all(
            arrays[n].dtype == kind and arrays[n].ndim == n_axes for n, (kind, n_axes) in kinds.items()
        )
        is_right = is_right and all(arrays[n].shape[1] == n_columns for n in ("word_values", "bucket_values"))
        is_right = is_right and len(arrays["table"]) >= _WAYS and len(arrays["table"]) % _WAYS == 0
        is_right = is_right and not (arrays["table"] != 0).all()
        is_right = is_right and isinstance(about.get("word_ngrams"), int) and about["word_ngrams"] >= 1
        is_right = is_right and (n_columns == 1 or _is_below(arrays["table"], len(arrays["word_values"])))
    if not is_right:
        raise DataError(
            f"expected a linear model of the format {_FORMAT}, found something else", where=str(path)
        )
    return {
        "labels": tuple(str(label) for label in labels or []),
        "word_ngrams": int(about["word_ngrams"]),
        "table": _aligned(arrays["table"]),
        "word_values": arrays["word_values"],
        "bucket_values": arrays["bucket_values"],
    }


def _is_below(table: NDArray[np.uint64], n_rows: int) -> bool:
    """Whether every word of the table has a row."""
    payloads = table[table != 0] & np.uint64(0xFFFFFFFF)
    return bool((payloads < n_rows).all())
