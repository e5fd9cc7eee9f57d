"""Where whole samples lie in the rows of one pass, by numbers alone: no token is read.

Samples, or what is kept of them, are pieces. Pieces fill cells of one length, in the order of best-fit
packing within windows (`prill.lm.samples.whole_rows`) or one after another (`row_end`); cells fill rows.

D documents, P pieces in the order in which they lie, R rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from prill.lm.data import Ints
from prill.lm.samples.whole_rows import best_fit

__all__ = ["Layout", "Overlong", "lay_out", "ranges"]

Overlong = Literal["truncate", "split", "row_end"]


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Pieces in rows.

    Attributes:
        sources: first token of each piece in the stream, (P,).
        sizes: its tokens, (P,).
        owners: its document, (P,).
        places: its first place in the rows of a pass laid end to end, (P,).
        firsts: the first piece of each row, then P, (R + 1,).
    """

    sources: Ints
    sizes: Ints
    owners: Ints
    places: Ints
    firsts: Ints

    @property
    def n_rows(self) -> int:
        """R."""
        return len(self.firsts) - 1


def lay_out(doc_starts: Ints, *, row_tokens: int, cell_tokens: int, overlong: Overlong) -> Layout:
    """Lay documents into cells of `cell_tokens`, and those into rows of `row_tokens`."""
    if overlong == "row_end":
        sources, sizes, owners, places = _one_after_another(doc_starts, cell_tokens)
    else:
        sources, sizes, owners = _pieces(doc_starts, cell_tokens, overlong)
        order, room = best_fit(sizes, cell_tokens)
        sources, sizes, owners = sources[order], sizes[order], owners[order]
        places = np.cumsum(sizes + room) - (sizes + room)
    rows = places // row_tokens
    firsts = np.searchsorted(rows, np.arange(int(rows[-1]) + 2))
    return Layout(sources=sources, sizes=sizes, owners=owners, places=places, firsts=firsts)


def ranges(starts: Ints, sizes: Ints) -> Ints:
    """starts[0], starts[0] + 1, ... for `sizes[0]` numbers, then those of the next."""
    ends = np.cumsum(sizes)
    total = int(ends[-1]) if len(ends) else 0
    return np.asarray(np.arange(total, dtype=np.int64) + np.repeat(starts - (ends - sizes), sizes))


def _pieces(doc_starts: Ints, cell: int, overlong: Overlong) -> tuple[Ints, Ints, Ints]:
    """Where the pieces lie in the stream, their tokens, and their documents."""
    starts, lengths = doc_starts[:-1], np.diff(doc_starts)
    n_pieces = -(-lengths // cell) if overlong == "split" else np.ones_like(lengths)
    owners = np.repeat(np.arange(len(lengths)), n_pieces)
    offsets = ranges(np.zeros_like(n_pieces), n_pieces) * cell
    return starts[owners] + offsets, np.minimum(lengths[owners] - offsets, cell), owners


def _one_after_another(doc_starts: Ints, cell: int) -> tuple[Ints, Ints, Ints, Ints]:
    """Pieces and their places; each cell begins with a document, and what crosses its end is thrown away."""
    n_documents = len(doc_starts) - 1
    begins = [0]
    while begins[-1] < n_documents:  # the first document of each cell
        begins.append(int(np.searchsorted(doc_starts, doc_starts[begins[-1]] + cell, side="left")))
    firsts = np.array(begins[:-1], np.int64)
    n_members = np.diff(np.append(firsts, n_documents))
    offsets = doc_starts[:-1] - np.repeat(doc_starts[firsts], n_members)
    sizes = np.minimum(np.diff(doc_starts), cell - offsets)
    places = np.repeat(np.arange(len(firsts)) * cell, n_members) + offsets
    return doc_starts[:-1], sizes, np.arange(n_documents), places
