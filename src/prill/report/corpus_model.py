"""What a corpus report says: plain values that the pipeline fills and the page and the terminal read.

`before` is the corpus as it was read, `kept` the documents that no rule dropped, as they were read, and
`prepared` the same documents after their edits. The account must add up exactly: before = kept + what each
rule dropped first, and prepared = kept - bytes cut + bytes put in their place. Every tuple is shown in the
order given. Strings may hold anything found in data: the renderer makes them harmless. A field that is not
known stays at its default and its part of the page is left out.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from prill.errors import InternalError
from prill.report.model import Fact, Histogram, InputFile, LineageStep, MethodNote, StepCost
from prill.report.spans import TextSpan

__all__ = [
    "Amount",
    "Breakdown",
    "Cluster",
    "ConceptCount",
    "ConceptReport",
    "CorpusReport",
    "DuplicateReport",
    "EditOutcome",
    "Example",
    "Found",
    "Histogram",
    "RepeatList",
    "Repeated",
    "RuleOutcome",
    "Share",
    "SizeCount",
    "TaskOverlap",
]

_SENTENCE = {"limit": 1_200}
_PASSAGE = {"limit": 20_000}
_EXCERPT = {"limit": 400}


@dataclass(frozen=True, kw_only=True)
class Amount:
    """How much: documents, bytes of UTF-8 text, and tokens where they were counted."""

    n_documents: int
    n_bytes: int
    n_tokens: int | None = None


@dataclass(frozen=True, kw_only=True)
class Example:
    """One document shown with its spans. `text` is whole: it is shortened around its spans for the page.

    `shard` is the file as the run names it, `row` counts from 0 within it. `fate` says in words what became
    of the document: `dropped: fewer than 50 words`, `kept, 3 spans cut`.
    """

    shard: str
    row: int
    text: str = field(metadata={"limit": None})
    fate: str = field(metadata=_SENTENCE)
    is_kept: bool
    spans: tuple[TextSpan, ...] = ()
    id: str | None = None
    source: str | None = None
    n_tokens: int | None = None


@dataclass(frozen=True, kw_only=True)
class RuleOutcome:
    """What one rule that drops documents did.

    Args:
        reason: in words a user reads, as `drop_reason` has it: `gopher: fewer than 50 words`.
        stage: the part of preparation it belongs to: `reading`, `quality`, `near copies`.
        n_fired: documents for which it holds, whatever the other rules say.
        n_alone: documents for which it alone holds.
        first: what it dropped because no earlier rule had: these add up over all rules.
        n_judged: documents that it judged; None means all. Groupings see only what was left to them.
        threshold: as the recipe has it, in words: `n_words >= 50`.
        examples: a few documents for which it holds, chosen by keyed hash.
    """

    reason: str
    stage: str
    n_fired: int
    n_alone: int
    first: Amount
    n_judged: int | None = None
    threshold: str = ""
    examples: tuple[Example, ...] = ()


@dataclass(frozen=True, kw_only=True)
class EditOutcome:
    """What one kind of edit did to the documents that were kept.

    Bytes of spans that overlap count for each kind here; `CorpusReport` has the exact sums.
    """

    kind: str
    stage: str
    n_documents: int
    n_spans: int
    n_bytes: int
    replacement: str | None = None
    examples: tuple[Example, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Share:
    """One language, source, year or host, before and after. `name` None: not stated."""

    name: str | None
    before: Amount
    after: Amount


@dataclass(frozen=True, kw_only=True)
class Breakdown:
    """The corpus by one property. `note` says what is not exact: `counts are at most 12 too high`."""

    title: str
    rows: tuple[Share, ...]
    note: str = field(default="", metadata=_SENTENCE)
    is_ordered: bool = False  # years, for example: shown in the order given, not by size


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """One group of copies: how many documents, and the beginning of the one that stays."""

    n_documents: int
    text: str = field(metadata=_EXCERPT)
    n_bytes: int | None = None
    place: str = ""


@dataclass(frozen=True, kw_only=True)
class SizeCount:
    """How many clusters have a size, in words: `2`, `3 to 4`, `65 to 128`."""

    size: str
    n_clusters: int
    n_documents: int


@dataclass(frozen=True, kw_only=True)
class DuplicateReport:
    """Copies of one kind: `exact copies`, `near copies`, `repeated lines`, `repeated passages`.

    Args:
        what: is copied: `documents`, `lines`, `passages`.
        n_clusters: groups of at least two.
        n_copies: all but one of each group.
        n_bytes: of those copies.
    """

    title: str
    what: str
    n_clusters: int
    n_copies: int
    n_bytes: int
    sizes: tuple[SizeCount, ...] = ()
    largest: tuple[Cluster, ...] = ()
    facts: tuple[Fact, ...] = ()
    note: str = field(default="", metadata=_SENTENCE)


@dataclass(frozen=True, kw_only=True)
class TaskOverlap:
    """How much of one evaluation task was found in the corpus, and how far the finding can be trusted.

    Args:
        n_dirty_items: items found in at least one document.
        n_documents: documents with at least one item.
        recall: share of injected items that were found; None when it was not measured.
        precision: share of sampled hits that were right; None when it was not measured.
        rates: more error rates: label `8 to 12 words`, value `recall 0.99 of 200, precision 0.98 of 50`.
    """

    task: str
    n_items: int
    n_dirty_items: int
    n_documents: int
    n_bytes_cut: int | None = None
    recall: float | None = None
    precision: float | None = None
    rates: tuple[Fact, ...] = ()
    examples: tuple[Example, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Found:
    """Something personal or unwanted that was found: `email`, and what was done: `replaced by <email>`."""

    kind: str
    n_found: int
    n_documents: int
    action: str = ""
    examples: tuple[Example, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Repeated:
    """One line or n-gram with how often it occurs; None: not counted there."""

    text: str = field(metadata=_EXCERPT)
    n_before: int | None
    n_after: int | None


@dataclass(frozen=True, kw_only=True)
class RepeatList:
    """The most repeated lines, or n-grams of one length."""

    title: str
    rows: tuple[Repeated, ...]
    note: str = field(default="", metadata=_SENTENCE)


@dataclass(frozen=True, kw_only=True)
class ConceptCount:
    """One concept of a target: in how many documents it occurs."""

    name: str
    n_before: int
    n_after: int


@dataclass(frozen=True, kw_only=True)
class ConceptReport:
    """How often the concepts of one target occur.

    Args:
        rows: all concepts, or those worth showing: the rarest and the most frequent.
        n_concepts: all of them.
        n_absent: concepts without one document after preparation.
        tail: concepts by the number of documents that hold them, at least one: `pool` before, `kept` after,
            `counted` concepts, on a logarithmic axis.
    """

    target: str
    rows: tuple[ConceptCount, ...]
    n_concepts: int
    n_absent: int
    tail: Histogram | None = None
    note: str = field(default="", metadata=_SENTENCE)


@dataclass(frozen=True, kw_only=True)
class CorpusReport:
    """A whole corpus report. `title` names the corpus, `recipe` the file or name it came from.

    `facts` is the short strip under the verdict (corpus, rules, language, copies: three to six entries).
    `lengths` are histograms of documents by length: `pool` counts before, `kept` after. `examples` are
    documents drawn by chance; those of rules, edits and findings stand there.
    """

    title: str
    recipe: str
    before: Amount
    kept: Amount
    prepared: Amount
    rules: tuple[RuleOutcome, ...] = ()
    edits: tuple[EditOutcome, ...] = ()
    n_bytes_cut: int = 0
    n_bytes_put: int = 0
    n_documents_edited: int = 0
    facts: tuple[Fact, ...] = ()
    warnings: tuple[str, ...] = field(default=(), metadata=_SENTENCE)
    lengths: tuple[Histogram, ...] = ()
    breakdowns: tuple[Breakdown, ...] = ()
    duplicates: tuple[DuplicateReport, ...] = ()
    contamination: tuple[TaskOverlap, ...] = ()
    personal: tuple[Found, ...] = ()
    repeats: tuple[RepeatList, ...] = ()
    concepts: tuple[ConceptReport, ...] = ()
    examples: tuple[Example, ...] = ()
    methods: tuple[MethodNote, ...] = ()
    costs: tuple[StepCost, ...] = ()
    lineage: tuple[LineageStep, ...] = ()
    inputs: tuple[InputFile, ...] = ()
    versions: tuple[Fact, ...] = ()
    seeds: tuple[int, ...] = ()
    recipe_text: str = field(default="", metadata=_PASSAGE)
    repeat_command: str = field(default="", metadata=_SENTENCE)
    repeat_notes: tuple[str, ...] = field(default=(), metadata=_SENTENCE)

    def __post_init__(self) -> None:
        for name in ("n_documents", "n_bytes", "n_tokens"):
            parts = [getattr(amount, name) for amount in (self.kept, *(rule.first for rule in self.rules))]
            _check(f"{name} of kept and dropped documents", getattr(self.before, name), parts)
        _check("documents after the edits", self.kept.n_documents, [self.prepared.n_documents])
        n_edited = self.kept.n_bytes - self.n_bytes_cut + self.n_bytes_put
        _check("bytes after the edits", n_edited, [self.prepared.n_bytes])

    @property
    def dropped(self) -> Amount:
        """All that any rule dropped."""
        tokens = (self.before.n_tokens, self.kept.n_tokens)
        return Amount(
            n_documents=self.before.n_documents - self.kept.n_documents,
            n_bytes=self.before.n_bytes - self.kept.n_bytes,
            n_tokens=None if None in tokens else (tokens[0] or 0) - (tokens[1] or 0),
        )


def _check(what: str, expected: int | None, parts: Iterable[int | None]) -> None:
    """An account that does not add up is our own mistake; one that holds an unknown is not checked."""
    known = list(parts)
    if expected is None or None in known:
        return
    total = sum(part or 0 for part in known)
    if total != expected:
        message = f"expected {what} to sum to {expected:,}, found {total:,}"
        raise InternalError(message, where="corpus report")
