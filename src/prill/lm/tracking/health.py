"""Is this training still sound? Spikes, divergence and numbers that are none, model by model.

A loss is a spike when it lies far above what the last steps were: above their median by more than
`spike_deviations` robust deviations (1.4826 x the median absolute deviation, which single outliers cannot
move) and by more than `spike_rise`. Gradient norms are judged the same way in logarithms. The loss diverges
when the median of the window stays above the lowest median so far by more than `divergence_rise` for half a
window. One episode is one finding, until the number is back.

Everything is a pure function of the numbers so far; `state` and `restore` let a resumed training find what
an uninterrupted one finds. A decay branch is judged from a copy of the trunk's history, and the trunk goes on
from its own, because returning to the undecayed weights would look like a divergence.

Source: the 1.4826 makes the deviation that of a normal distribution (Hampel 1974). Differs: no published
detector; the limits are judgement, wide enough to be silent on the healthy trainings of the tests.
"""

from __future__ import annotations

import copy
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from prill.errors import RecipeError

__all__ = ["Action", "Finding", "Health", "HealthPolicy", "Kind"]

Kind = Literal["not finite", "divergence", "loss spike", "gradient spike", "recovery"]
Action = Literal["stop", "mask", "warn"]

NORMAL = 1.4826
MIN_HISTORY = 16  # below this a median says nothing


@dataclass(frozen=True, kw_only=True)
class HealthPolicy:
    """What counts as trouble, and what to do about it.

    Args:
        not_finite: `stop` the training with an error, or `mask` the model: its rate is 0 from then on, its
            weights stay those before the step, and the other models of the stack go on untouched.
        divergence, spike: the same, or `warn`.
        window: steps that a number is compared with.
        spike_deviations: robust deviations above the median that make a spike.
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
    gradient_factor: float = 5.0
    divergence_rise: float = 1.0

    def __post_init__(self) -> None:
        limits = (self.spike_deviations, self.spike_rise, self.gradient_factor - 1, self.divergence_rise)
        if self.window < MIN_HISTORY or not all(limit > 0 for limit in limits):
            raise RecipeError(
                f"health needs a window of at least {MIN_HISTORY} steps, a gradient factor above 1 and "
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
    """What one model did on one path. `open` holds the step at which each episode under way began."""

    losses: list[float] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)  # logarithms
    lowest: float | None = None
    n_above: int = 0
    open: dict[str, int] = field(default_factory=dict)
    is_masked: bool = False


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
                here = self._judge_model(k, step, history, float(losses[k]), float(norms[k]))
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

    def _judge_model(self, k: int, step: int, history: _History, loss: float, norm: float) -> list[Finding]:
        policy = self.policy
        if not (math.isfinite(loss) and math.isfinite(norm)):
            before = _median(history.losses)
            return [Finding(kind="not finite", action=policy.not_finite, model=k, before=before, value=loss)]
        log_norm = math.log(max(norm, 1e-30))
        found = [
            self._spike("loss spike", k, step, history, history.losses, loss, policy.spike_rise),
            self._spike(
                "gradient spike", k, step, history, history.norms, log_norm, math.log(policy.gradient_factor)
            ),
        ]
        for kept, value in ((history.losses, loss), (history.norms, log_norm)):
            kept.append(value)
            del kept[: -policy.window]
        found.append(self._divergence(k, step, history))
        return [finding for finding in found if finding is not None]

    def _spike(
        self, kind: Kind, k: int, step: int, history: _History, kept: list[float], value: float, rise: float
    ) -> Finding | None:
        if len(kept) < MIN_HISTORY:
            return None
        middle = statistics.median(kept)
        spread = NORMAL * statistics.median(abs(past - middle) for past in kept)
        is_high = value > middle + max(self.policy.spike_deviations * spread, rise)
        is_norm = kind == "gradient spike"
        shown = (math.exp(middle), math.exp(value)) if is_norm else (middle, value)
        return self._episode(kind, k, step, history, self.policy.spike, shown, is_high=is_high)

    def _divergence(self, k: int, step: int, history: _History) -> Finding | None:
        policy = self.policy
        if len(history.losses) < policy.window:
            return None
        middle = statistics.median(history.losses)
        history.lowest = middle if history.lowest is None else min(history.lowest, middle)
        is_above = middle > history.lowest + policy.divergence_rise
        history.n_above = history.n_above + 1 if is_above else 0
        shown = (history.lowest, middle)
        is_high = history.n_above >= policy.window // 2
        if "divergence" in history.open and is_above:
            return None
        return self._episode("divergence", k, step, history, policy.divergence, shown, is_high=is_high)

    def _episode(
        self,
        kind: Kind,
        k: int,
        step: int,
        history: _History,
        action: Action,
        shown: tuple[float, float],
        *,
        is_high: bool,
    ) -> Finding | None:
        """The first step of an episode is a finding, the first step after it a recovery."""
        before, value = shown
        if is_high and kind not in history.open:
            history.open[kind] = step
            return Finding(kind=kind, action=action, model=k, before=before, value=value)
        if not is_high and kind in history.open:
            since = history.open.pop(kind)
            return Finding(kind="recovery", action="warn", model=k, before=before, value=value, since=since)
        return None


def _median(kept: Sequence[float]) -> float:
    return statistics.median(kept) if kept else math.nan
