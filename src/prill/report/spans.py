"""A document with its spans shown: what was cut, what stands there instead, what is only pointed at, and why.

One list of pieces serves the page and the terminal, so both say the same. Overlapping spans that edit are
one hole, filled with the replacement of the hole's first span (the one that starts first, then the longest),
as when the text itself was edited. Text comes from the open web: every character is made visible and escaped.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, TextIO

import numpy as np
from markupsafe import Markup

from prill.prepare.spans import Edits, Spans
from prill.report.harmless import visible

if TYPE_CHECKING:
    from rich.text import Text

__all__ = [
    "Piece",
    "TextSpan",
    "edit_spans",
    "pieces",
    "spans_html",
    "spans_of",
    "spans_text",
    "write_spans",
]

_CONTEXT = 60  # characters kept on both sides of a span, however little room there is
_LONGEST_WORD = 20  # characters; a longer one is cut where the room ends
_LINE_END = "⏎"
_STYLES = {"cut": "red strike", "mark": "reverse", "gap": "dim", "put": "green", "why": "dim italic"}


@dataclass(frozen=True, kw_only=True)
class TextSpan:
    """Bytes `start` to `stop` (behind the last) of a document's UTF-8 text.

    Attributes:
        reason: in words a user reads: `email`, `fewer than 3 words`.
        replacement: what stands there afterwards; None when the span is cut without replacement.
        is_edit: False for a span that is only pointed at; the text keeps it.
    """

    start: int
    stop: int
    reason: str
    replacement: str | None = None
    is_edit: bool = True


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Some consecutive text of a document, raw: `visible` has not been applied.

    A `gap` stands for text that is left out: its text is words about it.
    """

    kind: Literal["kept", "cut", "mark", "gap"]
    text: str
    reasons: tuple[str, ...] = ()
    replacement: str = ""


def spans_of(
    spans: Spans, document: int, *, replacements: Mapping[str, str] | None = None, is_edit: bool = False
) -> tuple[TextSpan, ...]:
    """The spans of one document out of a column, as `TextSpan`s; `Edits` give their own replacements.

    Args:
        document: its row in the column.
        replacements: text by name of the span.
        is_edit: whether these bytes are taken out; False when they are only pointed at.
    """
    first, last = int(spans.offsets[document]), int(spans.offsets[document + 1])
    known = replacements or {}
    of_equal_spans_the_lowest = np.argsort(spans.kinds[first:last], kind="stable") + first
    places = (
        (int(spans.starts[i]), int(spans.stops[i]), spans.names[int(spans.kinds[i])])
        for i in of_equal_spans_the_lowest
    )
    return tuple(
        TextSpan(start=start, stop=stop, reason=name, replacement=known.get(name), is_edit=is_edit)
        for start, stop, name in places
    )


def edit_spans(edits: Edits, document: int) -> tuple[TextSpan, ...]:
    """The spans of one document that an edit takes out, with their replacements."""
    return spans_of(edits.spans, document, replacements=edits.replacements, is_edit=True)


def pieces(text: str, spans: Sequence[TextSpan], *, n_chars: int | None = None) -> list[Piece]:
    """The text cut at its spans, in order; the texts of all pieces together are the document.

    Args:
        spans: in any order, overlapping or not; positions outside the text or within a character are
            moved to the nearest character that they touch.
        n_chars: about how many characters to show; the rest is left out, text far from any span first.
    """
    data = text.encode("utf-8", "surrogatepass")
    holes = _unions([span for span in spans if span.is_edit], data, "cut")
    marks = _unions([span for span in spans if not span.is_edit], data, "mark")
    found = [*holes, *_outside(marks, holes)]
    found.sort(key=lambda place: place.start)
    shown = list(_told_once(_with_text(data, found)))
    return shown if n_chars is None or len(text) <= n_chars else list(_shortened(shown, n_chars))


def spans_html(text: str, spans: Sequence[TextSpan], *, n_chars: int | None = None) -> Markup:
    """The text as HTML: struck out, replaced or highlighted, each with its reason behind it."""
    return Markup("").join(map(_piece_html, pieces(text, spans, n_chars=n_chars)))


