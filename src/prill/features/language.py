"""Which language a text is in, offline: the model of the package py3langid, run by our own kernel.

The model counts, with a byte automaton, features chosen to tell languages apart, weighs log(1 + count) with a
naive Bayes table, and divides by the root of the length before the softmax, so that probabilities of short
and long texts can be compared. It is read as plain arrays (LZMA, NPZ, never pickle) from the installed
package. Labels are ISO 639 codes; `und` is text without any feature.

Legend: D documents.
"""

from __future__ import annotations

import functools
import hashlib
import io
import lzma
import threading
import unicodedata
from dataclasses import dataclass
from importlib import metadata, resources
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from prill.corpus.batch import text_buffers
from prill.errors import ResourceError
from prill.features.composition import composition_table

__all__ = ["LANGUAGE_VERSION", "UNDETERMINED", "identify_languages", "language_labels", "model_state"]

LANGUAGE_VERSION: Final = 1
"""Version of the kernel's arithmetic; the model has a digest of its own (`model_state`)."""

UNDETERMINED: Final = "und"

_MODEL: Final = "data/model.npz.xz"
_KEYS: Final = {"ptc", "pc", "classes", "nextmove", "nextmove_row", "out_feat"}
_COMMON_BYTES: Final = b" etaoinsrhldcum" + b"\ngfpywbv,.kITSA-"
_LOG_COUNTS: Final = 4096
_lock: Final = threading.Lock()


@dataclass(frozen=True, kw_only=True, eq=False)
class _Model:
    """The arrays of `_language_kernel.score_languages`."""

    labels: tuple[str, ...]
    label_of: NDArray[np.int64]
    prior: NDArray[np.float32]
    weights: NDArray[np.uint16]
    moves: NDArray[np.uint32]
    order: NDArray[np.uint8]
    first_state: NDArray[np.uint32]
    feature: NDArray[np.int32]
    root: np.uint32
    log_counts: NDArray[np.float32]


def identify_languages(
    text: pa.Array, *, n_bytes: int = 1024, quick_bytes: int = 256, quick_probability: float = 0.9
) -> tuple[pa.Array, NDArray[np.float32]]:
    """The language of each document's beginning, and its probability.

    A label that is sure enough after quick_bytes stands; all others are decided by n_bytes.

    Args:
        text: large_string without nulls, D documents, any slice.
        n_bytes: bytes that are looked at, at least 1, cut before a character that does not fit.
        quick_bytes: bytes that are looked at first; 0 for always n_bytes.
        quick_probability: what a label needs after quick_bytes to stand.
    Returns:
        Labels, string, and probabilities, float32, shape (D,); `und` and 0 where nothing can be said.
    Raises:
        ResourceError: the package py3langid is missing, or its model has another layout.
    Source: Lui and Baldwin 2012, langid.py; Barbaresi, py3langid 0.4. Differs: sums run in the order of the
        text, so that probabilities differ in the last digits; text without features is `und`.
    """
    model = _model()
    offsets, data = text_buffers(text)
    best_D = np.full(len(text), -1, np.int32)
    probability_D = np.zeros(len(text), np.float32)
    rows = np.arange(len(text))
    for length in sorted({n for n in (quick_bytes, n_bytes) if n > 0}):
        best, probability = _beginnings(model, offsets, data, rows, length)
        best_D[rows], probability_D[rows] = best, probability
        rows = rows[probability < quick_probability]
        if length == n_bytes or len(rows) == 0:
            break
    names = pa.array([*model.labels, UNDETERMINED], pa.string())
    return names.take(pa.array(np.where(best_D < 0, len(model.labels), best_D))), probability_D


def language_labels() -> tuple[str, ...]:
    """All labels that the model knows, sorted."""
    return tuple(sorted(set(_model().labels)))


@functools.cache
def model_state() -> str:
    """Package version and digest of the model."""
    digest = hashlib.sha256(_model_bytes()).hexdigest()[:16]
    return f"py3langid {metadata.version('py3langid')} {digest}"


