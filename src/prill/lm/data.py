"""Training batches as a pure function of the step over one stream of tokens.

The stream is the selected documents in training order, each followed by its end-of-text token, repeated
without end. Row r holds stream tokens r T to (r + 1) T as targets; the input of each is the token before it.
So every token of the stream is a target exactly once an epoch, and a batch is known without having made the
others.

A document of some thousand tokens would fill whole batches by itself, which trains badly (measured: a tenth
of a bit a byte and more at 0.25 M tokens), so rows are visited in a keyed random order (`row_order`): over
the whole stream, or within blocks where the stream's order means something.

The end-of-text token that closes one document is the input that opens the next: the first token of every
document is predicted from end-of-text alone, as in scoring. Attention never crosses documents: positions of
one segment share a segment id, and positions restart at 0 in every document and in every row. A document
longer than a row continues in the next row with one token of context, its predecessor.

Arrays: B rows, T tokens a row, D documents.
"""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prill.errors import DataError

__all__ = ["Rows", "TokenStream", "batch", "positions_of", "row_order", "stack_rows"]

Ints = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class TokenStream:
    """A flat stream of tokens with document boundaries.

    Args:
        tokens: token ids, shape (N,), uint16 or uint32; may be memory-mapped. Every document ends with the
            end-of-text token.
        doc_starts: first token of each document, then N; int64, shape (D + 1,).
        name: named in errors.
    Raises:
        DataError: boundaries do not rise from 0 to N, or documents do not share their last token.
    """

    tokens: NDArray[Any]
    doc_starts: Ints
    name: str = "token stream"

    def __post_init__(self) -> None:
        starts = self.doc_starts
        if len(starts) < 2 or starts[0] != 0 or starts[-1] != len(self.tokens) or np.any(np.diff(starts) < 1):
            raise DataError(
                f"document starts must rise from 0 to the {len(self.tokens)} tokens of the stream, "
                f"found {len(starts)} starts from {starts[:1].tolist()} to {starts[-1:].tolist()}",
                where=self.name,
                hint="a stream needs at least one document, and an empty document still has its end-of-text",
            )
        ends = np.unique(np.asarray(self.tokens[starts[1:] - 1]))
        if len(ends) != 1:
            raise DataError(
                f"every document must end with one and the same end-of-text token, found {ends[:5].tolist()}",
                where=self.name,
            )

    @classmethod
    def of(cls, packed: Any, *, name: str = "token stream") -> TokenStream:
        """A stream over anything with `tokens` and `doc_starts`, such as a packed token file."""
        return cls(tokens=packed.tokens, doc_starts=packed.doc_starts, name=name)

    @classmethod
    def from_documents(
        cls, documents: list[NDArray[Any]], *, eos: int, name: str = "token stream"
    ) -> TokenStream:
        """A stream of documents without end-of-text tokens, in the given order."""
        starts = np.zeros(len(documents) + 1, dtype=np.int64)
        np.cumsum([len(document) + 1 for document in documents], out=starts[1:])
        tokens = np.full(int(starts[-1]), eos, dtype=np.uint32)
        for start, document in zip(starts, documents, strict=False):
            tokens[start : start + len(document)] = document
        return cls(tokens=tokens, doc_starts=starts, name=name)

    @property
    def n_tokens(self) -> int:
        """Tokens of one epoch, end-of-text included."""
        return len(self.tokens)

    @property
    def n_documents(self) -> int:
        """Documents of one epoch."""
        return len(self.doc_starts) - 1

    def digest(self) -> str:
        """SHA-256 over boundaries and token values, independent of the integer width."""
        seen = hashlib.sha256(np.ascontiguousarray(self.doc_starts, dtype="<i8").tobytes())
        for start in range(0, self.n_tokens, 1 << 22):
            seen.update(np.asarray(self.tokens[start : start + (1 << 22)], dtype="<u4").tobytes())
        return seen.hexdigest()


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Packed rows of one model, int64, each of shape (B, T); or of K models, (K, B, T).

    Attributes:
        inputs: token ids that go in.
        targets: token ids to predict.
        positions: place within the document or, after a row break, within the row; from 0.
        segments: equal where attention is allowed, within one row.
    """

    inputs: Ints
    targets: Ints
    positions: Ints
    segments: Ints


def row_order(first: int, count: int, *, seed: int, block: int, total: int) -> Ints:
    """Numbers of the rows that are visited `first` to `first + count` of a plan of `total` rows.

    Rows `b block` to `(b + 1) block` are visited in the order of a hash of (seed, row), then the next block;
    the last block ends with `total`. A block of 1 keeps the stream's order, one of a stream's rows shuffles
    each epoch.
    """
    visits = np.arange(first, first + count, dtype=np.int64)
    if block <= 1:
        return visits
    found = np.empty(count, dtype=np.int64)
    for number in range(first // block, (first + count - 1) // block + 1):
        start = number * block
        stop = max(min(start + block, total), start + 1)
        here = (visits >= start) & (visits < start + block)
        found[here] = _block_order(seed, start, stop)[visits[here] - start]
    return found


def batch(stream: TokenStream, row_numbers: Ints, *, seq_len: int) -> Rows:
    """The rows with these numbers.

    Raises:
        DataError: the stream is shorter than one batch.
    """
    n_rows = len(row_numbers)
    n_batch = n_rows * seq_len
    if stream.n_tokens < n_batch:
        raise DataError(
            f"a stream must hold at least one batch of {n_rows} x {seq_len} = {n_batch} tokens, "
            f"found {stream.n_tokens}",
            where=stream.name,
            hint="select more documents, or use fewer or shorter rows",
        )
    inputs = np.empty((n_rows, seq_len), dtype=np.int64)
    targets, segments = np.empty_like(inputs), np.empty_like(inputs)
    for b, row in enumerate(row_numbers.tolist()):
        targets[b], segments[b] = _read(stream, row * seq_len, seq_len)
        inputs[b, 0] = stream.tokens[(row * seq_len - 1) % stream.n_tokens]
        inputs[b, 1:] = targets[b, :-1]
    return Rows(inputs=inputs, targets=targets, positions=positions_of(segments), segments=segments)


def stack_rows(rows: list[Rows]) -> Rows:
    """The rows of K models with a leading model axis."""
    return Rows(
        inputs=np.stack([r.inputs for r in rows]),
        targets=np.stack([r.targets for r in rows]),
        positions=np.stack([r.positions for r in rows]),
        segments=np.stack([r.segments for r in rows]),
    )


def positions_of(segments_BT: Ints) -> Ints:
    """Positions that restart at 0 wherever the segment changes along the last axis."""
    columns = np.arange(segments_BT.shape[-1], dtype=np.int64)
    starts = np.zeros(segments_BT.shape, dtype=np.int64)
    starts[..., 1:] = np.where(segments_BT[..., 1:] != segments_BT[..., :-1], columns[1:], 0)
    return np.asarray(columns - np.maximum.accumulate(starts, axis=-1))


@functools.lru_cache(maxsize=64)
def _block_order(seed: int, start: int, stop: int) -> Ints:
    """Rows `start` to `stop` in the order of SplitMix64 of (seed, row); ties (none expected) by row."""
    key = int.from_bytes(hashlib.sha256(f"prill-rows-1:{seed}".encode()).digest()[:8], "little")
    mixed = np.arange(start, stop, dtype=np.uint64) + np.uint64(key)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    mixed ^= mixed >> np.uint64(31)
    return start + np.argsort(mixed, kind="stable").astype(np.int64)


def _read(stream: TokenStream, first: int, count: int) -> tuple[Ints, Ints]:
    """`count` tokens from endless repetition of the stream, and a document number that never repeats."""
    epoch, offset = divmod(first, stream.n_tokens)
    tokens = np.empty(count, dtype=np.int64)
    documents = np.empty(count, dtype=np.int64)
    done = 0
    while done < count:
        stop = min(stream.n_tokens, offset + count - done)
        part = slice(done, done + stop - offset)
        tokens[part] = stream.tokens[offset:stop]
        owner = np.searchsorted(stream.doc_starts, np.arange(offset, stop), side="right") - 1
        documents[part] = owner + epoch * stream.n_documents
        done += stop - offset
        epoch, offset = epoch + 1, 0
    return tokens, documents
