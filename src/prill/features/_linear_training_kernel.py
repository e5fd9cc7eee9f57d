"""Training of a linear model of words and n-grams: stochastic gradient descent, a document a step, in order.

Rows are worked on sixteen floats at a time, which is one vector and one cache line, and asked for from memory
before they are needed: they are far away and few are met twice.

Legend: D documents, F features (words, then buckets), C columns of values, L labels.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from prill.features._jit import inlined, kernel, prefetch

__all__ = ["LANES", "fold_rows", "start_rows", "train"]

LANES = 16
"""Floats of a row that are worked on at once: one cache line."""

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_A = np.uint64(0xBF58476D1CE4E5B9)
_MIX_B = np.uint64(0x94D049BB133111EB)
_AHEAD = 16


@inlined
def _start(seed: np.uint64, index: np.uint64, scale: np.float32) -> np.float32:
    """The value that a parameter begins with: uniform in (-scale, scale), a function of its place."""
    h = seed + index * _GOLDEN
    h = (h ^ (h >> np.uint64(30))) * _MIX_A
    h = (h ^ (h >> np.uint64(27))) * _MIX_B
    uniform = np.float32(np.int64(h >> np.uint64(40))) * np.float32(2.0**-23) - np.float32(1.0)
    return np.float32(uniform * scale)


@kernel
def start_rows(rows: NDArray[np.float32], seed: np.uint64, scale: np.float32) -> None:
    """Fill the rows of words and buckets with their first values."""
    n = rows.shape[1]
    for f in range(rows.shape[0]):
        for k in range(n):
            rows[f, k] = _start(seed, np.uint64(f * n + k), scale)


@kernel
def train(
    ids: NDArray[np.uint32],
    ends_D: NDArray[np.int64],
    labels_D: NDArray[np.int64],
    n_words_D: NDArray[np.int64],
    schedule: tuple[float, float, float],
    rows: NDArray[np.float32],
    outputs: NDArray[np.float32],
) -> float:
    """One step of stochastic gradient descent a document, in order; the sum of their losses, nats.

    Args:
        n_words_D: words of each document: the learning rate falls with words.
        schedule: the first learning rate, words done before, words of all epochs.
        rows, outputs: the parameters; their second shape is the dimension, a multiple of LANES.
    """
    rate, done, total = schedule
    n_labels, dim = outputs.shape
    hidden, gradient = np.empty(dim, np.float32), np.empty(dim, np.float32)
    scores = np.empty(n_labels, np.float64)
    loss, first = 0.0, 0
    for d in range(ends_D.shape[0]):
        last = ends_D[d]
        n = last - first
        if n > 0:
            lr = rate * (1.0 - done / total)
            _mean(ids, first, last, rows, hidden)
            loss += _softmax_step(outputs, hidden, labels_D[d], lr, scores, gradient)
            for k in range(dim):
                gradient[k] *= np.float32(1.0 / n)
            _add_to_rows(ids, first, last, rows, gradient)
        done += n_words_D[d]
        first = last
    return loss


@inlined
def _mean(
    ids: NDArray[np.uint32], first: int, last: int, rows: NDArray[np.float32], hidden: NDArray[np.float32]
) -> None:
    """Mean of the rows; those of four features are added at once, which keeps the sum in registers."""
    hidden[:] = np.float32(0)
    whole = first + (last - first) // 4 * 4
    n_ids = ids.shape[0]
    for k in range(0, hidden.shape[0], LANES):
        sums = hidden[k : k + LANES]
        for i in range(first, whole, 4):
            for j in range(4):
                prefetch(rows[:, k], np.uint64(ids[min(i + j + _AHEAD, n_ids - 1)]))
            a, b = rows[ids[i], k : k + LANES], rows[ids[i + 1], k : k + LANES]
            c, e = rows[ids[i + 2], k : k + LANES], rows[ids[i + 3], k : k + LANES]
            for j in range(LANES):
                sums[j] += (a[j] + b[j]) + (c[j] + e[j])
        for i in range(whole, last):
            a = rows[ids[i], k : k + LANES]
            for j in range(LANES):
                sums[j] += a[j]
    for k in range(hidden.shape[0]):
        hidden[k] *= np.float32(1.0 / (last - first))


@inlined
def _add_to_rows(
    ids: NDArray[np.uint32], first: int, last: int, rows: NDArray[np.float32], gradient: NDArray[np.float32]
) -> None:
    for k in range(0, gradient.shape[0], LANES):
        part = gradient[k : k + LANES]
        for i in range(first, last):
            row = rows[ids[i], k : k + LANES]
            for j in range(LANES):
                row[j] += part[j]


@inlined
def _softmax_step(
    outputs: NDArray[np.float32],
    hidden: NDArray[np.float32],
    label: int,
    lr: float,
    scores: NDArray[np.float64],
    gradient: NDArray[np.float32],
) -> float:
    """Loss of one document; updates the output rows and leaves the hidden vector's step in `gradient`."""
    n_labels, dim = outputs.shape
    highest = -np.inf
    for c in range(n_labels):
        score = 0.0
        for k in range(dim):
            score += np.float64(outputs[c, k]) * np.float64(hidden[k])
        scores[c] = score
        highest = max(highest, score)
    total = 0.0
    for c in range(n_labels):
        scores[c] = math.exp(scores[c] - highest)
        total += scores[c]
    gradient[:] = np.float32(0)
    for c in range(n_labels):
        step = np.float32(lr * ((1.0 if c == label else 0.0) - scores[c] / total))
        for k in range(dim):
            gradient[k] += step * outputs[c, k]
            outputs[c, k] += step * hidden[k]
    return -math.log(max(scores[label] / total, 1e-300))


@kernel
def fold_rows(
    rows: NDArray[np.float32],
    first: int,
    outputs_CK: NDArray[np.float64],
    seed: np.uint64,
    scale: np.float32,
    values_FC: NDArray[np.float32],
) -> None:
    """Values of the features from row `first` on: outputs_CK times their rows; 0 for rows never trained."""
    dim = rows.shape[1]
    for f in range(values_FC.shape[0]):
        is_new = True
        for k in range(dim):
            is_new &= rows[first + f, k] == _start(seed, np.uint64((first + f) * dim + k), scale)
        for c in range(values_FC.shape[1]):
            value = 0.0
            for k in range(dim):
                value += np.float64(rows[first + f, k]) * outputs_CK[c, k]
            values_FC[f, c] = np.float32(0.0 if is_new else value)
