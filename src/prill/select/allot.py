"""How the budget is shared out: one limit for each stratum, or the reason why it cannot be.

Quotas, or the pool's own shares, are turned into whole numbers by largest remainder, so that the limits add
up to the budget and never exceed it.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np

from prill.errors import DataError, Problem, RecipeError, near
from prill.select.budget import Budget
from prill.select.policy import Policy
from prill.select.sketch import GROUPS, Sketch

__all__ = ["UNIT_AXIS", "allot"]

UNIT_AXIS = {"documents": 0, "tokens": 1, "bytes": 2}


def allot(total: Sketch, budget: Budget | None, policy: Policy) -> dict[str, int]:
    """The most that may be chosen in each stratum, in the budget's unit.

    Args:
        total: the sketch of the whole pool, at the first level.
        budget: None only for kind threshold: then everything that passes is chosen.
    Raises:
        RecipeError: the budget is missing, rounds to nothing, or asks for more than the pool or a stratum
            holds (unless the policy takes all); a quota names a stratum that the pool does not have.
        DataError: no document is eligible.
    """
    axis = UNIT_AXIS[budget.limit_unit] if budget else 0
    group = {name: i for i, name in enumerate(GROUPS)}
    passing = total.groups[:, group["eligible"], axis]
    scored = passing + total.groups[:, group["below_threshold"], axis]
    _check_pool(total)
    held = {name: int(n) for name, n in zip(total.strata, passing, strict=True)}
    if budget is None:
        if policy.kind != "threshold":
            raise RecipeError(f"kind {policy.kind} needs a budget, found none", where="policy.kind")
        return held
    limit = budget.resolve(int(scored.sum()))
    if limit < 1:
        raise RecipeError(
            f"the budget is {budget} but the eligible pool holds {int(scored.sum()):,} {budget.limit_unit}: "
            "that is less than one",
            where="budget",
            hint="ask for more, or make more of the pool eligible",
        )
    may_run_short = policy.kind == "threshold" or policy.on_short == "take_all"
    if limit > sum(held.values()) and not may_run_short:
        raise RecipeError(
            f"the budget is {limit:,} {budget.limit_unit} but the eligible pool holds {sum(held.values()):,}",
            where="budget",
            hint="ask for less, or set `on_short: take_all` to take everything and report the shortfall",
        )
    limits = _shared_out(limit, _shares(held, policy))
    if not may_run_short:
        _check_strata_hold(limits, held, budget)
    return limits


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


def _check_strata_hold(limits: dict[str, int], held: dict[str, int], budget: Budget) -> None:
    problems = [
        Problem(
            message=f"its share is {limit:,} {budget.limit_unit} but it holds {held[name]:,} eligible",
            where=f"source {name!r}",
            hint="lower its quota, or set `on_short: take_all` to take everything and report the shortfall",
        )
        for name, limit in limits.items()
        if limit > held[name]
    ]
    if problems:
        raise RecipeError.of(problems)
