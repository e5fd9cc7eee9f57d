"""The verdict of a corpus report in words: how much came in, how much is kept, what took the rest.

Every number is an amount of the model; nothing is estimated here.
"""

from __future__ import annotations

from collections.abc import Sequence

from prill.report import numbers
from prill.report.corpus_model import CorpusReport, RuleOutcome
from prill.report.overview import Headline

__all__ = ["always_fired", "corpus_headline", "firing_notes", "listed", "never_fired", "plural"]

_REASONS_TOLD = 3
_NAMES_TOLD = 12
_LARGE_SHARE = 0.5


def corpus_headline(data: CorpusReport) -> Headline:
    """What preparation came to: the account, its largest reasons, and what the edits took."""
    n_before, n_kept = data.before.n_documents, data.kept.n_documents
    documents = plural(n_before, "document")
    title = f"{documents} in, {numbers.count(n_kept)} kept"
    if n_before == n_kept:
        title = f"{documents} in, all of them kept" if n_before else "No documents"
    lede = [sentence for sentence in (_dropped(data), _remains(data)) if sentence]
    return Headline(title=title, lede=tuple(lede))


def never_fired(data: CorpusReport) -> tuple[RuleOutcome, ...]:
    """Rules that held for no document, though they judged some."""
    return tuple(rule for rule in data.rules if rule.n_fired == 0 and _n_judged(rule, data) > 0)


def always_fired(data: CorpusReport) -> tuple[RuleOutcome, ...]:
    """Rules that held for every document that they judged."""
    return tuple(rule for rule in data.rules if 0 < rule.n_fired == _n_judged(rule, data))


def firing_notes(data: CorpusReport) -> tuple[str, ...]:
    """What to look at before relying on the rules: those that always fired, or on more than half."""
    always = always_fired(data)
    notes = [
        f"The rule “{rule.reason}” fired on every document that it judged: its threshold may be wrong."
        for rule in always[:_NAMES_TOLD]
    ]
    limit = _LARGE_SHARE * data.before.n_documents
    for rule in data.rules:
        if rule not in always and rule.n_fired > limit:
            fired, first = (
                numbers.percent(n / data.before.n_documents) for n in (rule.n_fired, rule.first.n_documents)
            )
            notes.append(
                f"The rule “{rule.reason}” fired on {fired} of all documents and dropped {first}: "
                "is its threshold meant for such text?"
            )
    if data.before.n_documents and not data.kept.n_documents:
        notes.append("Nothing is left: every document was dropped.")
    return tuple(notes)


def plural(number: int, noun: str) -> str:
    """`1 document`, `2 documents`"""
    return f"{numbers.count(number)} {noun if number == 1 else noun + 's'}"


def _dropped(data: CorpusReport) -> str:
    ordered = sorted(
        (rule for rule in data.rules if rule.first.n_documents),
        key=lambda rule: (-rule.first.n_documents, rule.reason),
    )
    if not ordered:
        return "Nothing was dropped." if data.before.n_documents else ""
    told = [
        f"{numbers.count(rule.first.n_documents)} for “{rule.reason}”" for rule in ordered[:_REASONS_TOLD]
    ]
    rest = ordered[_REASONS_TOLD:]
    if rest:
        n_rest = sum(rule.first.n_documents for rule in rest)
        told.append(f"{numbers.count(n_rest)} for {plural(len(rest), 'other reason')}")
    n_dropped = data.dropped.n_documents
    if len(told) == 1:
        return f"{numbers.count(n_dropped)} dropped, all for “{ordered[0].reason}”."
    return f"{numbers.count(n_dropped)} dropped: {listed(told)}."


def _remains(data: CorpusReport) -> str:
    if not data.before.n_bytes:
        return ""
    share = numbers.percent(data.prepared.n_bytes / data.before.n_bytes)
    text = f"{numbers.size(data.prepared.n_bytes)} of {numbers.size(data.before.n_bytes)} of text remain"
    tokens = ""
    if data.prepared.n_tokens is not None and data.before.n_tokens is not None:
        before, after = numbers.compact(data.before.n_tokens), numbers.compact(data.prepared.n_tokens)
        tokens = f", {after} of {before} tokens"
    edits = ""
    if data.n_documents_edited:
        edits = f" Edits cut {numbers.size(data.n_bytes_cut)} out of {_kept(data.n_documents_edited)}."
    return f"{text} ({share}){tokens}.{edits}"


def _kept(number: int) -> str:
    return f"{numbers.count(number)} kept {'document' if number == 1 else 'documents'}"


def _n_judged(rule: RuleOutcome, data: CorpusReport) -> int:
    return data.before.n_documents if rule.n_judged is None else rule.n_judged


def listed(parts: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`"""
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)
