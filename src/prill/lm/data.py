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

__all__ = [
    "CHANNELS",
    "Rows",
    "Soft",
    "TokenStream",
    "batch",
    "positions_of",
    "row_order",
    "rows_of",
    "stack_rows",
]

Ints = NDArray[np.int64]

CHANNELS = {"weights": np.float32, "scores": np.float32, "visible": np.bool_}
"""What a token may carry beside its id, and the type of it; see `TokenStream`."""


@dataclass(frozen=True, kw_only=True)
class TokenStream:
    """A flat stream of tokens with document boundaries.

    Args:
        tokens: token ids, shape (N,), uint16 or uint32; may be memory-mapped. Every document ends with the
            end-of-text token.
        doc_starts: first token of each document, then N; int64, shape (D + 1,).
        name: named in errors.
        weights: weight of the loss of predicting each token, float32, (N,); 0 masks it; None: all 1.
        scores: what an objective reads of each token (a penalty, a reward), float32, (N,).
        visible: tokens that every token of their document may see, as the input of a prefix language model;
            bool, (N,); they must open their document. None: every token sees only what is before it.
        origins: where a sample transform made several documents of one, the number of the document that each
            came from, int64, (D,); it decides no row. None: each is its own.
    Raises:
        DataError: boundaries do not rise from 0 to N, documents do not share their last token, or a channel
            has another length.
    """

    tokens: NDArray[Any]
    doc_starts: Ints
    name: str = "token stream"
    weights: NDArray[np.float32] | None = None
    scores: NDArray[np.float32] | None = None
    visible: NDArray[np.bool_] | None = None
    origins: Ints | None = None

    def __post_init__(self) -> None:
        starts = self.doc_starts
        for channel in CHANNELS:
            values = getattr(self, channel)
            if values is not None and len(values) != len(self.tokens):
                raise DataError(
                    f"`{channel}` needs one value a token, found {len(values)} for {len(self.tokens)} tokens",
                    where=self.name,
                )
        if len(starts) < 2 or starts[0] != 0 or starts[-1] != len(self.tokens) or np.any(np.diff(starts) < 1):
            raise DataError(
                f"document starts must rise from 0 to the {len(self.tokens)} tokens of the stream, "
                f"found {len(starts)} starts from {starts[:1].tolist()} to {starts[-1:].tolist()}",
                where=self.name,
                hint="a stream needs at least one document, and an empty document still has its end-of-text",
            )
        if self.origins is not None and len(self.origins) != len(starts) - 1:
            raise DataError(
                f"`origins` needs one number a document, found {len(self.origins)} for {len(starts) - 1}",
                where=self.name,
            )
        ends = np.unique(np.asarray(self.tokens[starts[1:] - 1]))
        if len(ends) != 1:
            raise DataError(
                f"every document must end with one and the same end-of-text token, found {ends[:5].tolist()}",
                where=self.name,
            )

    @classmethod
    def of(cls, packed: Any, *, name: str = "token stream") -> TokenStream:
        """A stream over anything with `tokens`, `doc_starts` and `channels`, such as a packed token file."""
        return cls(tokens=packed.tokens, doc_starts=packed.doc_starts, name=name, **packed.channels)

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
        """SHA-256 over boundaries, token values and channels, independent of the integer width."""
        return self._scanned[0]

    @property
    def highest_id(self) -> int:
        """The largest token id."""
        return self._scanned[1]

    @functools.cached_property
    def _scanned(self) -> tuple[str, int]:
        """Digest and largest id in one pass, since the tokens may lie on a disk."""
        seen = hashlib.sha256(np.ascontiguousarray(self.doc_starts, dtype="<i8").tobytes())
        highest = 0
        for start in range(0, self.n_tokens, 1 << 22):
            part = np.asarray(self.tokens[start : start + (1 << 22)])
            seen.update(part.astype("<u4", copy=False).tobytes())
            highest = max(highest, int(part.max()))
        for channel in CHANNELS:
            values = getattr(self, channel)
            if values is not None:
                seen.update(channel.encode() + np.ascontiguousarray(values).tobytes())
        return seen.hexdigest(), highest


