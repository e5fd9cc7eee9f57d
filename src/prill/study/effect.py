"""The difference between two arms on one evaluation set, with everything needed to judge it.

Differences are arm minus control in bits per byte, so a negative one favours the arm. They are paired by seed
at the largest token count that both arms reached, and their uncertainty has two sources: seeds and documents.

Legend: D documents.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

import numpy as np

from prill.errors import DataError
from prill.stats import (
    Interval,
    bootstrap_ratio_interval,
    combined_interval,
    detectable_with,
    mean_interval,
    n_seeds_needed,
    noise_floor,
    ratio_error,
)
from prill.study.losses import Losses

__all__ = ["Curve", "CurvePoint", "Effect", "common_tokens", "learning_curve", "measure"]


@dataclass(frozen=True, kw_only=True)
class CurvePoint:
    """Mean loss over seeds after `n_tokens`; bounds are None for a single seed."""

    n_tokens: int
    mean_bpb: float
    low_bpb: float | None
    high_bpb: float | None
    seeds: dict[int, float]
    """Bits per byte of every seed."""


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Learning curve of one arm on one evaluation set; each point is a finished, decayed model."""

    arm: str
    eval_set: str
    points: tuple[CurvePoint, ...]


@dataclass(frozen=True, kw_only=True)
class Effect:
    """Arm minus control on one evaluation set at equal training tokens.

    Args:
        difference: over seeds and documents together; the one that verdicts rest on.
        over_seeds: the t interval of the paired differences, for these very documents.
        over_documents: the bootstrap interval over documents, for these very models.
        differences: the paired difference of every seed.
        noise_floor: standard deviation over the control's seeds; None for one seed.
        arm_noise: standard deviation over the arm's seeds; None for one seed.
        smallest_detectable: true difference that would be found with 80 % probability; None without noise.
        n_seeds_needed: seeds that would make a difference of this size likely to be found, from seeds alone.
    """

    arm: str
    control: str
    eval_set: str
    n_tokens: int
    n_documents: int
    arm_bpb: float
    control_bpb: float
    difference: Interval
    over_seeds: Interval
    over_documents: Interval
    differences: dict[int, float]
    noise_floor: float | None
    arm_noise: float | None
    smallest_detectable: float | None
    n_seeds_needed: int | None

    @property
    def n_seeds(self) -> int:
        """Pairs of runs behind the difference."""
        return len(self.differences)


def common_tokens(losses: Losses, arm: str, control: str, eval_set: str) -> tuple[int, tuple[int, ...]]:
    """The token count to compare at, and its paired seeds: most seeds first, then most tokens.

    Raises:
        DataError: the two arms share no seed and token count.
    """
    shared = losses.of(arm, eval_set).keys() & losses.of(control, eval_set).keys()
    seeds_at: dict[int, list[int]] = {}
    for seed, n_tokens in shared:
        seeds_at.setdefault(n_tokens, []).append(seed)
    if not seeds_at:
        raise DataError(
            f"expected a seed and token count that {arm!r} and {control!r} share on {eval_set!r}, found none",
            where="evals",
            hint="train both arms with the same seeds to the same token count",
        )
    n_tokens = max(seeds_at, key=lambda n: (len(seeds_at[n]), n))
    return n_tokens, tuple(sorted(seeds_at[n_tokens]))


def measure(
    losses: Losses,
    arm: str,
    control: str,
    eval_set: str,
    *,
    confidence: float = 0.95,
    n_resamples: int = 2_000,
    seed: int = 0,
) -> Effect:
    """The paired difference of two arms on one evaluation set.

    Args:
        n_resamples: of the bootstrap over documents.
        seed: the study's; the bootstrap's own seed follows from it and the names.
    Raises:
        DataError: an arm or set is missing, or the arms share no seed and token count.
    """
    n_tokens, seeds = common_tokens(losses, arm, control, eval_set)
    arm_bpb = [losses.bpb(arm, eval_set, (s, n_tokens)) for s in seeds]
    control_bpb = [losses.bpb(control, eval_set, (s, n_tokens)) for s in seeds]
    nats_a, nats_c = losses.of(arm, eval_set), losses.of(control, eval_set)
    mean_nats = np.mean([nats_a[s, n_tokens] - nats_c[s, n_tokens] for s in seeds], axis=0)
    n_bits, sizes = mean_nats / math.log(2), losses.n_bytes[eval_set]
    # subtracted before summing: arms with identical losses differ by exactly 0
    by_seed = [_bits(nats_a[s, n_tokens] - nats_c[s, n_tokens]) / float(sizes.sum()) for s in seeds]
    difference = combined_interval(
        by_seed, document_error=ratio_error(n_bits, sizes), n_documents=len(sizes), confidence=confidence
    )
    over_seeds = mean_interval(by_seed, confidence=confidence)
    spread = noise_floor(by_seed)
    return Effect(
        arm=arm,
        control=control,
        eval_set=eval_set,
        n_tokens=n_tokens,
        n_documents=len(sizes),
        arm_bpb=float(np.mean(arm_bpb)),
        control_bpb=float(np.mean(control_bpb)),
        difference=difference,
        over_seeds=over_seeds,
        over_documents=bootstrap_ratio_interval(
            n_bits,
            sizes,
            generator=_generator(seed, arm, control, eval_set),
            n_resamples=n_resamples,
            confidence=confidence,
        ),
        differences=dict(zip(seeds, by_seed, strict=True)),
        noise_floor=noise_floor(control_bpb),
        arm_noise=noise_floor(arm_bpb),
        smallest_detectable=_detectable(difference, confidence),
        n_seeds_needed=n_seeds_needed(over_seeds.estimate, spread, confidence=confidence) if spread else None,
    )


def learning_curve(losses: Losses, arm: str, eval_set: str, *, confidence: float = 0.95) -> Curve:
    """Mean and interval over seeds at every token count that the arm was evaluated at."""
    by_tokens: dict[int, dict[int, float]] = {}
    for seed, n_tokens in sorted(losses.of(arm, eval_set)):
        by_tokens.setdefault(n_tokens, {})[seed] = losses.bpb(arm, eval_set, (seed, n_tokens))
    points = []
    for n_tokens, seeds in sorted(by_tokens.items()):
        mean = mean_interval(list(seeds.values()), confidence=confidence)
        points.append(
            CurvePoint(
                n_tokens=n_tokens, mean_bpb=mean.estimate, low_bpb=mean.low, high_bpb=mean.high, seeds=seeds
            )
        )
    return Curve(arm=arm, eval_set=eval_set, points=tuple(points))


def _bits(nats_D: np.ndarray[tuple[int], np.dtype[np.float64]]) -> float:
    return float(nats_D.sum()) / math.log(2)


def _detectable(difference: Interval, confidence: float) -> float | None:
    if difference.standard_error is None:
        return None
    return detectable_with(difference.standard_error, difference.noise, confidence=confidence)


def _generator(seed: int, *names: str) -> np.random.Generator:
    label = "\x1f".join(("study.bootstrap", str(seed), *names))
    return np.random.Generator(
        np.random.PCG64(int.from_bytes(hashlib.sha256(label.encode()).digest()[:16], "big"))
    )
