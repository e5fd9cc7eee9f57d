"""The training report: it says what was reached and what to know, escapes everything, and repeats."""

import base64
import hashlib
import re
from dataclasses import replace
from html import unescape

import orjson
import pytest
from markupsafe import escape
from test_report_render import HOSTILE, Page, poisoned
from training_report_sample import CHECKPOINTS, divergence, reached, sample_training_report, spike

from prill.errors import InternalError
from prill.report import training_render as render_module
from prill.report.harmless import visible
from prill.report.training_model import Reached, TrainingReport
from prill.report.training_render import MAX_BYTES, render_training, write_training_report
from prill.report.training_words import incident_sentence, training_headline, training_notes


@pytest.fixture(scope="module")
def data() -> TrainingReport:
    return sample_training_report()


@pytest.fixture(scope="module")
def page(data: TrainingReport) -> str:
    return render_training(data)


@pytest.fixture(scope="module")
def hostile() -> str:
    return render_training(poisoned(sample_training_report()))


def plain(text: str) -> str:
    return unescape(text).replace("\u00a0", " ").replace("−", "-")


def test_the_headline_tells_what_was_trained_and_reached(data: TrainingReport):
    top = training_headline(data)
    assert plain(top.title) == (
        "3 models of 107 k parameters reach 2.250 bits per byte on code and 2.950 on prose after 131 k tokens"
    )
    assert plain(" ".join(top.lede)) == (
        "Fresh pico, 131,072 tokens each of code and prose. "
        "Since 65.5 k tokens the loss fell by 0.250 on code and 0.250 on prose."
    )


def test_many_sets_are_told_as_a_range():
    top = training_headline(sample_training_report(n_sets=6))
    assert "2.250 to 2.950 bits per byte on 6 held-out texts" in plain(top.title)
    assert top.lede[-1].endswith("the loss fell by 0.250.")


def test_a_loss_that_rose_is_told(data: TrainingReport):
    first, last = reached("code", 0, 3), reached("code", 1, 3)
    worse = replace(data, reached=(first, replace(last, bpb=2.9)))
    assert "rose by 0.400 on code" in training_headline(worse).lede[-1]


def test_texts_behind_prefixes_do_not_decide_the_headline(data: TrainingReport):
    aside = Reached(
        eval_set="code, with its prefix", n_tokens=CHECKPOINTS[-1], n_documents=40, bpb=1.0, is_aside=True
    )
    more = replace(data, reached=(*data.reached, aside))
    assert training_headline(more) == training_headline(data)
    assert "code, with its prefix" in render_training(more)


def test_models_that_all_broke_have_no_loss(data: TrainingReport):
    broke = tuple(
        replace(row, bpb=None, low=None, high=None, by_seed=(None,) * 3)
        for row in sample_training_report().reached
    )
    assert training_headline(replace(data, reached=broke)).title.endswith("every one broke")
    assert ">broke</td>" in render_training(replace(data, reached=broke))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"n_models": 1}, "no interval is known"),
        ({"is_plain_loss": False}, "no yardstick for another objective"),
        ({"incidents": (divergence(),)}, "a divergence at step 524 that never came back"),
        ({"incidents": (replace(spike(), action="mask"),)}, "seed-1 broke at step 166 and was left out"),
        ({"reached": (replace(reached("code", 1, 3), n_documents=2),)}, "measured on 2 documents only"),
        ({"sources": (replace(sample_training_report().sources[0], passes=6.2),)}, "was read 6.2 times"),
        (
            {"sources": tuple(replace(s, wanted_share=0.5) for s in sample_training_report().sources)},
            "“prose” was to be 50.0 % of the tokens and was 32.5 %",
        ),
        ({"reached": (reached("code", 1, 3),)}, "Nothing measures “prose”"),
        ({}, "Sparsity is simulated."),
    ],
)
def test_what_to_know_first_is_told(data: TrainingReport, changes: dict[str, object], said: str):
    assert any(said in plain(note) for note in training_notes(replace(data, **changes)))


def test_a_sound_training_has_nothing_to_tell_first(data: TrainingReport):
    assert training_notes(replace(data, incidents=(spike(),), warnings=())) == ()


def test_incidents_are_told_with_their_end_and_their_documents(data: TrainingReport, page: str):
    assert incident_sentence(spike()) == "gradient norm 12.98, 1.64 before; back after 1 step"
    assert incident_sentence(divergence()).endswith("not back since")
    lost = replace(spike(), kind="not finite", action="mask", loss=float("nan"), back_after=None)
    assert incident_sentence(lost) == "loss not a number, 1.64 before; the model was left out from then on"
    assert "<strong>7.998</strong> <bdi>source &#39;prose&#39;, document 129</bdi>" in page
    assert "and 66 more" in page  # of 90 documents 24 fit
    calm = render_training(replace(data, incidents=()))
    assert "Nothing: no spike, no divergence" in calm


