"""A document with its spans shown: complete, in the places of the real edit, and harmless."""

import io
import re
from html import unescape

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prill.prepare.edit import edited
from prill.prepare.spans import Edits, Spans
from prill.report.spans import (
    TextSpan,
    edit_spans,
    pieces,
    spans_html,
    spans_of,
    spans_text,
    write_spans,
)

TEXT = "Write to wörk@example.org soon.\nHome | Login\nThe end."
REPLACED = {"email": "<email>", "menu": ""}


def span(part: str, reason: str, **given_values: object) -> TextSpan:
    start = len(TEXT[: TEXT.index(part)].encode())
    return TextSpan(start=start, stop=start + len(part.encode()), reason=reason, **given_values)  # type: ignore[arg-type]


MAIL = span("wörk@example.org", "email", replacement="<email>")
MENU = span("Home | Login\n", "menu line")
HINT = span("The end", "toxic word", is_edit=False)


def test_markers_show_what_was_cut_replaced_and_pointed_at():
    shown = spans_text(TEXT, [HINT, MENU, MAIL])
    assert shown == (
        "Write to [-wörk@example.org-]{+<email>+}(email) soon.\n"
        "[-Home | Login⏎-](menu line)\n[=The end=](toxic word)."
    )


def test_the_page_strikes_out_inserts_and_highlights_with_reasons():
    page = spans_html(TEXT, [MAIL, MENU, HINT])
    assert '<del>wörk@example.org</del><ins>&lt;email&gt;</ins><span class="why">email</span>' in page
    assert '<del>Home | Login⏎</del><span class="why">menu line</span>\n' in page
    assert '<mark>The end</mark><span class="why">toxic word</span>.' in page


def test_overlapping_edits_are_one_hole_with_the_replacement_of_the_first():
    text = "one two three"
    first = TextSpan(start=0, stop=7, reason="a", replacement="X")
    second = TextSpan(start=4, stop=13, reason="b", replacement="Y")
    assert spans_text(text, [second, first]) == "[-one two three-]{+X+}(a; b)"


def test_a_highlight_gives_way_to_a_hole():
    text = "one two three"
    cut = TextSpan(start=4, stop=7, reason="cut")
    mark = TextSpan(start=0, stop=13, reason="hit", is_edit=False)
    assert spans_text(text, [mark, cut]) == "[=one =](hit)[-two-](cut)[= three=](hit)"


@pytest.mark.parametrize(("start", "stop"), [(-5, 400), (1, 2), (2, 3), (7, 3)])
def test_positions_outside_or_within_a_character_do_no_harm(start: int, stop: int):
    text = "aé€b"
    found = pieces(text, [TextSpan(start=start, stop=stop, reason="x")])
    assert "".join(piece.text for piece in found) == text


def test_every_character_is_escaped_and_no_control_character_remains():
    text = "<script>\x1b[2J\u202ea\x07</script>"
    spans = [TextSpan(start=0, stop=9, reason="<b>\x1b", replacement="<i>\x9b")]
    page, plain = spans_html(text, spans), spans_text(text, spans)
    for shown in (page, plain):
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", shown)
    assert not re.search("<(?!/?(del|ins|span)[ >])", page)


def test_a_long_document_keeps_its_spans_and_says_what_is_left_out():
    text = "a" * 5_000 + "SECRET" + "b" * 5_000
    shown = spans_text(text, [TextSpan(start=5_000, stop=5_006, reason="key")], n_chars=400)
    assert "a[-SECRET-](key)b" in shown
    assert len(shown) < 600
    left_out = sum(int(n.replace(",", "")) for n in re.findall(r"([\d,]+) characters", shown))
    assert left_out + shown.count("a" * 10) * 10 > 9_000


def test_a_thousand_spans_stay_within_the_room_given():
    text = "word " * 5_000
    spans = [TextSpan(start=5 * i, stop=5 * i + 4, reason="w") for i in range(0, 5_000, 5)]
    shown = spans_text(text, spans, n_chars=1_000)
    assert len(shown) < 3_000
    assert re.search(r"more spans \.\.\.\]$", shown)


