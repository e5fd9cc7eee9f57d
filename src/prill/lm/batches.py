"""How many rows a step takes, and how long they are: tables of phases over the step.

A training counts in *base rows* of T tokens, T its longest row. Step s takes the next `n_rows` base rows;
where the table asks for shorter rows, each base row is cut into T / row_tokens of them (`shorten`). So a
step's tokens depend on `n_rows` alone, every arm reads the same rows in the same order whatever its
lengths, and where a step begins follows from its number: a run may stop, resume and branch anywhere.

    BatchTable.constant(4, 256)
    BatchTable.merged(
        row_tokens=256,
        n_rows=linear_ramp(first=4, last=16, increment=4, over_tokens=400_000),
        lengths=length_curriculum(row_tokens=256, over_tokens=200_000),
    )
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

from numpy.typing import NDArray

from prill.errors import RecipeError
from prill.lm.data import Rows, Soft, positions_of
from prill.lm.ramps import Steps

__all__ = ["BatchPhase", "BatchTable", "StepRows", "shorten"]

WHERE = "batches"


@dataclass(frozen=True, kw_only=True)
class BatchPhase:
    """Steps of one kind.

    Args:
        n_rows: base rows a step and model, >= 1.
        row_tokens: tokens a row; divides the table's.
        until_step: the phase's steps are those below it, counted from the start of training.
        until_tokens: the same in tokens; rounded down to whole steps of this phase.
    """

    n_rows: int
    row_tokens: int
    until_step: int | None = None
    until_tokens: int | None = None


@dataclass(frozen=True, kw_only=True)
class StepRows:
    """What one step takes: base rows `first_row` to `first_row + n_rows`, in rows of `row_tokens`."""

    first_row: int
    n_rows: int
    row_tokens: int


@dataclass(frozen=True, kw_only=True)
class BatchTable:
    """Phases of (rows a step, row length) from step 0 on; the last has no end.

    Args:
        row_tokens: T, tokens of a base row, the longest row.
        phases: in order.
    Raises:
        RecipeError: a phase has no rows, a length that does not divide T, two ends or none, or no step in it.
    """

    row_tokens: int
    phases: tuple[BatchPhase, ...]

    def __post_init__(self) -> None:
        if self.row_tokens < 1 or not self.phases:
            raise RecipeError(
                f"batches need rows of at least one token and at least one phase, found {self.row_tokens} "
                f"tokens and {len(self.phases)} phases",
                where=WHERE,
            )
        for number, phase in enumerate(self.phases):
            self._check(number, phase)
        for number, (start, stop) in enumerate(pairwise(self._first_steps)):
            if stop <= start:
                raise RecipeError(
                    f"a phase needs at least one step, found it from step {start} to step {stop}",
                    where=f"{WHERE}, phase {number}",
                    hint="let ends rise by at least one step's tokens, or leave the phase out",
                )

    @classmethod
    def constant(cls, n_rows: int, row_tokens: int) -> BatchTable:
        """The same `n_rows` rows of `row_tokens` tokens at every step."""
        return cls(row_tokens=row_tokens, phases=(BatchPhase(n_rows=n_rows, row_tokens=row_tokens),))

    @classmethod
    def merged(cls, *, row_tokens: int, n_rows: Steps, lengths: Steps | None = None) -> BatchTable:
        """Rows a step and row lengths that change independently, each (value, until how many tokens).

        Ends are rounded down to whole steps; a phase without a step is left out.

        Raises:
            RecipeError: ends do not rise, or only the last may be open; and see the class.
        """
        lengths = ((row_tokens, None),) if lengths is None else lengths
        for name, steps in (("n_rows", n_rows), ("lengths", lengths)):
            _check_ends(name, steps)
        ends = sorted({end for steps in (n_rows, lengths) for _, end in steps if end is not None})
        phases: list[BatchPhase] = []
        row = 0
        for end in ends:
            rows = _value_before(n_rows, end)
            n_steps = (end // row_tokens - row) // max(rows, 1)
            if n_steps or rows < 1:  # two ends less than a step apart leave nothing between them
                length = _value_before(lengths, end)
                phases.append(BatchPhase(n_rows=rows, row_tokens=length, until_tokens=end))
                row += n_steps * rows
        last = BatchPhase(n_rows=n_rows[-1][0], row_tokens=lengths[-1][0])
        return cls(row_tokens=row_tokens, phases=(*phases, last))

    def at(self, step: int) -> StepRows:
        """What step `step`, counted from 0, takes."""
        assert step >= 0
        number = bisect_right(self._first_steps, step) - 1
        phase = self.phases[number]
        first_row = self._first_rows[number] + (step - self._first_steps[number]) * phase.n_rows
        return StepRows(first_row=first_row, n_rows=phase.n_rows, row_tokens=phase.row_tokens)

    def n_tokens(self, step: int) -> int:
        """Tokens of one model before step `step`: of steps 0 to step - 1."""
        return self.at(step).first_row * self.row_tokens

    def n_rows(self, step: int) -> int:
        """Base rows of one model before step `step`."""
        return self.at(step).first_row

    def step_tokens(self, step: int) -> int:
        """Tokens of step `step` of one model."""
        return self.at(step).n_rows * self.row_tokens

    def steps_for(self, n_tokens: int) -> int:
        """The largest number of whole steps whose tokens do not exceed `n_tokens`."""
        n_rows = max(n_tokens, 0) // self.row_tokens
        number = bisect_right(self._first_rows, n_rows) - 1
        return self._first_steps[number] + (n_rows - self._first_rows[number]) // self.phases[number].n_rows

    @property
    def largest(self) -> int:
        """Base rows of the largest step."""
        return max(phase.n_rows for phase in self.phases)

    @property
    def shortest_row(self) -> int:
        """Tokens of the shortest row."""
        return min(phase.row_tokens for phase in self.phases)

    def as_record(self) -> dict[str, Any]:
        """What decides the batches. JSON-able."""
        return asdict(self)

    @cached_property
    def _first_steps(self) -> tuple[int, ...]:
        """The first step of each phase."""
        return tuple(step for step, _ in self._starts)

    @cached_property
    def _first_rows(self) -> tuple[int, ...]:
        """The first base row of each phase."""
        return tuple(row for _, row in self._starts)

    @cached_property
    def _starts(self) -> tuple[tuple[int, int], ...]:
        starts, step, row = [(0, 0)], 0, 0
        for phase in self.phases[:-1]:
            if phase.until_step is not None:
                n_steps = phase.until_step - step
            else:
                assert phase.until_tokens is not None
                n_steps = (phase.until_tokens // self.row_tokens - row) // phase.n_rows
            step, row = step + n_steps, row + n_steps * phase.n_rows
            starts.append((step, row))
        return tuple(starts)

    def _check(self, number: int, phase: BatchPhase) -> None:
        where = f"{WHERE}, phase {number}"
        if phase.n_rows < 1:
            raise RecipeError(f"a step needs at least one row, found {phase.n_rows}", where=where)
        if phase.row_tokens < 1 or self.row_tokens % phase.row_tokens:
            raise RecipeError(
                f"rows must divide the longest one of {self.row_tokens} tokens, found {phase.row_tokens}",
                where=where,
                hint=f"use {self.row_tokens} divided by a whole number",
            )
        ends = [end for end in (phase.until_step, phase.until_tokens) if end is not None]
        is_last = number == len(self.phases) - 1
        if len(ends) != (0 if is_last else 1):
            wanted = "no end, since it is the last" if is_last else "one end, in steps or in tokens"
            raise RecipeError(f"a phase needs {wanted}, found {ends or 'none'}", where=where)


def shorten(rows: Rows, row_tokens: int) -> Rows:
    """Base rows (..., B, T) cut into rows of `row_tokens`: (..., B T / row_tokens, row_tokens).

    A document that a cut divides goes on in the next row as at any row's end: positions restart at 0, and
    its first input there is its token before the cut. The visible part of a divided document opens both
    parts as far as it reaches; whole samples need a feed that packs for the shortest row (`WholeFeed`).

    Raises:
        RecipeError: `row_tokens` does not divide T.
    """
    longest = rows.inputs.shape[-1]
    if row_tokens == longest:
        return rows
    if row_tokens < 1 or longest % row_tokens:
        raise RecipeError(
            f"rows must divide the longest one of {longest} tokens, found {row_tokens}", where=WHERE
        )

    def cut(values: NDArray[Any] | None) -> Any:
        if values is None:
            return None
        lead = rows.inputs.shape[:-2]
        behind = values.shape[rows.inputs.ndim :]
        return values.reshape((*lead, -1, row_tokens, *behind))

    segments = cut(rows.segments)
    soft = rows.soft
    return Rows(
        inputs=cut(rows.inputs),
        targets=cut(rows.targets),
        positions=positions_of(segments),
        segments=segments,
        weights=cut(rows.weights),
        scores=cut(rows.scores),
        visible=cut(rows.visible),
        soft=None if soft is None else Soft(ids=cut(soft.ids), shares=cut(soft.shares)),
    )


def _check_ends(name: str, steps: Steps) -> None:
    ends = [end for _, end in steps]
    said = [end for end in ends[:-1] if end is not None]
    is_rising = len(said) == len(ends) - 1 and all(a < b for a, b in pairwise([0, *said]))
    if not ends or ends[-1] is not None or not is_rising:
        raise RecipeError(
            f"ends in tokens must rise and only the last must be open, found {ends}", where=f"{WHERE}, {name}"
        )


def _value_before(steps: Steps, end: int) -> int:
    """The value that holds up to `end` tokens."""
    for value, until in steps:
        if until is None or until >= end:
            return value
    return steps[-1][0]
