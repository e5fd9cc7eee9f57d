"""From a report's values to what the templates show: rows, charts, anchors and what is left out.

Everything that depends on the room left on the page goes through `Limits`: how long excerpts are, how
many documents a group shows, how many selections get charts. What a limit cuts is said on the page.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from prill.report import numbers
from prill.report.charts import learning_curves
from prill.report.forest import ForestScale, forest_axis, forest_row, forest_scale
from prill.report.kept import AuditView, audit_views
from prill.report.league import League, league
from prill.report.look import Look, looks
from prill.report.model import (
    Curve,
    Effect,
    Finding,
    ReportData,
    SampleDocument,
    TargetReport,
)
from prill.report.overview import Comparison, Headline, comparisons, headline, is_headline, spoken

__all__ = ["Limits", "PageView", "is_laid_out", "page_view"]

_ROWS_IN_ONE_PLOT = 60
_OPEN_TARGETS = 4
_MOST_CURVES = 8  # in one picture; more names would not find room
_GROUP_TITLES = {
    "above": ("Just above the line", "The last documents that were kept."),
    "below": ("Just below the line", "The first documents that were not kept."),
    "random": ("Random from the pool", "What the pool looks like, chosen by chance."),
}


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How much of everything fits: characters of text, documents a group, selections drawn, rows a list."""

    n_chars: int = 1_500
    n_documents: int = 40
    n_drawn: int = 16
    n_sources: int = 14
    n_rows: int = 400
    n_targets: int = 50


@dataclass(frozen=True, kw_only=True)
class EffectRow:
    """One row of a forest plot with its words and numbers."""

    anchor: str | None
    label: str
    sublabel: str
    look: Look
    finding: Finding | None
    effect: Effect | None
    chart: Markup


@dataclass(frozen=True, kw_only=True)
class Forest:
    """A forest plot: rows on one scale."""

    caption: str
    rows: tuple[EffectRow, ...]
    axis: Markup
    has_noise: bool
    n_missed: int  # intervals that miss the truth by chance, if every interval keeps its confidence
    is_open: bool = True


@dataclass(frozen=True, kw_only=True)
class SampleView:
    """One document with its anchor on the page."""

    anchor: str
    document: SampleDocument
    is_cut: bool
    is_laid_out: bool


@dataclass(frozen=True, kw_only=True)
class GroupView:
    """One group of documents."""

    kind: str
    title: str
    note: str
    arm: str
    documents: tuple[SampleView, ...]
    n_left_out: int


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A learning-curve chart with the curves behind it."""

    title: str
    chart: Markup
    curves: tuple[Curve, ...]
    is_choice: bool  # some of them are not drawn


@dataclass(frozen=True, kw_only=True)
class TargetView:
    """One target's section."""

    anchor: str
    target: TargetReport
    is_open: bool
    is_detailed: bool
    figures: tuple[Figure, ...]
    forest: Forest | None
    audits: tuple[AuditView, ...]
    groups: tuple[GroupView, ...]


@dataclass(frozen=True, kw_only=True)
class PageView:
    """The whole page."""

    headline: Headline
    looks: Mapping[str, Look]
    overview: tuple[Forest, ...]
    league: League | None
    targets: tuple[TargetView, ...]
    limits: Limits
    is_trimmed: bool


def page_view(data: ReportData, limits: Limits) -> PageView:
    """Everything the templates show of `data`, whose strings must be harmless already."""
    look = looks(data.arms)
    targets = tuple(
        _target_view(target, f"t{number}", look, data, limits)
        for number, target in enumerate(data.targets, start=1)
    )
    first, others = _headline_rows(data)
    table = league(first, data, look)
    return PageView(
        headline=headline(data),
        looks=look,
        overview=tuple(_overview(() if table else first, others, data, look)),
        league=table,
        targets=targets,
        limits=limits,
        is_trimmed=limits != Limits() or any(group.n_left_out for view in targets for group in view.groups),
    )


