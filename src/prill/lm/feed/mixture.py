"""Several sources, mixed row by row by weights that may change as training goes.

Weights are shares of the base rows, hence of the tokens. Which source a row comes from is dealt so that after
any number of rows each source has had its share to less than one row (`prill.lm.feed.apportion`); the row
itself is the source's next one, so every source is read in its own order, without gaps, whatever the weights.
Both follow from the row's number: there is no state to keep.

A source may be limited to a number of passes. If the plan needs more, that is an error before the first step;
or, if the user says so, the source's weight goes to the others from there on, in proportion to theirs.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np

from prill.errors import DataError, Problem, RecipeError
from prill.lm.batches import BatchTable
from prill.lm.data import Ints, Rows
from prill.lm.feed.account import Used, used_by
from prill.lm.feed.apportion import Apportionment
from prill.lm.feed.feed import Feed
from prill.lm.feed.merge import merged
from prill.lm.feed.shares import Pieces, SharePoint, limited, pieces_of

__all__ = ["Dry", "MixtureFeed", "SharePoint", "Source"]

MIXTURE_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Source:
    """One source of a mixture.

    Args:
        name: unique within the mixture.
        feed: its rows, of the mixture's T tokens.
        max_epochs: passes over its tokens that may be trained on, rounded down to whole rows; None: any.
    """

    name: str
    feed: Feed
    max_epochs: float | None = None


@dataclass(frozen=True, kw_only=True)
class Dry:
    """Where a source has no row left: the first base row that it would have had but for its limit.

    Attributes:
        source: its name.
        row: base row of the mixture.
        n_tokens: tokens of training before it.
        step: the step that holds the row, if the batches are known.
    """

    source: str
    row: int
    n_tokens: int
    step: int | None


@dataclass(frozen=True, kw_only=True)
class MixtureFeed:
    """Rows of several sources in exact proportions.

    Args:
        sources: at least one.
        points: shares of the rows by row, `SharePoint(row=0, shares=...)` first, one share a source.
        row_tokens: T, tokens of a base row of every source.
        n_rows: base rows of the whole plan.
        curve: between points, shares hold (`steps`) or move evenly (`line`).
        when_dry: a source that has used up its passes stops the plan (`error`) or gives its weight to the
            `others`.
        seed: decides which of several sources goes first when they are equally due.
        batches: lets errors name the step.
        name: named in errors.
    Raises:
        RecipeError: weights are not finite, negative or do not sum to 1; names are not unique; a limit is
            not above 0.
        DataError: a source runs dry before the plan ends, or under `others` all of them do.
    """

    sources: tuple[Source, ...]
    points: tuple[SharePoint, ...]
    row_tokens: int
    n_rows: int
    curve: Literal["steps", "line"] = "steps"
    when_dry: Literal["error", "others"] = "error"
    seed: int = 0
    batches: BatchTable | None = field(default=None, repr=False)
    name: str = "mixture"

    def __post_init__(self) -> None:
        self._check_sources()
        assert self._wanted.starts[0] == 0
        if self.when_dry == "error" and self.dry:
            raise DataError.of([self._dry_problem(dry) for dry in self.dry])
        if self.n_rows > self._dealt.pieces.end:
            raise self._all_dry(math.ceil(self._dealt.pieces.end))

    @property
    def n_tokens(self) -> int:
        """Tokens of one pass over every source."""
        return sum(source.feed.n_tokens for source in self.sources)

    @property
    def highest_id(self) -> int:
        return max(source.feed.highest_id for source in self.sources)

    @cached_property
    def dry(self) -> tuple[Dry, ...]:
        """The sources that run dry within the plan, by row."""
        if self.when_dry == "error":
            counts = self._dealt.counts(self.n_rows)
            over = [
                (self._dealt.row_of(number, limit), number)
                for number, limit in enumerate(self._limits)
                if limit is not None and counts[number] > limit
            ]
            found = [(row, number) for row, number in over if row is not None]
        else:
            ends = limited(self._wanted, self._limits)[1]
            found = [(math.ceil(row), number) for number, row in ends.items() if row < self.n_rows]
        return tuple(self._dry(number, row) for row, number in sorted(found))

    def rows(self, first: int, count: int) -> Rows:
        if first < 0 or first + count > self.n_rows:
            raise DataError(
                f"the plan holds {self.n_rows} rows, found rows {first} to {first + count} asked for",
                where=self.name,
            )
        return merged(
            [
                (where, self.sources[number].feed.rows(start, len(where)))
                for number, where, start in self._shared_out(first, count)
            ]
        )

    def documents(self, first: int, count: int) -> list[str]:
        return [
            document
            for number, where, start in self._shared_out(first, count)
            for document in self.sources[number].feed.documents(start, len(where))
        ]

    def counts(self, n_rows: int) -> dict[str, int]:
        """Rows of each source among the first `n_rows`."""
        counts = self._dealt.counts(n_rows).tolist()
        return {source.name: count for source, count in zip(self.sources, counts, strict=True)}

    def sources_of(self, first: int, count: int) -> Ints:
        """The number of the source that each of these rows comes from."""
        return self._dealt.sources(first, count)

    def digest(self) -> str:
        settings = {
            "version": MIXTURE_VERSION,
            "row_tokens": self.row_tokens,
            "curve": self.curve,
            "limits": self._limits if self.when_dry == "others" else None,
            "seed": self.seed,
            "points": [[point.row, *point.shares] for point in self.points],
            "sources": [[source.name, source.feed.digest()] for source in self.sources],
        }
        return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()

    def used(self, first: int, count: int) -> list[Used]:
        """What rows `first` to `first + count` hold: see `prill.lm.feed.account`."""
        before, after = self._dealt.counts(first), self._dealt.counts(first + count)
        return [
            part.renamed(source.name)
            for source, start, stop in zip(self.sources, before.tolist(), after.tolist(), strict=True)
            for part in used_by(source.feed, start, stop - start)
        ]

    def _shared_out(self, first: int, count: int) -> list[tuple[int, Ints, int]]:
        """Each source met, the places of its rows, and the first of them by its own count."""
        dealt = self._dealt.sources(first, count)
        before = self._dealt.counts(first)
        return [
            (number, np.flatnonzero(dealt == number), int(before[number]))
            for number in np.unique(dealt).tolist()
        ]

    @cached_property
    def _wanted(self) -> Pieces:
        return pieces_of(self.points, n_sources=len(self.sources), curve=self.curve)

    @cached_property
    def _limits(self) -> list[int | None]:
        """Rows that each source may give."""
        return [
            None if s.max_epochs is None else math.floor(s.max_epochs * s.feed.n_tokens) // self.row_tokens
            for s in self.sources
        ]

    @cached_property
    def _dealt(self) -> Apportionment:
        pieces = self._wanted
        if self.when_dry == "others":
            pieces, _ = limited(pieces, self._limits)
        keys = [
            hashlib.sha256(f"prill-mixture-1:{self.seed}:{s.name}".encode()).digest() for s in self.sources
        ]
        order = sorted(range(len(keys)), key=keys.__getitem__)
        return Apportionment(pieces=pieces, order=tuple(order), n_rows=min(self.n_rows, _whole(pieces.end)))

    def _dry(self, number: int, row: int) -> Dry:
        n_tokens = row * self.row_tokens
        step = None if self.batches is None else self.batches.steps_for(n_tokens)
        return Dry(source=self.sources[number].name, row=row, n_tokens=n_tokens, step=step)

    def _dry_problem(self, dry: Dry) -> Problem:
        source = next(s for s in self.sources if s.name == dry.source)
        needed = self.counts(self.n_rows)[dry.source] * self.row_tokens
        at = f"after {dry.n_tokens} tokens" if dry.step is None else f"at step {dry.step}"
        return Problem(
            message=f"the plan needs {needed} tokens of it, found {source.feed.n_tokens} and at most "
            f"{source.max_epochs:g} passes: it runs dry {at}"
            + (f" ({dry.n_tokens} tokens)" if dry.step else ""),
            where=f"{self.name}, source {source.name!r}",
            hint="lower its weight, allow more passes, let its weight go to the others, or train on less",
        )

    def _all_dry(self, end: int) -> DataError:
        return DataError(
            f"the plan needs {self.n_rows * self.row_tokens} tokens, found every source dry after "
            f"{end * self.row_tokens}",
            where=self.name,
            hint="allow more passes, or train on fewer tokens",
        )

    def _check_sources(self) -> None:
        names = [source.name for source in self.sources]
        problems = [
            Problem(message=f"names of sources must be unique, found {name!r} twice", where=self.name)
            for name in sorted({name for name in names if names.count(name) > 1})
        ]
        problems += [
            Problem(message=f"passes must be above 0, found {s.max_epochs}", where=f"{self.name}, {s.name!r}")
            for s in self.sources
            if s.max_epochs is not None and not 0 < s.max_epochs < math.inf
        ]
        if not self.sources:
            problems.append(
                Problem(message="a mixture needs at least one source, found none", where=self.name)
            )
        if problems:
            raise RecipeError.of(problems)


def _whole(end: float) -> int:
    return np.iinfo(np.int64).max if math.isinf(end) else math.floor(end)
