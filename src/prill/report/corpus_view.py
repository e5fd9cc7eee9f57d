"""From a corpus report's values to what its templates show: rows, charts, examples, and what is left out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from prill.report.charts import histogram
from prill.report.corpus_model import Breakdown, ConceptReport, CorpusReport, Example
from prill.report.corpus_rows import BreakdownRow, FunnelRow, StageView, breakdown_rows, funnel, stages
from prill.report.corpus_words import corpus_headline, firing_notes
from prill.report.harmless import cut, harmless, visible
from prill.report.overview import Headline
from prill.report.spans import spans_html
from prill.report.view import is_laid_out

__all__ = ["CorpusLimits", "CorpusView", "corpus_view", "harmless_report", "stage_tabs"]

_NAMES = ("before", "after")


@dataclass(frozen=True, kw_only=True)
class CorpusLimits:
    """How much fits: characters of an example, examples a rule, rows a breakdown, rows a list."""

    n_chars: int = 1_600
    n_examples: int = 6
    n_shares: int = 14
    n_rows: int = 400
    n_groups: int = 120


@dataclass(frozen=True, kw_only=True)
class ExampleView:
    """One document with its anchor on the page; `text` is HTML, `first` its beginning in plain words."""

    anchor: str
    example: Example
    text: Markup
    first: str
    is_cut: bool
    is_laid_out: bool
    n_chars: int


@dataclass(frozen=True, kw_only=True)
class ExampleGroup:
    """Documents that one rule, edit or finding is about."""

    anchor: str
    kind: str
    title: str
    examples: tuple[ExampleView, ...]
    n_left_out: int


@dataclass(frozen=True, kw_only=True)
class LengthFigure:
    """A histogram of lengths."""

    title: str
    chart: Markup


@dataclass(frozen=True, kw_only=True)
class BreakdownView:
    """One breakdown with its rows."""

    breakdown: Breakdown
    rows: tuple[BreakdownRow, ...]


@dataclass(frozen=True, kw_only=True)
class ConceptView:
    """The concepts of one target, with the chart of how frequent they are."""

    concepts: ConceptReport
    chart: Markup


@dataclass(frozen=True, kw_only=True)
class CorpusView:
    """The whole page."""

    headline: Headline
    notes: tuple[str, ...]
    funnel: tuple[FunnelRow, ...]
    stages: tuple[StageView, ...]
    lengths: tuple[LengthFigure, ...]
    breakdowns: tuple[BreakdownView, ...]
    concepts: tuple[ConceptView, ...]
    groups: tuple[ExampleGroup, ...]
    anchors: Mapping[str, str]
    limits: CorpusLimits
    n_groups_left_out: int
    is_trimmed: bool


def corpus_view(raw: CorpusReport, clean: CorpusReport, limits: CorpusLimits) -> CorpusView:
    """Everything the templates show.

    Args:
        raw: as the pipeline made it: the text of examples is cut at the spans of its own bytes.
        clean: the same with harmless strings.
    """
    sources = [group for group in _example_sources(clean) if group[2]]
    groups = tuple(_groups(raw, clean, limits))
    anchors = {f"{group.kind}/{group.title}": group.anchor for group in groups}
    by_reason = {rule.reason: anchors.get(f"{rule.stage}/{rule.reason}", "") for rule in clean.rules}
    return CorpusView(
        headline=corpus_headline(clean),
        notes=(*firing_notes(clean), *clean.warnings),
        funnel=funnel(clean),
        stages=stages(clean, by_reason),
        lengths=tuple(_lengths(clean)),
        breakdowns=tuple(
            BreakdownView(breakdown=breakdown, rows=breakdown_rows(breakdown, limits.n_shares))
            for breakdown in clean.breakdowns
        ),
        concepts=tuple(_concepts(clean)),
        groups=groups,
        anchors=anchors,
        limits=limits,
        n_groups_left_out=len(sources) - len(groups),
        is_trimmed=limits != CorpusLimits() or any(group.n_left_out for group in groups),
    )


def _lengths(data: CorpusReport) -> Iterator[LengthFigure]:
    for bins in data.lengths:
        title = f"{bins.unit[:1].upper()}{bins.unit[1:]}"
        chart = histogram(bins, threshold=None, title=title, css="arm-1", names=_NAMES)
        if chart:
            yield LengthFigure(title=title, chart=chart)


def _concepts(data: CorpusReport) -> Iterator[ConceptView]:
    for concepts in data.concepts:
        title = f"Concepts of {concepts.target} by how many documents hold them"
        bins = concepts.tail
        chart = Markup("")
        if bins is not None:
            chart = histogram(bins, threshold=None, title=title, css="arm-1", names=_NAMES)
        yield ConceptView(concepts=concepts, chart=chart)


def _example_sources(data: CorpusReport) -> Iterator[tuple[str, str, tuple[Example, ...]]]:
    """Kind, title and documents of everything that has examples, in the order of the page."""
    for rule in data.rules:
        yield rule.stage, rule.reason, rule.examples
    for edit in data.edits:
        yield "edits", edit.kind, edit.examples
    for overlap in data.contamination:
        yield "tasks", overlap.task, overlap.examples
    for found in data.personal:
        yield "found", found.kind, found.examples
    yield "documents", "documents drawn by chance", data.examples


def _groups(raw: CorpusReport, clean: CorpusReport, limits: CorpusLimits) -> Iterator[ExampleGroup]:
    both = zip(_example_sources(raw), _example_sources(clean), strict=True)
    told = [(own[2], kind, title, shown) for own, (kind, title, shown) in both if shown]
    for number, (own, kind, title, shown) in enumerate(told[: limits.n_groups], start=1):
        chosen = zip(own[: limits.n_examples], shown, strict=False)
        views = tuple(
            _example(document, cleaned, f"x{number}-{i}", limits.n_chars)
            for i, (document, cleaned) in enumerate(chosen, start=1)
        )
        yield ExampleGroup(
            anchor=f"x{number}",
            kind=kind,
            title=title,
            examples=views,
            n_left_out=len(shown) - len(views),
        )


def _example(raw: Example, clean: Example, anchor: str, n_chars: int) -> ExampleView:
    return ExampleView(
        anchor=anchor,
        example=clean,
        text=spans_html(raw.text, raw.spans, n_chars=n_chars),
        first=cut(visible(raw.text[:200]), 140),
        is_cut=len(raw.text) > n_chars,
        is_laid_out=is_laid_out(raw.text[: 4 * n_chars]),
        n_chars=len(raw.text),
    )


def harmless_report(data: CorpusReport) -> CorpusReport:
    """`data` with harmless strings; the text of examples is left out, for their spans count its bytes."""
    return harmless(data, text_limit=0)


def stage_tabs(groups: Sequence[ExampleGroup]) -> list[str]:
    """Kinds of groups in their order, for the tabs above the examples."""
    return list(dict.fromkeys(group.kind for group in groups))
