"""Is this training still sound? Spikes, divergence and numbers that are none, model by model.

A loss is a spike when it lies above the median of the last 16 sound steps by more than `spike_deviations`
times the noise and by more than `spike_rise`. The noise is taken from the differences between steps, 1.4826
x their median size / sqrt 2, which neither a falling curve nor single outliers move. Gradient norms are
judged the same way in logarithms. The loss diverges when the median of the window stays above the lowest
median so far by more than `divergence_rise` for half a window. One episode is one finding, until the number
is back; a spike that lasts for a whole window is the new level.

Everything is a pure function of the numbers so far; `state` and `restore` let a resumed training find what
an uninterrupted one finds. A decay branch is judged from a copy of the trunk's history, and the trunk goes on
from its own, because returning to the undecayed weights would look like a divergence.

Source: 1.4826 makes a median deviation the standard one of a normal distribution (Hampel 1974); noise from
differences, von Neumann 1941. Differs: no published detector; the limits are judgement, wide enough to be
silent on the healthy trainings of the tests.
"""

from __future__ import annotations

import copy
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal, NamedTuple

from prill.errors import RecipeError

__all__ = ["Action", "Finding", "Health", "HealthPolicy", "Kind"]

Kind = Literal["not finite", "divergence", "loss spike", "gradient spike", "recovery"]
Action = Literal["stop", "mask", "warn"]

LOSS: Kind = "loss spike"
GRADIENT: Kind = "gradient spike"
NORMAL = 1.4826
N_SOUND = 16  # below this a median says nothing