def _headline_rows(data: ReportData) -> tuple[list[Comparison], list[Comparison]]:
    """The headline's comparisons, and any others."""
    rows = comparisons(data)
    first = [row for row in rows if is_headline(data, row.arm, row.control)]
    if len(data.targets) == 1 or not first:
        first = rows
    return first, [row for row in rows if row not in first]


def _overview(
    first: Sequence[Comparison], others: Sequence[Comparison], data: ReportData, look: Mapping[str, Look]
) -> list[Forest]:
    """The plot of the headline's comparisons; any others folded below it, as are plots too long for one."""
    forests: list[Forest] = []
    for group, caption in ((first, ""), (others, _caption(others, data))):
        if 0 < len(group) <= _ROWS_IN_ONE_PLOT:
            forests.append(_overview_forest(group, data, look, caption=caption, is_open=not caption))
        elif group:
            forests += _split_overview(group, data, look, is_open=not caption)
    return forests


def _split_overview(
    rows: Sequence[Comparison], data: ReportData, look: Mapping[str, Look], *, is_open: bool
) -> list[Forest]:
    pairs = dict.fromkeys((row.arm, row.control) for row in rows)
    return [
        _overview_forest(
            [row for row in rows if (row.arm, row.control) == pair],
            data,
            look,
            caption=_caption([row for row in rows if (row.arm, row.control) == pair], data),
            is_open=is_open and index == 0,
        )
        for index, pair in enumerate(pairs)
    ]


def _caption(rows: Sequence[Comparison], data: ReportData) -> str:
    """The pair when there is one, else what they have in common: not being the headline."""
    pairs = {(row.arm, row.control) for row in rows}
    if len(pairs) != 1:
        return "Other comparisons"
    arm, control = pairs.pop()
    return f"{data.arm(arm).label} against {spoken(data.arm(control))}"


def _overview_forest(
    rows: Sequence[Comparison],
    data: ReportData,
    look: Mapping[str, Look],
    *,
    caption: str,
    is_open: bool = True,
) -> Forest:
    scale = forest_scale(row.effect for row in rows if row.effect is not None)
    is_one_pair = len({(row.arm, row.control) for row in rows}) == 1
    is_one_target = len(data.targets) == 1
    shown = []
    for index, row in enumerate(rows):
        pair = f"{look[row.arm].label} against {spoken(data.arm(row.control))}"
        is_repeat = index > 0 and rows[index - 1].anchor == row.anchor
        label = pair if is_one_target else "" if is_repeat else row.target
        sublabel = "" if is_one_pair or is_one_target else pair
        shown.append(
            _effect_row(row, label, sublabel, look, scale, anchor=None if is_one_target else row.anchor)
        )
    return _forest(caption, shown, scale, is_open=is_open)


def _effect_row(
    row: Comparison,
    label: str,
    sublabel: str,
    look: Mapping[str, Look],
    scale: ForestScale,
    *,
    anchor: str | None,
) -> EffectRow:
    return EffectRow(
        anchor=anchor,
        label=label,
        sublabel=sublabel,
        look=look[row.arm],
        finding=row.finding,
        effect=row.effect,
        chart=forest_row(row.effect, scale, look[row.arm].css),
    )


def _forest(caption: str, rows: Sequence[EffectRow], scale: ForestScale, *, is_open: bool = True) -> Forest:
    has_noise = any(row.effect is not None and row.effect.noise_floor_bpb for row in rows)
    n_missed = round(sum(1 - row.effect.level for row in rows if row.effect is not None))
    return Forest(
        caption=caption,
        rows=tuple(rows),
        axis=forest_axis(scale),
        has_noise=has_noise,
        n_missed=n_missed,
        is_open=is_open,
    )


def _target_view(
    target: TargetReport, anchor: str, look: Mapping[str, Look], data: ReportData, limits: Limits
) -> TargetView:
    number = int(anchor[1:])
    is_detailed = number <= limits.n_targets
    return TargetView(
        anchor=anchor,
        target=target,
        is_open=len(data.targets) <= _OPEN_TARGETS,
        is_detailed=is_detailed,
        figures=tuple(_figures(target, look)) if is_detailed else (),
        forest=_target_forest(target, anchor, look, data),
        audits=tuple(audit_views(target, look, data, n_drawn=limits.n_drawn, n_sources=limits.n_sources))
        if is_detailed
        else (),
        groups=tuple(_groups(target, anchor, look, limits)) if is_detailed else (),
    )


