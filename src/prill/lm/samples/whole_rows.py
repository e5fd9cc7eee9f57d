"""Samples laid into rows whole, for transforms whose samples must not be cut.

A row of the plain stream begins wherever the last one ended. A sample of a denoiser that is cut there keeps
its targets and loses the input that they answer, so these transforms lay their samples into rows of T tokens
beforehand: best fit decreasing within windows of some thousand samples (the rows of a window keep the order
of their first samples, and a row that of its samples). What is left of a row is filled behind its last sample
with end-of-text of weight 0. The stream is then a whole number of rows, so every epoch is cut alike. A
transform that does this comes last; and rows that a length curriculum cuts shorter cut samples too.

Source: Ding et al. 2024, arXiv:2404.10830, section 3 (best-fit packing). Differs: within windows, so that the
coarse order of the samples stays.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prill.errors import DataError
from prill.lm.data import TokenStream
from prill.lm.samples.spans import ranges

__all__ = ["WINDOW", "best_fit", "in_whole_rows"]

Ints = NDArray[np.int64]

WINDOW = 4096
"""Samples that are laid out together."""


def in_whole_rows(stream: TokenStream, row_tokens: int, *, window: int = WINDOW) -> TokenStream:
    """The same samples, none of them across the edge of a row.

    Args:
        stream: documents of at most `row_tokens` tokens.
        row_tokens: T of the feed.
        window: documents that may change places.
    Returns:
        A stream with `weights` and `origins`, and a whole number of rows.
    Raises:
        DataError: a document is longer than a row.
    """
    sizes = np.diff(stream.doc_starts)
    if sizes.max() > row_tokens:
        raise DataError(
            f"samples must fit into a row of {row_tokens} tokens, found one of {sizes.max()}",
            where=f"{stream.name}, document {int(sizes.argmax())}",
            hint="use longer rows, or shorter samples",
        )
    order, room = best_fit(sizes, row_tokens, window=window)
    starts = np.zeros(len(sizes) + 1, np.int64)
    np.cumsum(sizes[order] + room, out=starts[1:])
    into = ranges(starts[:-1], sizes[order])
    taken = ranges(stream.doc_starts[order], sizes[order])

    def laid(values: NDArray[Any], blank: float) -> NDArray[Any]:
        found = np.full(int(starts[-1]), blank, values.dtype)
        found[into] = values[taken]
        return found

    weights = np.ones(stream.n_tokens, np.float32) if stream.weights is None else stream.weights
    return dataclasses.replace(
        stream,
        tokens=laid(np.asarray(stream.tokens), int(stream.tokens[-1])),
        doc_starts=starts,
        weights=laid(weights, 0.0),
        origins=order if stream.origins is None else stream.origins[order],
        scores=None if stream.scores is None else laid(stream.scores, 0.0),
        visible=None if stream.visible is None else laid(stream.visible, False),
    )


def best_fit(sizes: Ints, row_tokens: int, *, window: int = WINDOW) -> tuple[Ints, Ints]:
    """The order in which samples fill rows, and the room left behind each (0 but behind a row's last).

    Args:
        sizes: tokens of each sample, from 1 to `row_tokens`, (D,).
    """
    order, room = [], np.zeros(len(sizes), np.int64)
    for first in range(0, len(sizes), window):
        rows, left = _window_rows(sizes[first : first + window], row_tokens)
        for members, free in sorted(zip(rows, left, strict=True), key=lambda row: min(row[0])):
            order += [first + member for member in sorted(members)]
            room[len(order) - 1] = free
    return np.array(order, np.int64), room


def _window_rows(sizes: Ints, row_tokens: int) -> tuple[list[list[int]], list[int]]:
    """Samples of each row, and its room: each sample, longest first, goes where least room is left."""
    rows: list[list[int]] = []
    left: list[int] = []
    with_room: list[list[int]] = [[] for _ in range(row_tokens + 1)]  # rows by their room
    rooms = 0  # bit r: some row has room r
    for sample in np.argsort(-sizes, kind="stable").tolist():
        size = int(sizes[sample])
        fitting = rooms >> size
        if fitting:
            free = size + (fitting & -fitting).bit_length() - 1
            row = with_room[free].pop()
            if not with_room[free]:
                rooms &= ~(1 << free)
        else:
            free, row = row_tokens, len(rows)
            rows.append([])
            left.append(0)
        rows[row].append(sample)
        left[row] = free - size
        with_room[free - size].append(row)
        rooms |= 1 << (free - size)
    return rows, left
