"""The corpus report: it adds up, escapes everything, loads nothing, and repeats byte for byte."""

import base64
import hashlib
import json
import re
from dataclasses import replace
from html import unescape

import orjson
import pytest
from corpus_report_sample import sample_corpus_report
from markupsafe import escape
from test_report_render import HOSTILE, Page, poisoned

from prill.errors import InternalError
from prill.report import corpus_render as render_module
from prill.report.corpus_model import Amount, CorpusReport, RuleOutcome
from prill.report.corpus_render import MAX_BYTES, render_corpus, write_corpus_report
from prill.report.corpus_rows import breakdown_rows, funnel
from prill.report.corpus_words import always_fired, corpus_headline, firing_notes, never_fired
from prill.report.harmless import visible

NOTHING = Amount(n_documents=0, n_bytes=0)


@pytest.fixture(scope="module")
def data() -> CorpusReport:
    return sample_corpus_report()


@pytest.fixture(scope="module")
def page(data: CorpusReport) -> str:
    return render_corpus(data)


@pytest.fixture(scope="module")
def hostile() -> str:
    return render_corpus(poisoned(sample_corpus_report(n_examples=1)))


def small(n_before: int, *rules: RuleOutcome) -> CorpusReport:
    kept = n_before - sum(rule.first.n_documents for rule in rules)
    return CorpusReport(
        title="small",
        recipe="r.yaml",
        before=Amount(n_documents=n_before, n_bytes=10 * n_before),
        kept=Amount(n_documents=kept, n_bytes=10 * kept),
        prepared=Amount(n_documents=kept, n_bytes=10 * kept),
        rules=rules,
    )


def rule(reason: str, n_fired: int, n_first: int, **more: int) -> RuleOutcome:
    first = Amount(n_documents=n_first, n_bytes=10 * n_first)
    return RuleOutcome(reason=reason, stage="quality", n_fired=n_fired, n_alone=0, first=first, **more)


def test_the_verdict_comes_first_with_the_largest_reasons(page: str):
    assert '<h1 id="headline">15,085 documents in, 12,104 kept</h1>' in page
    lede = unescape(re.findall('<p class="lede">(.*?)</p>', page)[0])
    assert lede.startswith("2,981 dropped: 1,020 for “near copy”, 610 for")
    assert lede.endswith("961 for 8 other reasons.")


def test_one_and_no_reason_read_well():
    assert corpus_headline(small(9, rule("short", 4, 4))).lede[0] == "4 dropped, all for “short”."
    assert corpus_headline(small(9)).title == "9 documents in, all of them kept"
    assert corpus_headline(small(1)).lede[0] == "Nothing was dropped."
    assert corpus_headline(small(0)).title == "No documents"


def test_rules_that_never_or_always_fire_are_told(page: str):
    told = small(10, rule("never", 0, 0), rule("always", 6, 6, n_judged=6), rule("idle", 0, 0, n_judged=0))
    assert [one.reason for one in never_fired(told)] == ["never"]
    assert [one.reason for one in always_fired(told)] == ["always"]
    assert "fired on every document" in firing_notes(told)[0]
    assert "Never fired:" in page
    assert "c4: lorem ipsum" in page


def test_a_rule_that_fires_on_more_than_half_is_told():
    said = "fired on 70.0\u00a0% of all documents and dropped 60.0\u00a0%"
    assert said in firing_notes(small(10, rule("greedy", 7, 6)))[0]
    assert firing_notes(small(10, rule("modest", 5, 5))) == ()
    assert "Nothing is left" in firing_notes(small(3, rule("all", 3, 3)))[-1]


@pytest.mark.parametrize(
    "wrong",
    [
        {"kept": Amount(n_documents=12_103, n_bytes=1)},
        {"n_bytes_cut": 5},
        {"prepared": Amount(n_documents=1, n_bytes=2)},
        {"rules": ()},
    ],
)
def test_an_account_that_does_not_add_up_is_refused(data: CorpusReport, wrong: dict[str, object]):
    with pytest.raises(InternalError, match="to sum to"):
        replace(data, **wrong)


def test_the_funnel_ends_at_what_is_written(data: CorpusReport):
    rows = funnel(data)
    left = rows[0].n_bytes
    for row in rows[1:]:
        if row.kind == "total":
            assert row.n_bytes == left
        else:
            left -= row.n_bytes
    assert left == data.prepared.n_bytes


