"""Executing a cleaning program: replacements first, then lines, as spans of the original text.

A text under edit is a row of pieces, each a stretch of the original or something new; a replacement or a
removal cuts pieces, so that in the end what was taken out is known in bytes of the original.

Acceptance, with R words after / words before and E errors: R <= 0.05 and E < 2 drops the document; too many
errors leave it as it was; at most `min_words` words left drop it; else the edited text stands. As released,
the rule of few words comes before the errors and judges untouched documents too; here it needs an edit, and
fewer than two errors.

Source: Zhou et al. 2024 (ProX), arXiv:2409.17115, section 3 and the released executor.
Differs: see acceptance; blank sources are skipped; replacements are counted and capped.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from prill.prepare.refine.program import Operation, Program

__all__ = ["DECISIONS", "Decision", "Refined", "execute", "judge_document"]

Decision = Literal["keep", "edited", "drop", "program_ignored"]
DECISIONS: Final[tuple[Decision, ...]] = ("keep", "edited", "drop", "program_ignored")

_MOST_ERRORS: Final = 1
_DROP_SHARE: Final = 0.05

_Piece = tuple[int, int, str | None]
"""Start and stop of a stretch of the original, in characters, and None; or nothing of it, and new text."""


@dataclass(frozen=True, kw_only=True)
class Refined:
    """What a program did to a document.

    Attributes:
        decision: `keep` (nothing to do), `edited`, `drop`, `program_ignored` (too many errors or refused).
        holes: start, stop (characters of the original) and new text of each change, sorted.
        errors: what was wrong, as users read it.
        n_lines_removed: lines taken out.
        n_replaced: places where a string was replaced.
    """

    decision: Decision
    holes: tuple[tuple[int, int, str], ...] = ()
    errors: tuple[str, ...] = ()
    n_lines_removed: int = 0
    n_replaced: int = 0

    def text(self, original: str) -> str:
        """The text afterwards; empty for a dropped document."""
        if self.decision != "edited":
            return "" if self.decision == "drop" else original
        parts, at = [], 0
        for start, stop, new in self.holes:
            parts += [original[at:start], new]
            at = stop
        return "".join([*parts, original[at:]])


def judge_document(program: Program, text: str, *, released: bool) -> Refined:
    """The verdict of a document-level program: `drop_doc()` drops, `keep_doc()` keeps.

    Args:
        text: the program as written; the released rule drops when `drop` is anywhere in it.
    """
    if released:
        return Refined(decision="drop" if "drop" in text else "keep")
    kinds = {operation.kind for operation in program.operations}
    if program.refusal or program.errors or len(kinds) != 1 or not kinds <= {"keep_doc", "drop_doc"}:
        said = program.refusal or "; ".join(program.errors) or "neither keep_doc() nor drop_doc() alone"
        return Refined(decision="program_ignored", errors=(said,))
    return Refined(decision="drop" if kinds == {"drop_doc"} else "keep")


def execute(
    text: str, program: Program, *, released: bool, min_words: int = 10, most_replaced: int = 1_000
) -> Refined:
    """Run a chunk-level program on a whole document.

    Args:
        released: accept as the released executor does.
        min_words: an edited document of at most so many words is dropped.
        most_replaced: a string found more often than this is not replaced, which is an error.
    """
    if program.refusal:
        return Refined(decision="program_ignored", errors=(program.refusal,))
    errors = list(program.errors)
    pieces: list[_Piece] = [(0, len(text), None)]
    n_replaced = 0
    for operation in program.operations:
        if operation.kind == "normalize":
            pieces, n = _replaced(text, pieces, operation, most_replaced, released=released)
            if n < 0:
                errors.append(f"a string found more than {most_replaced} times")
            n_replaced += max(n, 0)
    wanted = _lines_to_remove(
        _joined(text, pieces).split("\n"), program.operations, errors, released=released
    )
    pieces = _without_lines(text, pieces, wanted)
    after = _joined(text, pieces)
    decision = _decision(text, after, len(errors), min_words, released=released)
    return Refined(
        decision=decision,
        holes=_holes(pieces, len(text)) if decision == "edited" else (),
        errors=tuple(errors),
        n_lines_removed=len(wanted) if decision in ("edited", "drop") else 0,
        n_replaced=n_replaced if decision in ("edited", "drop") else 0,
    )


def _decision(before: str, after: str, n_errors: int, min_words: int, *, released: bool) -> Decision:
    n_before, n_after = len(before.split()), len(after.split())
    is_sound = n_errors <= _MOST_ERRORS
    unchanged: Decision = "keep" if is_sound else "program_ignored"
    if n_before == 0:
        return unchanged  # the released executor divides by zero here
    if is_sound and n_after / n_before <= _DROP_SHARE:
        return "drop"
    if n_after <= min_words and (released or (is_sound and after != before)):
        return "drop"
    return "edited" if is_sound and after != before else unchanged


def _joined(text: str, pieces: list[_Piece]) -> str:
    return "".join(text[start:stop] if new is None else new for start, stop, new in pieces)


def _replaced(
    text: str, pieces: list[_Piece], operation: Operation, most: int, *, released: bool
) -> tuple[list[_Piece], int]:
    """The pieces after replacing every occurrence, and their number; -1 when there are too many."""
    source = operation.source
    if not source or (not released and not source.strip()):
        return pieces, 0
    current = _joined(text, pieces)
    n = current.count(source)
    if n > most:
        return pieces, -1
    ranges, at = [], 0
    for _ in range(n):
        at = current.index(source, at)
        ranges.append((at, at + len(source)))
        at += len(source)
    return _cut(pieces, ranges, operation.target), n


def _cut(pieces: list[_Piece], ranges: list[tuple[int, int]], new: str) -> list[_Piece]:
    """Put `new` in place of ranges of the current text (sorted, apart from one another)."""
    found: list[_Piece] = []
    waiting = iter([*ranges, (-1, -1)])
    first, last = next(waiting)
    at = 0
    for start, stop, text in pieces:
        n = stop - start if text is None else len(text)
        done = 0
        while first >= 0 and first < at + n:
            begin, end = max(first - at, done), min(last - at, n)
            found.append(_part(start, text, done, begin))
            is_head = first >= at
            found.append((start, start, new if is_head else ""))
            done = end
            if last > at + n:
                break
            first, last = next(waiting)
        found.append(_part(start, text, done, n))
        at += n
    return [piece for piece in found if piece[1] > piece[0] or piece[2]]


def _part(start: int, text: str | None, begin: int, end: int) -> _Piece:
    """Characters begin..end of a piece, as they are."""
    return (start + begin, start + end, None) if text is None else (start, start, text[begin:end])


def _lines_to_remove(
    lines: list[str], operations: tuple[Operation, ...], errors: list[str], *, released: bool
) -> list[int]:
    """Numbers of the lines to take out, sorted; ends beyond the text are errors, counted a merged range."""
    if any(operation.kind == "remove_all" for operation in operations):
        return list(range(len(lines)))
    ranges = sorted((o.start, o.end) for o in operations if o.kind == "remove_lines")
    merged: list[tuple[int, int]] = []
    for start, end in ranges:
        if merged and start <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((start, end))
    wanted: list[int] = []
    for start, end in merged:
        if end >= len(lines):
            errors.append("lines beyond the end of the document")
        wanted += range(max(start, 0), min(end + 1, len(lines)))
    return wanted


def _without_lines(text: str, pieces: list[_Piece], wanted: list[int]) -> list[_Piece]:
    if not wanted:
        return pieces
    current = _joined(text, pieces)
    bounds, at = [], 0
    for line in current.split("\n"):
        bounds.append((at, at + len(line)))
        at += len(line) + 1
    gone = set(wanted)
    last_kept = max((k for k in range(len(bounds)) if k not in gone), default=-1)
    tail = bounds[last_kept][1] if last_kept >= 0 else 0
    ranges = [(bounds[k][0], bounds[k][1] + 1) for k in wanted if k < last_kept]
    ranges += [(tail, len(current))] if tail < len(current) and last_kept + 1 < len(bounds) else []
    joined: list[tuple[int, int]] = []
    for start, stop in ranges:
        if joined and start == joined[-1][1]:
            joined[-1] = (joined[-1][0], stop)
        else:
            joined.append((start, stop))
    return _cut(pieces, joined, "")


def _holes(pieces: list[_Piece], n: int) -> tuple[tuple[int, int, str], ...]:
    """What lies between the stretches of the original that are left, and the new text there."""
    found: list[tuple[int, int, str]] = []
    at, new = 0, ""
    for start, stop, text in [*pieces, (n, n, None)]:
        if text is not None:
            new += text
            continue
        if start > at or new:
            found.append((at, start, new))
        at, new = stop, ""
    return tuple(found)