def test_every_checkpoint_stands_in_the_table_with_its_interval(page: str):
    table = plain(re.findall(r'<table class="data reached">.*?</table>', page, re.S)[0])
    rows = re.findall(r"<tr.*?</tr>", table, re.S)[1:]
    cells = [[re.sub("<[^>]*>", "", cell) for cell in re.findall(r"<t[hd].*?</t[hd]>", row)] for row in rows]
    assert cells[1] == ["code", "131,072", "2.250", "2.200 to 2.300", "2.240", "2.250", "2.260"]
    assert len(cells) == 4


def test_one_model_has_no_interval():
    page = render_training(sample_training_report(n_seeds=1))
    assert "one model</td>" in page
    assert "Seed 0</th>" not in page


def test_charts_draw_every_trunk_and_decay_within_the_picture(page: str):
    charts = re.findall(r'<svg class="chart".*?</svg>', page, re.S)
    assert len(charts) == 4  # held-out loss, training loss, gradient norm, learning rate
    for chart, n_lines in zip(charts[1:], (9, 9, 3), strict=True):
        lines = re.findall(r'<path class="line path ([^"]*)" d="([^"]*)"', chart)
        assert len(lines) == n_lines
        assert sum("decay" in css for css, _ in lines) == 2 * n_lines // 3
        for _, steps in lines:
            for x, y in re.findall(r"[ML]([\d.]+) ([\d.]+)", steps):
                assert 38 <= float(x) <= 400
                assert 20 <= float(y) <= 193


def test_paths_without_a_trunk_are_not_called_decays(data: TrainingReport):
    apart = tuple(path for path in data.paths if path.branch is not None)
    page = render_training(replace(data, paths=apart))
    assert "Every checkpoint has a path of its own." in page
    assert "Fine lines are decays." not in page


def test_a_decay_leaves_its_trunk(page: str):
    chart = re.findall(r'<svg class="chart".*?</svg>', page, re.S)[-1]
    trunk, first, _ = (steps for _, steps in re.findall(r'<path class="(line path[^"]*)" d="([^"]*)"', chart))
    assert first.removeprefix("M").partition("L")[0] in re.split("[ML]", trunk)


def test_sources_show_what_was_wanted_and_read(page: str):
    table = plain(re.findall(r'<table class="data sources">.*?</table>', page, re.S)[0])
    assert "67.5 %" in table
    assert "88,040" in table
    assert "at most 1.7" in table


def test_the_same_report_gives_the_same_bytes(data: TrainingReport, page: str, tmp_path):
    assert render_training(sample_training_report()) == page
    write_training_report(tmp_path / "a.html", data)
    assert (tmp_path / "a.html").read_bytes() == page.encode()
    assert not re.search(
        r"\b20\d\d-\d\d|\d\d:\d\d", re.sub(r"<style>.*?</style>|<script>.*?</script>", "", page, flags=re.S)
    )


def test_the_model_is_plain_json(data: TrainingReport):
    assert orjson.loads(orjson.dumps(data))["n_params"] == 106_816


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


def test_names_of_sources_sets_and_documents_are_escaped_and_visible(hostile: str):
    assert HOSTILE not in hostile
    assert "<img" not in hostile
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e\u2028\ud800-\udfff]", hostile)
    shown = str(escape(visible(HOSTILE.rstrip("&lt;")[:40])))
    for what in ("code", "source &#39;prose&#39;, document 129"):
        assert what in hostile
    assert hostile.count(shown) > 20
    assert len(Page(hostile).raw["script"]) == 2


def test_every_anchor_of_the_page_exists(page: str):
    found = Page(page)
    ids = {attributes["id"] for _, attributes in found.elements if "id" in attributes}
    links = {attributes["href"] for tag, attributes in found.elements if tag == "a"}
    assert {link.removeprefix("#") for link in links if link} <= ids


def test_a_page_that_is_too_large_becomes_shorter_and_says_so(monkeypatch: pytest.MonkeyPatch):
    many = tuple(replace(spike(), step=step, documents=("d" * 150,) * 64) for step in range(60))
    data = replace(sample_training_report(n_seeds=16), incidents=many)
    whole = render_training(data)
    monkeypatch.setattr(render_module, "MAX_BYTES", len(whole.encode()) - 1)
    shorter = render_training(data)
    assert len(shorter) < len(whole)
    assert "Parts were shortened" in shorter
    assert "Parts were shortened" not in whole
    monkeypatch.setattr(render_module, "MAX_BYTES", 1_000)
    with pytest.raises(InternalError, match="at most 1,000 bytes"):
        render_training(data)


def test_a_thousand_seeds_still_fit():
    page = render_training(sample_training_report(n_seeds=1000))
    assert len(page.encode()) < MAX_BYTES / 4
    assert "The first 16 of 1000 models are drawn." in page


def test_a_report_of_nothing_is_a_page():
    page = render_training(
        TrainingReport(
            title="t", recipe="r", model="Fresh pico", n_models=1, n_params=1, n_tokens=64, n_steps=1
        )
    )
    for anchor in ("reached", "training", "sources"):
        assert f'href="#{anchor}"' not in page
