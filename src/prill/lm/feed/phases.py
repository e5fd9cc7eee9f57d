"""One feed until a row, then another: cooldown without metadata, better data for the decay, branch data.

Each phase counts its own feed's rows, from 0 unless told otherwise, so a phase is what it would be alone.
Weights, optimiser, schedule and step count belong to the loop and go on across the switch.

Documents that a later phase should find fresh must not lie in an earlier one: `split_stream` cuts a stream
into two that share no document, without copying tokens.

Source: Gao et al. 2025, arXiv:2501.01956, section 2.2 (metadata, then cooldown); Hu et al. 2024,
arXiv:2404.06395, section 5 (other data in the decay).
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from prill.errors import DataError, RecipeError
from prill.lm.data import CHANNELS, Rows, TokenStream
from prill.lm.feed.account import Used, used_by
from prill.lm.feed.feed import Feed
from prill.lm.feed.files import JoinedArray
from prill.lm.feed.merge import merged

__all__ = ["FeedPhase", "PhasedFeed", "split_stream", "stream_part"]


@dataclass(frozen=True, kw_only=True)
class FeedPhase:
    """One stretch of training.

    Args:
        feed: its rows.
        until_row: base row of the training at which the phase ends; None: never, for the last only.
        first_row: row of `feed` that the phase begins with; to go on where an earlier phase of the same
            feed ended.
    """

    feed: Feed
    until_row: int | None = None
    first_row: int = 0


@dataclass(frozen=True, kw_only=True)
class PhasedFeed:
    """Feeds one after another.

    Args:
        phases: in order; rows of all have T tokens.
        name: named in errors.
    Raises:
        RecipeError: no phases, ends that do not rise, or an end that is missing or out of place.
    """

    phases: tuple[FeedPhase, ...]
    name: str = "phases"

    def __post_init__(self) -> None:
        ends = [phase.until_row for phase in self.phases]
        said = [end for end in ends[:-1] if end is not None]
        is_rising = len(said) == len(ends) - 1 and all(a < b for a, b in pairwise([0, *said]))
        if not ends or ends[-1] is not None or not is_rising:
            raise RecipeError(
                f"phases must end at rising rows and only the last without end, found {ends}",
                where=self.name,
                hint="a phase without a row is left out",
            )

    @property
    def n_tokens(self) -> int:
        """Tokens of one pass over every phase's feed; one that several phases read counts once."""
        return sum(feed.n_tokens for feed in {id(p.feed): p.feed for p in self.phases}.values())

    @property
    def highest_id(self) -> int:
        return max(phase.feed.highest_id for phase in self.phases)

    def rows(self, first: int, count: int) -> Rows:
        return merged(
            [
                (np.arange(start, start + n_rows), phase.feed.rows(own, n_rows))
                for phase, start, own, n_rows in self._met(first, count)
            ]
        )

    def documents(self, first: int, count: int) -> list[str]:
        return [
            document
            for phase, _, own, n_rows in self._met(first, count)
            for document in phase.feed.documents(own, n_rows)
        ]

    def digest(self) -> str:
        parts = [[p.feed.digest(), p.until_row, p.first_row] for p in self.phases]
        return hashlib.sha256(json.dumps(["prill-phases-1", parts]).encode()).hexdigest()

    def used(self, first: int, count: int) -> list[Used]:
        """What rows `first` to `first + count` hold: see `prill.lm.feed.account`."""
        return [
            part
            for phase, _, own, n_rows in self._met(first, count)
            for part in used_by(phase.feed, own, n_rows)
        ]

    def _met(self, first: int, count: int) -> Iterator[tuple[FeedPhase, int, int, int]]:
        """Each phase with rows among these: their first place here, their first row there, and how many."""
        begin = 0
        for phase in self.phases:
            end = first + count if phase.until_row is None else phase.until_row
            start, stop = max(first, begin), min(first + count, end)
            if stop > start:
                yield phase, start - first, phase.first_row + start - begin, stop - start
            begin = end


def split_stream(stream: TokenStream, n_tokens: int) -> tuple[TokenStream, TokenStream]:
    """A stream cut in two between documents, at the first document that begins at or after `n_tokens`.

    Both are views; nothing is copied, and a memory-mapped stream stays on the disk. `origins` of the second
    part go on counting.

    Raises:
        DataError: one part would be empty.
    """
    cut = int(np.searchsorted(stream.doc_starts, n_tokens, side="left"))
    if not 0 < cut < stream.n_documents:
        raise DataError(
            f"a cut after {n_tokens} tokens must leave documents on both sides, found {stream.n_tokens} "
            f"tokens in {stream.n_documents} documents",
            where=stream.name,
            hint="select more documents, or give another share to the later phase",
        )
    return stream_part(stream, 0, cut), stream_part(stream, cut, stream.n_documents)


def stream_part(stream: TokenStream, first: int, last: int) -> TokenStream:
    """Documents `first` to `last` as a stream of their own: views, nothing is copied."""
    begin, end = int(stream.doc_starts[first]), int(stream.doc_starts[last])

    def cut(values: Any) -> Any:
        if isinstance(values, JoinedArray):
            return values.view(begin, end)
        return None if values is None else values[begin:end]

    return dataclasses.replace(
        stream,
        tokens=cut(stream.tokens),
        doc_starts=stream.doc_starts[first : last + 1] - begin,
        name=f"{stream.name}, documents {first} to {last - 1}",
        origins=np.arange(first, last) if stream.origins is None else stream.origins[first:last],
        **{name: cut(getattr(stream, name)) for name in CHANNELS},
    )
