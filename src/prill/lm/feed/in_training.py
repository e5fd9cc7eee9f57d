"""What a method asks of the trainings that judge it, beside the documents it chooses.

Most methods ask for nothing: their choice is the data, and a trial reads rows drawn from it. Some decide
within training (`Watched`), some choose nothing but draw anew for every seed and round (`Drawn`), some choose
for the beginning alone (`Early`). All train on the same number of tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any, Literal, Protocol

from prill.lm.data import TokenStream
from prill.lm.feed.feed import Feed
from prill.lm.feed.phases import FeedPhase, PhasedFeed, stream_part
from prill.lm.feed.pruning import Planner
from prill.lm.feed.stream import StreamFeed
from prill.lm.feed.watched import WatchedFeed

__all__ = ["Drawn", "Early", "InTraining", "Watched"]


class InTraining(Protocol):
    """How the rows of a trial come about."""

    @property
    def draws(self) -> Drawn | Early | None:
        """How a trial's documents are drawn from the pool; None: from the choice alone, as for all arms."""
        ...

    def feed(
        self, stream: TokenStream, *, row_tokens: int, seed: int, n_rows: int, rounds: Sequence[int]
    ) -> Feed:
        """The rows of one trial.

        Args:
            stream: the trial's documents in drawn order.
            row_tokens: T.
            seed: of the trial.
            n_rows: base rows of the trial.
            rounds: documents of each round, in order; empty for one round.
        """
        ...

    def as_record(self) -> dict[str, Any]:
        """Name, version and settings, JSON-able."""
        ...


@dataclass(frozen=True, kw_only=True)
class Watched:
    """Rows drawn from the choice are read again and again, pruned by their losses."""

    planner: Planner
    passes: float

    @property
    def draws(self) -> None:
        return None

    def feed(
        self, stream: TokenStream, *, row_tokens: int, seed: int, n_rows: int, rounds: Sequence[int]
    ) -> Feed:
        return WatchedFeed(
            stream=stream,
            row_tokens=row_tokens,
            seed=seed,
            planner=self.planner,
            n_rows=n_rows,
            passes=self.passes,
        )

    def as_record(self) -> dict[str, Any]:
        return {"name": "watched", "version": 1, "passes": self.passes, "planner": self.planner.as_record()}


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """Every seed, and every round of a training, reads another random subset of the whole pool.

    A round's subset has the size of the arm's choice, or of what a round's rows are drawn from where that is
    less. The learning rate spans the tokens of the trial, whatever the rounds: the compressed schedule.

    Attributes:
        use: names the draws, so that two methods with one seed draw differently.
        n_rounds: rounds of one training, of equally many rows.
        replaces: rounds are drawn independently instead of from one permutation after another.
        wrap: see `prill.features.rounds`.
    """

    use: str
    n_rounds: int = 1
    replaces: bool = False
    wrap: Literal["refill", "drop"] = "refill"

    @property
    def draws(self) -> Drawn:
        return self

    def feed(
        self, stream: TokenStream, *, row_tokens: int, seed: int, n_rows: int, rounds: Sequence[int]
    ) -> Feed:
        if len(rounds) <= 1:
            return StreamFeed(stream=stream, row_tokens=row_tokens, seed=seed)
        each = -(-n_rows // len(rounds))
        ends = [each * number for number in range(1, len(rounds))]
        return _one_after_another(stream, rounds, ends, row_tokens=row_tokens, seed=seed)

    def as_record(self) -> dict[str, Any]:
        return {
            "name": "drawn",
            "version": 1,
            "use": self.use,
            "n_rounds": self.n_rounds,
            "replaces": self.replaces,
            "wrap": self.wrap,
        }


@dataclass(frozen=True, kw_only=True)
class Early:
    """The choice for the first part of a training, the whole pool for the rest.

    Attributes:
        share: of the rows that are drawn from the choice, above 0 and below 1.
    """

    share: float

    @property
    def draws(self) -> Early:
        return self

    def feed(
        self, stream: TokenStream, *, row_tokens: int, seed: int, n_rows: int, rounds: Sequence[int]
    ) -> Feed:
        end = min(max(1, round(self.share * n_rows)), n_rows)
        return _one_after_another(stream, rounds, [end], row_tokens=row_tokens, seed=seed)

    def as_record(self) -> dict[str, Any]:
        return {"name": "early", "version": 1, "share": self.share}


def _one_after_another(
    stream: TokenStream, rounds: Sequence[int], ends: Sequence[int], *, row_tokens: int, seed: int
) -> PhasedFeed:
    """Rows of each round's documents, until the base row at which the next begins."""
    bounds = pairwise(accumulate(rounds, initial=0))
    phases = [
        FeedPhase(
            feed=StreamFeed(stream=stream_part(stream, *part), row_tokens=row_tokens, seed=seed),
            until_row=end,
        )
        for part, end in zip(bounds, [*ends, None], strict=True)
    ]
    return PhasedFeed(phases=tuple(phases), name=stream.name)
