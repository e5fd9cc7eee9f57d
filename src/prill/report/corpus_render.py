"""Writes the page of a corpus report: one self-contained file, the same bytes for the same data.

It is of one family with the report of a study: the same style sheet, script, security policy and limits.
When the page would be too large, examples become shorter, then fewer, then tables shorter.
"""

from __future__ import annotations

from pathlib import Path

from markupsafe import Markup

from prill.errors import InternalError
from prill.report.corpus_model import CorpusReport
from prill.report.corpus_view import CorpusLimits, CorpusView, corpus_view, harmless_report, stage_tabs
from prill.report.page import MAX_BYTES, asset, embedded_json, environment, policy
from prill.run.atomic import atomic_path

__all__ = ["render_corpus", "write_corpus_report"]

_LEVELS = (
    CorpusLimits(),
    CorpusLimits(n_chars=1_000, n_examples=4),
    CorpusLimits(n_chars=600, n_examples=3, n_shares=12, n_rows=200),
    CorpusLimits(n_chars=400, n_examples=2, n_shares=10, n_rows=100),
    CorpusLimits(n_chars=240, n_examples=1, n_shares=8, n_rows=50, n_groups=60),
    CorpusLimits(n_chars=120, n_examples=1, n_shares=6, n_rows=20, n_groups=20),
)


def render_corpus(data: CorpusReport) -> str:
    """The page as text.

    Args:
        data: the report; its strings may hold anything.
    Returns:
        HTML of at most `MAX_BYTES` bytes in UTF-8.
    Raises:
        InternalError: even the shortest form of the page is too large.
    """
    clean = harmless_report(data)
    for limits in _LEVELS:
        page = _render(clean, corpus_view(data, clean, limits))
        n_bytes = len(page.encode())
        if n_bytes <= MAX_BYTES:
            return page
    raise InternalError(
        f"expected a page of at most {MAX_BYTES:,} bytes, found {n_bytes:,} in its shortest form",
        where="corpus report",
    )


def write_corpus_report(path: Path | str, data: CorpusReport) -> None:
    """Writes the page to `path`, whole or not at all. Raises `ResourceError` when the disk refuses."""
    page = render_corpus(data)
    with atomic_path(Path(path)) as temporary:
        temporary.write_bytes(page.encode())


def _render(data: CorpusReport, view: CorpusView) -> str:
    css, script = asset("style.css") + asset("corpus.css"), asset("browser.js")
    page: str = (
        environment()
        .get_template("corpus.html.j2")
        .render(
            data=data,
            view=view,
            tabs=stage_tabs(view.groups),
            css=Markup(css),
            script=Markup(script),
            policy=policy(css, script),
            browser_json=Markup(_browser_json(view)),
            has_clock=any(cost.elapsed_s is not None for cost in data.costs),
            has_tokens=data.before.n_tokens is not None,
        )
    )
    return page.lstrip()


def _browser_json(view: CorpusView) -> str:
    """What the search needs beside the text on the page: id and source of every document."""
    return embedded_json(
        [
            {"at": shown.anchor, "id": shown.example.id, "source": shown.example.source}
            for group in view.groups
            for shown in group.examples
        ]
    )