@dataclass(frozen=True, kw_only=True)
class HealthPolicy:
    """What counts as trouble, and what to do about it.

    Args:
        not_finite: `stop` the training with an error, or `mask` the model: its rate is 0 until the end of the
            branch, or of the trunk with all later branches, and its weights are emptied if its loss is no
            number; the other models of the stack go on untouched.
        divergence, spike: the same, or `warn`.
        window: steps that noise and divergence are judged from.
        spike_deviations: how many times the noise makes a spike.
        spike_rise: least rise of a loss that counts, nats a token.
        gradient_factor: least factor over the median norm that counts.
        divergence_rise: rise of the median loss that counts, nats a token.
    Raises:
        RecipeError: a limit is not positive, the window is shorter than 16 steps.
    """

    not_finite: Literal["stop", "mask"] = "stop"
    divergence: Action = "warn"
    spike: Action = "warn"
    window: int = 64
    spike_deviations: float = 8.0
    spike_rise: float = 0.5
    gradient_factor: float = 10.0
    divergence_rise: float = 1.0

    def __post_init__(self) -> None:
        limits = (self.spike_deviations, self.spike_rise, self.gradient_factor - 1, self.divergence_rise)
        if self.window < N_SOUND or not all(limit > 0 for limit in limits):
            raise RecipeError(
                f"health needs a window of at least {N_SOUND} steps, a gradient factor above 1 and "
                f"limits above 0, found {self.window} and {self.gradient_factor}, {self.spike_deviations}, "
                f"{self.spike_rise}, {self.divergence_rise}",
                where="health",
            )


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that is wrong with one model at one step.

    Attributes:
        kind, action: what, and what the policy says.
        model: number in the stack.
        before: median of the numbers before, of the loss or of the gradient norm; NaN: no history.
        value: the number now.
        since: step of the finding that a recovery ends; else None.
    """

    kind: Kind
    action: Action
    model: int
    before: float
    value: float
    since: int | None = None


@dataclass(kw_only=True)
class _History:
    """What one model did on one path.

    Attributes:
        losses, norms: of the window; norms are logarithms.
        sound_losses, sound_norms: of the last steps that were no spikes.
        lowest, n_above: median loss, and for how many steps the median has been too far above it.
        open: the step at which each episode under way began.
    """

    losses: list[float] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)
    sound_losses: list[float] = field(default_factory=list)
    sound_norms: list[float] = field(default_factory=list)
    lowest: float | None = None
    n_above: int = 0
    open: dict[str, int] = field(default_factory=dict)
    is_masked: bool = False


class _Now(NamedTuple):
    """The model and the step that are judged."""

    model: int
    step: int
    history: _History


class Health:
    """The watch over K models."""

    def __init__(self, n_models: int, policy: HealthPolicy | None = None) -> None:
        self.policy = policy or HealthPolicy()
        self._trunk = [_History() for _ in range(n_models)]
        self._branch: list[_History] = []
        self._branch_number: int | None = None

    @property
    def masked(self) -> tuple[bool, ...]:
        """Which models are out, on the path of the last step."""
        path = self._trunk if self._branch_number is None else self._branch
        return tuple(history.is_masked for history in path)

    def judge(
        self, step: int, losses: Sequence[float], norms: Sequence[float], *, branch: int | None = None
    ) -> list[Finding]:
        """What is wrong at this step, by model; models that are out are skipped.

        Args:
            step: rises by one.
            losses: each model's mean loss of the step, nats a token, (K,).
            norms: each model's gradient norm before clipping, (K,).
            branch: number of the decay branch; None on the trunk.
        """
        found: list[Finding] = []
        for k, history in enumerate(self._enter(branch)):
            if not history.is_masked:
                here = self._judge_model(_Now(k, step, history), float(losses[k]), float(norms[k]))
                history.is_masked = any(finding.action == "mask" for finding in here)
                found += here
        return found

    def state(self) -> dict[str, Any]:
        """JSON-able; what a checkpoint keeps."""
        kept = {
            "trunk": [vars(history) for history in self._trunk],
            "branch": [vars(history) for history in self._branch],
            "branch_number": self._branch_number,
        }
        return copy.deepcopy(kept)

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from `state`."""
        given = copy.deepcopy(dict(state))
        self._trunk = [_History(**history) for history in given["trunk"]]
        self._branch = [_History(**history) for history in given["branch"]]
        self._branch_number = given["branch_number"]

    def _enter(self, branch: int | None) -> list[_History]:
        if branch is not None and branch != self._branch_number:
            self._branch = copy.deepcopy(self._trunk)
        if branch is None:
            self._branch = []
        self._branch_number = branch
        return self._trunk if branch is None else self._branch

    def _judge_model(self, now: _Now, loss: float, norm: float) -> list[Finding]:
        policy, history = self.policy, now.history
        if not (math.isfinite(loss) and math.isfinite(norm)):
            before = statistics.median(history.losses) if history.losses else math.nan
            action = policy.not_finite
            return [Finding(kind="not finite", action=action, model=now.model, before=before, value=loss)]
        found = [
            self._spike(now, LOSS, history.losses, history.sound_losses, loss),
            self._spike(now, GRADIENT, history.norms, history.sound_norms, math.log(max(norm, 1e-30))),
            self._divergence(now),
        ]
        return [finding for finding in found if finding is not None]

    def _spike(
        self, now: _Now, kind: Kind, kept: list[float], sound: list[float], value: float
    ) -> Finding | None:
        policy, is_norm = self.policy, kind == GRADIENT
        rise = math.log(policy.gradient_factor) if is_norm else policy.spike_rise
        middle, limit = _limit(kept, sound, policy.spike_deviations, rise)
        kept.append(value)
        del kept[: -policy.window]
        is_high = value > limit
        if is_high and now.step - now.history.open.get(kind, now.step) >= policy.window:
            del sound[:], now.history.open[kind]
            return None
        if not is_high:
            sound.append(value)
            del sound[:-N_SOUND]
        shown = (math.exp(middle), math.exp(value)) if is_norm else (middle, value)
        return self._episode(now, kind, policy.spike, shown, is_high=is_high)

    def _divergence(self, now: _Now) -> Finding | None:
        policy, history = self.policy, now.history
        if len(history.losses) < policy.window:
            return None
        middle = statistics.median(history.losses)
        history.lowest = middle if history.lowest is None else min(history.lowest, middle)
        is_above = middle > history.lowest + policy.divergence_rise
        history.n_above = history.n_above + 1 if is_above else 0
        if "divergence" in history.open and is_above:
            return None
        shown, is_high = (history.lowest, middle), history.n_above >= policy.window // 2
        return self._episode(now, "divergence", policy.divergence, shown, is_high=is_high)

    def _episode(
        self, now: _Now, kind: Kind, action: Action, shown: tuple[float, float], *, is_high: bool
    ) -> Finding | None:
        """The first step of an episode is a finding, the first step after it a recovery."""
        started, (before, value) = now.history.open, shown
        if is_high and kind not in started:
            started[kind] = now.step
            return Finding(kind=kind, action=action, model=now.model, before=before, value=value)
        if is_high or kind not in started:
            return None
        since = started.pop(kind)
        return Finding(
            kind="recovery", action="warn", model=now.model, before=before, value=value, since=since
        )


def _limit(
    kept: Sequence[float], sound: Sequence[float], n_deviations: float, rise: float
) -> tuple[float, float]:
    """Median of the last sound numbers, and what lies too far above it; without a history nothing does."""
    if len(sound) < N_SOUND:
        return math.nan, math.inf
    middle = statistics.median(sound)
    return middle, middle + max(n_deviations * _noise(kept), rise)


def _noise(kept: Sequence[float]) -> float:
    """Standard deviation around a slow course, from the differences between neighbours."""
    return NORMAL * statistics.median(abs(b - a) for a, b in pairwise(kept)) / math.sqrt(2)
