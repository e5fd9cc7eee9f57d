"""The choice itself: which documents fit the budget, exactly, without ever holding all of them.

One pass sketches every shard; further passes look only behind the digit in which the budget ends; the rows
left there are sorted and cut. The result is a prefix of the total order (score descending, keyed tie hash,
shard, row) that fits the budget while one more document would not, in each stratum; for a band, a stretch
whose beginning is found in the same way, and then its end. Each pass is a map over
shards with a merge that is associative and commutative, so the caller may run it in threads, processes or on
a cluster.

Differs: architecture's "repeats" are not decided here; every document is chosen at most once.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from prill.errors import DataError
from prill.select.allot import allot, axis_of
from prill.select.audit import audit
from prill.select.budget import Budget
from prill.select.cut import Cut, Place, chosen
from prill.select.frontier import LEVELS, Block, Frontier, collect
from prill.select.policy import POLICY_VERSION, Policy
from prill.select.ranking import Ranked, rank
from prill.select.sketch import Sketch, sketch
from prill.select.tally import Tally, score_edges, tally

__all__ = [
    "COLLECT_ROWS",
    "Decision",
    "EngineMap",
    "Tables",
    "View",
    "boundary_shard",
    "decide",
    "sketch_shard",
    "tally_shard",
]

Tables = Callable[[int], pa.Table]

COLLECT_ROWS = 1 << 18
"""Boundary rows that may be held in memory at once, over all strata; beyond it the search goes a digit
deeper."""

AT_ONCE = 128
"""Shards whose partial results a map may hold at a time."""

T = TypeVar("T")


class EngineMap(Protocol):
    """`map` of the standard library, or anything else that applies a function to shard indices, in order."""

    def __call__(self, task: Callable[[int], Any], items: Iterable[int], /) -> Iterable[Any]: ...


@dataclass(frozen=True, kw_only=True)
class Decision:
    """A finished choice: a pure predicate over any shard's table, and the account of what it keeps."""

    budget: Budget | None
    policy: Policy
    seed: int
    cuts: dict[str, Cut]
    """By stratum; the single stratum of an undivided pool is named ''."""
    audit: dict[str, Any]
    """Plain JSON values: see `prill.select.audit`."""

    @property
    def threshold(self) -> dict[str, str]:
        """Each stratum's cut as a sentence: `score >= 0.25, tie hash <= 0.731`."""
        return {name: cut.sentence for name, cut in self.cuts.items()}

    def rows(self, table: pa.Table, shard: int) -> pa.Table:
        """The chosen rows of one shard, in row order: pure, whatever the other shards hold.

        Returns:
            row, score, n_tokens, n_bytes, key, and the order key (order_score, order_tie: uint64, smaller is
            better; with shard and row after it the order is total).
        """
        ranked = rank(table, shard, self.policy, self.seed)
        kept_rows = np.flatnonzero(chosen(ranked, self.cuts))
        kept = table.select(["row", "score", "n_tokens", "n_bytes", "key"]).take(kept_rows)
        kept = kept.append_column("order_score", pa.array(ranked.score_key[kept_rows]))
        return kept.append_column("order_tie", pa.array(ranked.tie_key[kept_rows]))

    def to_json(self) -> dict[str, Any]:
        """The decision as plain JSON values, exactly; `Decision.from_json` reads it back."""
        return {
            "budget": self.budget.model_dump(mode="json") if self.budget else None,
            "policy": self.policy.model_dump(mode="json"),
            "policy_version": POLICY_VERSION,
            "seed": self.seed,
            "cuts": {name: cut.to_json() for name, cut in self.cuts.items()},
            "audit": self.audit,
        }

    @staticmethod
    def from_json(stored: dict[str, Any]) -> Decision:
        """The decision that `to_json` wrote.

        Raises:
            DataError: it was written by another version of the order or the cut.
        """
        if stored.get("policy_version") != POLICY_VERSION:
            raise DataError(
                f"expected a decision of version {POLICY_VERSION}, found {stored.get('policy_version')}",
                where="decision",
                hint="decide again",
            )
        return Decision(
            budget=Budget.model_validate(stored["budget"]) if stored["budget"] else None,
            policy=Policy.model_validate(stored["policy"]),
            seed=stored["seed"],
            cuts={name: Cut.from_json(cut) for name, cut in stored["cuts"].items()},
            audit=stored["audit"],
        )


def decide(
    tables: Tables,
    n_shards: int,
    *,
    budget: Budget | None,
    policy: Policy,
    seed: int,
    engine_map: EngineMap = map,
    collect_rows: int = COLLECT_ROWS,
) -> Decision:
    """Chooses under a budget, exactly, in a few passes over the shards.

    Args:
        tables: shard index -> table with row, score, n_tokens, n_bytes, key, eligible, and optionally stratum
            or source. Called once a pass and shard; must return the same table each time. Picklable if the
            map needs it.
        budget: None only for kinds threshold, quantile and band, which then choose everything that passes.
        seed: of ties and noise; the policy's own seed goes first.
        engine_map: how a pass is applied to the shards.
        collect_rows: boundary rows that may be held at once.
    Raises:
        RecipeError: the budget or the quotas cannot be met.
        DataError: a table lacks a column, a score is not finite, or nothing is eligible.
    """
    seed = seed if policy.seed is None else policy.seed
    view = View(tables=tables, policy=policy, seed=seed)
    passes = _Passes(engine_map=engine_map, n_shards=n_shards)

    total = passes.sketched(view, None)
    axis = axis_of(budget, policy)
    spans = allot(total, budget, policy)
    search = _Search(view=view, passes=passes, total=total, axis=axis, collect_rows=collect_rows)
    starts = search.ends({name: span.skip for name, span in spans.items() if span.skip})
    before = {name: start.before for name, start in starts.items()}
    ends = search.ends({name: span.room(before.get(name, 0)) for name, span in spans.items()})
    cuts = {
        name: Cut(
            limit=span.limit,
            first_out=ends[name].place if name in ends else None,
            first_in=starts[name].place if name in starts else None,
            with_noise=policy.kind == "gumbel",
        )
        for name, span in spans.items()
    }
    edges = score_edges(total)
    counting = functools.partial(tally_shard, view, cuts, edges)
    tallied = passes.fold(counting, Tally.merge, Tally.empty(len(edges) - 1))
    cuts = {name: replace(cut, last_in=tallied.last_in.get(name)) for name, cut in cuts.items()}
    account = {
        "budget": str(budget) if budget else None,
        "policy": policy.model_dump(mode="json"),
        "policy_version": POLICY_VERSION,
        "seed": seed,
        **audit(total, tallied, cuts, edges, axis),
    }
    return Decision(budget=budget, policy=policy, seed=seed, cuts=cuts, audit=account)


