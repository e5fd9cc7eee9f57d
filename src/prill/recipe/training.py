"""The recipe of a training: sources, a model, an objective, a schedule, and what to measure it on."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from prill.corpus.spec import CorpusSpec
from prill.lm.schedules.span import Length
from prill.lm.schedules.spec import ScheduleSpec, WsdSpec
from prill.lm.shape import LADDER
from prill.recipe.model import TokenizerSpec
from prill.recipe.named import Named
from prill.recipe.quantity import Bytes, Tokens

__all__ = [
    "CooldownSpec",
    "LoraSpec",
    "ModelSpec",
    "NestedSpec",
    "SourceSpec",
    "SwapSpec",
    "TrainRecipe",
    "WeightPoint",
]


Share = Annotated[float, Field(ge=0, le=1)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SourceSpec(_Model):
    """One source of training text."""

    corpus: CorpusSpec = Field(description="The documents.")
    weight: float = Field(1.0, gt=0, description="Share of the training tokens, in proportion to the others.")
    max_epochs: float | None = Field(
        4.0, gt=0, description="Most passes over the source's tokens; null: no limit."
    )
    samples: tuple[Named, ...] = Field(
        (), max_length=8, description="Sample transforms, in order; `prill objectives` lists them."
    )


class WeightPoint(_Model):
    """The weights at one moment of the training; between two moments they change evenly."""

    at: Share = Field(description="Progress, from 0 to 1.")
    weights: dict[str, Annotated[float, Field(ge=0)]] = Field(description="Weight of every source.")


class CooldownSpec(_Model):
    """The end of the training on fresh documents without sample transforms."""

    share: float = Field(0.1, gt=0, lt=1, description="Share of the training tokens.")


class SwapSpec(_Model):
    """Random tokens in place of some, for `swap_detection` or to be recovered (SLM)."""

    rate: float = Field(0.15, gt=0, lt=1, description="Share of the tokens that are swapped.")
    task: Literal["detect", "recover"] = Field(
        "detect", description="Detect swaps (with the objective `swap_detection`), or learn what was there."
    )
    sees: Literal["left", "all"] = Field(
        "left", description="What a token is judged by: what is before it, or (an encoder) all of its text."
    )


class NestedSpec(_Model):
    """Smaller models inside the large one, trained in the same run."""

    widths: tuple[Annotated[float, Field(gt=0, le=1)], ...] | None = Field(
        None, description="Widths, as shares of the full one's heads; null: 1/4, 1/2, 1 where they are whole."
    )
    depths: tuple[Annotated[float, Field(gt=0, le=1)], ...] | None = Field(
        None, description="Layers, as shares of the full one's; null: 1/2 and 1 where they are whole."
    )


class LoraSpec(_Model):
    """Low-rank adapters in place of training all weights of a base."""

    rank: int = Field(8, ge=1, le=1024, description="Rank of every adapter.")
    alpha: float | None = Field(
        None, gt=0, description="The adapter counts alpha / rank; null: twice the rank."
    )
    first_layers: int | None = Field(None, ge=0, description="Only the first so many layers; null: all.")
    last_layers: int | None = Field(None, ge=0, description="And the last so many layers.")
    targets: tuple[str, ...] = Field((), description="Names of linear maps that get one; empty: all.")
    merge: bool = Field(True, description="Write base and adapters as one plain model too, in `merged/`.")


class ModelSpec(_Model):
    """What is trained: a fresh model of the ladder, or a base that is continued."""

    size: str | None = Field(None, description="Fresh model: " + ", ".join(LADDER) + ".")
    base: str | None = Field(
        None, description="Folder of a model to continue: of Prill, or of `transformers` in safetensors."
    )
    row_tokens: int | None = Field(
        None, ge=16, le=1_048_576, description="Tokens of a row; null: the size's, or the base's context."
    )
    nested: NestedSpec | None = Field(None, description="Fresh models only: sizes within one run.")
    sparsity: float | None = Field(
        None, gt=0, lt=1, description="Fresh models only: share of the weights that are held at zero (SPDF)."
    )
    lora: LoraSpec | None = Field(None, description="`transformers` bases only: adapters.")
    recompute: bool = Field(
        False,
        description="Compute layers again in the backward pass instead of keeping them: less memory, about a "
        "third more time.",
    )
    teacher: str | None = Field(
        None, description="Folder of the frozen model that soft labels or distillation learn from."
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.size is None) == (self.base is None):
            raise ValueError("a model is either a `size` or a `base`, and not both")
        if self.size is not None and self.size not in LADDER:
            raise ValueError(f"`size` must be one of {', '.join(LADDER)}, found {self.size!r}")
        if self.size is None and (self.nested or self.sparsity):
            raise ValueError("`nested` and `sparsity` need a fresh model: give a `size`")
        if self.nested and self.recompute:
            raise ValueError("`recompute` does not go with `nested`")
        if self.base is None and self.lora:
            raise ValueError("`lora` needs a `base`")
        return self


class TrainRecipe(_Model):
    """What to train, on what, how, and what to measure it on."""

    name: str = Field("a Prill training", max_length=200, description="Title of the summary.")
    seed: int = Field(0, ge=0, le=2**63 - 1, description="Seed of everything that is drawn.")
    sources: dict[Annotated[str, Field(min_length=1, max_length=100)], SourceSpec] = Field(
        min_length=1, max_length=64, description="Where the training text comes from, by name."
    )
    weights: tuple[WeightPoint, ...] = Field(
        (), description="Weights that change as training goes; empty: the sources' own, all the way."
    )
    when_dry: Literal["stop", "others"] = Field(
        "stop",
        description="A source that has had all its passes: an error before training, or its weight goes to "
        "the others.",
    )
    cooldown: CooldownSpec | None = Field(
        None, description="The end on fresh documents without sample transforms; null: none."
    )
    swaps: SwapSpec | None = Field(None, description="Tokens swapped in every row; null: none.")
    tokenizer: TokenizerSpec = Field(
        default_factory=TokenizerSpec, description="How text becomes tokens; a base brings its own."
    )
    model: ModelSpec = Field(description="What is trained.")
    tokens: Tokens = Field(description="Training tokens of one model.")
    checkpoints: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field(
        (1.0,), min_length=1, description="Shares of `tokens` at which the model is decayed and evaluated."
    )
    seeds: int = Field(1, ge=1, le=1000, description="Models; each has its own weights and order of rows.")
    objective: Named | None = Field(
        None, description="What is minimised; null: cross-entropy. `prill objectives` lists them."
    )
    schedule: ScheduleSpec = Field(
        default_factory=lambda: ScheduleSpec(wsd=WsdSpec()), description="The learning rate over time."
    )
    learning_rate: float | None = Field(
        None,
        gt=0,
        le=1,
        description="Peak rate; null follows the Step Law, a tenth of it for a base trained in full.",
    )
    rows: int | None = Field(
        None, ge=1, le=65_536, description="Rows of a training step; null follows the Step Law."
    )
    batch_ramp: Length | None = Field(
        None, description="Length over which the rows of a step double up to all; null: no ramp."
    )
    length_ramp: Length | None = Field(
        None, description="Length over which rows grow from an eighth to full length; null: no ramp."
    )
    weight_decay: float = Field(0.1, ge=0, le=1, description="AdamW's decay of matrices and embeddings.")
    clip_norm: float = Field(1.0, gt=0, description="Largest gradient norm of one model.")
    held_out: Bytes = Field(
        100_000, description="Text of every source that is never trained on and measures it, bytes."
    )
    evaluation: dict[Annotated[str, Field(min_length=1, max_length=100)], CorpusSpec] = Field(
        default_factory=dict, description="Further texts to measure on, by name."
    )
    stack: int | None = Field(
        None, ge=1, le=256, description="Seeds that train as one model; null: 1 on a processor, 16 on a GPU."
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto", description="Arithmetic of the matrix products; auto takes bf16 where it is faster."
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="Where models train.")
    threads: int | None = Field(
        None,
        ge=1,
        le=1024,
        description="Threads of one training on a processor; null: 1 for fresh models, all cores for a base.",
    )
    on_divergence: Literal["stop", "mask"] = Field(
        "stop", description="A loss that is no number: stop, or go on with the other seeds of the stack."
    )
    trackers: tuple[Literal["tensorboard", "trackio", "wandb", "mlflow"], ...] = Field(
        (), description="Experiment trackers to tell beside the metrics file; each needs its extra."
    )
    output: str = Field("trained", description="Folder of the run.")

    @model_validator(mode="after")
    def _check_weights(self) -> Self:
        moments = [point.at for point in self.weights]
        if moments != sorted(set(moments)):
            raise ValueError(f"`weights` must come in rising order of `at`, found {moments}")
        for point in self.weights:
            if set(point.weights) != set(self.sources):
                raise ValueError(
                    f"`weights` at {point.at} must name every source: {', '.join(self.sources)}; "
                    f"found {', '.join(point.weights)}"
                )
            if not sum(point.weights.values()) > 0:
                raise ValueError(f"`weights` at {point.at} must not all be 0")
        return self
