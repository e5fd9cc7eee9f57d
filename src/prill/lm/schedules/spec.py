"""The schedules a recipe can name: `schedule: {cosine: {warmup: 2%, floor: 0.1}}`, or `schedule: cosine`.

Every rate is a share of the peak, so one course serves runs with peaks of their own. Lengths are shares,
steps or tokens. A trunk's lengths (warm-up, cooldown), written as shares, are shares of the first token
count, so that adding a longer count changes nothing that came before; a decay's are shares of its own count.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from prill.errors import RecipeError
from prill.lm import schedule as tables
from prill.lm.schedule import Branch, Curve, Phase, Schedule
from prill.lm.schedules.course import Course, stops_of
from prill.lm.schedules.span import Length, Span, StepsFor

__all__ = [
    "ConstantSpec",
    "CosineSpec",
    "InfiniteSpec",
    "PhaseSpec",
    "PiecewiseSpec",
    "RewarmSpec",
    "ScheduleSpec",
    "WsdSSpec",
    "WsdSpec",
]

Decay = Literal["linear", "cosine", "exponential", "inverse_sqrt", "one_minus_sqrt"]
WARMUP, TENTH = Span(30, "steps"), Span(0.1, "share")


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Warmed(_Model):
    warmup: Length = Field(WARMUP, description="Linear warm-up: 5%, 30 steps, 2M tokens.")


class ConstantSpec(_Warmed):
    """Warm-up, then the peak to the end: for checkpoint averaging in place of a decay."""

    def course(self, stops: Sequence[int], steps_for: StepsFor) -> Course:
        warmup = _warmup(self.warmup.steps(stops[0], steps_for), stops[0])
        return Course.along(tables.constant(peak=1.0, warmup=warmup, total=stops[-1]), stops)


class CosineSpec(_Warmed):
    """Warm-up, then half a cosine to the end. Every token count is a training of its own."""

    floor: float = Field(0.1, ge=0, le=1, description="Rate at the end, as a share of the peak.")

    def course(self, stops: Sequence[int], steps_for: StepsFor) -> Course:
        warmups = [_warmup(self.warmup.steps(stop, steps_for), stop) for stop in stops]
        found = [
            tables.cosine(peak=1.0, floor=self.floor, warmup=warmup, total=stop)
            for warmup, stop in zip(warmups, stops, strict=True)
        ]
        return Course.apart(found, stops)


class _Decaying(_Warmed):
    floor: float = Field(0.0, ge=0, le=1, description="Rate at the end of a decay, as a share of the peak.")
    curve: Decay = Field("linear", description="Form of the decay; exponential needs a floor or a half-life.")
    half_life: Length | None = Field(
        None, description="Exponential decay: length over which the rate halves; shares are of the decay."
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.half_life is not None and (self.curve != "exponential" or self.floor):
            raise ValueError("`half_life` needs `curve: exponential` and no `floor`")
        if self.curve == "exponential" and self.half_life is None and not self.floor:
            raise ValueError("an exponential decay never reaches 0: give a `floor` above 0 or a `half_life`")
        return self

    def _end(self, n_decay: int, steps_for: StepsFor) -> float:
        """The rate at the end of a decay of so many steps."""
        if self.half_life is None:
            return self.floor
        half = max(1, self.half_life.steps(n_decay, steps_for))
        return tables.half_life_floor(peak=1.0, n_decay=n_decay, half_life=half)


class WsdSpec(_Decaying):
    """Warm-up, stable, decay. One trunk; every token count is a branch that decays at its end."""

    decay: Length = Field(Span(0.2, "share"), description="The decay that ends each token count.")

    def course(self, stops: Sequence[int], steps_for: StepsFor) -> Course:
        starts = [stop - min(stop, max(1, self.decay.steps(stop, steps_for))) for stop in stops]
        warmup = _warmup(self.warmup.steps(stops[0], steps_for), starts[0])
        tails = [
            tables.wsd(
                peak=1.0,
                warmup=warmup,
                decay_from=start,
                total=stop,
                floor=self._end(stop - start, steps_for),
                curve=self.curve,
            )
            for start, stop in zip(starts, stops, strict=True)
        ]
        return _branched(tables.constant(peak=1.0, warmup=warmup, total=stops[-1]), tails, starts, stops)


class WsdSSpec(_Decaying):
    """WSD-S: one path; each token count ends with a decay, from whose weights the next one goes on.

    Differs from WSD in that decays are not thrown away, so that later counts have seen them. The floor is a
    share of the period's own peak.
    """

    decay: Length = Field(TENTH, description="The decay that ends each period; shares are of the period.")
    peaks: Literal["equal", "sqrt"] = Field(
        "equal",
        description="sqrt: the peak of a period that ends at m times the first's tokens is 1/sqrt(m).",
    )

    def course(self, stops: Sequence[int], steps_for: StepsFor) -> Course:
        lengths = [stop - before for before, stop in zip((0, *stops), stops, strict=False)]
        decays = [min(n, max(1, self.decay.steps(n, steps_for))) for n in lengths]
        warmup = _warmup(self.warmup.steps(stops[0], steps_for), stops[0] - decays[0])
        peaks = [(stops[0] / stop) ** 0.5 if self.peaks == "sqrt" else 1.0 for stop in stops]
        schedule = tables.wsd_s(
            warmup=warmup,
            stops=stops,
            decays=decays,
            peaks=peaks,
            floors=[peak * self._end(n, steps_for) for peak, n in zip(peaks, decays, strict=True)],
            curve=self.curve,
        )
        return Course.along(schedule, stops)


class InfiniteSpec(_Warmed):
    """Warm-up, cooldown, constant for as long as wanted; every token count is a branch that anneals."""

    cooldown: Length = Field(Span(0.6, "share"), description="End of the cooldown, from the first step.")
    cooldown_curve: Literal["cosine", "inverse_sqrt"] = Field("cosine", description="Form of the cooldown.")
    constant: float = Field(0.55, gt=0, le=1, description="Rate of the constant phase, share of the peak.")
    anneal: Length = Field(Span(0.15, "share"), description="The anneal that ends each token count.")
    floor: float = Field(0.1, gt=0, le=1, description="Rate at the end of an anneal, share of the peak.")
    anneal_from_zero: Length | None = Field(
        None, description="Singh et al.'s t_a: the anneal would arrive only t_a + A steps after its start A."
    )

    def course(self, stops: Sequence[int], steps_for: StepsFor) -> Course:
        starts = [stop - min(stop, max(1, self.anneal.steps(stop, steps_for))) for stop in stops]
        cooldown = _warmup(self.cooldown.steps(stops[0], steps_for), starts[0], what="cooldown")
        warmup = _warmup(self.warmup.steps(stops[0], steps_for), cooldown, before="the cooldown ends")
        tails = [
            tables.infinite(
                peak=1.0,
                constant=self.constant,
                floor=self.floor,
                warmup=warmup,
                cooldown_until=cooldown,
                anneal_from=start,
                total=stop,
                cooldown=self.cooldown_curve,
                anneal_steps_from_zero=(
                    None if self.anneal_from_zero is None else self.anneal_from_zero.steps(stop, steps_for)
                ),
            )
            for start, stop in zip(starts, stops, strict=True)
        ]
        held = Phase(
            start=cooldown, stop=stops[-1], first=self.constant, last=self.constant, curve="constant"
        )
        return _branched(Schedule(phases=(*tails[0].phases[:2], held)), tails, starts, stops)


class RewarmSpec(_Warmed):
    """Re-warm and re-decay: continue from a decayed checkpoint, once or at every change of data."""

    start: float = Field(0.1, ge=0, le=1, description="Rate the checkpoint ended with, share of the peak.")
    floor: float = Field(0.1, ge=0, le=1, description="Rate at the end, as a share of the peak.")
    restarts: tuple[Length, ...] = Field(
        (), description="Where the rate warms up again within the run, rising; shares are of the token count."
    )

    def course(self, stops: Sequence[int], steps_for: StepsFor) -> Course:
        return Course.apart([self._cycles(stop, steps_for) for stop in stops], stops)

    def _cycles(self, stop: int, steps_for: StepsFor) -> Schedule:
        ends = [*(span.steps(stop, steps_for) for span in self.restarts), stop]
        found: Schedule | None = None
        for begin, end in zip((0, *ends), ends, strict=False):
            warmup = self.warmup.steps(end - begin, steps_for)
            cycle = tables.rewarmed(
                first=self.start if found is None else self.floor,
                peak=1.0,
                floor=self.floor,
                warmup=_warmup(warmup, end - begin, before="the rate warms up again"),
                total=end - begin,
            )
            found = cycle if found is None else found.then(cycle)
        assert found is not None
        return found


class PhaseSpec(_Model):
    """One line of a table written by hand."""

    until: Length = Field(
        description="Where the phase ends, from the first step; shares are of the longest count."
    )
    to: float = Field(ge=0, le=1, description="Rate at its end, as a share of the peak.")
    start: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Rate at its beginning; null goes on from the phase before (0 at first).",
    )
    curve: Curve = Field("linear", description="Form of the way there.")


class PiecewiseSpec(_Model):
    """A table of phases written by hand: one path, evaluated at every token count."""

    phases: tuple[PhaseSpec, ...] = Field(min_length=1, max_length=1000, description="Phases in order.")

    def course(self, stops: Sequence[int], steps_for: StepsFor) -> Course:
        rows: list[Phase] = []
        at, rate = 0, 0.0
        for spec in self.phases:
            until = spec.until.steps(stops[-1], steps_for)
            first = rate if spec.start is None else spec.start
            first = spec.to if spec.curve == "constant" else first
            rows.append(Phase(start=at, stop=until, first=first, last=spec.to, curve=spec.curve))
            at, rate = until, spec.to
        return Course.along(Schedule(phases=tuple(rows)), stops)


class ScheduleSpec(_Model):
    """One schedule by name. A bare name takes its defaults."""

    names: ClassVar[tuple[str, ...]] = (
        "wsd",
        "cosine",
        "infinite",
        "wsd_s",
        "rewarm",
        "constant",
        "piecewise",
    )

    wsd: WsdSpec | None = Field(None, description="Warm-up, stable, decay; one trunk for all token counts.")
    cosine: CosineSpec | None = Field(
        None, description="Warm-up and cosine; a training for each token count."
    )
    infinite: InfiniteSpec | None = Field(None, description="Warm-up, cooldown, constant, anneal.")
    wsd_s: WsdSSpec | None = Field(None, description="WSD that goes on from its decayed weights.")
    rewarm: RewarmSpec | None = Field(None, description="Re-warm and re-decay from a checkpoint.")
    constant: ConstantSpec | None = Field(None, description="Warm-up and constant, never decayed.")
    piecewise: PiecewiseSpec | None = Field(None, description="Phases written by hand.")

    @model_validator(mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        return {value: {}} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _one(self) -> Self:
        given = [name for name in self.names if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"a schedule is one of {', '.join(self.names)}, found {given or 'none'}")
        return self

    @property
    def name(self) -> str:
        """Which schedule it is."""
        return next(name for name in self.names if getattr(self, name) is not None)

    def course(self, token_counts: Sequence[int], *, steps_for: StepsFor) -> Course:
        """Lay the schedule out for rising token counts.

        Args:
            token_counts: where a model is evaluated, tokens.
            steps_for: whole steps that a number of tokens pays for (`whole_steps(tokens_per_step)`).
        Raises:
            RecipeError: the counts do not rise, or the warm-up does not end before the first decay.
        """
        found: Course = getattr(self, self.name).course(stops_of(token_counts, steps_for), steps_for)
        return found

    def as_record(self) -> dict[str, Any]:
        """What decides the rates. JSON-able, and read back by `model_validate`."""
        return self.model_dump(mode="json", exclude_none=True)


def _branched(
    trunk: Schedule, tails: Sequence[Schedule], starts: Sequence[int], stops: Sequence[int]
) -> Course:
    rows = [Branch(start=start, stop=stop) for start, stop in zip(starts, stops, strict=True)]
    return Course(trunk=trunk, branches=tuple(rows), tails=tuple(tails))


def _warmup(
    n_steps: int, limit: int, *, what: str = "warm-up", before: str = "the first decay begins"
) -> int:
    """`n_steps`, if they fit before step `limit`."""
    if n_steps > limit:
        raise RecipeError(
            f"the {what} of {n_steps} steps must end before {before} at step {limit}",
            where="schedule",
            hint=f"train for more tokens, or make the {what} shorter",
        )
    return n_steps