def spans_text(text: str, spans: Sequence[TextSpan], *, n_chars: int | None = None) -> str:
    """The text with plain markers: `[-cut-]{+replacement+}(reason)`, `[=pointed at=](reason)`."""
    shown = pieces(text, spans, n_chars=n_chars)
    return "".join(part for piece in shown for _, part in _piece_text(piece))


def write_spans(text: str, spans: Sequence[TextSpan], stream: TextIO, *, n_chars: int | None = None) -> None:
    """Writes the text with its markers and a line end, in colours when `stream` is a terminal."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    if stream.isatty():
        from rich.console import Console

        shown = _rich_text(pieces(text, spans, n_chars=n_chars))
        Console(file=stream, highlight=False, markup=False, soft_wrap=True).print(shown)
        return
    plain = spans_text(text, spans, n_chars=n_chars) + "\n"
    stream.write(plain.encode(encoding, "replace").decode(encoding))


@dataclass(frozen=True, kw_only=True)
class _Union:
    """Overlapping spans as one, in bytes."""

    start: int
    stop: int
    kind: Literal["cut", "mark"]
    reasons: tuple[str, ...]
    replacement: str = ""


def _unions(spans: Sequence[TextSpan], data: bytes, kind: Literal["cut", "mark"]) -> list[_Union]:
    """Spans that share bytes, joined; spans that only touch stay apart. The first one's replacement holds."""
    found: list[_Union] = []
    places = [(_down(span.start, data), _up(span.stop, data), span) for span in spans]
    for start, stop, span in sorted(places, key=lambda place: (place[0], -place[1])):
        if start >= stop and span.replacement is None:
            continue
        if found and start < found[-1].stop:
            last = found[-1]
            reasons = last.reasons if span.reason in last.reasons else (*last.reasons, span.reason)
            found[-1] = replace(last, stop=max(last.stop, stop), reasons=reasons)
        else:
            union = _Union(start=start, stop=stop, kind=kind, reasons=(span.reason,))
            found.append(replace(union, replacement=span.replacement or ""))
    return found


def _down(position: int, data: bytes) -> int:
    """The first byte of the character at `position`, within the text."""
    at = min(max(position, 0), len(data))
    while 0 < at < len(data) and data[at] & 0xC0 == 0x80:
        at -= 1
    return at


def _up(position: int, data: bytes) -> int:
    """`position`, or the byte behind the character that it cuts, within the text."""
    at = min(max(position, 0), len(data))
    while at < len(data) and data[at] & 0xC0 == 0x80:
        at += 1
    return at


def _outside(marks: Sequence[_Union], holes: Sequence[_Union]) -> Iterator[_Union]:
    """The parts of `marks` that no hole covers."""
    at = 0
    for mark in marks:
        start = mark.start
        while at < len(holes) and holes[at].stop <= start:
            at += 1
        inner = at
        while inner < len(holes) and holes[inner].start < mark.stop:
            if holes[inner].start > start:
                yield replace(mark, start=start, stop=holes[inner].start)
            start = max(start, holes[inner].stop)
            inner += 1
        if start < mark.stop:
            yield replace(mark, start=start)


def _with_text(data: bytes, found: Sequence[_Union]) -> Iterator[Piece]:
    def text(start: int, stop: int) -> str:
        return data[start:stop].decode("utf-8", "surrogatepass")

    done = 0
    for union in found:
        if union.start > done:
            yield Piece(kind="kept", text=text(done, union.start))
        yield Piece(
            kind=union.kind,
            text=text(union.start, union.stop),
            reasons=union.reasons,
            replacement=union.replacement,
        )
        done = union.stop
    if done < len(data):
        yield Piece(kind="kept", text=text(done, len(data)))


def _told_once(shown: Iterable[Piece]) -> Iterator[Piece]:
    """The pieces; of cuts that take nothing but white space, only the first says why."""
    told: set[tuple[str, ...]] = set()
    for piece in shown:
        is_blank = piece.kind == "cut" and piece.text.isspace()
        yield replace(piece, reasons=()) if is_blank and piece.reasons in told else piece
        if is_blank:
            told.add(piece.reasons)


