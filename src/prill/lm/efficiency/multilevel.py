"""The V-cycle of multi-level training: warm up large, train small, map back, interpolate, train large.

    small stage      W_small = coalesced(W_warm)                        (`prill.lm.efficiency.levels`)
    last stage       W = (1 - alpha) W_warm + alpha decoalesced(W_small, trained)

Interpolating breaks the symmetry of copied neurons; at alpha = 1 copies get equal gradients for ever and the
model stays as small as its copy. Optimisers start anew in every stage. The three stages read one feed one
behind the other, so no document is read twice, and every stage has its own schedule and peak rate.
A stage that has finished is not trained again when the call is repeated with the same folder.

A saving is only one at equal quality, each with a whole schedule: compare `CycleResult.flops` with the cost
of the plain training that reaches the same loss, not of the one with the same tokens.

Source: Zou et al. 2024, ICLR, algorithm 1 and released GPT-2 example (alpha 0.5). Differs: see `levels`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from prill.errors import RecipeError
from prill.lm.efficiency.stored_stack import Later, StoredStack
from prill.lm.plan import Run, RunResult, StepInfo, TrainSettings
from prill.lm.schedules.spec import ConstantSpec, ScheduleSpec, WsdSpec
from prill.lm.score import EvalSet
from prill.lm.shape import flops_per_token
from prill.lm.steplaw import advise
from prill.run.fingerprint import safe_name

if TYPE_CHECKING:
    from prill.lm.efficiency.levels import Levels
    from prill.lm.learner import Start

__all__ = ["CycleResult", "Stage", "VCycle", "v_cycle"]

WHERE = "multi-level training"


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One of the three trainings.

    Args:
        n_tokens: of every run.
        schedule: of this stage alone.
        peak_rate: None: the Step Law's advice for the stage's size and tokens.
    """

    n_tokens: int
    schedule: ScheduleSpec
    peak_rate: float | None = None


def _warm() -> ScheduleSpec:
    return ScheduleSpec(constant=ConstantSpec.model_validate({"warmup": "100%"}))


def _decaying() -> ScheduleSpec:
    return ScheduleSpec(wsd=WsdSpec.model_validate({"warmup": "0 steps"}))


@dataclass(frozen=True, kw_only=True)
class VCycle:
    """What a cycle does.

    Args:
        levels: large and small shape, and the groups between them.
        n_tokens: of the large warm-up, the small training, the large training.
        alpha: share of the mapped weights in the last stage's start.
        schedules: of the three stages; by default warm-up throughout, then twice a stable rate with a decay.
        peak_rates: of the three stages; None: the Step Law's.
    Raises:
        RecipeError: alpha is not from 0 to 1.
    """

    levels: Levels
    n_tokens: tuple[int, int, int]
    alpha: float = 0.5
    schedules: tuple[ScheduleSpec, ScheduleSpec, ScheduleSpec] = field(
        default_factory=lambda: (_warm(), _decaying(), _decaying())
    )
    peak_rates: tuple[float | None, float | None, float | None] = (None, None, None)

    def __post_init__(self) -> None:
        if not 0 <= self.alpha <= 1:
            raise RecipeError(f"`alpha` must be from 0 to 1, found {self.alpha}", where=WHERE)

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The three trainings."""
        return tuple(
            Stage(n_tokens=n_tokens, schedule=schedule, peak_rate=peak)
            for n_tokens, schedule, peak in zip(self.n_tokens, self.schedules, self.peak_rates, strict=True)
        )


@dataclass(frozen=True, kw_only=True)
class CycleResult:
    """What a cycle gave.

    Attributes:
        stages: results of the three trainings, one a run each; the last are the models.
        flops: operations of each stage for one run; mapping costs next to nothing.
        plain_flops: what the same tokens would cost on the large model alone.
    """

    stages: tuple[tuple[RunResult, ...], ...]
    flops: tuple[int, ...]
    plain_flops: int

    @property
    def results(self) -> tuple[RunResult, ...]:
        """Of the large models at the end."""
        return self.stages[-1]


def v_cycle(
    runs: Sequence[Run],
    settings: TrainSettings,
    cycle: VCycle,
    *,
    folder: Path,
    eval_sets: Mapping[str, EvalSet] | None = None,
    on_step: Callable[[StepInfo], None] | None = None,
) -> CycleResult:
    """Train every run through the cycle.

    Args:
        runs: one model each; their feeds must hold the tokens of all three stages. Their own peak rates are
            not used.
        settings: shared; start, tokens, schedule and peak rate are the stages' own.
        cycle: what to do.
        folder: models and checkpoints of the stages, `0-large/`, `1-small/`, `2-large/`.
        eval_sets: scored at the end of every stage.
        on_step: told after every step, with counts of the stage.
    Raises:
        PrillError: as `prill.lm.train.train`.
    """
    from prill.lm.fresh import Fresh
    from prill.lm.train import train

    found: list[tuple[RunResult, ...]] = []
    trained: list[list[Path]] = []
    flops: list[int] = []
    n_rows = 0
    places = [folder / name for name in ("0-large", "1-small", "2-large")]
    for stage, place in zip(cycle.stages, places, strict=True):
        start: Start = _mapped(cycle, places, trained) if trained else Fresh(shape=cycle.levels.large)
        here = _settings(settings, stage, start)
        fed = [replace(run, feed=Later(feed=run.feed, skipped=n_rows), peak_rate=None) for run in runs]
        done = train(
            fed,
            here,
            eval_sets=eval_sets,
            checkpoint_dir=place,
            models_dir=place / "trained",
            on_step=on_step,
        )
        found.append(tuple(done))
        trained.append(
            [
                place / "trained" / f"{safe_name(result.label)}-{result.branches[-1].n_tokens}"
                for result in done
            ]
        )
        flops.append(here.flops)
        n_rows += here.n_rows
    tokens = sum(results[0].branches[-1].n_tokens for results in found)
    return CycleResult(
        stages=tuple(found), flops=tuple(flops), plain_flops=tokens * flops_per_token(cycle.levels.large)
    )


def _settings(settings: TrainSettings, stage: Stage, start: Start) -> TrainSettings:
    peak = stage.peak_rate
    if peak is None:
        peak = advise(start.n_params, stage.n_tokens, settings.batches.row_tokens).peak_rate
    return replace(
        settings, start=start, branch_tokens=(stage.n_tokens,), schedule=stage.schedule, peak_rate=peak
    )


def _mapped(cycle: VCycle, places: Sequence[Path], trained: Sequence[Sequence[Path]]) -> StoredStack:
    """Write the models a stage starts from, one a run, and open them; `trained` are the stages' so far."""
    from prill.lm.checkpoint import load_model, save_model
    from prill.lm.efficiency.levels import coalesced, decoalesced, interpolated
    from prill.lm.model import StackedLlama

    levels, folders = cycle.levels, []
    for k, warm in enumerate(trained[0]):
        flat, shape = load_model(warm)[0].flat, levels.large
        if len(trained) == 1:
            flat, shape = coalesced(flat, levels), levels.small
        else:
            small = load_model(trained[1][k])[0].flat
            flat = interpolated(flat, decoalesced(small, levels), cycle.alpha)
        folders.append(places[len(trained)] / "start" / str(k))
        save_model(folders[-1], StackedLlama(shape, flat), 0)
    return StoredStack(folders=tuple(folders))
