"""Held-out text as pieces that a small model can be judged on.

A whole document would let a few long ones fill an evaluation set. So every document is cut into pieces of
about one row, and pieces are taken in rounds: one of each document first, which one by keyed hash, then a
second, until the set is large enough. A result is kept a document, summed over its pieces, because pieces of
one document are not independent. Cuts fall between characters, after a space where there is one, and every
byte belongs to one piece, so bits per byte stay exact for any tokenizer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from prill.features.keyed import keyed_uniform

__all__ = ["PIECES_VERSION", "Pieces", "cut", "take_pieces"]

PIECES_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Pieces:
    """Pieces of documents: `texts`, the document of each (index into the input), its UTF-8 bytes."""

    texts: list[str]
    document: np.ndarray
    n_bytes: np.ndarray


def take_pieces(
    documents: Sequence[str], keys: np.ndarray, *, piece_bytes: int, total_bytes: int, seed: int
) -> Pieces:
    """Pieces of `documents` of about `total_bytes` in all, spread over as many documents as possible.

    Args:
        documents: held-out texts, D of them.
        keys: uint64 hash of each, shape (D,).
        piece_bytes: size of a piece, bytes.
        total_bytes: where to stop, bytes; everything is taken when there is less.
        seed: of the keyed choice.
    """
    pieces = [cut(text, piece_bytes) for text in documents]
    candidates = []
    for document, (parts, key) in enumerate(zip(pieces, keys, strict=True)):
        numbers = np.arange(len(parts), dtype=np.uint64)
        draws = keyed_uniform(seed, numbers * np.uint64(0x9E3779B97F4A7C15) ^ key)
        candidates += [
            (turn, draws[n], document, n) for turn, n in enumerate(np.argsort(draws, kind="stable"))
        ]
    candidates.sort()
    texts: list[str] = []
    owners: list[int] = []
    sizes: list[int] = []
    for _, _, document, number in candidates:
        if sum(sizes) >= total_bytes:
            break
        text = pieces[document][number]
        texts.append(text)
        owners.append(document)
        sizes.append(len(text.encode()))
    return Pieces(texts=texts, document=np.array(owners, np.int64), n_bytes=np.array(sizes, np.int64))


def cut(text: str, piece_bytes: int) -> list[str]:
    """`text` in pieces of at most `piece_bytes` (unless one character is longer), joined they give it back.

    >>> cut("one two three", 8)
    ['one two ', 'three']
    """
    data, pieces, start = text.encode(), [], 0
    while len(data) - start > piece_bytes:
        end = _between_characters(data, start, start + piece_bytes)
        space = max(data.rfind(b" ", start, end), data.rfind(b"\n", start, end))
        end = space + 1 if space >= (start + end) // 2 else end
        pieces.append(data[start:end].decode())
        start = end
    return [*pieces, data[start:].decode()] if start < len(data) else pieces


def _between_characters(data: bytes, start: int, end: int) -> int:
    """The last character boundary in (start, end], or the first one after when a character is longer."""
    for place in range(end, start, -1):
        if data[place] & 0xC0 != 0x80:
            return place
    while end < len(data) and data[end] & 0xC0 == 0x80:
        end += 1
    return end
