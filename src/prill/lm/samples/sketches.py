"""GENIUS's sketches: key spans in order with masks between them, then the full text to be written from them.

    <mask> machine learning <mask> data science <mask> <text> I am a student of machine learning and ...

The sketch is `visible` and has weight 0; the text behind it, with its end, is what is learnt. What is kept of
a text, about 27 % of its tokens, are the spans that tell it from other texts:

    salience of a token  (1 + ln count in the text) x -ln share in the corpus
    score of a token     the largest mean salience of the `span` tokens in a row that hold it

and the tokens of the highest scores are kept, equal ones in order. So it is a pure function of the text and
the counts. Long documents are cut into pieces, and samples laid into rows whole
(`prill.lm.samples.whole_rows`).

Legend: D documents, P pieces, N tokens, V vocabulary.
Source: Guo et al. 2022, arXiv:2211.10330, section 3 (extreme and selective masking), and the authors' code.
Differs: theirs keeps every occurrence of the YAKE keywords of up to three words, one for five words of text;
this is a rule on tokens without that extractor, for any language, that keeps a stated share. One sequence
instead of encoder and decoder.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prill.errors import DataError, Problem, RecipeError
from prill.lm.catalog import record
from prill.lm.data import TokenStream
from prill.lm.samples.spans import ranges
from prill.lm.samples.transform import Documents
from prill.lm.samples.whole_rows import in_whole_rows

__all__ = ["Sketches", "key_tokens", "token_counts"]

Ints = NDArray[np.int64]

UNITS = 1 << 20
"""Units a nat in which saliences are summed: whole numbers, so that no sum depends on what came before."""

BLOCK_PIECES = 4096
"""Pieces made into samples at a time, to bound memory; decides nothing."""


def key_tokens(tokens: Ints, sizes: Ints, counts: Ints, *, share: float, span: int) -> NDArray[np.bool_]:
    """Which tokens a sketch keeps, (N,): floor(share x size) of each piece, one at least.

    Args:
        tokens: of all pieces, (N,).
        sizes: tokens of each piece, (P,).
        counts: of each token in the corpus, (V,); one is added to each.
        share: of the tokens, 0 to 1.
        span: tokens that are judged together.
    """
    piece, place = np.repeat(np.arange(len(sizes)), sizes), ranges(np.zeros_like(sizes), sizes)
    _, which, n_here = np.unique(piece * len(counts) + tokens, return_inverse=True, return_counts=True)
    rarity = np.log((counts + 1).sum()) - np.log(counts + 1)
    salience = (1 + np.log(n_here[which])) * rarity[tokens]

    total = np.append(0, np.cumsum(np.rint(salience * UNITS).astype(np.int64)))
    width = np.minimum(span, sizes)[piece]
    is_window = place + width <= sizes[piece]
    stop = np.arange(len(tokens)) + np.where(is_window, width, 0)
    window = np.where(is_window, total[stop] - total[:-1], -1)  # all windows of a piece have one width
    score = window.copy()
    for shift in range(1, min(span, len(tokens))):
        inside = place[shift:] >= shift
        score[shift:] = np.where(inside, np.maximum(score[shift:], window[:-shift]), score[shift:])

    order = np.lexsort((place, -score, piece))
    n_kept = np.minimum(np.maximum(np.floor(share * sizes).astype(np.int64), 1), sizes)
    kept = np.empty(len(tokens), np.bool_)
    kept[order] = place < n_kept[piece]
    return kept


def token_counts(stream: TokenStream, vocab_size: int) -> Ints:
    """How often each token occurs, (V,)."""
    found = np.zeros(vocab_size, np.int64)
    for start in range(0, stream.n_tokens, 1 << 22):
        found += np.bincount(stream.tokens[start : start + (1 << 22)], minlength=vocab_size)
    return found


@dataclass(frozen=True, kw_only=True, eq=False)
class Sketches:
    """GENIUS's sketches: write a text from its key spans.

    Args:
        row_tokens: of the longest row of the training; samples are laid into rows whole.
        counts: of each token in the corpus, (V,); None: those of the documents at hand.
    Raises:
        RecipeError: a setting is out of bounds; tells all problems.
    """

    row_tokens: int = 512
    share: float = field(
        default=0.27, metadata={"description": "Share of a text's tokens that a sketch keeps."}
    )
    span: int = field(default=3, metadata={"description": "Tokens in a row that are judged together."})
    counts: Ints | None = None

    def __post_init__(self) -> None:
        checks = (
            (0 < self.share < 1, f"`share` must be between 0 and 1, found {self.share}"),
            (self.span >= 1, f"`span` must be at least 1, found {self.span}"),
            (self.row_tokens >= 8, f"`row_tokens` must be at least 8, found {self.row_tokens}"),
        )
        problems = [Problem(message=text, where="sketches") for is_fine, text in checks if not is_fine]
        if problems:
            raise RecipeError.of(problems)

    @property
    def n_added(self) -> int:
        return 2

    @property
    def needs(self) -> tuple[str, ...]:
        return ()

    @property
    def piece_tokens(self) -> int:
        """Tokens of the longest text whose sample fits into a row however many masks its sketch has."""
        sizes = np.arange(1, self.row_tokens + 1)
        kept = np.maximum(np.floor(self.share * sizes), 1)
        return int(np.searchsorted(2 * kept + sizes + 3, self.row_tokens, side="right"))

    def tags(self, vocab_size: int) -> dict[str, int]:
        """Names and ids of the added tokens, for a tokenizer that is exported."""
        return {"<mask>": vocab_size, "<text>": vocab_size + 1}

    def __call__(self, documents: Documents, *, seed: int) -> TokenStream:
        """Samples in whole rows; `origins` names the document of each. Nothing is drawn.

        Raises:
            DataError: an earlier transform has set `visible`.
        """
        stream = documents.stream
        if stream.visible is not None:
            raise DataError(
                "sketches decide what is visible, found `visible` of an earlier transform",
                where=stream.name,
                hint="use one of the two",
            )
        counts = token_counts(stream, documents.vocab_size) if self.counts is None else self.counts
        length, sizes_D = self.piece_tokens, np.diff(stream.doc_starts) - 1
        n_pieces = np.maximum(-(-sizes_D // length), 1)
        document, number = np.repeat(np.arange(len(sizes_D)), n_pieces), ranges(0 * n_pieces, n_pieces)
        starts = stream.doc_starts[document] + number * length
        sizes = np.minimum(sizes_D[document] - number * length, length)
        is_last = number == n_pieces[document] - 1
        blocks = [
            self._samples(documents, counts, starts[part], sizes[part], is_last[part])
            for first in range(0, len(sizes), BLOCK_PIECES)
            for part in [slice(first, first + BLOCK_PIECES)]
        ]
        tokens, weights, visible, totals = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
        made = TokenStream(
            tokens=tokens,
            doc_starts=np.append(0, np.cumsum(totals)),
            name=stream.name,
            weights=weights,
            visible=visible,
            origins=document if stream.origins is None else stream.origins[document],
        )
        return in_whole_rows(made, self.row_tokens)

    def as_record(self) -> dict[str, Any]:
        own = None if self.counts is None else hashlib.sha256(self.counts.astype("<i8").tobytes()).hexdigest()
        return record(self, "sketches", 1) | {"row_tokens": self.row_tokens, "counts": own}

    def _samples(
        self, documents: Documents, counts: Ints, starts: Ints, sizes: Ints, is_last: NDArray[np.bool_]
    ) -> tuple[NDArray[np.uint32], NDArray[np.float32], NDArray[np.bool_], Ints]:
        """Tokens, weights and visibility of some pieces' samples, and the length of each."""
        stream, source = documents.stream, ranges(starts, sizes)
        text = stream.tokens[source].astype(np.int64)
        piece, place = np.repeat(np.arange(len(sizes)), sizes), ranges(0 * sizes, sizes)
        kept = key_tokens(text, sizes, counts, share=self.share, span=self.span)
        hidden = ~kept
        gap = hidden.copy()  # the first token of each gap: its mask
        gap[1:] &= kept[:-1] | (place[1:] == 0)

        in_sketch = kept | gap
        n_sketch = np.bincount(piece[in_sketch], minlength=len(sizes))
        totals = n_sketch + 1 + sizes + 1
        begin = np.cumsum(totals) - totals
        tokens = np.full(int(totals.sum()), documents.eos, np.uint32)
        weights, visible = np.ones(len(tokens), np.float32), np.zeros(len(tokens), np.bool_)
        tokens[ranges(begin, n_sketch)] = np.where(gap, documents.vocab_size, text)[in_sketch]
        tokens[begin + n_sketch] = documents.vocab_size + 1
        tokens[ranges(begin + n_sketch + 1, sizes)] = text
        if stream.weights is not None:
            weights[ranges(begin + n_sketch + 1, sizes)] = stream.weights[source]
        visible[ranges(begin, n_sketch + 1)] = True
        weights[visible] = 0.0
        weights[(begin + totals - 1)[~is_last]] = 0.0
        return tokens, weights, visible, totals
