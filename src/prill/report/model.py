"""What a report says: plain values that the pipeline fills and the page, the charts and the terminal read.

Nothing here knows a clock, a file or HTML. Losses are bits per byte (lower is better) and a difference is
always `arm minus control`, so a negative difference favours the arm. Every tuple is shown in the order
given, so the pipeline decides the order once. Strings may hold anything found in data: the renderer makes
them harmless. A field that is not known stays at its default and its part of the page is left out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

from prill.errors import InternalError
from prill.study.verdict import Verdict

__all__ = [
    "Arm",
    "Curve",
    "CurvePoint",
    "Dropped",
    "Effect",
    "EvalSet",
    "Fact",
    "Finding",
    "GroupKind",
    "Histogram",
    "InputFile",
    "LineageStep",
    "MethodNote",
    "ReportData",
    "SampleDocument",
    "SampleGroup",
    "SeedPoint",
    "SelectionAudit",
    "SourceShare",
    "StepCost",
    "TargetReport",
    "Verdict",
]

EvalSet = Literal["target", "rest"]
GroupKind = Literal["above", "below", "random"]

_SENTENCE = {"limit": 1_200}  # characters kept of a string; names and labels keep the renderer's default
_PASSAGE = {"limit": 20_000}


@dataclass(frozen=True, kw_only=True)
class Fact:
    """One entry of a list of names and values, both ready to be read: `Pool`, `15,085 documents`."""

    label: str
    value: str = field(metadata=_SENTENCE)


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One way of choosing the training data. `name` is the key used everywhere else, `label` is shown.

    `role` tells the reader what the arm is for: a `candidate` could be used, a `control` is what
    candidates must beat, a `reference` (such as the planted truth) only marks what is possible.
    """

    name: str
    label: str
    role: Literal["candidate", "control", "reference"] = "candidate"
    description: str = field(default="", metadata=_SENTENCE)


@dataclass(frozen=True, kw_only=True)
class Finding:
    """The verdict on one arm against its control for one target, in words.

    `sentence` stands alone in plain words (with the numbers); `details` say how sure we are and why.
    """

    arm: str
    control: str
    verdict: Verdict
    sentence: str = field(metadata=_SENTENCE)
    details: tuple[str, ...] = field(default=(), metadata=_SENTENCE)


@dataclass(frozen=True, kw_only=True)
class CurvePoint:
    """Mean loss over seeds with its interval, in bits per byte, after `n_tokens` training tokens.

    `low` and `high` are None with a single seed: no interval is known.
    """

    n_tokens: int
    mean_bpb: float
    low_bpb: float | None = None
    high_bpb: float | None = None


