"""Writes the page of a training: one self-contained file, the same bytes for the same data.

It is of one family with the reports of studies and corpora: the same style sheet, script, security policy
and limits. When the page would be too large, incidents become fewer, then lines and lists.
"""

from __future__ import annotations

from pathlib import Path

from markupsafe import Markup

from prill.errors import InternalError
from prill.report.harmless import harmless
from prill.report.page import MAX_BYTES, asset, embedded_json, environment, policy
from prill.report.training_model import TrainingReport
from prill.report.training_view import TrainingLimits, TrainingView, training_view
from prill.run.atomic import atomic_path

__all__ = ["render_training", "write_training_report"]

_LEVELS = (
    TrainingLimits(),
    TrainingLimits(n_incidents=20, n_documents=8),
    TrainingLimits(n_drawn=8, n_incidents=10, n_documents=4, n_rows=200),
    TrainingLimits(n_drawn=4, n_incidents=5, n_documents=2, n_charts=2, n_seeds=2, n_rows=50),
)


def render_training(data: TrainingReport) -> str:
    """The page as text.

    Args:
        data: the report; its strings may hold anything.
    Returns:
        HTML of at most `MAX_BYTES` bytes in UTF-8.
    Raises:
        InternalError: even the shortest form of the page is too large.
    """
    clean = harmless(data, text_limit=0)
    for limits in _LEVELS:
        page = _render(clean, training_view(clean, limits))
        n_bytes = len(page.encode())
        if n_bytes <= MAX_BYTES:
            return page
    raise InternalError(
        f"expected a page of at most {MAX_BYTES:,} bytes, found {n_bytes:,} in its shortest form",
        where="training report",
    )


def write_training_report(path: Path | str, data: TrainingReport) -> None:
    """Writes the page to `path`, whole or not at all. Raises `ResourceError` when the disk refuses."""
    page = render_training(data)
    with atomic_path(Path(path)) as temporary:
        temporary.write_bytes(page.encode())


def _render(data: TrainingReport, view: TrainingView) -> str:
    css, script = asset("style.css") + asset("training.css"), asset("browser.js")
    page: str = (
        environment()
        .get_template("training.html.j2")
        .render(
            data=data,
            view=view,
            css=Markup(css),
            script=Markup(script),
            policy=policy(css, script),
            browser_json=Markup(embedded_json([])),
            has_clock=any(cost.elapsed_s is not None for cost in data.costs),
        )
    )
    return page.lstrip()
