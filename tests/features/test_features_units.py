"""Lines and paragraphs against plain Python: where they are, and which are equal, on any Unicode text."""

import itertools

from hypothesis import example, given, settings
from hypothesis import strategies as st

from made_text import texts
from prill.features._units_oracle import normal_form, units
from prill.features.units import Cut, Normal, hash_units

TRICKY = st.text(alphabet="aA 09_.\n\n\t\r\x1c\x85\xa0ΣσİıKßẞé́\u200b\u2028\u3000中かАя🙂𐐀\ud7ff", max_size=50)
PLAIN = st.text(alphabet="abC  .\n", max_size=300)
DOCUMENTS = st.lists(st.one_of(TRICKY, PLAIN, st.text(max_size=80)), max_size=4)


@settings(max_examples=400)
@given(
    DOCUMENTS,
    st.sampled_from(["line", "paragraph"]),
    st.sampled_from(["exact", "spaces", "words"]),
    st.booleans(),
    st.integers(1, 6),
)
@example(["\n \n a\n\nb \n\u3000\n\n"], "paragraph", "spaces", True, 1)
@example(["  " + "a b" * 30 + "   \n" + "x" * 64 + "\n" + "y" * 63 + " \n z  z"], "line", "spaces", True, 1)
@example([" "], "paragraph", "exact", False, 1)
@example(["x" * 2047 + " " * 20 + "y\n" + "x" * 2047 + " y"], "line", "spaces", True, 1)
def test_units_equal_plain_python_on_any_text(
    documents: list[str], cut: Cut, normal: Normal, ignore_case: bool, min_characters: int
) -> None:
    found = hash_units(
        texts([*documents, " " * 200]),
        cut=cut,
        normal=normal,
        ignore_case=ignore_case,
        min_characters=min_characters,
    )
    by_form: dict[str, int] = {}
    places = zip(found.starts.tolist(), found.stops.tolist(), found.hashes.tolist(), strict=True)
    for d, document in enumerate(documents):
        expected = [
            (start, stop, form)
            for start, stop, content in units(document, cut)
            if len(form := normal_form(content, normal, ignore_case=ignore_case)) >= min_characters
        ]
        n = int(found.offsets[d + 1] - found.offsets[d])
        assert n == len(expected)
        for (start, stop, form), place in zip(expected, itertools.islice(places, n), strict=True):
            assert place[:2] == (start, stop)
            assert by_form.setdefault(form, place[2]) == place[2]
    assert len(set(by_form.values())) == len(by_form)  # different forms, different hashes


@given(DOCUMENTS, st.sampled_from(["exact", "spaces"]))
def test_a_unit_hashes_alike_wherever_it_stands(documents: list[str], normal: Normal) -> None:
    """The end of a column, which is read byte by byte, and the inside, which is read 64 bytes a step."""
    column = texts([*documents, " " * 200])
    inside = hash_units(column, normal=normal).hashes.tolist()
    alone = [h for d in documents for h in hash_units(texts([d]), normal=normal).hashes.tolist()]
    assert inside[: len(alone)] == alone


def test_a_line_of_megabytes_hashes_as_its_content() -> None:
    line = "word " * 400_000
    found = hash_units(texts([line + "\n" + line.upper().replace(" ", "  "), "word " * 399_999]))
    assert found.hashes[0] == found.hashes[1] != found.hashes[2]
    assert found.stops.tolist()[:2] == [len(line) + 1, len(line) + 1 + 6 * 400_000]


def test_a_slice_of_a_column_gives_the_units_of_its_rows() -> None:
    column = texts(["first\nline", "second\nline", "third"])
    assert (
        hash_units(column.slice(1, 1)).hashes.tolist() == hash_units(texts(["second\nline"])).hashes.tolist()
    )
