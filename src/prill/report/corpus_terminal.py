"""The closing lines of a preparation in the terminal: the account, what took most, what to know.

Plain words with ordinary hyphens and spaces, kept as a file of the run, so that going on with a finished one
says the same. Never more than `MAX_LINES` lines, each one line long.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TextIO

from prill.report import numbers
from prill.report.corpus_model import CorpusReport
from prill.report.corpus_view import harmless_report
from prill.report.corpus_words import corpus_headline, firing_notes, never_fired, plural
from prill.report.harmless import cut, visible

__all__ = ["MAX_LINES", "plain_corpus_summary", "write_corpus_summary"]

MAX_LINES = 38

_N_RULES, _N_EDITS, _N_TASKS, _N_NOTES = 10, 5, 4, 5
_NAME_WIDTH, _LINE_WIDTH = 48, 160
_PLAIN = str.maketrans({"−": "-", "–": "-", "\u00a0": " ", "…": "...", "“": '"', "”": '"'})

_Row = tuple[str, ...]


def write_corpus_summary(summary: str, stream: TextIO) -> None:
    """Writes a summary; what the stream's encoding lacks is shown as a question mark."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    stream.write(summary.encode(encoding, "replace").decode(encoding))


def plain_corpus_summary(data: CorpusReport, *, report: str | None = None) -> str:
    """The summary as plain text, every line ended, columns aligned."""
    return _plain(_lines(data, report))


def _plain(lines: Sequence[str]) -> str:
    return "\n".join(lines).translate(_PLAIN) + "\n"


def _lines(data: CorpusReport, report: str | None) -> list[str]:
    clean = harmless_report(data)
    top = corpus_headline(clean)
    rules = _rules(clean)
    told_below = len(rules) > 1  # the first sentence under the headline says what the table says
    lines = [f"{top.title}.", *top.lede[1 if told_below else 0 :]]
    for table in (rules, _edits(clean), _tasks(clean)):
        if len(table) > 1:
            lines += ["", *_aligned(table)]
    silent = never_fired(clean)
    notes = [f"never fired: {', '.join(rule.reason for rule in silent)}"] if silent else []
    notes += [f"note: {note}" for note in (*firing_notes(clean), *clean.warnings)][:_N_NOTES]
    lines += ["", *notes] if notes else []
    lines = [cut(" ".join(line.split()) if line in notes else line, _LINE_WIDTH) for line in lines]
    return lines if report is None else [*lines, "", f"report: {visible(report)}"]


def _rules(data: CorpusReport) -> list[_Row]:
    fired = sorted(
        (rule for rule in data.rules if rule.first.n_documents), key=lambda r: -r.first.n_documents
    )
    shown, rest = fired[:_N_RULES], fired[_N_RULES:]
    rows = [(rule.reason, rule.first.n_documents, rule.first.n_bytes) for rule in shown]
    if rest:
        total = sum(rule.first.n_documents for rule in rest), sum(rule.first.n_bytes for rule in rest)
        rows.append((plural(len(rest), "other reason"), *total))
    n_before = max(1, data.before.n_documents)
    return [
        ("dropped for", "documents", "of all", "text"),
        *(
            (name, numbers.count(n), numbers.percent(n / n_before), numbers.size(size))
            for name, n, size in rows
        ),
    ]


def _edits(data: CorpusReport) -> list[_Row]:
    edits = sorted(data.edits, key=lambda edit: -edit.n_bytes)
    rows = [
        (edit.kind, numbers.count(edit.n_documents), numbers.count(edit.n_spans), numbers.size(edit.n_bytes))
        for edit in edits[:_N_EDITS]
        if edit.n_spans
    ]
    return [("cut out of kept documents", "documents", "places", "text"), *rows]


def _tasks(data: CorpusReport) -> list[_Row]:
    found = sorted((t for t in data.contamination if t.n_dirty_items), key=lambda t: -t.n_dirty_items)
    rows = [
        (
            t.task,
            f"{numbers.count(t.n_dirty_items)} of {numbers.count(t.n_items)}",
            numbers.count(t.n_documents),
        )
        for t in found[:_N_TASKS]
    ]
    return [("evaluation task", "items found", "documents"), *rows]


def _aligned(table: Sequence[_Row]) -> list[str]:
    """Names to the left, numbers to the right, two spaces between."""
    named = [(cut(" ".join(row[0].split()), _NAME_WIDTH), *row[1:]) for row in table]
    widths = [max(len(row[column]) for row in named) for column in range(len(named[0]))]
    return [
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip() for row in named
    ]
