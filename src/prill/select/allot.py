"""How the budget is shared out: one stretch of the order for each stratum, or the reason why it cannot be.

Quotas, or the pool's own shares, are turned into whole numbers by largest remainder, so that the limits add
up to the budget and never exceed it. A quantile is a budget: its share of what is eligible. The middle of a
band is what a budget that is smaller than the band gets.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from prill.errors import DataError, Problem, RecipeError, near
from prill.select.budget import Budget
from prill.select.policy import Policy
from prill.select.sketch import GROUPS, Sketch

__all__ = ["UNIT_AXIS", "Span", "allot", "axis_of"]

UNIT_AXIS = {"documents": 0, "tokens": 1, "bytes": 2}

_NEEDS_NO_BUDGET = ("threshold", "quantile", "band")


@dataclass(frozen=True, kw_only=True)
class Span:
    """The stretch of one stratum's order that may be chosen, in units from the best document.

    Attributes:
        skip: how much is passed over: documents that end within it are above a band.
        stop: where it ends: documents that end behind it are out.
        limit: the most that may be chosen; None without a budget.
    """

    skip: int = 0
    stop: int
    limit: int | None

    def room(self, before: int) -> int:
        """Where the choice ends when `before` units lie before its first document."""
        return self.stop if self.limit is None else min(self.stop, before + self.limit)


def axis_of(budget: Budget | None, policy: Policy) -> int:
    """Which of documents, tokens, bytes is counted: the budget's unit; without one, tokens for quantiles."""
    if budget is not None:
        return UNIT_AXIS[budget.limit_unit]
    return UNIT_AXIS["documents" if policy.kind == "threshold" else "tokens"]


def allot(total: Sketch, budget: Budget | None, policy: Policy) -> dict[str, Span]:
    """What may be chosen in each stratum.

    Args:
        total: the sketch of the whole pool, at the first level.
        budget: None for kinds threshold, quantile and band: then everything that passes is chosen.
    Raises:
        RecipeError: the budget is missing, rounds to nothing, or asks for more than the pool or a stratum
            holds (unless the policy takes all); a quota names a stratum that the pool does not have.
        DataError: no document is eligible.
    """
    axis = axis_of(budget, policy)
    group = {name: i for i, name in enumerate(GROUPS)}
    passing = total.groups[:, group["eligible"], axis]
    scored = passing + total.groups[:, group["below_threshold"], axis]
    _check_pool(total)
    held = {name: int(n) for name, n in zip(total.strata, passing, strict=True)}
    if budget is None and policy.kind not in _NEEDS_NO_BUDGET:
        raise RecipeError(f"kind {policy.kind} needs a budget, found none", where="policy.kind")
    if budget is None and policy.kind != "quantile":
        if policy.quotas:
            raise RecipeError("quotas share out a budget, found none", where="policy.quotas")
        return _spans(held, dict.fromkeys(held), policy)
    limits = _limits(budget, policy, held=held, n_scored=int(scored.sum()))
    return _spans(held, limits, policy)


def _limits(
    budget: Budget | None, policy: Policy, *, held: dict[str, int], n_scored: int
) -> dict[str, int | None]:
    """The most that may be chosen in each stratum."""
    share = Budget(amount=policy.share, unit="fraction") if policy.share is not None else None
    unit = (budget or Budget(amount=1, unit="fraction")).limit_unit
    budget = min((b for b in (budget, share) if b is not None), key=lambda b: b.resolve(n_scored))
    limit = budget.resolve(n_scored)
    if limit < 1:
        raise RecipeError(
            f"the budget is {budget} but the eligible pool holds {n_scored:,} {unit}: that is less than one",
            where="budget",
            hint="ask for more, or make more of the pool eligible",
        )
    may_run_short = policy.kind == "threshold" or policy.on_short == "take_all"
    if limit > sum(held.values()) and not may_run_short:
        raise RecipeError(
            f"the budget is {limit:,} {unit} but the eligible pool holds {sum(held.values()):,}",
            where="budget",
            hint="ask for less, or set `on_short: take_all` to take everything and report the shortfall",
        )
    limits = _shared_out(limit, _shares(held, policy))
    if not may_run_short:
        _check_strata_hold(limits, held, unit)
    return {**limits}


def _spans(held: dict[str, int], limits: dict[str, int | None], policy: Policy) -> dict[str, Span]:
    if policy.kind == "band":
        return {name: _band(n, limits[name], policy.band) for name, n in held.items()}
    spans = {}
    for name, n in held.items():
        limit = limits[name]
        spans[name] = Span(stop=n if limit is None else limit, limit=limit)
    return spans


def _band(n_held: int, limit: int | None, band: tuple[float, float]) -> Span:
    """Between two quantiles; a smaller limit takes as much off at both ends."""
    low, high = (Fraction(repr(float(quantile))) for quantile in band)
    first, stop = n_held * (1 - high), n_held * (1 - low)
    if limit is not None and limit < stop - first:
        first += (stop - first - limit) / 2
    return Span(skip=math.floor(first), stop=math.floor(stop), limit=limit)


def _check_pool(total: Sketch) -> None:
    if total.groups[:, 0, 0].sum() == 0:
        counts = total.groups[:, :, 0].sum(axis=0) if total.groups.size else np.zeros(len(GROUPS), np.int64)
        found = ", ".join(
            f"{int(n):,} {name.replace('_', ' ')}" for name, n in zip(GROUPS, counts, strict=True)
        )
        raise DataError(
            f"expected at least one document to choose from, found {found}",
            where="pool",
            hint="check the filters, the threshold and the scores",
        )


def _shares(held: dict[str, int], policy: Policy) -> dict[str, Fraction]:
    unknown = [name for name in policy.quotas if name not in held]
    if unknown:
        problems = [
            Problem(
                message=f"expected a source of the pool, found {name!r}",
                where=f"policy.quotas.{name}",
                hint=near(name, list(held)),
            )
            for name in unknown
        ]
        raise RecipeError.of(problems)
    if policy.quotas:
        exact = {name: Fraction(repr(share)) for name, share in policy.quotas.items()}
        whole = sum(exact.values())
        return {name: exact.get(name, Fraction(0)) / whole for name in held}
    whole_pool = sum(held.values())
    return {name: Fraction(n, whole_pool) if whole_pool else Fraction(0) for name, n in held.items()}


def _shared_out(limit: int, shares: dict[str, Fraction]) -> dict[str, int]:
    """Whole limits by largest remainder; equal remainders go in order of name."""
    exact = {name: limit * share for name, share in shares.items()}
    limits = {name: math.floor(value) for name, value in exact.items()}
    left = limit - sum(limits.values())
    by_remainder = sorted(exact, key=lambda name: (limits[name] - exact[name], name))
    for name in by_remainder[:left]:
        limits[name] += int(shares[name] > 0)
    return limits


def _check_strata_hold(limits: dict[str, int], held: dict[str, int], unit: str) -> None:
    problems = [
        Problem(
            message=f"its share is {limit:,} {unit} but it holds {held[name]:,} eligible",
            where=f"source {name!r}",
            hint="lower its quota, or set `on_short: take_all` to take everything and report the shortfall",
        )
        for name, limit in limits.items()
        if limit > held[name]
    ]
    if problems:
        raise RecipeError.of(problems)
