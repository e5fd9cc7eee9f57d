"""From the packed streams of a training to the rows of one seed: order, mixture, cooldown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from prill.corpus.packed import open_packed
from prill.features.keyed import derive_seed
from prill.lm.batches import BatchTable
from prill.lm.data import TokenStream
from prill.lm.feed.feed import Feed
from prill.lm.feed.mixture import MixtureFeed, SharePoint, Source
from prill.lm.feed.phases import FeedPhase, PhasedFeed
from prill.lm.feed.stream import StreamFeed
from prill.lm.samples.swaps import SwapFeed, Swaps

__all__ = ["COOLDOWN", "FeedPlan", "SourcePlan"]

COOLDOWN = "cooldown"
"""Follows a source's name where its fresh documents at the end are counted apart."""


@dataclass(frozen=True, kw_only=True)
class SourcePlan:
    """One source: its packed files, and how often it may be read."""

    name: str
    train: Path
    cooldown: Path | None
    max_epochs: float | None


@dataclass(frozen=True, kw_only=True)
class FeedPlan:
    """Everything that decides the rows of a seed; small, so that it travels to a worker.

    Attributes:
        sources: in the recipe's order.
        points: (progress from 0 to 1, share of each source), rising from 0.
        batches: rows by step.
        n_rows: base rows of the whole plan.
        cooldown_rows: base rows at the end that come from the cooldown's files; 0: none.
        when_dry: what a source without rows does.
        swaps: tokens that are swapped in the rows; None: none.
    """

    sources: tuple[SourcePlan, ...]
    points: tuple[tuple[float, tuple[float, ...]], ...]
    batches: BatchTable
    n_rows: int
    cooldown_rows: int = 0
    when_dry: Literal["error", "others"] = "error"
    swaps: Swaps | None = None

    def feed(self, seed: int) -> Feed:
        """The rows of one seed.

        Raises:
            DataError: a source is too small for what the plan wants of it.
        """
        read = self._read(seed)
        if self.swaps is None:
            return read
        return SwapFeed(feed=read, swaps=self.swaps, seed=derive_seed(seed, "swaps"))

    def _read(self, seed: int) -> Feed:
        """The rows as they are read."""
        first = self.n_rows - self.cooldown_rows
        main = self._mixture(seed, "train", first)
        if not self.cooldown_rows:
            return main
        return PhasedFeed(
            phases=(
                FeedPhase(feed=main, until_row=first),
                FeedPhase(feed=self._mixture(seed, "cooldown", self.cooldown_rows)),
            )
        )

    def _mixture(self, seed: int, part: Literal["train", "cooldown"], n_rows: int) -> Feed:
        sources = [
            Source(
                name=plan.name if part == "train" else f"{plan.name}, {part}",
                feed=self._stream(plan, part, seed),
                max_epochs=plan.max_epochs,
            )
            for plan in self.sources
        ]
        return MixtureFeed(
            sources=tuple(sources),
            points=self._points(part, n_rows),
            row_tokens=self.batches.row_tokens,
            n_rows=n_rows,
            curve="line",
            when_dry=self.when_dry,
            seed=derive_seed(seed, f"mixture {part}"),
            batches=self.batches,
            name=part,
        )

    def _points(self, part: str, n_rows: int) -> tuple[SharePoint, ...]:
        """The moments of the weights as rows; the cooldown keeps the last weights."""
        points = self.points if part == "train" else ((0.0, self.points[-1][1]),)
        found: dict[int, tuple[float, ...]] = {}
        for at, shares in points:
            found[min(n_rows - 1, round(at * self.n_rows))] = shares
        return tuple(SharePoint(row=row, shares=shares) for row, shares in sorted(found.items()))

    def _stream(self, plan: SourcePlan, part: str, seed: int) -> Feed:
        path = plan.train if part == "train" else plan.cooldown
        assert path is not None
        return StreamFeed(
            stream=TokenStream.of(open_packed(path), name=f"source {plan.name!r}"),
            row_tokens=self.batches.row_tokens,
            seed=derive_seed(seed, f"order {plan.name} {part}"),
        )


def share_points(
    names: Sequence[str],
    own: Mapping[str, float],
    moments: Sequence[tuple[float, Mapping[str, float]]],
) -> tuple[tuple[float, tuple[float, ...]], ...]:
    """The weights of a recipe as shares that sum to 1, from progress 0 on.

    >>> share_points(["a", "b"], {"a": 3.0, "b": 1.0}, [])
    ((0.0, (0.75, 0.25)),)
    """
    given = list(moments) or [(0.0, own)]
    if given[0][0] > 0:
        given.insert(0, (0.0, given[0][1]))
    found = []
    for at, weights in given:
        total = sum(weights[name] for name in names)
        found.append((at, tuple(weights[name] / total for name in names)))
    return tuple(found)
