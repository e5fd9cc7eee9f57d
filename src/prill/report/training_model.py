"""What a training report says: plain values that the pipeline fills and the page reads.

Nothing here knows a clock, so the page of a training that was killed and resumed equals that of one that
was not. Held-out losses are bits per byte, training losses nats a token where the objective is
cross-entropy. Every tuple is shown in the order given. Strings may hold anything found in data: the renderer
makes them harmless.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from prill.report.model import Fact, InputFile, LineageStep, MethodNote, StepCost

__all__ = [
    "BadRow",
    "IncidentNote",
    "PathPoint",
    "Reached",
    "SourceRead",
    "TrainingPath",
    "TrainingReport",
]

_SENTENCE = {"limit": 1_200}
_PASSAGE = {"limit": 20_000}


@dataclass(frozen=True, kw_only=True)
class Reached:
    """Loss on one held-out set after `n_tokens` training tokens, bits per byte.

    Attributes:
        bpb: mean over the seeds that did not break; None: all broke.
        low, high: 95 % interval over seeds; None with fewer than two.
        by_seed: of every seed in order; None: it had broken.
        is_aside: measured in another way than the model as it is on the text as it is: behind prefixes
            that a model trained on transforms knows, or a smaller size within the model.
    """

    eval_set: str
    n_tokens: int
    n_documents: int
    bpb: float | None
    low: float | None = None
    high: float | None = None
    by_seed: tuple[float | None, ...] = ()
    is_aside: bool = False


@dataclass(frozen=True, kw_only=True)
class PathPoint:
    """Some steps in a row: their last token count and rate, their mean loss and median gradient norm."""

    n_tokens: int
    loss: float
    gradient_norm: float
    learning_rate: float


@dataclass(frozen=True, kw_only=True)
class TrainingPath:
    """One model on the trunk (`branch` None) or on one decay branch."""

    run: str
    branch: int | None
    points: tuple[PathPoint, ...]


@dataclass(frozen=True, kw_only=True)
class SourceRead:
    """What the models read of one source.

    Attributes:
        wanted_share: of all tokens, as the recipe's weights say.
        n_trained_tokens: those read whose loss was learnt from.
        passes: tokens read over the source's tokens; `most_passes` of one document.
        is_same: every seed read as much of it.
    """

    source: str
    wanted_share: float
    n_tokens: int
    n_trained_tokens: int
    passes: float
    most_passes: float
    n_documents: int
    n_documents_read: int
    is_same: bool = True


@dataclass(frozen=True, kw_only=True)
class BadRow:
    """One row of a batch with its mean loss, nats a token, and the documents it holds."""

    loss: float
    documents: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class IncidentNote:
    """Something that went wrong with one model.

    Attributes:
        step, n_tokens: when; `n_tokens` on the path, which `branch` names (None: the trunk).
        kind, action: as the health watch calls them.
        before, value: median before it, and the number itself.
        back_after: steps until it was over; None: it never was, or nothing to come back from.
        documents, n_documents: of the batch, as far as they were noted, and how many it held.
        rows: of highest loss first.
    """

    run: str
    step: int
    n_tokens: int
    branch: int | None
    kind: str
    action: str
    before: float | None
    value: float
    loss: float
    learning_rate: float
    back_after: int | None = None
    documents: tuple[str, ...] = ()
    n_documents: int = 0
    rows: tuple[BadRow, ...] = ()


@dataclass(frozen=True, kw_only=True)
class TrainingReport:
    """A whole report.

    Attributes:
        title, recipe: name of the training, and the file it came from.
        model: what was trained, as a phrase: `a fresh pico`.
        n_models, n_params, n_tokens, n_steps: models, parameters of one without embeddings, tokens of the
            longest path, steps of all paths.
        is_plain_loss: the training loss is cross-entropy alone.
        settings: everything that decided the result, name and value.
    """

    title: str
    recipe: str
    model: str
    n_models: int
    n_params: int
    n_tokens: int
    n_steps: int
    is_plain_loss: bool = True
    reached: tuple[Reached, ...] = ()
    paths: tuple[TrainingPath, ...] = ()
    sources: tuple[SourceRead, ...] = ()
    incidents: tuple[IncidentNote, ...] = ()
    facts: tuple[Fact, ...] = ()
    settings: tuple[Fact, ...] = ()
    warnings: tuple[str, ...] = field(default=(), metadata=_SENTENCE)
    methods: tuple[MethodNote, ...] = ()
    costs: tuple[StepCost, ...] = ()
    lineage: tuple[LineageStep, ...] = ()
    inputs: tuple[InputFile, ...] = ()
    versions: tuple[Fact, ...] = ()
    seeds: tuple[int, ...] = ()
    recipe_text: str = field(default="", metadata=_PASSAGE)
    repeat_command: str = field(default="", metadata=_SENTENCE)
    repeat_notes: tuple[str, ...] = field(default=(), metadata=_SENTENCE)
