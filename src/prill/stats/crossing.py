"""How many tokens a learning curve needs to reach a level, with honest bounds where the curve ends.

Between two checkpoints the loss is taken as linear in the logarithm of the tokens. A level outside the curve
gives a bound, never an extrapolation: `at_most` its first checkpoint, `at_least` its last.

Legend: P checkpoints, N seeds.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from prill.errors import DataError
from prill.stats.intervals import mean_interval

__all__ = ["Bound", "Crossing", "Multiple", "combine_multiples", "crossing", "value_at"]

Bound = Literal["exact", "at_least", "at_most", "unknown"]


@dataclass(frozen=True, kw_only=True)
class Crossing:
    """Tokens at which a curve first reaches a level, or a bound on them."""

    n_tokens: float
    bound: Literal["exact", "at_least", "at_most"]


@dataclass(frozen=True, kw_only=True)
class Multiple:
    """A ratio of token counts over seeds: its geometric mean, and an interval if every seed gave an exact
    one.

    `unknown` when some seeds give only an upper and others only a lower bound: then there is no value.
    """

    value: float | None
    bound: Bound
    low: float | None = None
    high: float | None = None
    n_seeds: int = 0

    def to_json(self) -> dict[str, Any]:
        """Plain values, unrounded."""
        return dict(vars(self))


def crossing(n_tokens: Sequence[float], losses: Sequence[float], level: float) -> Crossing:
    """Where the curve first comes down to `level`.

    Args:
        n_tokens: ascending, above 0, shape (P,).
        losses: finite, shape (P,); need not fall everywhere.
    Raises:
        DataError: the curve is empty, not finite, or its tokens do not ascend.
    """
    _check(n_tokens, losses)
    if losses[0] <= level:
        return Crossing(n_tokens=float(n_tokens[0]), bound="exact" if losses[0] == level else "at_most")
    for i in range(1, len(losses)):
        if losses[i] <= level:
            share = (losses[i - 1] - level) / (losses[i - 1] - losses[i])
            log_tokens = math.log(n_tokens[i - 1]) * (1 - share) + math.log(n_tokens[i]) * share
            return Crossing(
                n_tokens=float(n_tokens[i]) if share == 1 else math.exp(log_tokens), bound="exact"
            )
    return Crossing(n_tokens=float(n_tokens[-1]), bound="at_least")


def value_at(n_tokens: Sequence[float], losses: Sequence[float], at: float) -> float | None:
    """The loss at `at` tokens, linear in log tokens between checkpoints; None outside the curve."""
    _check(n_tokens, losses)
    if not n_tokens[0] <= at <= n_tokens[-1]:
        return None
    for i, n in enumerate(n_tokens):
        if at == n:
            return float(losses[i])
        if at < n:
            share = math.log(at / n_tokens[i - 1]) / math.log(n / n_tokens[i - 1])
            return losses[i - 1] * (1 - share) + losses[i] * share
    return None


def combine_multiples(ratios: Sequence[Crossing], *, confidence: float = 0.95) -> Multiple:
    """One multiple from one ratio for each seed (a Crossing whose `n_tokens` was divided by a token count).

    All exact: geometric mean with a t interval of the logarithms. Some bounds of one kind: the geometric mean
    of bounds and values is itself a bound of that kind. Both kinds: unknown.
    """
    kinds = {ratio.bound for ratio in ratios} - {"exact"}
    if not ratios or len(kinds) > 1:
        return Multiple(value=None, bound="unknown", n_seeds=len(ratios))
    logs = mean_interval([math.log(ratio.n_tokens) for ratio in ratios], confidence=confidence)
    is_same = len({ratio.n_tokens for ratio in ratios}) == 1  # then the mean is exact, without logarithms
    value, n = ratios[0].n_tokens if is_same else math.exp(logs.estimate), len(ratios)
    if kinds:
        return Multiple(value=value, bound=next(iter(kinds)), n_seeds=n)
    if logs.low is None or logs.high is None:
        return Multiple(value=value, bound="exact", n_seeds=n)
    return Multiple(value=value, bound="exact", low=_exp(logs.low), high=_exp(logs.high), n_seeds=n)


def _exp(x: float) -> float:
    return math.exp(max(-700.0, min(700.0, x)))


def _check(n_tokens: Sequence[float], losses: Sequence[float]) -> None:
    if not n_tokens or len(n_tokens) != len(losses):
        raise DataError(f"a curve needs a loss for each token count, found {len(n_tokens)} and {len(losses)}")
    if not all(math.isfinite(loss) for loss in losses):
        raise DataError(f"a curve needs finite losses, found {list(losses)}")
    if n_tokens[0] <= 0 or any(b <= a for a, b in itertools.pairwise(n_tokens)):
        raise DataError(f"a curve needs ascending token counts above 0, found {list(n_tokens)}")
