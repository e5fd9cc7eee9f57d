"""Learning-rate schedules as pure functions of the step over a table of phases.

A schedule is a tuple of phases; phase i covers start < t <= stop in steps and goes from one value to
another along a curve. Because nothing is remembered, a run can stop, resume and branch anywhere. `value(t)`
is the continuous curve of the papers (value(W) is the peak). A training step s, counted from 0, spans
t in [s, s + 1] and uses the midpoint, `rate(s)`, so that neither the first step of a warm-up nor the last
step of a decay to zero is wasted.

What a user writes (shares, steps or tokens) is turned into these tables by `prill.lm.schedules.spec`.

Source: warm-up and cosine: Loshchilov & Hutter 2017, arXiv:1608.03983. WSD: Hu et al. 2024,
arXiv:2404.06395, section 4; its 1 - sqrt decay: Haegele et al. 2024, arXiv:2405.18392. WSD-S: Wen et al.
2024, arXiv:2410.05192. Re-warming: Gupta et al. 2023, arXiv:2308.04014. Infinite schedule: Ibrahim et al.
2024, arXiv:2403.08763, section 7; Singh et al. 2025, arXiv:2503.02844, equation 1 (its reading of the
annealing share: `anneal_steps_from_zero`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from prill.errors import RecipeError

__all__ = [
    "Branch",
    "Curve",
    "Phase",
    "Schedule",
    "constant",
    "cosine",
    "half_life_floor",
    "infinite",
    "rewarmed",
    "wsd",
    "wsd_s",
]

Curve = Literal["constant", "linear", "cosine", "exponential", "inverse_sqrt", "one_minus_sqrt"]
INVERSE_SQRT_SHARPNESS = 10.0


@dataclass(frozen=True, kw_only=True)
class Phase:
    """From `first` at step `start` to `last` at step `stop` along `curve`.

    `reach` is where the curve would arrive at `last`, when that is not `stop` (the second reading of the
    infinite schedule needs it).
    """

    start: float
    stop: float
    first: float
    last: float
    curve: Curve = "linear"
    reach: float | None = None

    def __post_init__(self) -> None:
        if not self.stop >= self.start >= 0:
            raise RecipeError(
                f"a phase must end after it begins, found {self.start} to {self.stop}", where="schedule"
            )
        if self.first < 0 or self.last < 0:
            raise RecipeError(
                f"a learning rate must not be negative, found {self.first} and {self.last}", where="schedule"
            )
        if self.curve == "exponential" and not (self.first > 0 and self.last > 0):
            raise RecipeError(
                f"an exponential decay must end above 0, found {self.first} to {self.last}",
                where="schedule",
                hint="use a linear or cosine decay to reach 0",
            )

    def value(self, t: float) -> float:
        """The learning rate at `t` within this phase."""
        reach = self.stop if self.reach is None else self.reach
        x = (t - self.start) / (reach - self.start) if reach > self.start else 1.0
        return _along(self.curve, x, self.first, self.last)


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Phases in order, without gaps, from step 0. After the last one its final value holds."""

    phases: tuple[Phase, ...]

    def __post_init__(self) -> None:
        stops = [0.0, *(phase.stop for phase in self.phases)]
        for phase, expected in zip(self.phases, stops, strict=False):
            if phase.start != expected:
                raise RecipeError(
                    f"phases must follow one another without a gap, expected a start at {expected}, "
                    f"found {phase.start}",
                    where="schedule",
                )
        if not self.phases:
            raise RecipeError("a schedule needs at least one phase, found none", where="schedule")

    def value(self, t: float) -> float:
        """The continuous curve; phase i covers start < t <= stop."""
        for phase in self.phases:
            if t <= phase.stop:
                return phase.value(t)
        return self.phases[-1].value(self.phases[-1].stop)

    def rate(self, step: int) -> float:
        """The learning rate of training step `step`, counted from 0: the curve at the step's midpoint."""
        return self.value(step + 0.5)

    @property
    def stop(self) -> float:
        """End of the last phase."""
        return self.phases[-1].stop

    def then(self, other: Schedule) -> Schedule:
        """This schedule, then `other` from its end on; the rate may jump in between."""
        at = self.stop
        later = tuple(
            replace(
                phase,
                start=phase.start + at,
                stop=phase.stop + at,
                reach=None if phase.reach is None else phase.reach + at,
            )
            for phase in other.phases
        )
        return Schedule(phases=self.phases + later)


@dataclass(frozen=True, kw_only=True)
class Branch:
    """A decay that leaves the trunk at step `start` and ends, decayed, at step `stop`."""

    start: int
    stop: int

    @property
    def n_decay(self) -> int:
        """Steps of the decay."""
        return self.stop - self.start