def _beginnings(
    model: _Model, offsets: NDArray[np.int64], data: NDArray[np.uint8], rows: NDArray[np.int64], n_bytes: int
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Label and probability of the first n_bytes of some documents."""
    from prill.features._language_kernel import mark_odd

    starts, stops = offsets[rows], np.zeros(len(rows), np.int64)
    is_odd = np.zeros(len(rows), np.bool_)
    mark_odd(starts, offsets[rows + 1], data, n_bytes, composition_table(), stops, is_odd)
    best, probability = _score(model, starts, stops, data)
    odd = np.flatnonzero(is_odd)
    if len(odd):
        pieces = [bytes(data[starts[k] : stops[k]]).decode("utf-8") for k in odd]
        encoded = pa.array([_composed(piece) for piece in pieces], pa.large_string())
        odd_offsets, odd_data = text_buffers(encoded)
        best[odd], probability[odd] = _score(model, odd_offsets[:-1], odd_offsets[1:], odd_data)
    return best, probability


def _composed(text: str) -> str:
    return unicodedata.normalize("NFC", text.lower() if text.isupper() else text)


def _score(
    model: _Model, starts: NDArray[np.int64], stops: NDArray[np.int64], data: NDArray[np.uint8]
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    from prill.features._language_kernel import score_languages

    best_D, probability_D = np.empty(len(starts), np.int32), np.empty(len(starts), np.float32)
    score_languages(
        starts,
        stops,
        data,
        model.moves,
        model.order,
        model.first_state,
        model.feature,
        model.root,
        model.weights,
        model.log_counts,
        model.prior,
        model.label_of,
        best_D,
        probability_D,
    )
    return best_D, probability_D


def _model() -> _Model:
    with _lock:  # threads of one process read it once
        return _read_model()


@functools.cache
def _read_model() -> _Model:
    """Read and rearrange the model, in about 0.7 s and 80 MB."""
    from prill.features._language_kernel import ROW

    arrays = _arrays()
    classes = [str(label) for label in arrays["classes"]]
    weights = np.zeros((len(arrays["ptc"]), ROW), np.float16)
    weights[:, : len(classes)] = arrays["ptc"]
    row = arrays["nextmove_row"].astype(np.int64)
    order = np.argsort(row, kind="stable")
    first_state = np.searchsorted(row[order], np.arange(row.max() + 2))
    place = np.empty(len(row), np.int64)
    place[order] = np.arange(len(row)) - first_state[row[order]]
    entries = ((row << 16) | place).astype(np.uint32)
    counts = np.arange(_LOG_COUNTS, dtype=np.float32)
    byte_order = _byte_order()
    columns, moves = np.argsort(byte_order), entries[arrays["nextmove"]].reshape(-1, len(byte_order))
    return _Model(
        labels=tuple(classes),
        label_of=np.array([classes.index(label) for label in classes], np.int64),
        prior=arrays["pc"].astype(np.float32),
        weights=weights.view(np.uint16).ravel(),
        moves=np.take(moves, columns, axis=1).ravel(),
        order=byte_order,
        first_state=first_state.astype(np.uint32),
        feature=arrays["out_feat"][order].astype(np.int32),
        root=entries[0],
        log_counts=np.log1p(counts),
    )


def _byte_order() -> NDArray[np.uint8]:
    """The column of each byte: the common ones side by side, so that they share a cache line of every row."""
    first = list(_COMMON_BYTES)
    columns = first + [byte for byte in range(256) if byte not in first]
    return np.argsort(np.array(columns)).astype(np.uint8)


def _model_bytes() -> bytes:
    try:
        return resources.files("py3langid").joinpath(_MODEL).read_bytes()
    except (ImportError, OSError) as error:
        message = "expected the package py3langid with its language model, found none"
        raise ResourceError(message, where="language", hint="pip install 'py3langid>=0.4'") from error


def _arrays() -> dict[str, NDArray[Any]]:
    content = _model_bytes()
    try:
        with np.load(io.BytesIO(lzma.decompress(content)), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (lzma.LZMAError, ValueError, OSError) as error:
        raise _unknown_layout(str(error)) from error
    if missing := sorted(_KEYS - set(arrays)):
        raise _unknown_layout(f"no {missing[0]}")
    return arrays


def _unknown_layout(said: str) -> ResourceError:
    message = f"expected the model of py3langid 0.4, found another layout: {said}"
    return ResourceError(message, where="language", hint="pip install 'py3langid==0.4.0'")