@dataclass(frozen=True, kw_only=True)
class SeedPoint:
    """Loss of one training run, in bits per byte, after `n_tokens` training tokens."""

    seed: int
    n_tokens: int
    bpb: float


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Learning curve of one arm on one evaluation set."""

    arm: str
    eval_set: EvalSet
    points: tuple[CurvePoint, ...]
    seeds: tuple[SeedPoint, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Effect:
    """Difference in bits per byte, arm minus control, after the same number of training tokens.

    Args:
        low_bpb, high_bpb: bounds of the interval of confidence `level` on the difference.
        noise_floor_bpb: standard deviation between seeds of the control.
        detectable_bpb: true difference that would be found four times out of five.
        seed_differences_bpb: the paired difference of every seed.
        is_primary: this difference decides the verdict; others (such as the one on `rest`) inform it.
    """

    arm: str
    control: str
    eval_set: EvalSet
    n_tokens: int
    difference_bpb: float
    low_bpb: float | None = None
    high_bpb: float | None = None
    noise_floor_bpb: float | None = None
    detectable_bpb: float | None = None
    seed_differences_bpb: tuple[float, ...] = ()
    level: float = 0.95
    is_primary: bool = True


@dataclass(frozen=True, kw_only=True)
class SourceShare:
    """Documents and tokens of one source, in the pool (candidates) and kept. `source` None: not stated."""

    source: str | None
    n_documents_pool: int
    n_tokens_pool: int
    n_documents_kept: int
    n_tokens_kept: int


@dataclass(frozen=True, kw_only=True)
class Histogram:
    """Counts of documents (or tokens, or concepts) per bin, in the pool and kept.

    `edges` ascend and have one entry more than the counts. `is_log`: draw the axis in powers of ten
    (every edge above zero).
    """

    edges: tuple[float, ...]
    pool: tuple[int, ...]
    kept: tuple[int, ...]
    unit: str
    counted: Literal["documents", "tokens", "bytes", "concepts"] = "documents"
    is_log: bool = False

    def __post_init__(self) -> None:
        if not len(self.edges) - 1 == len(self.pool) == len(self.kept) >= 1:
            raise InternalError(
                f"expected one edge more than bins, found {len(self.edges)} edges, "
                f"{len(self.pool)} pool bins and {len(self.kept)} kept bins",
                where="report histogram",
            )
        if not all(math.isfinite(a) and a < b < math.inf for a, b in pairwise(self.edges)):
            raise InternalError("expected finite, ascending edges, found others", where="report histogram")
        if self.is_log and self.edges[0] <= 0:
            raise InternalError(
                f"expected edges above zero for a logarithmic axis, found {self.edges[0]}",
                where="report histogram",
            )


@dataclass(frozen=True, kw_only=True)
class Dropped:
    """Documents that could not be chosen, and why, in words: `exact copy of an earlier document`."""

    reason: str
    n_documents: int
    n_tokens: int | None = None


@dataclass(frozen=True, kw_only=True)
class SelectionAudit:
    """What one arm kept for one target, with the account that must add up.

    Args:
        budget: as the recipe states it, in words: `1,000,000 tokens`.
        threshold: score of the last document kept; None where there is none (a random draw).
        n_ties_boundary: documents with exactly that score, kept or not.
        shortfall_tokens: tokens of budget left unused.
        score_name: what the score is, with its direction: `log importance ratio per feature`.
        precision: share of the kept tokens that belong to the target, 0 to 1, where that is known.
        kl_nats: KL divergence from the target's held-out part to the choice, where it was measured.
    """

    arm: str
    budget: str
    n_documents_candidates: int
    n_tokens_candidates: int
    n_documents_kept: int
    n_tokens_kept: int
    threshold: float | None = None
    score_name: str = "score"
    n_ties_boundary: int = 0
    shortfall_tokens: int = 0
    precision: float | None = None
    kl_nats: float | None = None
    by_source: tuple[SourceShare, ...] = ()
    lengths: Histogram | None = None
    scores: Histogram | None = None
    dropped: tuple[Dropped, ...] = ()


@dataclass(frozen=True, kw_only=True)
class SampleDocument:
    """One document for reading: where it lies, what it scored, and why it was kept or not.

    `shard` is the file as the run names it, `row` counts from 0 within it. `text` may be whole: it is
    cut for the page, and the page says so (`n_chars` tells the full length when `text` is already cut).
    """

    shard: str
    row: int
    text: str = field(metadata={"limit": None})
    reason: str
    is_kept: bool
    id: str | None = None
    source: str | None = None
    score: float | None = None
    n_tokens: int | None = None
    n_chars: int | None = None


@dataclass(frozen=True, kw_only=True)
class SampleGroup:
    """Documents of one kind: just `above` the line, just `below` it, or `random` from the pool."""

    kind: GroupKind
    documents: tuple[SampleDocument, ...]
    arm: str = ""


@dataclass(frozen=True, kw_only=True)
class TargetReport:
    """Everything about one target."""

    name: str
    description: str = field(default="", metadata=_SENTENCE)
    facts: tuple[Fact, ...] = ()
    findings: tuple[Finding, ...] = ()
    curves: tuple[Curve, ...] = ()
    effects: tuple[Effect, ...] = ()
    tokens_to_match: tuple[str, ...] = field(default=(), metadata=_SENTENCE)
    selections: tuple[SelectionAudit, ...] = ()
    samples: tuple[SampleGroup, ...] = ()
    warnings: tuple[str, ...] = field(default=(), metadata=_SENTENCE)


@dataclass(frozen=True, kw_only=True)
class StepCost:
    """Work of one step in units that do not depend on the machine; `elapsed_s` only if asked for."""

    step: str
    what: str = field(default="", metadata=_SENTENCE)
    n_documents: int | None = None
    n_bytes: int | None = None
    n_tokens: int | None = None
    flops: float | None = None
    elapsed_s: float | None = None


@dataclass(frozen=True, kw_only=True)
class LineageStep:
    """One step of the run: its fingerprint, the steps it stands on, and what it was told."""

    step: str
    fingerprint: str
    version: str = ""
    parents: tuple[str, ...] = ()
    settings: tuple[Fact, ...] = ()
    counts: tuple[Fact, ...] = ()


@dataclass(frozen=True, kw_only=True)
class InputFile:
    """One file that was read: `path` relative to the recipe or corpus, size and content hash."""

    path: str
    n_bytes: int
    sha256: str = ""
    role: str = "pool"


@dataclass(frozen=True, kw_only=True)
class MethodNote:
    """How an arm or a measurement works, so that it can be checked against its source."""

    name: str
    title: str
    paper: str = ""
    formula: str = field(default="", metadata=_SENTENCE)
    summary: str = field(default="", metadata=_SENTENCE)
    assumptions: tuple[str, ...] = field(default=(), metadata=_SENTENCE)
    deviations: tuple[str, ...] = field(default=(), metadata=_SENTENCE)


@dataclass(frozen=True, kw_only=True)
class ReportData:
    """A whole report. `title` names the study, `recipe` the file or name it came from.

    `facts` is the short strip under the verdict (pool, budget, model, seeds: three to six entries).
    `arms` lists every arm that any target names. `warnings` are things to know before relying on it.
    """

    title: str
    recipe: str
    targets: tuple[TargetReport, ...]
    arms: tuple[Arm, ...]
    question: str = field(default="", metadata=_SENTENCE)
    facts: tuple[Fact, ...] = ()
    warnings: tuple[str, ...] = field(default=(), metadata=_SENTENCE)
    costs: tuple[StepCost, ...] = ()
    methods: tuple[MethodNote, ...] = ()
    lineage: tuple[LineageStep, ...] = ()
    inputs: tuple[InputFile, ...] = ()
    versions: tuple[Fact, ...] = ()
    seeds: tuple[int, ...] = ()
    recipe_text: str = field(default="", metadata=_PASSAGE)
    repeat_command: str = field(default="", metadata=_SENTENCE)
    repeat_notes: tuple[str, ...] = field(default=(), metadata=_SENTENCE)

    def __post_init__(self) -> None:
        known = {arm.name for arm in self.arms}
        named = {name for target in self.targets for name in _arm_names(target)}
        if missing := sorted(named - known):
            raise InternalError(
                f"expected every arm to be listed, found {missing[:5]!r} in targets only", where="report arms"
            )

    def arm(self, name: str) -> Arm:
        """The arm with this name. Raises `KeyError` for an unknown one."""
        return {arm.name: arm for arm in self.arms}[name]


def _arm_names(target: TargetReport) -> set[str]:
    names = {curve.arm for curve in target.curves} | {audit.arm for audit in target.selections}
    names |= {name for finding in target.findings for name in (finding.arm, finding.control)}
    names |= {name for effect in target.effects for name in (effect.arm, effect.control)}
    return names | {group.arm for group in target.samples if group.arm}
