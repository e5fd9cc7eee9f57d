"""UL2's mixture of denoisers for decoders: each piece of text draws what is hidden of it.

    R  short spans, few hidden      (3, 15 %) (8, 15 %)                          mode tag R
    X  long spans or many hidden    (3, 50 %) (8, 50 %) (64, 15 %) (64, 50 %)    mode tag X
    S  the last quarter, in order   prefix language model                        mode tag S

A sample of R and X is [mode] kept text with sentinel i in place of span i [end] sentinel 0, span 0, sentinel
1, span 1, ... end-of-text; one of S is [mode] first part, last part, end-of-text. All up to the target is
`visible` and has weight 0: attention is full over it, and the loss is on the target only.

Documents are cut into pieces that fit, one draw a piece, keyed by (seed, hash of the document, number of the
piece); samples are laid into rows whole (`prill.lm.samples.whole_rows`). Equal steps train on fewer tokens
than a causal model does: compare at equal compute and tell the trained tokens (weights above 0).

Legend: D documents, P pieces, N tokens of the pieces.
Source: Tay et al. 2022, arXiv:2205.05131, section 3.1 and table 1; UL2R: Tay et al. 2022, arXiv:2210.11399.
Differs: one sequence instead of encoder and decoder; an end tag marks where the input ends; pieces, not
windows across documents; end-of-text behind S only where the document ends.
"""

from __future__ import annotations

import dataclasses
import itertools
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from prill.errors import DataError, RecipeError
from prill.lm.catalog import record
from prill.lm.data import TokenStream
from prill.lm.samples.keyed_bits import Bits, keyed, nth, uniform
from prill.lm.samples.opened import Opened
from prill.lm.samples.plain import Plain
from prill.lm.samples.spans import hidden_counts, ranges, span_mask
from prill.lm.samples.transform import Documents, SampleTransform
from prill.lm.samples.whole_rows import in_whole_rows

__all__ = [
    "DENOISERS",
    "MIXTURES",
    "Convention",
    "Denoiser",
    "Denoisers",
    "Pieces",
    "raw_length",
    "sample_sizes",
]

Ints = NDArray[np.int64]
Convention = Literal["sample", "input", "raw"]

MODES = ("R", "X", "S")
BLOCK_TOKENS = 1 << 20
"""Tokens made into samples at a time, to bound memory; decides nothing."""


@dataclass(frozen=True, kw_only=True)
class Denoiser:
    """One way to hide: `mean_span` tokens a span, or None for the end of the piece; `rate` of all tokens."""

    mode: Literal["R", "X", "S"]
    mean_span: float | None
    rate: float


DENOISERS = (
    Denoiser(mode="R", mean_span=3, rate=0.15),
    Denoiser(mode="R", mean_span=8, rate=0.15),
    Denoiser(mode="X", mean_span=3, rate=0.5),
    Denoiser(mode="X", mean_span=8, rate=0.5),
    Denoiser(mode="X", mean_span=64, rate=0.15),
    Denoiser(mode="X", mean_span=64, rate=0.5),
    Denoiser(mode="S", mean_span=None, rate=0.25),
)
"""The table of UL2, in the order of `MIXTURES` and of `weights`."""

MIXTURES: dict[str, tuple[float, ...]] = {
    "uniform": (1, 1, 1, 1, 1, 1, 1),
    "ul2r": (2, 2, 1, 1, 1, 1, 8),  # R 1/4, X 1/4, S 1/2
}


def sample_sizes(size: Any, denoiser: Denoiser) -> tuple[Ints, Ints]:
    """Tokens of input and target of a piece of `size` tokens, the end of each included (S has none).

    At 512: (3, 15 %) 462 and 104; (3, 50 %) 342 and 342; S 384 and 128. The mode tag is not counted.
    """
    hidden, spans = hidden_counts(size, rate=denoiser.rate, mean_span=denoiser.mean_span or np.inf)
    if denoiser.mean_span is None:
        return np.asarray(size - hidden), hidden
    return np.asarray(size - hidden + spans + 1), hidden + spans + 1


