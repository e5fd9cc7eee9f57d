"""How batches and rows grow: presets of (value, until how many tokens) for `prill.lm.batches.BatchTable`.

A ramp of rows starts with small, noisy steps and ends with large, calm ones; growing rows spare attention
its long contexts while the model cannot use them yet. Both are constant but for few changes, so shapes
change seldom. Ends are tokens of one model, counted from the start of training.

Source: ramps: Brown et al. 2020, arXiv:2005.14165 (from a small batch to the full one over the first
billions of tokens). Growing rows: Li et al. 2022, arXiv:2108.06084 (sequence-length warm-up). Differs: rows
grow by a few doublings, not by eight tokens at a time, so that each length divides the longest.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from prill.errors import RecipeError
from prill.lm.steplaw import BATCH_POWER_D

__all__ = ["Steps", "length_curriculum", "linear_ramp", "step_law_ramp"]

Steps = Sequence[tuple[int, int | None]]
"""(value, until how many tokens); the last has no end: None."""

WHERE = "batches"


def linear_ramp(*, first: int, last: int, increment: int, over_tokens: int) -> Steps:
    """Rows a step from `first` to `last`, `increment` more after each equal share of `over_tokens`.

    Raises:
        RecipeError: the increments do not lead from the first to the last, or a share is below one token.
    """
    if first < 1 or increment < 1 or last <= first or (last - first) % increment:
        raise RecipeError(
            f"a ramp must reach its last rows in whole increments, found {first} to {last} by {increment}",
            where=WHERE,
        )
    n_increments = (last - first) // increment
    _check_over(over_tokens, n_increments)
    ends = [over_tokens * (number + 1) // n_increments for number in range(n_increments)]
    return (*((first + number * increment, end) for number, end in enumerate(ends)), (last, None))


def step_law_ramp(*, n_rows: int, total_tokens: int, first: int = 1) -> Steps:
    """Rows that double up to `n_rows` as the Step Law's best batch for the tokens so far does.

    With n_rows the batch of a run of D tokens, after d tokens a step takes n_rows 2^-j, j the whole number
    nearest to log2 (D / d)^0.571: half of n_rows up to d = 0.545 D, a quarter up to 0.162 D, an eighth up to
    0.048 D, and so on, never below `first`.

    Raises:
        RecipeError: nothing to train.

    Source: Li et al. 2025, arXiv:2503.04715, the power of D. Differs: the law fits one batch for a whole
    run; following it along the run is Prill's reading, so compare arms under the same ramp only.
    """
    if n_rows < 1 or first < 1 or total_tokens < 1:
        raise RecipeError(
            f"a ramp needs rows and tokens above 0, found {n_rows}, {first} and {total_tokens}", where=WHERE
        )
    found: list[tuple[int, int | None]] = [(n_rows, None)]
    halvings = 0
    while found[0][0] % 2 == 0 and found[0][0] // 2 >= first:
        end = math.floor(total_tokens * 2.0 ** (-(halvings + 0.5) / BATCH_POWER_D))
        if end < 1:
            break
        found.insert(0, (found[0][0] // 2, end))
        halvings += 1
    return tuple(found)


def length_curriculum(*, row_tokens: int, over_tokens: int, parts: Sequence[int] = (8, 4, 2)) -> Steps:
    """Row lengths T / 8, T / 4, T / 2, each for an equal share of `over_tokens`, then T = `row_tokens`.

    Raises:
        RecipeError: T cannot be divided so, or a share is below one token.
    """
    for part in parts:
        if part < 1 or row_tokens % part:
            raise RecipeError(
                f"rows of {row_tokens} tokens cannot be cut into {part} equal parts",
                where=WHERE,
                hint="choose parts that divide the longest row",
            )
    _check_over(over_tokens, len(parts))
    ends = [over_tokens * (number + 1) // len(parts) for number in range(len(parts))]
    cut = [(row_tokens // part, end) for part, end in zip(parts, ends, strict=True)]
    return (*cut, (row_tokens, None))


def _check_over(over_tokens: int, n_parts: int) -> None:
    if n_parts < 1 or over_tokens < n_parts:
        raise RecipeError(
            f"growth needs at least one part and one token a part, found {n_parts} parts over "
            f"{over_tokens} tokens",
            where=WHERE,
        )
