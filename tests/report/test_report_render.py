"""The page: complete, safe, self-contained, small, and the same bytes every time."""

import base64
import hashlib
import json
import re
from dataclasses import fields, is_dataclass, replace
from enum import Enum
from html.parser import HTMLParser
from typing import Any

import pytest
from markupsafe import escape
from report_sample import sample_report

from prill.errors import InternalError
from prill.report import render as render_module
from prill.report.model import Arm, ReportData, SampleDocument, SampleGroup, TargetReport
from prill.report.render import MAX_BYTES, render, write_report

HOSTILE = "</script><img src=x onerror=alert(1)><!--\"'`{{7*7}}\x00\x1b\u202e\u2028\ud800&lt;"


class Page(HTMLParser):
    """Every element with its attributes, and the text of scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.raw: dict[str, list[str]] = {"script": [], "style": []}
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._inside = tag if tag in self.raw else ""

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.raw[self._inside].append(data)


def poisoned(value: Any) -> Any:
    """`value` with hostile text before every string."""
    if isinstance(value, str):
        return value if isinstance(value, Enum) else HOSTILE + value
    if isinstance(value, tuple):
        return tuple(map(poisoned, value))
    if is_dataclass(value) and not isinstance(value, type):
        kept = {"role", "kind", "eval_set", "counted"} if type(value).__name__ != "InputFile" else set()
        return replace(
            value, **{f.name: poisoned(getattr(value, f.name)) for f in fields(value) if f.name not in kept}
        )
    return value


@pytest.fixture(scope="module")
def page() -> str:
    return render(sample_report(4))


def test_the_same_data_gives_the_same_bytes(page):
    assert render(sample_report(4)) == page


def test_the_verdict_comes_first(page):
    body = page[page.index("<main>") :]
    assert body.index("DSIR is better than random for all 4 targets") < body.index("Target by target")
    assert body.index("−0.567") < body.index("Target by target")


@pytest.mark.parametrize(
    "words",
    [
        "four-targets.yaml",
        "cannot tell",
        "−0.630 to −0.504",
        "Noise floor",
        "11 times fewer",
        "exact copy of an earlier document",
        "mean log importance ratio per n-gram",
        "Just above the line",
        "arXiv:2302.03169",
        "3.6\u00a0×\u00a010¹³",
        "3f3f3f3f3f3f",
        "corpus/books-00000-of-00003.parquet",
        "prill run four-targets.yaml",
        "The proxy model is small",
        "The documents known to belong to the target",
        "Which documents of an 81 MB mixed pool",
    ],
)
def test_everything_a_reader_needs_is_on_the_page(page, words):
    assert words in page


def test_nothing_is_loaded_from_elsewhere(page):
    loading = {"src", "href", "srcset", "action", "data", "poster", "formaction", "background", "xlink:href"}
    for tag, attributes in Page(page).elements:
        assert tag not in {"img", "iframe", "link", "object", "embed", "base", "form", "video", "audio"}
        for name in loading & set(attributes):
            assert (attributes[name] or "").startswith("#"), (tag, attributes)
    assert "url(" not in "".join(Page(page).raw["style"])
    assert "@import" not in page


def test_the_policy_allows_exactly_the_style_and_script_of_the_page(page):
    parsed = Page(page)
    policy = next(
        a["content"] for t, a in parsed.elements if a.get("http-equiv") == "Content-Security-Policy"
    )
    style, script = parsed.raw["style"][0], parsed.raw["script"][1]
    for content in (style, script):
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    assert "base-uri 'none'; form-action 'none'" in policy


def test_no_inline_handlers_or_styles(page):
    for tag, attributes in Page(page).elements:
        assert "style" not in attributes, tag
        assert not any(name.startswith("on") for name in attributes), tag


def test_hostile_text_stays_text():
    text = render(poisoned(sample_report(2)))
    parsed = Page(text)
    assert [tag for tag, _ in parsed.elements].count("script") == 2
    assert "img" not in {tag for tag, _ in parsed.elements}
    assert not any(name.startswith("on") for _, attributes in parsed.elements for name in attributes)
    assert "{{7*7}}" in text
    assert not re.search("[\x00\x1b\u202e\u2028\ud800]", text)
    json.loads(parsed.raw["script"][0])


def test_the_embedded_json_cannot_end_its_script():
    text = render(poisoned(sample_report(1)))
    embedded = text[text.index('id="browser-data">') :].split(">", 1)[1].split("</script>", 1)[0]
    assert not set("<>&") & set(embedded)
    assert json.loads(embedded)[0]["id"].startswith("</script>")


def test_ids_are_unique_and_labels_point_at_them(page):
    elements = Page(page).elements
    ids = [attributes["id"] for _, attributes in elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    wanted = {a["aria-labelledby"] for _, a in elements if "aria-labelledby" in a}
    wanted |= {(a["href"] or "")[1:] for t, a in elements if t == "a"}
    assert wanted <= set(ids)


def test_tables_have_captions_and_charts_have_words(page):
    assert page.count("<table") == page.count("<caption")
    for tag, attributes in Page(page).elements:
        if tag == "svg":
            assert attributes.get("aria-hidden") == "true" or attributes.get("aria-label")


def test_documents_can_be_read_without_javascript(page):
    document = sample_report(4).targets[0].samples[0].documents[0]
    assert document.id is not None
    assert document.id in page
    assert str(escape(document.text[:200])) in page


@pytest.mark.parametrize("n_targets", [1, 2, 12])
def test_any_number_of_targets_has_its_section(n_targets):
    text = render(sample_report(n_targets, n_documents=1))
    assert text.count('<details class="target"') == n_targets


def test_an_almost_empty_report_is_still_a_page():
    data = ReportData(title="Nothing yet", recipe="", targets=(), arms=())
    assert "No comparison was made." in render(data)
    bare = ReportData(title="t", recipe="r", targets=(TargetReport(name="a"),), arms=())
    assert '<details class="target"' in render(bare)


def test_fifty_targets_with_whole_documents_stay_below_three_megabytes():
    sample = sample_report(1)
    long = SampleDocument(shard="s", row=0, text="<&>" * 100_000, reason="r", is_kept=True, id="x")
    group = tuple(SampleGroup(kind=k, documents=(long,) * 20) for k in ("above", "below", "random"))
    targets = tuple(replace(sample.targets[0], name=f"target {i}", samples=group) for i in range(50))
    text = render(replace(sample, targets=targets))
    assert len(text.encode()) <= MAX_BYTES
    assert "300,000 characters" in text
    assert "Parts were shortened" in text


@pytest.mark.slow
def test_sixteen_arms_fifty_targets_and_endless_names_still_fit():
    sample = sample_report(1)
    arms = tuple(Arm(name=f"arm {i}", label=f"{'n' * 1_000_000} {i}") for i in range(16))
    old = sample.targets[0]
    audits = tuple(replace(old.selections[0], arm=arm.name) for arm in arms)
    effects = tuple(replace(old.effects[0], arm=arm.name, control=arms[0].name) for arm in arms[1:])
    curves = tuple(replace(old.curves[0], arm=arm.name) for arm in arms)
    target = replace(old, selections=audits, effects=effects, curves=curves, findings=(), samples=())
    targets = tuple(replace(target, name=f"{'x' * 1_000_000}{i}") for i in range(50))
    text = render(replace(sample, targets=targets, arms=arms))
    assert len(text.encode()) <= MAX_BYTES


def test_a_page_that_cannot_be_made_small_is_an_error(monkeypatch):
    monkeypatch.setattr(render_module, "MAX_BYTES", 1_000)
    with pytest.raises(InternalError, match="expected a page of at most 1,000 bytes"):
        render(sample_report(1))


def test_seconds_appear_only_when_given(page):
    assert "Seconds" not in page
    sample = sample_report(1)
    costs = (replace(sample.costs[0], elapsed_s=1.44),)
    assert "1.4</td>" in render(replace(sample, costs=costs))


def test_written_bytes_are_the_page(tmp_path, page):
    write_report(tmp_path / "report.html", sample_report(4))
    assert (tmp_path / "report.html").read_bytes() == page.encode()
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


@pytest.mark.parametrize(
    ("sentence", "shown"),
    [
        ("For `fiction` it holds", "For <code>fiction</code> it holds"),
        ("from -0.5 to 3-4, x-1 and a--2", "from −0.5 to 3-4, x-1 and a--2"),
        ("an odd ` sign", "an odd ` sign"),
        ("`<b>` & more", "<code>&lt;b&gt;</code> &amp; more"),
    ],
)
def test_sentences_get_code_for_names_and_true_minus_signs(sentence, shown):
    assert f">{shown}<" in render(replace(sample_report(1), warnings=(sentence,)))
