"""HTML: what counts as it, what is extracted, and pages that want to cost too much."""

from __future__ import annotations

import sys
import time

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prill.corpus.batch import Batch
from prill.errors import ResourceError
from prill.features.html import HtmlOptions, extract_text, extract_texts, is_html
from prill.prepare.html import Html, HtmlSpec

PAGE = (
    "<!DOCTYPE html><html><head><title>t</title><script>var x = 'hidden';</script></head><body>"
    "<nav><ul><li><a href='/'>Home</a></li><li><a href='/b'>Blog</a></li></ul></nav>"
    "<main><article><h1>Kettles</h1>"
    + "<p>A kettle boils water quickly, and costs little.</p>"
    * 6
    + "</article></main>"
    "<footer>Copyright</footer></body></html>"
)
TEXTS = [
    PAGE,
    "<p>one</p> <div>two</div> <span>three</span> <br/> fragment",
    "In HTML, <b>bold</b> and <html> are tags.",
    "if a < b and c > d: pass",
    "",
    "\n <?xml version='1.0'?>\n<html lang='en'><body>x</body></html>",
]


def test_pages_and_fragments_are_html_and_mentions_are_not() -> None:
    assert is_html(pa.array(TEXTS, pa.large_string())).tolist() == [True, True, False, False, False, True]


def test_text_of_a_page_is_extracted_and_plain_text_stays() -> None:
    pytest.importorskip("resiliparse")
    texts, status = extract_texts(pa.array(TEXTS, pa.large_string()))
    assert status == ["extracted", "extracted", "not html", "not html", "not html", "extracted"]
    assert "A kettle boils water quickly, and costs little." in texts[0].as_py()
    assert "hidden" not in texts[0].as_py()
    assert "Blog" not in texts[0].as_py()
    assert "Blog" in extract_text(PAGE, HtmlOptions(main_content=False))[0]
    assert texts.to_pylist()[2:5] == TEXTS[2:5]


@pytest.mark.parametrize("unit", ["<div>", "<b>", "<table><tr><td>", "<ul><li>", "<svg><g>"])
def test_deeply_nested_pages_are_refused_in_time(unit: str) -> None:
    pytest.importorskip("resiliparse")
    page = "<html><body>" + unit * 100_000 + "x"
    begin = time.process_time()
    assert extract_text(page, HtmlOptions()) == ("", "too deep")
    assert time.process_time() - begin < 5


def test_large_pages_are_refused_and_long_lists_are_not_deep() -> None:
    pytest.importorskip("resiliparse")
    assert extract_text("<html>" + "x" * 2000, HtmlOptions(max_bytes=1000)) == ("", "too large")
    text, status = extract_text(
        "<html><body><ul>" + "<li>item" * 5000 + "</ul>", HtmlOptions(main_content=False)
    )
    assert status == "extracted"
    assert text.count("item") == 5000


@given(
    st.lists(
        st.sampled_from(["<", ">", "<p", "</div>", "<!--", "\x00", "é", "&amp;", "<script>", '"', "x"]),
        max_size=60,
    )
)
@settings(deadline=None, max_examples=100)
def test_broken_pages_give_text_or_a_status(pieces: list[str]) -> None:
    pytest.importorskip("resiliparse")
    text, status = extract_text("<html>" + "".join(pieces), HtmlOptions())
    assert (status == "extracted") == bool(text.strip())


def test_a_missing_package_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "resiliparse.extract.html2text", None)
    with pytest.raises(ResourceError, match=r"prill\[html\]"):
        extract_texts(pa.array([PAGE], pa.large_string()))
    with pytest.raises(ResourceError, match=r"prill\[html\]"):
        Html.of(HtmlSpec())
    plain = pa.array(["no page"], pa.large_string())
    assert extract_texts(plain)[0] is plain


def test_the_measure_tags_or_drops() -> None:
    pytest.importorskip("resiliparse")
    batch = Batch(shard=0, first_row=0, columns={"text": pa.array(TEXTS, pa.large_string())})
    measure = Html.of(HtmlSpec(action="drop"))
    table = pa.table(measure(batch))
    assert np.flatnonzero(measure.drops(table)["html: not text"]).tolist() == [0, 1, 5]
    assert Html.of(HtmlSpec()).drops(table) == {}
