"""Writes the page: one self-contained file, the same bytes for the same data, below three megabytes.

The security policy forbids everything but the one style sheet and the one script whose hashes it names,
so text from data could not run or load anything even if escaping failed. When the page would be too
large, excerpts become shorter, then groups smaller, then charts fewer, and the page says so.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from markupsafe import Markup

from prill.errors import InternalError
from prill.report.harmless import harmless
from prill.report.model import ReportData, SampleDocument, SampleGroup, TargetReport
from prill.report.page import MAX_BYTES, asset, embedded_json, environment, policy
from prill.report.view import Limits, PageView, page_view
from prill.run.atomic import atomic_path

__all__ = ["MAX_BYTES", "render", "write_report"]

_LEVELS = (
    Limits(),
    Limits(n_chars=1_000, n_documents=20),
    Limits(n_chars=600, n_documents=12, n_drawn=8),
    Limits(n_chars=400, n_documents=8, n_drawn=4, n_sources=10),
    Limits(n_chars=240, n_documents=5, n_drawn=2, n_sources=8, n_rows=200),
    Limits(n_chars=160, n_documents=3, n_drawn=1, n_sources=6, n_rows=100),
    Limits(n_chars=100, n_documents=1, n_drawn=0, n_sources=4, n_rows=50),
    Limits(n_chars=100, n_documents=1, n_drawn=1, n_sources=4, n_rows=50, n_targets=12),
    Limits(n_chars=100, n_documents=0, n_drawn=0, n_sources=4, n_rows=20, n_targets=0),
)


def render(data: ReportData) -> str:
    """The page as text.

    Args:
        data: the report; its strings may hold anything.
    Returns:
        HTML of at most `MAX_BYTES` bytes in UTF-8.
    Raises:
        InternalError: even the shortest form of the page is too large.
    """
    stamped = _with_lengths(data)
    for limits in _LEVELS:
        if limits is not _LEVELS[-1] and _n_excerpt_chars(data, limits) > MAX_BYTES:
            continue  # the excerpts alone would not fit
        page = _render(stamped, limits)
        n_bytes = len(page.encode())
        if n_bytes <= MAX_BYTES:
            return page
    raise InternalError(
        f"expected a page of at most {MAX_BYTES:,} bytes, found {n_bytes:,} in its shortest form",
        where="report",
        hint="report on fewer targets or arms at once",
    )


def write_report(path: Path | str, data: ReportData) -> None:
    """Writes the page to `path`, whole or not at all. Raises `ResourceError` when the disk refuses."""
    page = render(data)
    with atomic_path(Path(path)) as temporary:
        temporary.write_bytes(page.encode())


def _render(data: ReportData, limits: Limits) -> str:
    clean = harmless(data, text_limit=limits.n_chars)
    view = page_view(clean, limits)
    css, script = asset("style.css"), asset("browser.js")
    page: str = (
        environment()
        .get_template("page.html.j2")
        .render(
            data=clean,
            view=view,
            css=Markup(css),
            script=Markup(script),
            policy=policy(css, script),
            browser_json=Markup(_browser_json(view)),
            has_clock=any(cost.elapsed_s is not None for cost in clean.costs),
        )
    )
    return page.lstrip()


def _browser_json(view: PageView) -> str:
    """What the search needs beside the text on the page: id and source of every document."""
    entries = [
        {"at": sample.anchor, "id": sample.document.id, "source": sample.document.source}
        for target in view.targets
        for group in target.groups
        for sample in group.documents
    ]
    return embedded_json(entries)


def _n_excerpt_chars(data: ReportData, limits: Limits) -> int:
    """Characters of all excerpts under these limits: a lower bound of the page's bytes."""
    groups = (group for target in data.targets[: limits.n_targets] for group in target.samples)
    return sum(
        min(len(d.text), limits.n_chars) for group in groups for d in group.documents[: limits.n_documents]
    )


def _with_lengths(data: ReportData) -> ReportData:
    """Notes the full length of every document before anything is cut."""

    def document(item: SampleDocument) -> SampleDocument:
        return item if item.n_chars is not None else replace(item, n_chars=len(item.text))

    def group(item: SampleGroup) -> SampleGroup:
        return replace(item, documents=tuple(map(document, item.documents)))

    def target(item: TargetReport) -> TargetReport:
        return replace(item, samples=tuple(map(group, item.samples)))

    return replace(data, targets=tuple(map(target, data.targets)))
