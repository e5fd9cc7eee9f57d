"""A feed that learns from the losses it causes: a set of rows read again and again, pruned epoch by epoch.

The candidates are rows of a stream, drawn at random. An epoch's rows are planned (`prill.lm.feed.pruning`)
when the first of them is asked for, from the last loss of every row. The training's tokens are fixed: what an
epoch leaves out goes into more epochs.

What the feed remembers belongs to one path of training (a trunk, a branch), so it is a value of its own, a
`Watch`: copied where training branches, kept in checkpoints, restored to the same bytes.

Differs from the references: a step may end one epoch and begin the next, which is then planned without the
losses of that very step. N candidate rows, R rows of the plan, T tokens a row.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from prill.errors import InternalError, RecipeError
from prill.lm.data import Ints, Rows, TokenStream, row_order, rows_of
from prill.lm.feed.pruning import Planner

__all__ = ["Watch", "Watchable", "WatchedFeed", "Watching"]


class Watching(Protocol):
    """Rows of one path of training, some of them not decided yet."""

    def reach(self, until: int) -> None:
        """Decide base rows up to `until`, from what was seen so far. Asked for once a step, in order."""
        ...

    def rows(self, first: int, count: int) -> Rows:
        """Base rows that are decided, each (count, T)."""
        ...

    def documents(self, first: int, count: int) -> list[str]:
        """What these rows hold, one readable name a document."""
        ...

    def saw(self, first: int, losses: NDArray[np.float64]) -> None:
        """The mean loss of each row from `first` on, nats a token, as training just had it."""
        ...

    def copy(self) -> Watching:
        """The same, going its own way from here."""
        ...

    def state(self) -> dict[str, NDArray[Any]]:
        """Everything remembered, for checkpoints."""
        ...


@runtime_checkable
class Watchable(Protocol):
    """A feed whose rows depend on the losses seen."""

    def watch(self, state: Mapping[str, NDArray[Any]] | None = None) -> Watching:
        """The feed at its beginning, or as it was when `state` was taken."""
        ...


@dataclass(frozen=True, kw_only=True)
class WatchedFeed:
    """Candidate rows, pruned epoch by epoch.

    Args:
        stream: documents in order; rows are cut from it, the tail that fills none is never read.
        row_tokens: T.
        seed: of the candidates and of the planner's draws.
        planner: decides the epochs.
        n_rows: R, base rows of the whole training.
        passes: R / N: how often the training could read every candidate.
    Raises:
        RecipeError: fewer than one pass.
    """

    stream: TokenStream
    row_tokens: int
    seed: int
    planner: Planner
    n_rows: int
    passes: float = 4.0

    def __post_init__(self) -> None:
        if self.passes < 1:
            raise RecipeError(
                f"pruning by epochs needs one pass or more over the candidates, found {self.passes}",
                where=self.name,
            )

    @property
    def name(self) -> str:
        return self.stream.name

    @property
    def n_tokens(self) -> int:
        """Tokens of all candidates."""
        return len(self.candidates) * self.row_tokens

    @property
    def highest_id(self) -> int:
        return self.stream.highest_id

    @cached_property
    def candidates(self) -> Ints:
        """Rows of the stream that are read at all, in the order of a keyed draw, (N,)."""
        whole = max(1, self.stream.n_tokens // self.row_tokens)
        wanted = min(whole, max(1, round(self.n_rows / self.passes)))
        return row_order(0, whole, seed=self.seed, block=max(2, whole), total=whole)[:wanted]

    def rows(self, first: int, count: int) -> Rows:
        """What would be read if all losses stayed equal: exact for the first epoch only."""
        watch = self.watch()
        watch.reach(first + count)
        return watch.rows(first, count)

    def documents(self, first: int, count: int) -> list[str]:
        """As `rows`: exact for the first epoch only."""
        watch = self.watch()
        watch.reach(first + count)
        return watch.documents(first, count)

    def digest(self) -> str:
        parts = [self.stream.digest(), self.row_tokens, self.seed, self.n_rows, self.passes]
        text = json.dumps(["prill-watched-1", *parts, self.planner.as_record()], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def watch(self, state: Mapping[str, NDArray[Any]] | None = None) -> Watch:
        """The feed at its beginning, or as it was when `state` was taken."""
        watch = Watch(
            feed=self,
            losses=np.full(len(self.candidates), np.nan),
            visits=np.zeros(0, np.int64),
            weights=np.zeros(0, np.float32),
            epoch_starts=[],
        )
        if state is not None:
            watch.losses = np.array(state["losses"], np.float64)
            watch.visits = np.array(state["visits"], np.int64)
            watch.weights = np.array(state["weights"], np.float32)
            watch.epoch_starts = np.asarray(state["epoch_starts"]).tolist()
        return watch


@dataclass(kw_only=True)
class Watch:
    """A `WatchedFeed` on one path of training.

    Attributes:
        losses: last loss of each candidate, nats a token, NaN before its first visit, (N,).
        visits: candidates in the order in which they are read, all epochs planned so far.
        weights: factor of the loss at each visit, like `visits`.
        epoch_starts: the visit with which each planned epoch begins.
    """

    feed: WatchedFeed
    losses: NDArray[np.float64]
    visits: Ints
    weights: NDArray[np.float32]
    epoch_starts: list[int]

    def reach(self, until: int) -> None:
        """Plan epochs until base row `until` is decided."""
        while len(self.visits) < until:
            self._plan_epoch()

    def rows(self, first: int, count: int) -> Rows:
        """Base rows `first` to `first + count`, with their weights.

        Raises:
            InternalError: they are not decided yet.
        """
        if first + count > len(self.visits):
            raise InternalError(
                f"expected decided rows, found {first + count} of {len(self.visits)}", where=self.feed.name
            )
        feed = self.feed
        here = slice(first, first + count)
        rows = rows_of(feed.stream, feed.candidates[self.visits[here]], seq_len=feed.row_tokens)
        factors = self.weights[here, None]
        if rows.weights is None and (factors == 1).all():
            return rows
        own = np.ones(rows.targets.shape, np.float32) if rows.weights is None else rows.weights
        return dataclasses.replace(rows, weights=own * factors)

    def documents(self, first: int, count: int) -> list[str]:
        """What base rows `first` to `first + count` hold."""
        feed = self.feed
        starts = feed.candidates[self.visits[first : first + count]] * feed.row_tokens
        bounds = np.stack([starts, starts + feed.row_tokens - 1])
        opening, closing = np.searchsorted(feed.stream.doc_starts, bounds, side="right") - 1
        found = {n for a, b in zip(opening.tolist(), closing.tolist(), strict=True) for n in range(a, b + 1)}
        origins = feed.stream.origins
        names = sorted(found if origins is None else {int(origins[n]) for n in found})
        return [f"{feed.name}, document {number}" for number in names]

    def saw(self, first: int, losses: NDArray[np.float64]) -> None:
        """Keep the losses of the rows from `first` on; a row without a finite loss keeps its former one."""
        is_known = np.isfinite(losses)
        self.losses[self.visits[first : first + len(losses)][is_known]] = losses[is_known]

    def copy(self) -> Watch:
        """The same, going its own way from here."""
        return Watch(
            feed=self.feed,
            losses=self.losses.copy(),
            visits=self.visits,  # replaced as a whole, never changed
            weights=self.weights,
            epoch_starts=list(self.epoch_starts),
        )

    def state(self) -> dict[str, NDArray[Any]]:
        """Everything remembered."""
        return {
            "losses": self.losses,
            "visits": self.visits,
            "weights": self.weights,
            "epoch_starts": np.array(self.epoch_starts, np.int64),
        }

    def _plan_epoch(self) -> None:
        feed, planner = self.feed, self.feed.planner
        start = len(self.visits)
        turn = round(planner.delta * feed.n_rows)
        is_last = start >= turn
        found = planner.plan(self._known(), len(self.epoch_starts), is_last=is_last, seed=feed.seed)
        n = len(found.rows) if is_last else min(len(found.rows), turn - start)
        self.epoch_starts.append(start)
        self.visits = np.concatenate([self.visits, found.rows[:n]])
        self.weights = np.concatenate([self.weights, found.weights[:n]])

    def _known(self) -> NDArray[np.float64]:
        """The losses, with something for rows that were never read."""
        never = np.isnan(self.losses)
        initial = self.feed.planner.initial_loss
        if initial is None:
            known = self.losses[~never]
            initial = float(np.clip(known.mean(), known.min(), known.max())) if len(known) else 0.0
        return np.where(never, initial, self.losses)
