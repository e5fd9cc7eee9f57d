"""Which tokens of a piece of text are hidden: the arithmetic of span corruption.

A piece of L tokens hides round(L r) of them in round(hidden / m) spans of mean length m. Hidden and kept
tokens are each cut into that many positive parts at random, all ways of cutting alike, and laid out in turn,
kept text first; so a piece always ends in a hidden span, and two spans never touch.

Legend: P pieces, N their tokens, S their spans.
Source: Raffel et al. 2020, arXiv:1910.10683, section 3.1.4. Differs: a piece of one token hides it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from prill.lm.samples.keyed_bits import Bits, nth

__all__ = ["hidden_counts", "parts", "ranges", "span_mask"]

Ints = NDArray[np.int64]


def hidden_counts(size: Any, *, rate: Any, mean_span: Any) -> tuple[Ints, Ints]:
    """Hidden tokens and spans of pieces of `size` tokens; halves round to even. All broadcast.

    At least one token is hidden and one kept where there are two; there is no span without a token of its
    own on either side.
    """
    size = np.asarray(size, np.int64)
    hidden = np.clip(np.rint(size * rate).astype(np.int64), 1, np.maximum(size - 1, 1))
    hidden = np.minimum(hidden, size)
    spans = np.maximum(np.rint(hidden / mean_span).astype(np.int64), 1)
    return hidden, np.minimum(spans, np.minimum(hidden, np.maximum(size - hidden, 1)))


def parts(total_P: Ints, n_parts_P: Ints, bits_P: Bits) -> Ints:
    """Each total cut into positive parts at random: the parts of the first piece, then of the next, (S,).

    Of the total - 1 places where a cut may be, those with the smallest draws are cut.

    Args:
        total_P: at least `n_parts_P`, which is at least 1.
        bits_P: the key of each piece's draws.
    """
    piece = np.repeat(np.arange(len(total_P)), total_P)
    place = ranges(np.zeros_like(total_P), total_P)
    draws = nth(bits_P[piece], place)
    draws[place == 0] = 0  # a part starts where the piece does: no draw comes before it
    order = np.lexsort((place, draws, piece))
    is_start = np.empty(len(piece), np.bool_)
    is_start[order] = place < n_parts_P[piece]  # `place` is also the rank within the sorted piece
    starts = np.flatnonzero(is_start)
    return np.diff(np.append(starts, len(piece)))


def span_mask(size_P: Ints, hidden_P: Ints, spans_P: Ints, bits_P: Bits) -> NDArray[np.bool_]:
    """Which tokens are hidden, (N,); every piece has at least two tokens."""
    lengths = np.empty(2 * int(spans_P.sum()), np.int64)
    lengths[0::2] = parts(size_P - hidden_P, spans_P, nth(bits_P, 0))
    lengths[1::2] = parts(hidden_P, spans_P, nth(bits_P, 1))
    return np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)


def ranges(starts: Ints, sizes: Ints) -> Ints:
    """starts[0], starts[0] + 1, ... for `sizes[0]` numbers, then those of the next; empty for none."""
    ends = np.cumsum(sizes)
    total = int(ends[-1]) if len(ends) else 0
    return np.asarray(np.arange(total, dtype=np.int64) + np.repeat(starts - (ends - sizes), sizes))