def raw_length(denoiser: Denoiser, length: int, convention: Convention) -> int:
    """The longest piece of which the counted part has at most `length` tokens.

    Args:
        convention: what counts: the piece itself (`raw`), its input with the end (`input`, as T5: 568 tokens
            for 512 and (3, 15 %)), or mode, input, target and end-of-text together (`sample`).
    """
    if convention == "raw":
        return length
    sizes = np.arange(1, int(length / (1 - denoiser.rate)) + 2)
    inputs, targets = sample_sizes(sizes, denoiser)
    counted = inputs if convention == "input" else inputs + targets + (1 if denoiser.mean_span else 2)
    return max(1, int(np.searchsorted(counted, length, side="right")))


@dataclass(frozen=True, kw_only=True)
class Pieces:
    """What is made into samples: where each piece lies, and how it is hidden; all of shape (P,).

    Attributes:
        document: of which it is a piece.
        start: its first token in the stream.
        size: tokens, end-of-text not counted.
        denoiser: number in `DENOISERS`.
        bits: key of the piece's draws.
        is_last: the document ends with it.
    """

    document: Ints
    start: Ints
    size: Ints
    denoiser: Ints
    bits: Bits
    is_last: NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Denoisers:
    """UL2's mixture of denoisers: parts of the text are hidden behind marks and learnt from the rest.

    Args:
        row_tokens: of the longest row of the training; samples are laid into rows whole.
    Raises:
        RecipeError: unknown mixture, weights that are not seven shares, or samples longer than a row.
    """

    row_tokens: int = 512
    mixture: Literal["uniform", "ul2r"] = field(
        default="uniform",
        metadata={"description": "All seven denoisers alike, or a quarter R, a quarter X and half S."},
    )
    weights: tuple[float, ...] | None = field(
        default=None, metadata={"description": "Shares of the seven denoisers, in place of the mixture's."}
    )
    convention: Convention = field(
        default="sample",
        metadata={"description": "What `length` counts: the whole sample, its input, or the raw text."},
    )
    length: int | None = field(
        default=None, metadata={"description": "Tokens that a piece may fill; left out: the row."}
    )
    mode_tags: bool = field(
        default=True, metadata={"description": "Open each sample with the tag of its kind of denoiser."}
    )

    def __post_init__(self) -> None:
        shares = self._shares
        if len(shares) != len(DENOISERS) or min(shares) < 0 or sum(shares) <= 0:
            raise RecipeError(
                f"`weights` must be seven shares of 0 or more, found {shares}", where="denoisers"
            )
        for denoiser, size in zip(DENOISERS, self._raw, strict=True):
            inputs, targets = sample_sizes(size, denoiser)
            whole = int(inputs + targets) + (1 if denoiser.mean_span else 2)
            if whole > self.row_tokens:
                raise RecipeError(
                    f"samples must fit into a row of {self.row_tokens} tokens, "
                    f"found {whole} tokens for {denoiser}",
                    where="denoisers",
                    hint="use longer rows, a smaller `length`, or the convention `sample`",
                )

    @property
    def n_sentinels(self) -> int:
        """Marks that stand for a span: enough for the denoiser with the most spans."""
        return max(
            int(hidden_counts(size, rate=d.rate, mean_span=d.mean_span)[1])
            for d, size in zip(DENOISERS, self._raw, strict=True)
            if d.mean_span is not None
        )

    @property
    def n_added(self) -> int:
        return self.n_sentinels + len(MODES) + 1

    @property
    def needs(self) -> tuple[str, ...]:
        return ()

    def tags(self, vocab_size: int) -> dict[str, int]:
        """Names and ids of the added tokens, sentinels first, for a tokenizer that is exported."""
        names = [f"<span {i}>" for i in range(self.n_sentinels)] + [f"<mode {m}>" for m in MODES] + ["<end>"]
        return {name: vocab_size + i for i, name in enumerate(names)}

    def when_asked(self) -> SampleTransform:
        """Evaluation documents behind the mode tag of S, to be continued."""
        tag = self.n_sentinels + MODES.index("S")
        return Opened(tag=tag, n_added=self.n_added) if self.mode_tags else Plain()

    def __call__(self, documents: Documents, *, seed: int) -> TokenStream:
        """Samples in whole rows; `origins` names the document of each.

        Raises:
            DataError: an earlier transform has set `visible`.
        """
        if documents.stream.visible is not None:
            raise DataError(
                "denoisers decide what is visible, found `visible` of an earlier transform",
                where=documents.stream.name,
                hint="use one of the two",
            )
        pieces = self.pieces(documents, seed=seed)
        edges = np.searchsorted(pieces.start, np.arange(0, documents.stream.n_tokens, BLOCK_TOKENS))
        cuts = np.unique(np.append(edges, [0, len(pieces.size)]))
        blocks = [
            self._samples(documents, _taken(pieces, slice(first, last)))
            for first, last in itertools.pairwise(cuts)
        ]
        return in_whole_rows(_joined(blocks, documents.stream, pieces.document), self.row_tokens)

    def pieces(self, documents: Documents, *, seed: int) -> Pieces:
        """The pieces of all documents, in order, each with the denoiser that it draws."""
        starts = documents.stream.doc_starts
        sizes_D, raw = np.diff(starts) - 1, np.array(self._raw)
        n_draws = np.maximum(-(-sizes_D // int(raw.min())), 1)
        document = np.repeat(np.arange(len(sizes_D)), n_draws)
        number = ranges(np.zeros_like(n_draws), n_draws)
        bits = nth(keyed(documents.hashes, seed=seed, use="denoisers")[document], number)
        shares = np.cumsum(self._shares) / sum(self._shares)
        denoiser = np.minimum(np.searchsorted(shares, uniform(bits), side="right"), len(raw) - 1)
        ends = np.cumsum(raw[denoiser])
        begin = ends - raw[denoiser]
        begin -= np.repeat(begin[np.cumsum(n_draws) - n_draws], n_draws)
        left = sizes_D[document] - begin
        used = (left > 0) | (number == 0)
        document, denoiser, left = document[used], denoiser[used], left[used]
        return Pieces(
            document=document,
            start=starts[document] + begin[used],
            size=np.minimum(raw[denoiser], left),
            denoiser=denoiser,
            bits=bits[used],
            is_last=left <= raw[denoiser],
        )

    def as_record(self) -> dict[str, Any]:
        return record(self, "denoisers", 1) | {"row_tokens": self.row_tokens}

    @property
    def _shares(self) -> tuple[float, ...]:
        if self.weights is not None:
            return self.weights
        if self.mixture not in MIXTURES:
            raise RecipeError(
                f"`mixture` must be one of {sorted(MIXTURES)}, found {self.mixture!r}", where="denoisers"
            )
        return MIXTURES[self.mixture]

    @property
    def _raw(self) -> tuple[int, ...]:
        length = self.row_tokens if self.length is None else self.length
        return tuple(raw_length(denoiser, length, self.convention) for denoiser in DENOISERS)

    def _samples(self, documents: Documents, pieces: Pieces) -> _Samples:
        """The samples of some pieces, one after another."""
        stream, size = documents.stream, pieces.size
        is_span = np.array([d.mean_span is not None for d in DENOISERS])[pieces.denoiser] & (size > 1)
        rate = np.array([d.rate for d in DENOISERS])[pieces.denoiser]
        mean_span = np.array([d.mean_span or np.inf for d in DENOISERS])[pieces.denoiser]
        n_hidden, n_spans = hidden_counts(size, rate=rate, mean_span=mean_span)
        piece, place = np.repeat(np.arange(len(size)), size), ranges(np.zeros_like(size), size)
        hidden = place >= (size - n_hidden)[piece]
        which = is_span[piece]
        hidden[which] = span_mask(size[is_span], n_hidden[is_span], n_spans[is_span], pieces.bits[is_span])
        n_marks = np.where(is_span, n_spans, 0)

        first = np.cumsum(size) - size  # of each piece among the tokens
        opens = hidden & which
        opens[1:] &= ~hidden[:-1] | (place[1:] == 0)
        marks: Ints = np.cumsum(opens)
        marks = marks - np.append(0, marks)[first][piece]  # spans begun, this one included
        kept: Ints = np.cumsum(~hidden) - ~hidden
        kept = kept - np.append(kept, 0)[first][piece]  # kept tokens before this one

        n_inputs = self.mode_tags + size - n_hidden + n_marks + is_span
        totals = n_inputs + n_hidden + n_marks + 1
        starts = np.cumsum(totals) - totals
        into = np.where(
            hidden,
            (starts + n_inputs)[piece] + place - kept + marks,
            starts[piece] + self.mode_tags + kept + marks,
        )
        made = _Samples.blank(int(totals.sum()), documents.eos, has_scores=stream.scores is not None)
        source = pieces.start[piece] + place
        made.tokens[into] = stream.tokens[source]
        if stream.weights is not None:
            made.weights[into] = stream.weights[source]
        if made.scores is not None and stream.scores is not None:
            made.scores[into] = stream.scores[source]
        sentinels = documents.vocab_size + marks[opens] - 1
        made.tokens[(starts[piece] + self.mode_tags + kept + marks - 1)[opens]] = sentinels
        made.tokens[into[opens] - 1] = sentinels
        tags = documents.vocab_size + self.n_sentinels
        if self.mode_tags:
            modes = np.array([MODES.index(d.mode) for d in DENOISERS])
            made.tokens[starts] = tags + modes[pieces.denoiser]
        made.tokens[(starts + n_inputs - 1)[is_span]] = tags + len(MODES)
        made.visible[ranges(starts, n_inputs)] = True
        made.weights[made.visible] = 0.0
        made.weights[(starts + totals - 1)[~is_span & ~pieces.is_last]] = 0.0
        return dataclasses.replace(made, totals=totals)


@dataclass(frozen=True, kw_only=True)
class _Samples:
    tokens: NDArray[np.uint32]
    weights: NDArray[np.float32]
    visible: NDArray[np.bool_]
    scores: NDArray[np.float32] | None
    totals: Ints

    @classmethod
    def blank(cls, n_tokens: int, eos: int, *, has_scores: bool) -> _Samples:
        return cls(
            tokens=np.full(n_tokens, eos, np.uint32),
            weights=np.ones(n_tokens, np.float32),
            visible=np.zeros(n_tokens, np.bool_),
            scores=np.zeros(n_tokens, np.float32) if has_scores else None,
            totals=np.zeros(0, np.int64),
        )


def _taken(pieces: Pieces, part: slice) -> Pieces:
    return Pieces(**{item.name: getattr(pieces, item.name)[part] for item in dataclasses.fields(Pieces)})


def _joined(blocks: list[_Samples], stream: TokenStream, document: Ints) -> TokenStream:
    totals = np.concatenate([block.totals for block in blocks])
    scores = [block.scores for block in blocks if block.scores is not None]
    return TokenStream(
        tokens=np.concatenate([block.tokens for block in blocks]),
        doc_starts=np.append(0, np.cumsum(totals)),
        name=stream.name,
        weights=np.concatenate([block.weights for block in blocks]),
        visible=np.concatenate([block.visible for block in blocks]),
        scores=np.concatenate(scores) if scores else None,
        origins=document if stream.origins is None else stream.origins[document],
    )