def _shortened(shown: Sequence[Piece], n_chars: int) -> Iterator[Piece]:
    """About `n_chars` of the document: its beginning, its spans, and some text on both sides of each."""
    spans = [piece for piece in shown if piece.kind != "kept"]
    longest = max(2 * _CONTEXT, n_chars // max(2, 2 * len(spans)))
    n_marked = sum(min(len(piece.text), longest) for piece in spans)
    context = max(_CONTEXT, (n_chars - n_marked) // max(1, 2 * (len(shown) - len(spans))))
    left = max(n_chars, 2 * context)
    for index, piece in enumerate(shown):
        if left <= 0:
            yield _gap(shown[index:])
            return
        is_last = index == len(shown) - 1
        head = 2 * context if is_last else context
        limit = (head, 0 if is_last else context) if piece.kind == "kept" else (longest // 2, longest // 2)
        for part in _ends(piece, *limit):
            yield part
            left -= len(part.text)


def _ends(piece: Piece, n_head: int, n_tail: int) -> Iterator[Piece]:
    """The piece, without its middle when that is long; the replacement stays with its end."""
    n_left_out = len(piece.text) - n_head - n_tail
    if n_left_out <= _CONTEXT:
        yield piece
        return
    head = _without_cut_word(piece.text[:n_head], piece.text[n_head])
    tail = piece.text[len(piece.text) - n_tail :]
    if n_tail:
        tail = _without_cut_word(tail[::-1], piece.text[-n_tail - 1])[::-1]
    yield replace(piece, text=head, reasons=(), replacement="")
    yield Piece(kind="gap", text=f"{len(piece.text) - len(head) - len(tail):,} characters")
    if n_tail or piece.kind != "kept":
        yield replace(piece, text=tail)


def _without_cut_word(text: str, after: str) -> str:
    """The text without a short rest of a word at its end that goes on with `after`."""
    start = max(text.rfind(" "), text.rfind("\n")) + 1
    is_short = 0 < len(text) - start < _LONGEST_WORD and start > len(text) // 2
    return text[:start] if is_short and not after.isspace() else text


def _gap(left_out: Sequence[Piece]) -> Piece:
    n_chars = sum(len(piece.text) for piece in left_out)
    n_spans = sum(piece.kind != "kept" for piece in left_out)
    spans = "" if not n_spans else f" with {n_spans:,} more {'span' if n_spans == 1 else 'spans'}"
    return Piece(kind="gap", text=f"{n_chars:,} characters{spans}")


def _piece_html(piece: Piece) -> Markup:
    text, line_end = _ended(piece)
    if piece.kind == "kept":
        return Markup("{}").format(text)
    if piece.kind == "gap":
        return Markup('<span class="gap">… {} …</span>').format(text)
    tag = "del" if piece.kind == "cut" else "mark"
    parts = [Markup("<{}>{}</{}>").format(Markup(tag), text, Markup(tag))] if text else []
    if piece.replacement:
        parts.append(Markup("<ins>{}</ins>").format(visible(piece.replacement)))
    if piece.reasons:
        parts.append(Markup('<span class="why">{}</span>').format(_why(piece)))
    return Markup("").join([*parts, line_end])


def _piece_text(piece: Piece) -> list[tuple[str, str]]:
    """Style and text of every part."""
    text, line_end = _ended(piece)
    if piece.kind == "kept":
        return [("", text)]
    if piece.kind == "gap":
        return [("gap", f"[... {text} ...]")]
    parts: list[tuple[str, str]] = [(piece.kind, f"[-{text}-]" if piece.kind == "cut" else f"[={text}=]")]
    if piece.replacement:
        parts.append(("put", f"{{+{visible(piece.replacement)}+}}"))
    if piece.reasons:
        parts.append(("why", f"({_why(piece)})"))
    return [*parts, ("", line_end)] if line_end else parts


def _ended(piece: Piece) -> tuple[str, str]:
    """The visible text, and line ends to put behind its reason; a sign stands for each that is cut."""
    text = visible(piece.text)
    if piece.kind not in ("cut", "mark") or not text.endswith("\n"):
        return text, ""
    body = text.rstrip("\n")
    n_ends = len(text) - len(body)
    return body + _LINE_END * n_ends if piece.kind == "cut" else body, "\n" * n_ends


def _why(piece: Piece) -> str:
    return "; ".join(" ".join(visible(reason).split()) for reason in piece.reasons)


def _rich_text(shown: Sequence[Piece]) -> Text:
    from rich.text import Text

    text = Text()
    for piece in shown:
        for style, part in _piece_text(piece):
            text.append(part, style=_STYLES.get(style, ""))
    return text
