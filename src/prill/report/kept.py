"""What every arm kept: histograms, shares by source, and the account, ready to be shown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from prill.report import numbers
from prill.report.charts import histogram
from prill.report.forest import share_bars
from prill.report.look import Look
from prill.report.model import ReportData, SelectionAudit, SourceShare, TargetReport

__all__ = ["AuditView", "SourceRow", "audit_views"]


@dataclass(frozen=True, kw_only=True)
class SourceRow:
    """One source in the pool and kept; shares are of tokens."""

    name: str
    pool_share: float
    kept_share: float
    ratio: str
    n_documents_pool: int
    n_documents_kept: int
    n_tokens_kept: int
    bars: Markup


@dataclass(frozen=True, kw_only=True)
class AuditView:
    """What one arm kept, ready to be shown."""

    audit: SelectionAudit
    look: Look
    is_open: bool
    scores: Markup
    lengths: Markup
    sources: tuple[SourceRow, ...]


def audit_views(
    target: TargetReport, look: Mapping[str, Look], data: ReportData, *, n_drawn: int, n_sources: int
) -> Iterable[AuditView]:
    for index, audit in enumerate(target.selections):
        arm, name = look[audit.arm], f"{look[audit.arm].label} for {target.name}"
        is_drawn = index < n_drawn
        scores = lengths = Markup("")
        if is_drawn and audit.scores is not None:
            title = f"Scores, {name}"
            scores = histogram(audit.scores, threshold=audit.threshold, title=title, css=arm.css)
        if is_drawn and audit.lengths is not None:
            lengths = histogram(audit.lengths, threshold=None, title=f"Lengths, {name}", css=arm.css)
        yield AuditView(
            audit=audit,
            look=arm,
            is_open=data.arm(audit.arm).role == "candidate" and index < 2,
            scores=scores,
            lengths=lengths,
            sources=tuple(_sources(audit.by_source, arm.css, n_sources)) if is_drawn else (),
        )


def _sources(shares: Sequence[SourceShare], css: str, n_most: int) -> list[SourceRow]:
    """Sources with most kept tokens first; the tail is added up in one row, so that shares sum to one."""
    ordered = sorted(shares, key=lambda s: (-s.n_tokens_kept, -s.n_tokens_pool, s.source or ""))
    if len(ordered) > n_most:
        ordered = [*ordered[: n_most - 1], _together(ordered[n_most - 1 :])]
    pool = sum(s.n_tokens_pool for s in ordered) or 1
    kept = sum(s.n_tokens_kept for s in ordered) or 1
    top = max((max(s.n_tokens_pool / pool, s.n_tokens_kept / kept) for s in ordered), default=1.0)
    return [_source_row(s, s.n_tokens_pool / pool, s.n_tokens_kept / kept, top, css) for s in ordered]


def _source_row(s: SourceShare, pool: float, kept: float, top: float, css: str) -> SourceRow:
    return SourceRow(
        name="not stated" if s.source is None else s.source or "(empty name)",
        pool_share=pool,
        kept_share=kept,
        ratio=numbers.ratio(kept, pool),
        n_documents_pool=s.n_documents_pool,
        n_documents_kept=s.n_documents_kept,
        n_tokens_kept=s.n_tokens_kept,
        bars=share_bars(pool, kept, top, css),
    )


def _together(tail: Sequence[SourceShare]) -> SourceShare:
    return SourceShare(
        source=f"{len(tail)} more sources",
        n_documents_pool=sum(s.n_documents_pool for s in tail),
        n_tokens_pool=sum(s.n_tokens_pool for s in tail),
        n_documents_kept=sum(s.n_documents_kept for s in tail),
        n_tokens_kept=sum(s.n_tokens_kept for s in tail),
    )