def test_breakdowns_that_are_cut_still_sum_to_the_whole(data: CorpusReport):
    for breakdown in data.breakdowns:
        rows = breakdown_rows(breakdown, 6)
        assert len(rows) <= 6
        for part in ("before", "after"):
            whole = sum(getattr(share, part).n_documents for share in breakdown.rows)
            assert sum(getattr(row, part).n_documents for row in rows) == whole
        assert sum(row.before_share for row in rows) == pytest.approx(1)
    years = breakdown_rows(next(b for b in data.breakdowns if b.title == "Year"), 40)
    assert [row.name for row in years][:2] == ["1995", "1996"]


def test_the_same_report_gives_the_same_bytes(data: CorpusReport, page: str, tmp_path):
    assert render_corpus(sample_corpus_report()) == page
    write_corpus_report(tmp_path / "a.html", data)
    assert (tmp_path / "a.html").read_bytes() == page.encode()


def test_the_model_is_plain_json(data: CorpusReport):
    assert orjson.loads(orjson.dumps(data))["before"]["n_documents"] == 15_085


def test_nothing_is_loaded_from_elsewhere(page: str, hostile: str):
    for text in (page, hostile):
        found = Page(text)
        tags = {tag for tag, _ in found.elements}
        assert not tags & {"img", "link", "iframe", "object", "embed", "base", "form", "image", "use"}
        for _, attributes in found.elements:
            assert not any(name.startswith("on") or name in ("src", "style", "srcset") for name in attributes)
            assert attributes.get("href", "#").startswith("#")


def test_the_policy_allows_exactly_the_style_and_script_of_the_page(page: str):
    found = Page(page)
    policy = next(a["content"] for tag, a in found.elements if tag == "meta" and "http-equiv" in a)
    style, script = found.raw["style"][0], found.raw["script"][-1]
    for source, content in (("style-src", style), ("script-src", script)):
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{source} 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'")


def test_every_string_is_escaped_and_visible(hostile: str):
    assert HOSTILE not in hostile
    assert "<img" not in hostile
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e\u2028\ud800-\udfff]", hostile)
    assert str(escape(visible(HOSTILE.rstrip("&lt;")[:40]))) in hostile
    assert len(Page(hostile).raw["script"]) == 2


def test_hostile_ids_stay_inside_the_data_of_the_script(hostile: str):
    entries = json.loads(Page(hostile).raw["script"][0])
    assert any("</script>" in (entry["id"] or "") for entry in entries)


def test_examples_are_linked_from_their_rule_and_show_spans(page: str):
    anchor = re.search(r'<a href="#(x\d+)"><bdi>repeated line</bdi>', page)
    assert anchor is not None
    assert f'<section class="group" id="{anchor[1]}"' in page
    assert '<del>jane.doe@example.org</del><ins>&lt;email&gt;</ins><span class="why">email</span>' in page
    anchors = re.findall(r'id="(x\d+-\d+)"', page)
    assert len(anchors) == len(set(anchors))


def test_a_page_that_is_too_large_becomes_shorter_and_says_so(monkeypatch: pytest.MonkeyPatch):
    data = sample_corpus_report(n_examples=6)
    whole = render_corpus(data)
    monkeypatch.setattr(render_module, "MAX_BYTES", len(whole.encode()) - 60_000)
    shorter = render_corpus(data)
    assert len(shorter) < len(whole)
    assert "Parts were shortened" in shorter
    assert "Parts were shortened" not in whole
    monkeypatch.setattr(render_module, "MAX_BYTES", 1_000)
    with pytest.raises(InternalError, match="at most 1,000 bytes"):
        render_corpus(data)


def test_a_huge_document_does_not_make_a_huge_page(data: CorpusReport):
    first = data.examples[0]
    huge = replace(first, text=first.text + "x" * 3_000_000)
    shown = render_corpus(replace(data, examples=(huge,)))
    assert len(shown.encode()) < MAX_BYTES / 4
    assert "Shortened: the document has 3,0" in shown


def test_a_report_of_nothing_is_a_page():
    page = render_corpus(small(0))
    assert "No documents" in page
    for anchor in ("rules", "copies", "tasks", "found", "repeats", "concepts", "documents"):
        assert f'href="#{anchor}"' not in page
