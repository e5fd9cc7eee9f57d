"""Unicode repair: the kernel's flags miss nothing, and repaired text is what Python's own functions make."""

from __future__ import annotations

import unicodedata

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from prill.features._repair_kernel import MISREAD, UNCOMPOSED, VARIANT
from prill.features.repair import RepairOptions, find_repairs, repair_text, repair_texts

_TEXTS = st.text(max_size=80) | st.text(
    "ae\u0301\u0327\u0f71\u0f72각\u1161\u11a8한ﬁ①\r\n\t\x00\x85\u200b\ufeff é", max_size=80
)
_OPTIONS = st.builds(
    RepairOptions,
    form=st.sampled_from(["none", "NFC", "NFKC"]),
    line_ends=st.booleans(),
    controls=st.booleans(),
    invisible=st.booleans(),
)


@given(st.lists(_TEXTS, max_size=5), _OPTIONS)
@example(["a\u200b\u0301", "e\x00\u0301", "x" * 63 + "\r", "\u0344", "\u2126"], RepairOptions())
@settings(deadline=None, max_examples=300)
def test_columns_are_repaired_as_single_texts_and_twice_is_once(
    texts: list[str], options: RepairOptions
) -> None:
    column = pa.array(["pad", *texts], pa.large_string()).slice(1)
    repaired = repair_texts(column, options)
    assert repaired.to_pylist() == [repair_text(text, options) for text in texts]
    assert repair_texts(repaired, options).to_pylist() == repaired.to_pylist()


@given(_TEXTS)
@settings(deadline=None, max_examples=300)
def test_unflagged_text_is_already_in_normal_form(text: str) -> None:
    flags = int(find_repairs(pa.array([text], pa.large_string()))[0])
    if not flags & UNCOMPOSED:
        assert unicodedata.is_normalized("NFC", text)
        if not flags & VARIANT:
            assert unicodedata.is_normalized("NFKC", text)


def test_every_character_is_flagged_or_stable() -> None:
    characters = [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000]
    flags = find_repairs(pa.array(characters, pa.large_string()))
    for character, flag in zip(characters, flags.tolist(), strict=True):
        if not flag & UNCOMPOSED:
            assert unicodedata.normalize("NFC", character) == character


def test_clean_text_is_given_back_as_it_is() -> None:
    column = pa.array(["plain\ttext\n" * 20, "Grüße, 日本 क्षि", ""], pa.large_string())
    assert repair_texts(column) is column


@pytest.mark.parametrize(
    ("text", "repaired"),
    [
        ("\ufeffa\r\nb\rc\u2028d", "a\nb\nc\nd"),
        ("a\x00b\x07\x9fc\td", "abc\td"),
        ("zero\u200bwidth soft\u00adhyphen", "zerowidth softhyphen"),
        ("می\u200cخواهم 👨\u200d👩", "می\u200cخواهم 👨\u200d👩"),
        ("e\u200b\u0301", "é"),
        ("ﬁ①", "ﬁ①"),
    ],
)
def test_repairs_of_known_text(text: str, repaired: str) -> None:
    assert repair_text(text, RepairOptions()) == repaired
    assert repair_text("ﬁ①", RepairOptions(form="NFKC")) == "fi1"


def test_mojibake_is_undone_by_ftfy_and_flagged_before() -> None:
    pytest.importorskip("ftfy")
    good = "Señor Müller’s café – “naïve”"
    broken = good.encode().decode("cp1252", "replace").replace("\ufffd", "\x9d")
    options = RepairOptions(mojibake=True, controls=False)
    assert find_repairs(pa.array([broken], pa.large_string()))[0] & MISREAD
    assert repair_texts(pa.array([broken, good], pa.large_string()), options).to_pylist() == [good, good]
