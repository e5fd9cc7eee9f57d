"""The verdicts in the terminal: the closing lines of a run.

A person at a terminal sees a table with a little colour; a pipe or a log gets plain text with ordinary
hyphens and spaces, so that it can be searched. Both say the same and work without colour.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TextIO

from prill.report import numbers
from prill.report.harmless import harmless, visible
from prill.report.model import ReportData, Verdict
from prill.report.overview import Comparison, comparisons, headline, spoken

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["plain_summary", "write_summary"]

_NAME_WIDTH = 40
_PLAIN = str.maketrans({"−": "-", "–": "-", "\u00a0": " ", "…": "..."})
_STYLES = {
    Verdict.BETTER: "bold green",
    Verdict.WORSE: "bold red",
    Verdict.NO_DIFFERENCE: "bold",
    Verdict.CANNOT_TELL: "yellow",
}
_COLUMNS = ("target", "comparison", "verdict", "bits per byte", "interval")


def write_summary(data: ReportData, stream: TextIO, *, report: str | None = None) -> None:
    """Writes headline, verdicts and warnings of `data` to `stream`; `report` names the page, shown last."""
    report = None if report is None else visible(report)
    encoding = getattr(stream, "encoding", None) or "utf-8"
    if stream.isatty() and encoding.lower().replace("-", "") == "utf8":
        from rich.console import Console

        _write_rich(
            harmless(data, text_limit=0), Console(file=stream, highlight=False, soft_wrap=False), report
        )
        return
    text = plain_summary(data, report=report)
    stream.write(text.encode(encoding, "replace").decode(encoding))


def plain_summary(data: ReportData, *, report: str | None = None) -> str:
    """The summary as plain text, every line ended, columns aligned."""
    clean = harmless(data, text_limit=0)
    table = [_COLUMNS, *(_cells(clean, row) for row in comparisons(clean))]
    widths = [max(len(line[column]) for line in table) for column in range(len(_COLUMNS))]
    lines = list(_opening(clean))
    if len(table) > 1:
        lines += ["", *("  ".join(map(str.ljust, line, widths)).rstrip() for line in table)]
    lines += [""] + [f"note: {warning}" for warning in clean.warnings] if clean.warnings else []
    if report is not None:
        lines += ["", f"report: {report}"]
    return "\n".join(" ".join(line.splitlines()) for line in lines).translate(_PLAIN) + "\n"


def _opening(data: ReportData) -> list[str]:
    top = headline(data)
    return [f"{top.title}.".replace("?.", "?"), *top.lede]


def _cells(data: ReportData, row: Comparison) -> tuple[str, ...]:
    effect = row.effect
    return (
        _short(row.target),
        _short(f"{data.arm(row.arm).label} against {spoken(data.arm(row.control))}"),
        row.finding.verdict.value if row.finding else "-",
        numbers.difference(effect.difference_bpb) if effect else "-",
        numbers.interval(effect.low_bpb, effect.high_bpb) if effect else "-",
    )


def _short(name: str) -> str:
    one_line = " ".join(name.split())
    return one_line if len(one_line) <= _NAME_WIDTH else one_line[: _NAME_WIDTH - 1] + "…"


def _write_rich(data: ReportData, console: Console, report: str | None) -> None:
    from rich.table import Table
    from rich.text import Text

    first, *rest = _opening(data)
    console.print(Text(first, style="bold"))
    for sentence in rest:
        console.print(Text(sentence))
    rows = comparisons(data)
    if rows:
        table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="dim")
        for name in _COLUMNS:
            table.add_column(name, justify="right" if name in _COLUMNS[3:] else "left", overflow="fold")
        for row in rows:
            style = _STYLES[row.finding.verdict] if row.finding else ""
            cells = [Text(cell) for cell in _cells(data, row)]
            cells[2].stylize(style)
            table.add_row(*cells)
        console.print()
        console.print(table)
    if data.warnings:
        console.print()
    for warning in data.warnings:
        console.print(Text(f"note: {warning}", style="dim"))
    if report is not None:
        console.print(Text(f"\nreport: {report}"))
