"""What a comparison allows us to say, and why.

better / worse: the difference is clear after correcting for the number of comparisons.
no difference: the whole interval lies within a margin that the user calls negligible.
cannot tell: anything else, and always with a single seed, since then nothing is known about the noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from prill.study.effect import Effect

__all__ = ["Judgement", "Verdict", "judge"]


class Verdict(StrEnum):
    """What can be said about arm against control."""

    BETTER = "better"
    WORSE = "worse"
    NO_DIFFERENCE = "no difference"
    CANNOT_TELL = "cannot tell"


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """A verdict with its reason.

    Args:
        largest_bpb: with no difference: no true difference larger than this is compatible with the interval.
        reason: with cannot tell: why, as a clause.
    """

    verdict: Verdict
    largest_bpb: float | None = None
    reason: str = ""


def judge(effect: Effect, p_adjusted: float | None, *, confidence: float, margin_bpb: float) -> Judgement:
    """The verdict on one effect.

    Args:
        p_adjusted: Holm-adjusted over all comparisons of the study; None when no noise is known.
        margin_bpb: differences up to this are called negligible.
    """
    if effect.n_seeds < 2:
        return _cannot("one seed gives no estimate of the noise between seeds")
    if effect.n_documents < 2:
        return _cannot("one document gives no estimate of the noise between documents")
    if effect.noise_floor == 0 and effect.arm_noise == 0:
        return _cannot("all seeds gave identical losses, so they do not show the noise")
    low, high = effect.difference.low, effect.difference.high
    if p_adjusted is None or low is None or high is None:
        return _cannot("the noise is not known")
    if p_adjusted < 1 - confidence:
        return Judgement(verdict=Verdict.BETTER if effect.difference.estimate < 0 else Verdict.WORSE)
    if max(-low, high) <= margin_bpb:
        return Judgement(verdict=Verdict.NO_DIFFERENCE, largest_bpb=max(-low, high))
    if effect.difference.sign:
        return _cannot("the difference is not clear once the number of comparisons is taken into account")
    return _cannot("the noise is larger than the difference")


def _cannot(reason: str) -> Judgement:
    return Judgement(verdict=Verdict.CANNOT_TELL, reason=reason)
