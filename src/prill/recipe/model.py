"""The recipe: every field with its unit, its bounds, its default and one sentence.

Unknown keys are refused. Paths are relative to the recipe's folder. What does not change a result (workers,
the folder to write into) is not part of a step's fingerprint, so a run can be moved or resumed elsewhere.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator

from prill.corpus.spec import CorpusSpec
from prill.lm.schedules.spec import ScheduleSpec, WsdSpec
from prill.lm.shape import LADDER
from prill.methods.registry import get_method, list_methods
from prill.prepare.spec import PrepareSpec
from prill.recipe.named import Named
from prill.recipe.quantity import Bytes, Tokens
from prill.select.budget import Budget
from prill.select.policy import Policy
from prill.targets.spec import TargetSpec

__all__ = [
    "CONTROL",
    "ArmSpec",
    "DatasetSpec",
    "Recipe",
    "RestSpec",
    "TokenizerSpec",
    "TrialSpec",
    "json_schema",
]

CONTROL = "random"
MIN_STEPS = 40  # 30 to warm up, and a fifth to decay


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TokenizerSpec(_Model):
    """How text becomes tokens, the unit of every budget."""

    path: str | None = Field(None, description="A `tokenizer.json` to use; null trains one on the pool.")
    vocab_size: int = Field(4096, ge=300, le=1_000_000, description="Entries of the trained vocabulary.")
    sample: Bytes = Field(
        8_000_000, description="Pool text the vocabulary is trained on, bytes, chosen by hash."
    )


class ArmSpec(_Model):
    """One way of choosing: a scoring method and a policy."""

    method: str = Field(description="Name of a method; `prill methods` lists them.")
    name: str | None = Field(
        None,
        pattern=r"^[a-z0-9][a-z0-9_-]{0,39}$",
        description="Name of the arm in results; null takes the method's. Needed for a second use of it.",
    )
    settings: dict[str, Any] = Field(default_factory=dict, description="The method's own settings.")
    policy: Policy | None = Field(
        None, description="How scores become a choice; null takes the method's default."
    )

    @property
    def label(self) -> str:
        """The arm's name in results."""
        return self.name or self.method


def _all_arms(value: Any) -> Any:
    """`all` as one arm for every method that works without settings."""
    if value != "all":
        return value
    names = [name for name in list_methods() if not get_method(name).needs_settings]
    return [{"method": name} for name in names if name != CONTROL]


def _all_or_list(schema: dict[str, Any]) -> None:
    """The schema of `arms`: the word `all`, or a list."""
    kept = {name: schema.pop(name) for name in ("type", "items", "minItems", "maxItems") if name in schema}
    schema["anyOf"] = [{"const": "all"}, kept]


class RestSpec(_Model):
    """The part of the pool that is kept aside to see what a choice costs elsewhere."""

    size: Bytes = Field(
        400_000, description="Pool text held out as `rest`, bytes, chosen by hash; at most a tenth."
    )


class TrialSpec(_Model):
    """The small models that test the choice."""

    size: str = Field("nano", description="Model shape: " + ", ".join(LADDER) + ".")
    tokens: Tokens = Field(500_000, description="Training tokens of a trial.")
    checkpoints: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field(
        (0.25, 0.5, 1.0),
        min_length=1,
        description="Shares of `tokens` at which the learning rate is decayed and the model evaluated.",
    )
    seeds: int = Field(
        3, ge=1, le=1000, description="Seeds of every arm; each gives initialisation and order."
    )
    control_multiple: float = Field(
        1.0,
        ge=1,
        le=64,
        description="The control may train this many times longer, to see when it catches up.",
    )
    rows: int | None = Field(
        None, ge=1, le=4096, description="Rows of a training step; null follows the Step Law."
    )
    row_tokens: int = Field(256, ge=16, le=65_536, description="Tokens of a row.")
    learning_rate: float | None = Field(None, gt=0, le=1, description="Peak rate; null follows the Step Law.")
    schedule: ScheduleSpec = Field(
        default_factory=lambda: ScheduleSpec(wsd=WsdSpec()),
        description="The learning rate over time; every checkpoint is decayed under all but `constant`.",
    )
    objective: Named | None = Field(
        None,
        description="What trials minimise, the same for all arms; null: cross-entropy. "
        "`prill objectives` lists them.",
    )
    eval_tokens: Tokens = Field(
        24_000, description="About how many held-out tokens each evaluation set gives."
    )
    stack: int | None = Field(
        None, ge=1, le=256, description="Seeds that train as one model; null: 1 on a processor, 16 on a GPU."
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto",
        description="Arithmetic of the matrix products; auto takes bf16 where the processor gains from it.",
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="Where trials run.")

    @model_validator(mode="after")
    def _check(self) -> TrialSpec:
        if self.size not in LADDER:
            raise ValueError(f"`size` must be one of {', '.join(LADDER)}, found {self.size!r}")
        first, step = self.tokens * min(self.checkpoints), (self.rows or 4) * self.row_tokens
        if first < MIN_STEPS * step:
            raise ValueError(
                f"the first checkpoint needs {MIN_STEPS} steps of {step} tokens, found {first:,.0f} tokens"
            )
        return self