@dataclass(frozen=True, kw_only=True)
class Soft:
    """A teacher's distribution over the k most likely tokens at each place.

    Attributes:
        ids: token ids, int64, (..., T, k).
        shares: their probability, float32, (..., T, k); what is missing to 1 belongs to no token.
    """

    ids: Ints
    shares: NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Packed rows of one model, each of shape (B, T); or of K models, (K, B, T). Everything a step reads.

    Attributes:
        inputs: token ids that go in, int64.
        targets: token ids to predict.
        positions: place within the document or, after a row break, within the row; from 0.
        segments: equal where attention is allowed, within one row.
        weights: weight of each target's loss, float32; 0 masks it; None: all 1.
        scores: what the objective reads of each target, float32; None: nothing.
        visible: inputs that their whole segment may see; None: none, attention is causal.
        soft: a teacher's distribution for each target; None: none.
    """

    inputs: Ints
    targets: Ints
    positions: Ints
    segments: Ints
    weights: NDArray[np.float32] | None = None
    scores: NDArray[np.float32] | None = None
    visible: NDArray[np.bool_] | None = None
    soft: Soft | None = None


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
    return rows_of(stream, row_numbers, seq_len=seq_len)


def rows_of(stream: TokenStream, row_numbers: Ints, *, seq_len: int) -> Rows:
    """The rows with these numbers, of a stream that is repeated as often as they need."""
    first = np.asarray(row_numbers, np.int64) * seq_len
    start = first % stream.n_tokens
    place = start[:, None] + np.arange(seq_len)
    if int(start.max(initial=0)) + seq_len > stream.n_tokens:  # some row goes on at the stream's beginning
        place %= stream.n_tokens
    targets = np.asarray(stream.tokens[place], np.int64)
    inputs = np.empty_like(targets)
    inputs[:, 0] = stream.tokens[start - 1]
    inputs[:, 1:] = targets[:, :-1]
    segments = _segments(stream.doc_starts, first, seq_len)
    return Rows(
        inputs=inputs,
        targets=targets,
        positions=positions_of(segments),
        segments=segments,
        weights=None if stream.weights is None else stream.weights[place],
        scores=None if stream.scores is None else stream.scores[place],
        visible=None if stream.visible is None else _visible_inputs(stream.visible, place, segments),
    )


def stack_rows(rows: list[Rows]) -> Rows:
    """The rows of K models with a leading model axis; a channel that any of them has, all get."""

    def stacked(name: str, default: float) -> NDArray[Any] | None:
        found = [getattr(r, name) for r in rows]
        if all(values is None for values in found):
            return None
        blank: NDArray[Any] = np.full(rows[0].inputs.shape, default, CHANNELS[name])
        return np.stack([blank if values is None else values for values in found])

    soft = [r.soft for r in rows if r.soft is not None]
    return Rows(
        inputs=np.stack([r.inputs for r in rows]),
        targets=np.stack([r.targets for r in rows]),
        positions=np.stack([r.positions for r in rows]),
        segments=np.stack([r.segments for r in rows]),
        weights=stacked("weights", 1.0),
        scores=stacked("scores", 0.0),
        visible=stacked("visible", 0.0),
        soft=Soft(ids=np.stack([s.ids for s in soft]), shares=np.stack([s.shares for s in soft]))
        if soft
        else None,
    )


def positions_of(segments_BT: Ints) -> Ints:
    """Positions that restart at 0 wherever the segment changes along the last axis."""
    columns = np.arange(segments_BT.shape[-1], dtype=np.int64)
    starts = np.zeros(segments_BT.shape, dtype=np.int64)
    starts[..., 1:] = np.where(segments_BT[..., 1:] != segments_BT[..., :-1], columns[1:], 0)
    return np.asarray(columns - np.maximum.accumulate(starts, axis=-1))


def _segments(doc_starts: Ints, first: Ints, seq_len: int) -> Ints:
    """The document of each token of the rows that begin at `first`, (B, T), counted on from pass to pass.

    Only the first and last token of a row are looked up; documents that begin in between are counted on.
    """
    n_documents, n_tokens = len(doc_starts) - 1, int(doc_starts[-1])

    def document_at(at: Ints) -> Ints:
        epoch, place = np.divmod(at, n_tokens)
        return np.asarray(np.searchsorted(doc_starts, place, side="right") - 1 + epoch * n_documents)

    opening, closing = document_at(first), document_at(first + seq_len - 1)
    n_begun = closing - opening
    row = np.repeat(np.arange(len(first)), n_begun)
    nth = np.arange(len(row)) - np.repeat(np.cumsum(n_begun) - n_begun, n_begun)
    epoch, document = np.divmod(opening[row] + 1 + nth, n_documents)
    steps = np.zeros((len(first), seq_len), np.int64)
    steps[:, 0] = opening
    steps[row, epoch * n_tokens + doc_starts[document] - first[row]] = 1
    return np.cumsum(steps, axis=1, out=steps)


@functools.lru_cache(maxsize=64)
def _block_order(seed: int, start: int, stop: int) -> Ints:
    """Rows `start` to `stop` in the order of SplitMix64 of (seed, row); ties (none expected) by row."""
    key = int.from_bytes(hashlib.sha256(f"prill-rows-1:{seed}".encode()).digest()[:8], "little")
    mixed = np.arange(start, stop, dtype=np.uint64) + np.uint64(key)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    mixed ^= mixed >> np.uint64(31)
    return start + np.argsort(mixed, kind="stable").astype(np.int64)


def _visible_inputs(visible: NDArray[np.bool_], place: Ints, segments: Ints) -> NDArray[np.bool_]:
    """Which inputs are visible, given which tokens are: an input is the token before its target.

    The first input of a segment, end-of-text or the last token of the row before, opens the visible part if
    the token after it is visible.
    """
    found = np.zeros(place.shape, np.bool_)
    here = visible[place]
    found[:, 0] = here[:, 0]
    opens = segments[:, 1:] != segments[:, :-1]
    found[:, 1:] = np.where(opens, here[:, 1:], here[:, :-1])
    return found