def _figures(target: TargetReport, look: Mapping[str, Look]) -> list[Figure]:
    titles = {"target": f"On held-out text of {target.name}", "rest": "On everything else"}
    drawn = _drawn_arms(target)
    figures = []
    for eval_set, title in titles.items():
        curves = tuple(curve for curve in target.curves if curve.eval_set == eval_set)
        shown = [curve for curve in curves if curve.arm in drawn]
        if len(shown) < len(curves):
            title += f", {len(drawn)} of {len({curve.arm for curve in curves})}"
        if chart := learning_curves(shown, look, title=title):
            is_choice = len(shown) < len(curves)
            figures.append(Figure(title=title, chart=chart, curves=curves, is_choice=is_choice))
    return figures


def _drawn_arms(target: TargetReport) -> set[str]:
    """The arms whose curves are drawn: all of them, or the controls and those that end lowest."""
    arms = {curve.arm for curve in target.curves}
    if len(arms) <= _MOST_CURVES:
        return arms
    controls = {effect.control for effect in target.effects}
    ends = {c.arm: c.points[-1].mean_bpb for c in target.curves if c.eval_set == "target" and c.points}
    best = sorted(ends.keys() - controls, key=lambda arm: (ends[arm], arm))
    return controls | set(best[: _MOST_CURVES - len(controls)])


def _target_forest(
    target: TargetReport, anchor: str, look: Mapping[str, Look], data: ReportData
) -> Forest | None:
    if not target.effects:
        return None
    scale = forest_scale(target.effects)
    places = {"target": "on the target", "rest": "on everything else"}
    rows = []
    for effect in target.effects:
        finding = next(
            (f for f in target.findings if (f.arm, f.control) == (effect.arm, effect.control)), None
        )
        decides = effect.eval_set == "target" and effect.is_primary
        row = Comparison(
            anchor=anchor,
            target=target.name,
            arm=effect.arm,
            control=effect.control,
            finding=finding if decides else None,
            effect=effect,
        )
        pair = f"{look[effect.arm].label} against {spoken(data.arm(effect.control))}"
        sublabel = f"{places[effect.eval_set]}, {numbers.compact(effect.n_tokens)} tokens"
        rows.append(_effect_row(row, pair, sublabel, look, scale, anchor=None))
    return _forest(f"Differences for {target.name}", rows, scale)


def _groups(
    target: TargetReport, anchor: str, look: Mapping[str, Look], limits: Limits
) -> Iterable[GroupView]:
    n_before = 0
    for group in target.samples:
        title, note = _GROUP_TITLES[group.kind]
        shown = group.documents[: limits.n_documents]
        documents = tuple(
            SampleView(
                anchor=f"{anchor}-d{n_before + index}",
                document=document,
                is_cut=_is_cut(document, limits),
                is_laid_out=is_laid_out(document.text),
            )
            for index, document in enumerate(shown, start=1)
        )
        n_before += len(shown)
        yield GroupView(
            kind=group.kind,
            title=title,
            note=note,
            arm=look[group.arm].label if group.arm else "",
            documents=documents,
            n_left_out=len(group.documents) - len(shown),
        )


def _is_cut(document: SampleDocument, limits: Limits) -> bool:
    """Whether the page shows less than the whole text, whoever cut it."""
    return document.text.endswith("…") or (document.n_chars or 0) > limits.n_chars


def is_laid_out(text: str) -> bool:
    """Whether line breaks and indents carry meaning (code, tables), so that equal widths read better."""
    lines = [line for line in text.splitlines() if line.strip()]
    marked = sum(
        line.startswith((" ", "\t")) or line.rstrip().endswith(("{", "}", ";", "|", "):")) for line in lines
    )
    return len(lines) > 3 and marked > 0.3 * len(lines)
