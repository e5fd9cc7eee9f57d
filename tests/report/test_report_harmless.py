"""Strings from data become visible and short before anything else sees them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prill.report.harmless import NAME_LIMIT, cut, harmless, visible
from prill.report.model import Arm, SampleDocument, SampleGroup


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x00b", "a␀b"),
        ("a\x1b[31mb", "a␛[31mb"),
        ("a\x7fb", "a␡b"),
        ("a\x9bb", "a⟨U+009B⟩b"),
        ("abc\u202egnp", "abc⟨U+202E⟩gnp"),
        ("a\u200bb", "a⟨U+200B⟩b"),
        ("a\ud800b", "a\ufffdb"),
        ("line\r\nnext", "line\nnext"),
        ("a\u2028b", "a\nb"),
        ("tab\tkept\n", "tab\tkept\n"),
        ("naïve 日本語 العربية 👩🏽‍🔬", "naïve 日本語 العربية 👩🏽‍🔬"),
    ],
)
def test_hidden_characters_are_shown(text, shown):
    assert visible(text) == shown


@given(st.text(st.characters(codec=None)))
def test_any_text_can_be_written_and_has_no_controls(text):
    shown = visible(text)
    shown.encode()
    assert not any(ord(c) < 32 and c not in "\t\n" for c in shown)


def test_cut_marks_what_is_missing():
    assert cut("abcdef", 4) == "abc…"
    assert cut("abcd", 4) == "abcd"


def test_names_and_texts_have_their_own_limits():
    document = SampleDocument(shard="s" * 10**6, row=0, text="t" * 10**6, reason="r", is_kept=True)
    group = harmless(SampleGroup(kind="above", documents=(document,)), text_limit=500)
    assert len(group.documents[0].shard) == NAME_LIMIT
    assert len(group.documents[0].text) == 500


def test_plain_values_pass_unchanged():
    arm = Arm(name="dsir", label="DSIR", role="candidate")
    assert harmless(arm, text_limit=10) == arm