def constant(*, peak: float, warmup: int, total: int) -> Schedule:
    """Warm-up, then `peak` to the end: the trunk of decay branches, or of checkpoint averaging."""
    return Schedule(
        phases=(
            Phase(start=0, stop=warmup, first=0.0, last=peak),
            Phase(start=warmup, stop=total, first=peak, last=peak, curve="constant"),
        )
    )


def cosine(*, peak: float, floor: float, warmup: int, total: int) -> Schedule:
    """Warm-up to `peak`, then half a cosine down to `floor` at step `total`."""
    return Schedule(
        phases=(
            Phase(start=0, stop=warmup, first=0.0, last=peak),
            Phase(start=warmup, stop=total, first=peak, last=floor, curve="cosine"),
        )
    )


def wsd(
    *, peak: float, warmup: int, decay_from: int, total: int, floor: float = 0.0, curve: Curve = "linear"
) -> Schedule:
    """Warm-up, stable, decay to `floor` between `decay_from` and `total`."""
    return Schedule(
        phases=(
            Phase(start=0, stop=warmup, first=0.0, last=peak),
            Phase(start=warmup, stop=decay_from, first=peak, last=peak, curve="constant"),
            Phase(start=decay_from, stop=total, first=peak, last=floor, curve=curve),
        )
    )


def half_life_floor(*, peak: float, n_decay: float, half_life: float) -> float:
    """Where `peak` x 0.5^(t / half_life) stands after `n_decay` steps: the floor of an exponential decay.

    Source: Hu et al. 2024, arXiv:2404.06395, section 4.3: f(s - T) = 0.5^((s - T) / H).
    """
    return float(peak * 0.5 ** (n_decay / half_life))


def wsd_s(
    *,
    warmup: int,
    stops: Sequence[int],
    decays: Sequence[int],
    peaks: Sequence[float],
    floors: Sequence[float],
    curve: Curve = "linear",
) -> Schedule:
    """WSD, simplified: period i stays at `peaks[i]`, then decays over `decays[i]` steps to `floors[i]`.

    It ends at step `stops[i]`; the next one continues from the decayed weights and jumps to its own peak.
    There is one warm-up.
    """
    phases = [Phase(start=0, stop=warmup, first=0.0, last=peaks[0])]
    starts = (warmup, *stops)
    for start, stop, n_decay, peak, floor in zip(starts, stops, decays, peaks, floors, strict=False):
        phases.append(Phase(start=start, stop=stop - n_decay, first=peak, last=peak, curve="constant"))
        phases.append(Phase(start=stop - n_decay, stop=stop, first=peak, last=floor, curve=curve))
    return Schedule(phases=tuple(phases))


def rewarmed(*, first: float, peak: float, floor: float, warmup: int, total: int) -> Schedule:
    """Re-warm from `first`, where the last training ended, to `peak`, then a cosine down to `floor`.

    Put it behind an earlier schedule with `Schedule.then`, or use it alone to continue from a checkpoint.
    """
    return Schedule(
        phases=(
            Phase(start=0, stop=warmup, first=first, last=peak),
            Phase(start=warmup, stop=total, first=peak, last=floor, curve="cosine"),
        )
    )


def infinite(
    *,
    peak: float,
    constant: float,
    floor: float,
    warmup: int,
    cooldown_until: int,
    anneal_from: int,
    total: int,
    cooldown: Curve = "cosine",
    anneal_steps_from_zero: int | None = None,
) -> Schedule:
    """Warm-up, cooldown, constant for as long as wanted, exponential anneal.

    `anneal_steps_from_zero` = t_a chooses Singh's reading: the anneal's share of progress is
    (t - A) / (t_a + A), so that it arrives at `floor` only t_a + A steps after it began.
    """
    reach = None if anneal_steps_from_zero is None else anneal_from + anneal_steps_from_zero + anneal_from
    return Schedule(
        phases=(
            Phase(start=0, stop=warmup, first=0.0, last=peak),
            Phase(start=warmup, stop=cooldown_until, first=peak, last=constant, curve=cooldown),
            Phase(start=cooldown_until, stop=anneal_from, first=constant, last=constant, curve="constant"),
            Phase(
                start=anneal_from, stop=total, first=constant, last=floor, curve="exponential", reach=reach
            ),
        )
    )


def _along(curve: Curve, x: float, first: float, last: float) -> float:
    """The value a share `x` of the way along a curve."""
    if curve == "constant":
        return first
    if curve == "linear":
        return first + (last - first) * x
    if curve == "cosine":
        return last + 0.5 * (first - last) * (1.0 + math.cos(math.pi * x))
    if curve == "exponential":
        return float(first * (last / first) ** x)
    if curve == "one_minus_sqrt":
        return first + (last - first) * math.sqrt(x)
    return first + (last - first) * _inverse_sqrt(x) / _inverse_sqrt(1.0)


def _inverse_sqrt(x: float) -> float:
    return 1.0 / math.sqrt(1.0 + INVERSE_SQRT_SHARPNESS * x) - 1.0
