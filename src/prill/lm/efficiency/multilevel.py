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
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prill.errors import RecipeError
from prill.lm.data import Rows
from prill.lm.feed.feed import Feed
from prill.lm.plan import Run, RunResult, StepInfo, TrainSettings
from prill.lm.schedules.spec import ConstantSpec, ScheduleSpec, WsdSpec
from prill.lm.score import EvalSet
from prill.lm.shape import Shape, flops_per_token
from prill.lm.steplaw import advise

if TYPE_CHECKING:
    import torch

    from prill.lm.efficiency.levels import Levels
    from prill.lm.model import StackedLlama

__all__ = ["CycleResult", "Later", "Stage", "StoredStack", "VCycle", "v_cycle"]

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


@dataclass(frozen=True, kw_only=True)
class StoredStack:
    """K different models of one shape from K folders; a `Start`. Model k is the one in `folders[k]`."""

    folders: tuple[Path, ...]

    @property
    def shape(self) -> Shape:
        """Of the models.

        Raises:
            DataError: a folder holds no model; RecipeError: the shapes differ.
        """
        from prill.lm.checkpoint import read_shape

        shapes = [read_shape(folder) for folder in self.folders]
        if len(set(shapes)) != 1:
            raise RecipeError("a stack needs models of one shape, found several", where=str(self.folders[0]))
        return shapes[0]

    @property
    def vocab_size(self) -> int:
        """Ids must be below it."""
        return self.shape.vocab_size

    @property
    def context(self) -> int:
        """The longest row, tokens."""
        return self.shape.seq_len

    @property
    def flops_per_token(self) -> int:
        """Of training, forward and backward, in rows of full length."""
        return flops_per_token(self.shape)

    @property
    def n_params(self) -> int:
        """Parameters of one model without embedding and head."""
        return self.shape.n_params

    def width(self) -> int:
        """Width of the hidden states."""
        return self.shape.d_model

    def learner(
        self, seeds: Sequence[int], *, n_extra: int, dtype: torch.dtype, device: torch.device
    ) -> StackedLlama:
        """The models, with `n_extra` trailing columns of zeros; seeds only say how many are wanted.

        Raises:
            RecipeError: not as many seeds as folders.
        """
        import torch

        from prill.lm.checkpoint import load_model
        from prill.lm.model import StackedLlama

        if len(seeds) != len(self.folders):
            raise RecipeError(
                f"a stored stack of {len(self.folders)} models needs as many runs, found {len(seeds)}",
                where=WHERE,
            )
        flat = torch.cat([load_model(folder)[0].flat for folder in self.folders])
        extra = torch.zeros(len(seeds), n_extra)
        return StackedLlama(self.shape, torch.cat([flat, extra], 1).to(device), dtype=dtype)

    def as_record(self) -> dict[str, Any]:
        """Shape and hashes of the weights."""
        from prill.lm.bases.folder import folder_digest

        files = [folder_digest(folder, config="model.json") for folder in self.folders]
        return {"start": "stored stack", "shape": asdict(self.shape), "files": files}


@dataclass(frozen=True, kw_only=True)
class Later:
    """A feed from one of its base rows on; a `Feed`."""

    feed: Feed
    skipped: int

    @property
    def name(self) -> str:
        """Named in errors."""
        return self.feed.name

    @property
    def n_tokens(self) -> int:
        """Of one pass over everything."""
        return self.feed.n_tokens

    @property
    def highest_id(self) -> int:
        """The largest token id that a row may hold."""
        return self.feed.highest_id

    def rows(self, first: int, count: int) -> Rows:
        """Base rows, counted from the first that is left."""
        return self.feed.rows(first + self.skipped, count)

    def documents(self, first: int, count: int) -> list[str]:
        """What these base rows hold."""
        return self.feed.documents(first + self.skipped, count)

    def digest(self) -> str:
        """Hash of everything that decides the rows."""
        return f"{self.feed.digest()}+{self.skipped}"


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
    flops: list[int] = []
    n_rows = 0
    places = [folder / name for name in ("0-large", "1-small", "2-large")]
    for number, (stage, place) in enumerate(zip(cycle.stages, places, strict=True)):
        start = Fresh(shape=cycle.levels.large) if number == 0 else _mapped(cycle, places, number, len(runs))
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
        flops.append(here.flops)
        n_rows += here.n_rows
    tokens = sum(results[0].branches[-1].n_tokens for results in found)
    return CycleResult(
        stages=tuple(found), flops=tuple(flops), plain_flops=tokens * flops_per_token(cycle.levels.large)
    )


def _settings(settings: TrainSettings, stage: Stage, start: Any) -> TrainSettings:
    peak = stage.peak_rate
    if peak is None:
        peak = advise(start.n_params, stage.n_tokens, settings.batches.row_tokens).peak_rate
    return replace(
        settings, start=start, branch_tokens=(stage.n_tokens,), schedule=stage.schedule, peak_rate=peak
    )


def _mapped(cycle: VCycle, places: Sequence[Path], number: int, n_runs: int) -> StoredStack:
    """Write the models a stage starts from, one a run, and open them."""
    from prill.lm.checkpoint import load_model, save_model
    from prill.lm.efficiency.levels import coalesced, decoalesced, interpolated
    from prill.lm.model import StackedLlama

    levels = cycle.levels
    folders = []
    for k in range(n_runs):
        flat = load_model(_trained(places[0], k))[0].flat
        shape = levels.small if number == 1 else levels.large
        if number == 1:
            flat = coalesced(flat, levels)
        else:
            small = load_model(_trained(places[1], k))[0].flat
            flat = interpolated(flat, decoalesced(small, levels), cycle.alpha)
        target = places[number] / "start" / str(k)
        save_model(target, StackedLlama(shape, flat), 0, {"mapped": number})
        folders.append(target)
    return StoredStack(folders=tuple(folders))


def _trained(place: Path, k: int) -> Path:
    """The one model that a stage saved for run k."""
    (found,) = sorted((place / "trained").glob(f"{k}-*"))
    return found
