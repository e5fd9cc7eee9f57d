"""Rows of a corpus report's tables with their bars: the funnel of stages, the rules, and breakdowns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from markupsafe import Markup

from prill.report import numbers
from prill.report.corpus_model import Amount, Breakdown, CorpusReport, RuleOutcome, Share
from prill.report.corpus_words import never_fired
from prill.report.forest import share_bars
from prill.report.svg import element

__all__ = [
    "BreakdownRow",
    "FunnelRow",
    "RuleRow",
    "StageView",
    "breakdown_rows",
    "funnel",
    "rule_row",
    "stages",
]


@dataclass(frozen=True, kw_only=True)
class FunnelRow:
    """One step of the account: what is there, or what a stage takes away."""

    label: str
    kind: str  # total, drop, edit
    n_documents: int
    n_bytes: int
    n_tokens: int | None
    share: float  # of the bytes that were read
    bar: Markup


@dataclass(frozen=True, kw_only=True)
class RuleRow:
    """One rule with its bars: above where it fired, below what it dropped first."""

    rule: RuleOutcome
    bars: Markup
    share: float  # of all documents, dropped first
    anchor: str  # of its examples, empty without any


@dataclass(frozen=True, kw_only=True)
class StageView:
    """The rules of one stage that fired, and the names of those that never did."""

    name: str
    rows: tuple[RuleRow, ...]
    silent: tuple[str, ...]
    first: Amount
    share: float  # of all documents

    @property
    def n_silent(self) -> int:
        return len(self.silent)


@dataclass(frozen=True, kw_only=True)
class BreakdownRow:
    """One value before and after; shares are of bytes."""

    name: str
    before: Amount
    after: Amount
    before_share: float
    after_share: float
    kept_share: float | None  # of its documents
    bars: Markup


def funnel(data: CorpusReport) -> tuple[FunnelRow, ...]:
    """The account from what was read to what is written, stage by stage, in bytes of text."""
    total = data.before.n_bytes or 1
    rows = [_total("Read", data.before, total)]
    left = data.before.n_bytes
    for stage, first in _stage_amounts(data.rules):
        if first.n_documents:
            rows.append(_step(stage, "drop", first, left, total))
            left -= first.n_bytes
    if len(rows) > 1:
        rows.append(_total("Kept", data.kept, total))
    if data.n_bytes_cut or data.n_bytes_put:
        change = max(data.n_bytes_cut - data.n_bytes_put, 0)
        label = "cut by edits" if data.n_bytes_put <= data.n_bytes_cut else "changed by edits"
        edited = Amount(n_documents=data.n_documents_edited, n_bytes=data.n_bytes_cut - data.n_bytes_put)
        bar = _bar(left - change, left, total, "drop")
        rows.append(_row(label, "edit", edited, total, bar))
        rows.append(_total("Written", data.prepared, total))
    return tuple(rows)


def stages(data: CorpusReport, anchors: dict[str, str]) -> tuple[StageView, ...]:
    """Rules by stage, in their order; `anchors` by reason lead to their examples."""
    silent = {rule.reason for rule in never_fired(data)}
    top = max((rule.n_fired for rule in data.rules), default=0)
    views = []
    for stage, group in _by_stage(data.rules):
        rows = [rule_row(rule, data, top, anchors.get(rule.reason, "")) for rule in group if rule.n_fired]
        names = tuple(rule.reason for rule in group if rule.reason in silent)
        first = _sum(rule.first for rule in group)
        share = first.n_documents / max(1, data.before.n_documents)
        views.append(StageView(name=stage, rows=tuple(rows), silent=names, first=first, share=share))
    return tuple(views)


def rule_row(rule: RuleOutcome, data: CorpusReport, top: int, anchor: str) -> RuleRow:
    """One rule; `top` documents fill the width of the bars."""
    bars = share_bars(rule.n_fired, rule.first.n_documents, top, "arm-1")
    share = rule.first.n_documents / max(1, data.before.n_documents)
    return RuleRow(rule=rule, bars=bars, share=share, anchor=anchor)


def breakdown_rows(breakdown: Breakdown, n_most: int) -> tuple[BreakdownRow, ...]:
    """The values with most bytes before, others added up; in the given order when the breakdown has one."""
    chosen = list(breakdown.rows)
    if len(chosen) > n_most:
        by_size = sorted(chosen, key=lambda s: (-s.before.n_bytes, -s.before.n_documents, s.name or ""))
        largest = by_size[: n_most - 1]
        rest = by_size[n_most - 1 :]
        chosen = [row for row in chosen if row in largest] if breakdown.is_ordered else largest
        chosen.append(_together(rest))
    elif not breakdown.is_ordered:
        chosen.sort(key=lambda s: (-s.before.n_bytes, -s.before.n_documents, s.name or ""))
    before = sum(share.before.n_bytes for share in chosen) or 1
    after = sum(share.after.n_bytes for share in chosen) or 1
    shares = [(s.before.n_bytes / before, s.after.n_bytes / after) for s in chosen]
    top = max((max(pair) for pair in shares), default=1.0)
    return tuple(_breakdown_row(s, *pair, top) for s, pair in zip(chosen, shares, strict=True))


def _breakdown_row(share: Share, before: float, after: float, top: float) -> BreakdownRow:
    n_before = share.before.n_documents
    return BreakdownRow(
        name="not stated" if share.name is None else share.name or "(empty)",
        before=share.before,
        after=share.after,
        before_share=before,
        after_share=after,
        kept_share=share.after.n_documents / n_before if n_before else None,
        bars=share_bars(before, after, top, "arm-1"),
    )


def _together(rest: Sequence[Share]) -> Share:
    return Share(
        name=f"{numbers.count(len(rest))} others",
        before=_sum(share.before for share in rest),
        after=_sum(share.after for share in rest),
    )


def _sum(amounts: Iterable[Amount]) -> Amount:
    listed = list(amounts)
    tokens = [amount.n_tokens for amount in listed]
    return Amount(
        n_documents=sum(amount.n_documents for amount in listed),
        n_bytes=sum(amount.n_bytes for amount in listed),
        n_tokens=None if None in tokens else sum(n or 0 for n in tokens),
    )


def _by_stage(rules: Sequence[RuleOutcome]) -> list[tuple[str, list[RuleOutcome]]]:
    return [(stage, list(group)) for stage, group in groupby(rules, key=lambda rule: rule.stage)]


def _stage_amounts(rules: Sequence[RuleOutcome]) -> list[tuple[str, Amount]]:
    return [(stage, _sum(rule.first for rule in group)) for stage, group in _by_stage(rules)]


def _total(label: str, amount: Amount, total: int) -> FunnelRow:
    return _row(label, "total", amount, total, _bar(0, amount.n_bytes, total, "total"))


def _step(label: str, kind: str, amount: Amount, left: int, total: int) -> FunnelRow:
    return _row(label, kind, amount, total, _bar(left - amount.n_bytes, left, total, "drop"))


def _row(label: str, kind: str, amount: Amount, total: int, bar: Markup) -> FunnelRow:
    return FunnelRow(
        label=label,
        kind=kind,
        n_documents=amount.n_documents,
        n_bytes=amount.n_bytes,
        n_tokens=amount.n_tokens,
        share=amount.n_bytes / total,
        bar=bar,
    )


def _bar(start: int, stop: int, total: int, kind: str) -> Markup:
    """What is left from the left, pale for a step that takes something away, and the part that it takes."""
    parts = []
    if kind == "drop" and start > 0:
        parts.append(_rect(0, start, total, "left-bar"))
    parts.append(_rect(start, stop, total, "drop-bar" if kind == "drop" else "kept-bar arm-1"))
    return element("svg", {"class": "row-chart bars", "aria-hidden": "true"}, *parts)


def _rect(start: int, stop: int, total: int, css: str) -> Markup:
    width = max(100 * (stop - start) / total, 0.3 if stop > start else 0.0)
    at = {"x": f"{100 * start / total:.2f}%", "y": "24%", "width": f"{width:.2f}%", "height": "52%"}
    return element("rect", {"class": css, **at})