@dataclass(frozen=True, kw_only=True)
class _Passes:
    """Applies one pass to all shards and merges what comes back, `AT_ONCE` partials in memory at most."""

    engine_map: EngineMap
    n_shards: int

    def fold(self, task: Callable[[int], T], merge: Callable[[T, T], T], start: T) -> T:
        for first in range(0, self.n_shards, AT_ONCE):
            shards = range(first, min(first + AT_ONCE, self.n_shards))
            start = functools.reduce(merge, self.engine_map(task, shards), start)
        return start

    def sketched(self, view: View, frontiers: dict[str, Frontier] | None) -> Sketch:
        return self.fold(functools.partial(sketch_shard, view, frontiers), Sketch.merge, Sketch.empty())


@dataclass(frozen=True, kw_only=True)
class View:
    """The pool as one policy and seed order it."""

    tables: Tables
    policy: Policy
    seed: int

    def ranked(self, shard: int) -> Ranked:
        """One shard's rows with their places."""
        return rank(self.tables(shard), shard, self.policy, self.seed)


def sketch_shard(view: View, frontiers: dict[str, Frontier] | None, shard: int) -> Sketch:
    """First and deeper passes: one shard's sketch, merged by `Sketch.merge`."""
    return sketch(view.ranked(shard), frontiers)


def boundary_shard(view: View, frontiers: dict[str, Frontier], shard: int) -> dict[str, Block]:
    """The pass at the boundary: one shard's rows behind the frontiers, merged stratum by stratum."""
    return collect(view.ranked(shard), frontiers)


def tally_shard(view: View, cuts: dict[str, Cut], edges: NDArray[np.float64], shard: int) -> Tally:
    """The last pass: one shard's account, merged by `Tally.merge`."""
    table = view.tables(shard)
    return tally(rank(table, shard, view.policy, view.seed), cuts, edges, table)


@dataclass(frozen=True, kw_only=True)
class _End:
    """The first place of a stratum that no longer fits, and the units before it."""

    place: Place
    before: int


@dataclass(frozen=True, kw_only=True)
class _Search:
    """Finds where so many units of each stratum end."""

    view: View
    passes: _Passes
    total: Sketch
    axis: int
    collect_rows: int

    def ends(self, rooms: dict[str, int]) -> dict[str, _End]:
        """Where each stratum exceeds its room, in units from the best document; without those that fit."""
        frontiers = self._frontiers(rooms)
        if not frontiers:
            return {}
        collecting = functools.partial(boundary_shard, self.view, frontiers)
        blocks: dict[str, Block] = self.passes.fold(collecting, _merged, {})
        return {
            name: _end(blocks[name], rooms[name], frontiers[name].before, self.axis) for name in frontiers
        }

    def _frontiers(self, rooms: dict[str, int]) -> dict[str, Frontier]:
        """The digits behind which few enough rows are left."""
        searching = {name: Frontier() for name in rooms}
        ready: dict[str, Frontier] = {}
        counts = self.total
        while searching:
            deeper: dict[str, Frontier] = {}
            for name, frontier in searching.items():
                ending = counts.ending(name, rooms[name] - frontier.before, self.axis)
                if ending is None:
                    continue  # only at the first level: the whole stratum fits
                nearer = frontier.descend(ending)
                n_each = max(1, self.collect_rows // len(rooms))
                is_ready = nearer.level == LEVELS or ending.n_documents <= n_each
                (ready if is_ready else deeper)[name] = nearer
            counts = self.passes.sketched(self.view, deeper) if deeper else counts
            searching = deeper
        return ready


def _end(block: Block, room: int, before: int, axis: int) -> _End:
    """The first place of the block at which the units, `before` the block included, exceed `room`."""
    order = np.lexsort((block.row, block.shard, block.tie_key, block.score_key))
    total = before + np.cumsum(block.units[order, axis])
    first = int(np.searchsorted(total, room, side="right"))
    i = order[first]
    place = Place(
        score_key=int(block.score_key[i]),
        tie_key=int(block.tie_key[i]),
        shard=int(block.shard[i]),
        row=int(block.row[i]),
    )
    return _End(place=place, before=int(total[first] - block.units[i, axis]))


def _merged(a: dict[str, Block], b: dict[str, Block]) -> dict[str, Block]:
    return {
        name: a[name].merge(b[name]) if name in a and name in b else (a | b)[name]
        for name in sorted({*a, *b})
    }