def test_left_out_text_ends_at_words():
    text = "alpha beta gamma delta " * 100
    start = text.index("gamma", 1_000)
    shown = spans_text(text, [TextSpan(start=start, stop=start + 5, reason="x")], n_chars=300)
    kept = re.split(r"\[\.\.\. [\d,]+ characters \.\.\.\]|\[-gamma-\]\(x\)", shown)
    assert len(kept) == 4
    assert {word for part in kept for word in part.split()} == {"alpha", "beta", "gamma", "delta"}


def test_cut_blanks_say_why_once():
    spans = [TextSpan(start=at, stop=at + 1, reason="blank line") for at in (2, 5)]
    assert spans_text("a\n\nb\n\nc", spans) == "a\n[-⏎-](blank line)\nb\n[-⏎-]\nc"


def test_a_stream_that_is_no_terminal_gets_plain_text():
    stream = io.StringIO()
    write_spans(TEXT, [MAIL], stream)
    assert stream.getvalue() == spans_text(TEXT, [MAIL]) + "\n"


def test_a_terminal_gets_the_same_words_in_colour(monkeypatch: pytest.MonkeyPatch):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    stream = Terminal()
    write_spans(TEXT + "[bold]", [MAIL, MENU, HINT], stream)
    assert "\x1b[" in stream.getvalue()
    assert (
        re.sub("\x1b\\[[0-9;]*m", "", stream.getvalue())
        == spans_text(TEXT + "[bold]", [MAIL, MENU, HINT]) + "\n"
    )


def test_stored_columns_give_their_spans():
    spans = Spans(
        offsets=np.array([0, 0, 2]),
        starts=np.array([0, 4]),
        stops=np.array([3, 7]),
        kinds=np.array([0, 1], np.int32),
        names=("email", "menu"),
    )
    assert spans_of(spans, 0) == ()
    assert spans_of(spans, 1)[1] == TextSpan(start=4, stop=7, reason="menu", is_edit=False)
    assert edit_spans(Edits(spans=spans, replacements={"email": "E"}), 1)[0].replacement == "E"


@st.composite
def texts_with_spans(draw: st.DrawFn) -> tuple[str, list[TextSpan]]:
    text = draw(st.text(st.characters(exclude_categories=["Cs"]), max_size=30))
    ends = [len(text[:i].encode()) for i in range(len(text) + 1)]
    spans = []
    for _ in range(draw(st.integers(0, 6))):
        start, stop = sorted(draw(st.tuples(st.sampled_from(ends), st.sampled_from(ends))))
        name = draw(st.sampled_from(sorted(REPLACED)))
        is_edit = draw(st.booleans())
        spans.append(
            TextSpan(
                start=start,
                stop=stop,
                reason=name,
                replacement=REPLACED[name] if is_edit else None,
                is_edit=is_edit,
            )
        )
    return text, spans


@given(texts_with_spans())
@settings(deadline=None)
def test_what_is_shown_is_what_the_edit_does(case: tuple[str, list[TextSpan]]):
    text, spans = case
    spans.sort(key=lambda one: one.reason)  # of equal spans, the edit goes by the order of names
    found = pieces(text, spans)
    assert "".join(piece.text for piece in found) == text
    after = "".join(piece.text if piece.kind != "cut" else piece.replacement for piece in found)
    cuts = sorted((s for s in spans if s.is_edit), key=lambda s: (s.start, -s.stop))
    edits = Edits(
        spans=Spans(
            offsets=np.array([0, len(cuts)], np.int64),
            starts=np.array([s.start for s in cuts], np.int64),
            stops=np.array([s.stop for s in cuts], np.int64),
            kinds=np.array([sorted(REPLACED).index(s.reason) for s in cuts], np.int32),
            names=sorted(REPLACED),
        ),
        replacements=REPLACED,
    )
    assert after == edited(pa.array([text], pa.large_string()), [edits])[0].as_py()


@given(texts_with_spans())
@settings(deadline=None)
def test_the_page_holds_the_whole_text(case: tuple[str, list[TextSpan]]):
    text, spans = case
    plain = "".join(c if c.isprintable() and c not in "\u2028\u2029" else "" for c in text)
    page = unescape(
        re.sub(
            r'<ins>.*?</ins>|<span class="why">.*?</span>|</?(del|mark)>', "", str(spans_html(text, spans))
        )
    )
    assert all(c in page for c in plain)