class DatasetSpec(_Model):
    """The chosen documents, written out."""

    format: Literal["parquet", "jsonl.zst"] = Field("parquet", description="File format of the dataset.")


_BUDGET_SCHEMA = WithJsonSchema({"anyOf": [{"type": "string"}, Budget.model_json_schema()]})


class StudyTarget(TargetSpec):
    """A target of a study."""

    budget: Annotated[Budget, _BUDGET_SCHEMA] | None = Field(
        None, description="How much to choose for this target; null takes the recipe's `budget`."
    )
    members: str | None = Field(
        None,
        description="JSON file with the ids of the pool documents that truly belong to the target, where "
        "that is known. No method sees it; it gives every choice its precision.",
    )


class Recipe(_Model):
    """What to read, what for, how much to choose, by which methods, and how to test the choice."""

    name: str = Field("a Prill run", max_length=200, description="Title of the report.")
    seed: int = Field(0, ge=0, le=2**63 - 1, description="Seed of everything that is drawn.")
    corpus: CorpusSpec = Field(description="The pool to choose from.")
    prepare: PrepareSpec | None = Field(
        None, description="How the pool is prepared first; null takes it as it is."
    )
    targets: dict[Annotated[str, Field(min_length=1, max_length=100)], StudyTarget] = Field(
        min_length=1, description="What the model should become good at, by name."
    )
    duplicates: Literal["drop", "keep"] = Field(
        "drop", description="What to do with exact copies: drop all but the first, or keep them."
    )
    tokenizer: TokenizerSpec = Field(default_factory=TokenizerSpec, description="How text becomes tokens.")
    budget: Annotated[Budget, _BUDGET_SCHEMA] = Field(
        description="How much to choose for each target: 5%, 2M tokens, 800 documents, 1.5 GB."
    )
    arms: Annotated[tuple[ArmSpec, ...], BeforeValidator(_all_arms)] = Field(
        (ArmSpec(method="dsir"),),
        min_length=1,
        max_length=100,
        description="The ways of choosing to compare; `all`: every method that needs no settings. "
        "The random control is always added.",
        json_schema_extra=_all_or_list,
    )
    unfit: Literal["stop", "leave_out"] = Field(
        "stop",
        description="What to do when an arm cannot work with these data (a target too small to fit, grades "
        "that are all equal): stop with the reason, or leave the arm out and tell it. With `arms: all` the "
        "default is leave_out.",
    )
    rest: RestSpec = Field(default_factory=RestSpec, description="Held-out part of the pool.")
    trials: TrialSpec | None = Field(
        default_factory=TrialSpec, description="The proof; null selects and writes without one."
    )
    dataset: DatasetSpec = Field(
        default_factory=DatasetSpec, description="How the chosen documents are written."
    )
    output: str = Field("run", description="Folder of the run.")

    def budget_of(self, target: str) -> Budget:
        """How much to choose for one target: its own budget, or the common one."""
        return self.targets[target].budget or self.budget

    @property
    def common_budget(self) -> Budget | None:
        """How much to choose for every target; None where targets have budgets of their own that differ."""
        budgets = [self.budget_of(target) for target in self.targets]
        return budgets[0] if all(budget == budgets[0] for budget in budgets) else None

    @model_validator(mode="before")
    @classmethod
    def _all_leave_out(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("arms") == "all":
            return {"unfit": "leave_out", **values}
        return values

    @model_validator(mode="after")
    def _check_arms(self) -> Recipe:
        labels = [arm.label for arm in self.arms]
        if CONTROL in labels:
            raise ValueError(f"the arm `{CONTROL}` is the compulsory control and is always there; remove it")
        if len(set(labels)) != len(labels):
            raise ValueError(f"arms need different names, found {labels}; set `name`")
        return self


def json_schema(model: type[BaseModel] = Recipe) -> dict[str, Any]:
    """JSON Schema of a recipe, for editors: completion, hover texts and checks."""
    schema = model.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "Prill recipe"}
