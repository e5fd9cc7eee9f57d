"""How far a step on a document lowers a target's loss, to first order: <preconditioned target, document>.

Axes: D documents, C chunks, R targets.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from prill.lm.gradients.chunks import Chunking, cut
from prill.lm.gradients.products import Projection, inner_products, squared_norms, sum_gradient
from prill.lm.gradients.trace import Trace, trace
from prill.lm.model import StackedLlama

__all__ = ["Influences", "influences", "target_gradient", "traces"]

TOKENS_AT_A_TIME = 4096


@dataclass(frozen=True, kw_only=True)
class Influences:
    """Of D documents.

    Attributes:
        values: mean over a document's chunks, float64, (D, R); 0 where it has none.
        n_chunks: int64, (D,).
        n_tokens: that were read, of all documents.
    """

    values: NDArray[np.float64]
    n_chunks: NDArray[np.int64]
    n_tokens: int


def traces(
    model: StackedLlama,
    docs: Sequence[NDArray[Any]],
    chunking: Chunking,
    *,
    prefix: int,
    draw: torch.Generator | None = None,
) -> Iterator[Trace]:
    """Passes over all chunks of some documents, a few rows at a time."""
    chunks = chunking.chunks([len(doc) for doc in docs])
    n_rows = max(1, TOKENS_AT_A_TIME // chunking.length)
    for rows in cut(docs, chunks, length=chunking.length, prefix=prefix, n_rows=n_rows):
        yield trace(model, rows, draw=draw)


def target_gradient(
    model: StackedLlama, docs: Sequence[NDArray[Any]], chunking: Chunking, *, prefix: int
) -> tuple[dict[str, torch.Tensor], int]:
    """The gradient of the mean loss of a token of `docs`, by layer, fp64, and how many tokens it is of."""
    total: dict[str, torch.Tensor] = {}
    n_tokens = 0
    for one in traces(model, docs, chunking, prefix=prefix):
        n_tokens += int((one.owner >= 0).sum())
        for name, part in sum_gradient(one).items():
            total[name] = total[name] + part if name in total else part
    return {name: gradient / max(1, n_tokens) for name, gradient in total.items()}, n_tokens


def influences(
    model: StackedLlama,
    docs: Sequence[NDArray[Any]],
    gradients: Mapping[str, torch.Tensor],
    chunking: Chunking,
    *,
    prefix: int,
    is_normalised: bool = True,
    projection: Projection | None = None,
) -> Influences:
    """Inner products of documents' gradients with R preconditioned target gradients.

    A chunk's gradient is that of its mean loss, scaled to length 1 where `is_normalised`; a document has the
    mean of its chunks.

    Args:
        docs: token ids, without end-of-text.
        gradients: by layer, (R, I, O).
        projection: of both sides before the product; None: exact.
    """
    chunks = chunking.chunks([len(doc) for doc in docs])
    lengths = np.array([chunk.stop - chunk.start for chunk in chunks], np.int64)
    n_targets = next(iter(gradients.values())).shape[0]
    sums = np.zeros((len(chunks), n_targets))
    squares = np.zeros(len(chunks))
    wanted = {name: gradient.float() for name, gradient in gradients.items()}
    for one in traces(model, docs, chunking, prefix=prefix):
        products, norms = _products(one, wanted, len(chunks), projection, is_normalised=is_normalised)
        sums += products
        squares += norms
    scale = np.sqrt(squares) if is_normalised else lengths.astype(np.float64)
    values = sums / np.where(scale > 0, scale, 1.0)[:, None]
    owner = np.array([chunk.document for chunk in chunks], np.int64)
    n_chunks = np.bincount(owner, minlength=len(docs))
    total = np.zeros((len(docs), n_targets))
    np.add.at(total, owner, values)
    return Influences(
        values=total / np.maximum(n_chunks, 1)[:, None], n_chunks=n_chunks, n_tokens=int(lengths.sum())
    )


def _products(
    one: Trace,
    gradients: Mapping[str, torch.Tensor],
    n_chunks: int,
    projection: Projection | None,
    *,
    is_normalised: bool,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Products (C, R) and squared norms (C,) of the chunks of one pass; 0 for all others."""
    if projection is not None:
        projected = projection.of_chunks(one, n_chunks=n_chunks)
        products = projected @ projection.of_gradient(gradients).T
        return products.numpy(), projected.square().sum(1).numpy()
    products = inner_products(one, gradients, n_chunks=n_chunks)
    norms = squared_norms(one, n_chunks=n_chunks) if is_normalised else torch.zeros(n_chunks)
    return products.numpy(), norms.double().numpy()
