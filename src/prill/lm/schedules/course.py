"""A schedule laid out for the token counts of a plan: a trunk, and what leaves it for each count."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from prill.errors import RecipeError
from prill.lm.schedule import Branch, Schedule
from prill.lm.schedules.span import StepsFor

__all__ = ["Course", "stops_of"]


@dataclass(frozen=True, kw_only=True)
class Course:
    """Shares of the peak rate along every path of a plan.

    Attributes:
        trunk: the path that is never left.
        branches: one a token count: it leaves the trunk at `start` with a copy of its weights and moments.
            From 0 it is a training of its own (cosine); with `start == stop` it is the trunk itself,
            evaluated in passing (WSD-S, hand-written tables).
        tails: each branch's schedule, counted from step 0 and equal to the trunk's up to `start`.
    """

    trunk: Schedule
    branches: tuple[Branch, ...]
    tails: tuple[Schedule, ...]

    def schedule(self, branch: int | None) -> Schedule:
        """The schedule of a branch, or of the trunk (None)."""
        return self.trunk if branch is None else self.tails[branch]

    @classmethod
    def along(cls, schedule: Schedule, stops: Sequence[int]) -> Course:
        """One path, evaluated at every stop."""
        return cls(
            trunk=schedule,
            branches=tuple(Branch(start=stop, stop=stop) for stop in stops),
            tails=(schedule,) * len(stops),
        )

    @classmethod
    def apart(cls, schedules: Sequence[Schedule], stops: Sequence[int]) -> Course:
        """A training of its own for every stop."""
        return cls(
            trunk=schedules[-1],
            branches=tuple(Branch(start=0, stop=stop) for stop in stops),
            tails=tuple(schedules),
        )


def stops_of(token_counts: Sequence[int], steps_for: StepsFor) -> tuple[int, ...]:
    """The last step of each token count, in whole steps, so that no count is exceeded.

    Raises:
        RecipeError: no counts, counts that do not rise by a step, or a count below one step.
    """
    stops = tuple(steps_for(count) for count in token_counts)
    if not stops or stops[0] < 1 or any(b <= a for a, b in pairwise(stops)):
        raise RecipeError(
            f"token counts must rise by at least one step, found {list(token_counts)}, "
            f"which is {list(stops)} steps",
            where="training tokens",
            hint="give more tokens, or fewer rows a step",
        )
    return stops
