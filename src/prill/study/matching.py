"""How many tokens one choice is worth in tokens of the other, and whether it holds at equal compute.

Two questions about the same pair of learning curves: how many tokens the control needs to reach the arm's
loss, and how few the arm needs to reach the control's. Each seed answers for itself; curves end somewhere,
and beyond their ends there are only bounds. Choosing costs compute too: the ledger counts it in training
tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from prill.errors import RecipeError
from prill.stats import Crossing, Interval, Multiple, combine_multiples, crossing, mean_interval, value_at
from prill.study.effect import Effect
from prill.study.losses import Losses

__all__ = ["Compute", "Ledger", "Matching", "account", "match"]

_FLIPPED = {"exact": "exact", "at_least": "at_most", "at_most": "at_least"}


@dataclass(frozen=True, kw_only=True)
class Matching:
    """Both multiples, relative to the equal token count of the comparison.

    Args:
        control_needs: tokens the control needs for the arm's loss, over the tokens the arm had; above 1
            favours the arm. `at_least` its longest checkpoint where that does not suffice.
        arm_saves: tokens the control had, over the tokens the arm needs for the control's loss; above 1
            favours the arm. `at_least` where the arm's first checkpoint is already there.
        control_reach: the control's longest checkpoint, over the tokens the arm had.
    """

    control_needs: Multiple
    arm_saves: Multiple
    control_reach: float


@dataclass(frozen=True, kw_only=True)
class Compute:
    """What the caller knows about cost.

    Args:
        train_flops_per_token: of the proxy model, forward and backward.
        scoring_flops: what choosing an arm's data cost, in floating-point operations or their equivalent, by
            arm; arms without an entry cost nothing.
    """

    train_flops_per_token: float
    scoring_flops: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.train_flops_per_token > 0 or any(not flops >= 0 for flops in self.scoring_flops.values()):
            raise RecipeError(
                "training costs more than 0 operations a token and choosing at least 0, found "
                f"{self.train_flops_per_token} and {dict(self.scoring_flops)}",
                where="study compute",
            )


@dataclass(frozen=True, kw_only=True)
class Ledger:
    """The comparison at equal total compute: training plus choosing.

    Args:
        scoring_share: what choosing the arm's data cost, as a share of training one model of the comparison.
        n_tokens_equal_compute: tokens the control may train on for the arm's total cost.
        difference_equal_compute: arm minus control trained that much longer, over seeds, interpolated between
            the control's checkpoints; None where the control was not trained that far.
        holds: whether the arm still wins at equal compute; None where that cannot be told.
    """

    n_tokens: int
    train_flops: float
    scoring_flops: float
    scoring_share: float
    n_tokens_equal_compute: float
    difference_equal_compute: Interval | None
    holds: bool | None


def match(losses: Losses, effect: Effect, *, confidence: float = 0.95) -> Matching:
    """Tokens to match in both directions, seed by seed."""
    needs, saves, reach = [], [], []
    for seed in effect.differences:
        arm_tokens, arm_bpb = _curve(losses, effect.arm, effect.eval_set, seed)
        control_tokens, control_bpb = _curve(losses, effect.control, effect.eval_set, seed)
        arm_level = arm_bpb[arm_tokens.index(effect.n_tokens)]
        control_level = control_bpb[control_tokens.index(effect.n_tokens)]
        found = crossing(control_tokens, control_bpb, arm_level)
        needs.append(Crossing(n_tokens=found.n_tokens / effect.n_tokens, bound=found.bound))
        found = crossing(arm_tokens, arm_bpb, control_level)
        saves.append(_inverse(found, effect.n_tokens))
        reach.append(control_tokens[-1] / effect.n_tokens)
    # seeds whose control was trained less far than others can only give weaker bounds: they do not speak
    longest = [need for need, far in zip(needs, reach, strict=True) if far == max(reach)]
    return Matching(
        control_needs=combine_multiples(longest, confidence=confidence),
        arm_saves=combine_multiples(saves, confidence=confidence),
        control_reach=max(reach),
    )


def account(losses: Losses, effect: Effect, matching: Matching, compute: Compute) -> Ledger:
    """The same comparison with the cost of choosing paid in training tokens."""
    cost = compute.scoring_flops.get(effect.arm, 0.0)
    extra = cost - compute.scoring_flops.get(effect.control, 0.0)
    train = compute.train_flops_per_token * effect.n_tokens
    at = effect.n_tokens + extra / compute.train_flops_per_token
    difference = _difference_at(losses, effect, at)
    return Ledger(
        n_tokens=effect.n_tokens,
        train_flops=train,
        scoring_flops=cost,
        scoring_share=cost / train,
        n_tokens_equal_compute=at,
        difference_equal_compute=difference,
        holds=_holds(difference, effect, matching, at),
    )


def _holds(difference: Interval | None, effect: Effect, matching: Matching, at: float) -> bool | None:
    if difference is not None and difference.high is not None:
        return difference.high < 0
    needs, multiple = matching.control_needs, at / effect.n_tokens
    at_least = needs.value if needs.bound == "at_least" else needs.low
    return True if at_least is not None and at_least > multiple else None


def _difference_at(losses: Losses, effect: Effect, at: float) -> Interval | None:
    differences = []
    for seed in effect.differences:
        tokens, bpb = _curve(losses, effect.control, effect.eval_set, seed)
        control = value_at(tokens, bpb, at)
        if control is None:
            return None
        differences.append(losses.bpb(effect.arm, effect.eval_set, (seed, effect.n_tokens)) - control)
    return mean_interval(differences, confidence=effect.difference.confidence)


def _inverse(found: Crossing, n_tokens: int) -> Crossing:
    return Crossing(n_tokens=n_tokens / found.n_tokens, bound=_FLIPPED[found.bound])  # type: ignore[arg-type]


def _curve(losses: Losses, arm: str, eval_set: str, seed: int) -> tuple[list[int], list[float]]:
    tokens = sorted(n for s, n in losses.of(arm, eval_set) if s == seed)
    return tokens, [losses.bpb(arm, eval_set, (seed, n)) for n in tokens]
