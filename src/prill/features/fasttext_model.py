"""Published fastText models, read without the fastText package and folded to what applying them needs.

A `.bin` file holds settings, the dictionary, one vector for each word and bucket, and one for each label.
Only the product of the two matrices matters for a prediction, so the vectors are read in stretches,
multiplied, and forgotten: a model of 800 MB and two labels becomes 8 MB and a table of its words. Labels are
those that the package gives. Nothing in a file is run, and every size in it is checked against the file's
length first.

Source: the format as fastText 0.9.2 writes it. Differs: quantised files (`.ftz`), n-grams of characters, and
losses other than softmax are refused by name.
Legend: L labels, C columns (1 for two labels, else L), V words, B buckets, K dimensions.
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from prill.errors import DataError, printable
from prill.features.linear_model import LinearModel
from prill.run.atomic import machine_errors

__all__ = ["check_fasttext", "read_fasttext"]

_MAGIC, _VERSIONS = 793712314, (11, 12)
_SUPERVISED, _SOFTMAX = 3, 3
_LOSSES = {1: "hierarchical softmax", 2: "negative sampling", 4: "one against all"}
_PREFIX = "__label__"
_STRETCH_BYTES = 1 << 23
_MOST_LABELS = 1 << 16


def check_fasttext(path: Path) -> None:
    """Read the settings of a `.bin` file alone: fast, and enough to refuse most files that cannot be used.

    Raises:
        DataError: the file is missing, no fastText model, or of a kind that is not supported.
    """
    with _opened(path) as reader:
        _header(reader)


def read_fasttext(path: Path) -> LinearModel:
    """The supervised model of a `.bin` file. Labels lose the prefix `__label__`.

    Raises:
        DataError: the file is missing, cut, damaged, no fastText model, or of a kind that is not supported.
    """
    with _opened(path) as reader:
        return _read(reader)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[_Reader]:
    if not path.is_file():
        raise DataError("expected a fastText model, found no file", where=str(path))
    with machine_errors(str(path)), path.open("rb") as file:
        yield _Reader(file=file, size=path.stat().st_size, path=path)


@dataclass(frozen=True, kw_only=True)
class _Reader:
    """A file whose end is known before anything is read."""

    file: BinaryIO
    size: int
    path: Path

    def numbers(self, form: str) -> tuple[int, ...]:
        """Little-endian numbers as in `struct`."""
        n_bytes = struct.calcsize("<" + form)
        self.require(n_bytes)
        return struct.unpack("<" + form, self.file.read(n_bytes))

    def require(self, n_bytes: int) -> None:
        """Refuse a file that does not have so many bytes more."""
        left = self.size - self.file.tell()
        if n_bytes > left:
            raise self.wrong(f"expected {n_bytes:,} more bytes, found {left:,}")

    def wrong(
        self, message: str, hint: str = "fetch the file again, or check that it is a fastText model"
    ) -> DataError:
        """What is wrong with the file."""
        return DataError(message, where=str(self.path), hint=hint)


@dataclass(frozen=True, kw_only=True)
class _Header:
    """The settings that matter."""

    dim: int
    word_ngrams: int
    n_buckets: int


def _read(reader: _Reader) -> LinearModel:
    header = _header(reader)
    prints, labels = _dictionary(reader)
    rows_at = _matrix(reader, "vectors", len(prints) + header.n_buckets, header.dim)
    outputs_at = _matrix(reader, "labels", len(labels), header.dim)
    if reader.file.tell() != reader.size:
        raise reader.wrong(f"expected the file to end, found {reader.size - reader.file.tell():,} bytes more")
    outputs_LK = _rows(reader, outputs_at, 0, len(labels), header.dim).astype(np.float64)
    outputs_CK = outputs_LK[1:] - outputs_LK[:1] if len(labels) == 2 else outputs_LK
    found = []
    for first, n in ((0, len(prints)), (len(prints), header.n_buckets)):
        found.append(_folded(reader, rows_at, first, n, outputs_CK))
    is_word = prints != 0
    return LinearModel.of_values(
        prints[is_word], found[0][is_word], found[1], labels=labels, word_ngrams=header.word_ngrams
    )


def _header(reader: _Reader) -> _Header:
    magic, version = reader.numbers("ii")
    if magic != _MAGIC or version not in _VERSIONS:
        raise reader.wrong(f"expected a fastText model of version 11 or 12, found the first bytes {magic:#x}")
    dim, _, _, _, _, word_ngrams, loss, model, n_buckets, _, maxn, _ = reader.numbers("12i")
    reader.numbers("q")  # the sampling threshold, a double
    if model != _SUPERVISED:
        raise reader.wrong(
            "expected a supervised model, found word vectors",
            hint="give a classifier, trained with `supervised`",
        )
    if loss != _SOFTMAX:
        name = _LOSSES.get(loss, str(loss))
        raise reader.wrong(
            f"expected a model with a softmax loss, found {name}", hint="train it with softmax"
        )
    if maxn > 0 and version > 11:
        raise reader.wrong(
            f"expected a model of words, found n-grams of up to {maxn} characters",
            hint="train it with maxn 0",
        )
    if not (1 <= dim <= 1 << 16 and 0 <= n_buckets < 1 << 31 and 1 <= word_ngrams <= 64):
        raise reader.wrong(
            f"expected settings in range, found dim {dim}, {n_buckets} buckets, wordNgrams {word_ngrams}"
        )
    return _Header(dim=dim, word_ngrams=word_ngrams, n_buckets=n_buckets)


def _dictionary(reader: _Reader) -> tuple[NDArray[np.uint64], tuple[str, ...]]:
    """Fingerprints of the words, uint64, shape (V,), 0 for what no text can hold; names of the labels."""
    from prill.features._linear_kernel import dictionary_entries

    n_entries, n_words, n_labels, _, n_pruned = reader.numbers("iiiqq")
    if n_words < 0 or not 2 <= n_labels <= _MOST_LABELS or n_entries != n_words + n_labels:
        raise reader.wrong(
            f"expected words and at least 2 labels, found {n_entries} entries, {n_words} words and "
            f"{n_labels} labels"
        )
    if n_pruned >= 0:
        raise reader.wrong("expected a whole dictionary, found a pruned one", hint=_HINT_QUANTISED)
    reader.require(10 * n_entries)
    first = reader.file.tell()
    data = np.memmap(reader.path, np.uint8, mode="r")
    prints, kinds = np.empty(n_entries, np.uint64), np.empty(n_entries, np.int8)
    starts = np.empty(n_entries + 1, np.int64)
    after = dictionary_entries(data, first, prints, kinds, starts)
    if after < 0 or (kinds[:n_words] != 0).any() or (kinds[n_words:] != 1).any():
        raise reader.wrong("expected a dictionary of words and then labels, found something else")
    reader.file.seek(after)
    starts[n_entries] = after
    raw = [bytes(data[starts[e] : starts[e + 1] - 10]) for e in range(n_words, n_entries)]
    return prints[:n_words], _names(reader, raw)


def _names(reader: _Reader, raw: list[bytes]) -> tuple[str, ...]:
    names = [name.decode("utf-8", "replace").removeprefix(_PREFIX) for name in raw]
    if len(set(names)) < len(names):
        raise reader.wrong(f"expected labels that differ, found {printable(', '.join(names))}")
    return tuple(names)


_HINT_QUANTISED = "give the `.bin` file from before it was quantised"


def _matrix(reader: _Reader, name: str, n_rows: int, dim: int) -> int:
    """Where the numbers of the matrix that comes next begin; skips it."""
    is_quantised, found_rows, found_dim = reader.numbers("?qq")
    if is_quantised:
        raise reader.wrong(f"expected a full matrix of {name}, found a quantised one", hint=_HINT_QUANTISED)
    if (found_rows, found_dim) != (n_rows, dim):
        raise reader.wrong(
            f"expected a matrix of {name} of {n_rows} x {dim}, found {found_rows} x {found_dim}"
        )
    reader.require(4 * n_rows * dim)
    begin = reader.file.tell()
    reader.file.seek(begin + 4 * n_rows * dim)
    return begin


def _rows(reader: _Reader, begin: int, first: int, n_rows: int, dim: int) -> NDArray[np.float32]:
    reader.file.seek(begin + 4 * first * dim)
    rows = np.frombuffer(reader.file.read(4 * n_rows * dim), np.float32).reshape(n_rows, dim)
    if not np.isfinite(rows).all():
        raise reader.wrong("expected finite numbers, found others")
    return rows


def _folded(
    reader: _Reader, begin: int, first: int, n_rows: int, outputs_CK: NDArray[np.float64]
) -> NDArray[np.float32]:
    """The product of rows first..first + n_rows with the labels' vectors, float32, shape (n_rows, C)."""
    n_columns, dim = outputs_CK.shape
    values = np.empty((n_rows, n_columns), np.float32)
    stretch = max(1, _STRETCH_BYTES // (4 * dim))
    for at in range(0, n_rows, stretch):
        n = min(stretch, n_rows - at)
        values[at : at + n] = _rows(reader, begin, first + at, n, dim) @ outputs_CK.T
    return values
