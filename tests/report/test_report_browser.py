"""The page in a real browser: no errors, no requests, nothing executed, and it fits a telephone."""

import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from corpus_report_sample import sample_corpus_report
from report_sample import crowded_report, sample_report
from test_report_render import poisoned
from training_report_sample import sample_training_report

from prill.report.corpus_render import render_corpus
from prill.report.render import render
from prill.report.training_render import render_training

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

STUDIES = ["plain", "single", "hostile", "many", "crowded", "huge"]
CORPORA = ["corpus", "corpus-hostile"]
TRAININGS = ["training", "training-hostile"]

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="needs chromium and chromedriver"),
]


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    webdriver = pytest.importorskip("selenium.webdriver")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield browser
    browser.quit()


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    data = {"plain": sample_report(4), "single": sample_report(1), "hostile": poisoned(sample_report(2))}
    data["many"] = sample_report(24, n_documents=2)
    data["crowded"] = crowded_report()
    huge = sample_report(2)
    data["huge"] = replace(
        huge,
        title="W" * 5_000,
        targets=tuple(replace(target, name="W" * 5_000 + str(i)) for i, target in enumerate(huge.targets)),
    )
    corpora = {"corpus": sample_corpus_report(), "corpus-hostile": poisoned(sample_corpus_report())}
    texts = {name: render(report) for name, report in data.items()}
    texts |= {name: render_corpus(report) for name, report in corpora.items()}
    trainings = {
        "training": sample_training_report(),
        "training-hostile": poisoned(sample_training_report(n_sets=8)),
    }
    texts |= {name: render_training(report) for name, report in trainings.items()}
    paths = {name: folder / f"{name}.html" for name in texts}
    for name, path in paths.items():
        path.write_text(texts[name], encoding="utf-8")
    return paths


def set_screen(driver: Any, width: int, height: int = 800) -> None:
    driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600},
    )


def set_media(driver: Any, media: str = "", scheme: str = "light") -> None:
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": features})


def open_page(driver: Any, path: Path, *, width: int = 1280) -> None:
    set_screen(driver, width)
    set_media(driver)
    driver.get_log("browser"), driver.get_log("performance")
    driver.get(path.as_uri())


def shown_documents(driver: Any) -> int:
    script = "return [...document.querySelectorAll('.browser')[0].querySelectorAll('.doc')]"
    return int(driver.execute_script(f"{script}.filter(d => d.offsetParent !== null).length"))


@pytest.mark.parametrize("name", STUDIES + CORPORA + TRAININGS)
def test_no_console_message_and_no_request(driver, pages, name):
    open_page(driver, pages[name])
    assert driver.get_log("browser") == []
    events = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    urls = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
    assert set(urls) == {pages[name].as_uri()}


def test_hostile_text_does_not_execute(driver, pages):
    open_page(driver, pages["hostile"])
    assert driver.execute_script("return document.images.length + document.scripts.length") == 2
    assert "<img src=x onerror=alert(1)>" in driver.find_element("id", "headline").text
    driver.execute_script("document.querySelectorAll('details').forEach(d => { d.open = true })")
    assert "<img src=x" in driver.find_element("css selector", ".doc-text").text


def test_even_injected_markup_is_stopped_by_the_policy(driver, pages):
    open_page(driver, pages["plain"])
    driver.execute_script(
        "window.ran = false; document.body.insertAdjacentHTML('beforeend', "
        '\'<img src=x onerror="window.ran = true"><div id=s style="color: red">x</div>\')'
    )
    time.sleep(0.2)
    assert driver.execute_script("return window.ran") is False
    assert driver.execute_script("return document.getElementById('s').getAttribute('style')") == "color: red"
    colour = driver.execute_script("return getComputedStyle(document.getElementById('s')).color")
    assert colour != "rgb(255, 0, 0)"


@pytest.mark.parametrize("name", STUDIES + CORPORA + TRAININGS)
@pytest.mark.parametrize("width", [360, 820])
def test_the_page_never_scrolls_sideways(driver, pages, name, width):
    open_page(driver, pages[name], width=width)
    driver.execute_script("document.querySelectorAll('details').forEach(d => { d.open = true })")
    assert driver.execute_script("return document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("name", ["plain", "single"])
def test_verdict_interval_and_chart_are_on_the_first_screen(driver, pages, name):
    open_page(driver, pages[name])
    for selector in ("#headline", ".lede", ".forest tbody .plot svg", ".forest .chip"):
        box = driver.find_element("css selector", selector).rect
        assert box["height"] > 0
        assert box["y"] + box["height"] <= 800


def test_search_finds_by_text_id_and_source(driver, pages):
    open_page(driver, pages["plain"])
    field = driver.find_element("css selector", ".browser input[type=search]")
    assert shown_documents(driver) == 18
    document = sample_report(4).targets[0].samples[1].documents[2]
    line = max(document.text[:400].splitlines(), key=len).strip()[:60]
    for words in (document.id, line.upper(), document.source):
        field.clear()
        field.send_keys(words)
        assert 1 <= shown_documents(driver) < 18
        assert "match" in driver.find_element("css selector", ".hits").text
    field.clear()
    field.send_keys("no such words anywhere")
    assert shown_documents(driver) == 0
    assert driver.find_element("css selector", ".hits").text == "No document matches."
    field.send_keys("\ue009a\ue000\ue017")  # select all, delete
    assert shown_documents(driver) == 18


def test_tabs_show_one_group_and_say_so(driver, pages):
    open_page(driver, pages["plain"])
    tab = driver.find_element("css selector", ".tabs button[data-kind=below]")
    tab.click()
    assert tab.get_attribute("aria-pressed") == "true"
    assert shown_documents(driver) == 6
    driver.find_element("css selector", ".tabs button[data-kind='']").click()
    assert shown_documents(driver) == 18


def test_many_choices_are_one_table_and_one_choice_is_read_at_a_time(driver, pages):
    open_page(driver, pages["crowded"])
    rows = driver.find_elements("css selector", ".league tbody tr")
    assert [row.find_element("css selector", "th").text for row in rows[:2]] == ["Method-of-0", "Method-of-1"]
    assert len(rows) == 24
    assert rows[0].find_element("css selector", "td:last-child").text.startswith("−")
    picture = driver.find_element("css selector", ".target .pair figure svg")
    assert 2 <= len(picture.find_elements("css selector", "path.line")) <= 8

    browser = driver.find_element("css selector", ".browser")
    choice = browser.find_element("css selector", "select")

    def shown():
        groups = browser.find_elements("css selector", ".group")
        return {group.get_attribute("data-arm") for group in groups if group.is_displayed()}

    assert shown() == {"Method-of-0"}
    choice.find_element("css selector", "option[value='Method-of-7']").click()
    assert shown() == {"Method-of-7"}
    choice.find_element("css selector", "option[value='']").click()
    assert len(shown()) == 24


def test_documents_open_with_the_keyboard_and_ids_can_be_copied(driver, pages):
    open_page(driver, pages["plain"])
    summary = driver.find_element("css selector", "#t1-d1 > summary")
    summary.send_keys("\ue007")  # enter
    assert driver.find_element("css selector", "#t1-d1 .doc-text").is_displayed()
    button = driver.find_element("css selector", "#t1-d1 .copy")
    button.click()
    time.sleep(0.2)
    assert button.text in ("Copied", "Selected")


def test_a_link_opens_the_folded_target(driver, pages):
    open_page(driver, pages["many"])
    assert driver.find_element("id", "t20").get_attribute("open") is None
    driver.find_element("css selector", ".forest a[href='#t20']").click()
    time.sleep(0.2)
    assert driver.find_element("id", "t20").get_attribute("open") is not None


def test_everything_is_readable_without_javascript(driver, pages):
    driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        open_page(driver, pages["plain"])
        assert not driver.find_element("css selector", ".tools").is_displayed()
        driver.find_element("css selector", "#t1-d1 > summary").click()
        assert driver.find_element("css selector", "#t1-d1 .doc-text").is_displayed()
    finally:
        driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


COLOUR_PAIRS = """
const seen = [];
for (const e of document.querySelectorAll('p, dd, dt, li, th, td, h1, h2, h3, h4, summary span, a, button')) {
  if (!e.checkVisibility() || !e.textContent.trim() || e.matches('.hidden, .mark')) continue;
  let back = e;
  while (back && getComputedStyle(back).backgroundColor === 'rgba(0, 0, 0, 0)') back = back.parentElement;
  const paper = getComputedStyle(back || document.body).backgroundColor;
  seen.push([getComputedStyle(e).color, paper, e.className]);
}
for (const e of document.querySelectorAll('svg text')) {
  const paper = getComputedStyle(document.body).backgroundColor;
  seen.push([getComputedStyle(e).fill, paper, 'svg ' + e.className.baseVal]);
}
return seen;
"""


@pytest.mark.parametrize("name", ["plain", "corpus", "training"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast_in_light_and_dark(driver, pages, scheme, name):
    open_page(driver, pages[name])
    set_media(driver, scheme=scheme)
    pairs = {tuple(pair[:2]): pair[2] for pair in driver.execute_script(COLOUR_PAIRS)}
    low = {pair: name for pair, name in pairs.items() if contrast(*pair) < 4.5}
    assert not low
    paper = driver.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert (luminance(paper) < 0.1) == (scheme == "dark")


def test_paper_is_white_and_opens_what_is_folded(driver, pages):
    open_page(driver, pages["many"])
    set_media(driver, media="print", scheme="dark")
    paper = driver.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert paper == "rgb(255, 255, 255)"
    shown = driver.execute_script(
        "return document.querySelector('#t20 .finding').getBoundingClientRect().height"
    )
    assert shown > 0
    assert not driver.find_element("css selector", "nav").is_displayed()


def test_a_corpus_report_starts_with_its_account(driver, pages):
    open_page(driver, pages["corpus"])
    for selector in ("#headline", ".lede", ".funnel .is-total .kept-bar"):
        box = driver.find_element("css selector", selector).rect
        assert box["height"] > 0
        assert box["y"] + box["height"] <= 800


def test_a_training_report_starts_with_its_losses_and_curve(driver, pages):
    open_page(driver, pages["training"])
    for selector in ("#headline", ".key-words tbody tr", ".key-chart svg"):
        box = driver.find_element("css selector", selector).rect
        assert box["height"] > 0
        assert box["y"] + box["height"] <= 800


def test_a_rule_leads_to_its_documents_and_tabs_to_its_stage(driver, pages):
    open_page(driver, pages["corpus"])
    n_all = shown_documents(driver)
    driver.find_element("css selector", ".tabs button[data-kind=edits]").click()
    assert shown_documents(driver) == 3 < n_all
    field = driver.find_element("css selector", ".browser input[type=search]")
    field.send_keys("jane.doe")
    assert shown_documents(driver) == 3
    driver.find_element("css selector", ".browser .group:not([hidden]) .doc > summary").click()
    struck = driver.find_element("css selector", ".browser .group:not([hidden]) .doc[open] del")
    assert "line-through" in struck.value_of_css_property("text-decoration-line")


def test_a_corpus_report_prints_its_tables(driver, pages):
    open_page(driver, pages["corpus"])
    set_media(driver, media="print")
    heights = driver.execute_script(
        "return [...document.querySelectorAll('#content .fold table, #copies .fold table, .funnel table')]"
        ".map(t => t.getBoundingClientRect().height)"
    )
    assert len(heights) > 6
    assert min(heights) > 0


def test_struck_and_marked_text_is_readable(driver, pages):
    for scheme in ("light", "dark"):
        open_page(driver, pages["corpus"])
        set_media(driver, scheme=scheme)
        driver.execute_script("document.querySelectorAll('details').forEach(d => { d.open = true })")
        colours = driver.execute_script(
            "return [...document.querySelectorAll('.doc-text :is(del, ins, mark, .why)')].map(e => "
            "[getComputedStyle(e).color, getComputedStyle(e.parentElement).backgroundColor])"
        )
        assert colours
        assert min(contrast(*pair) for pair in colours) >= 4.5


def luminance(colour: str) -> float:
    """Relative luminance of `rgb(r, g, b)`, WCAG 2.2."""
    channels = [int(part) / 255 for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(first: str, second: str) -> float:
    """Contrast ratio of two colours, WCAG 2.2: 4.5 is asked of ordinary text."""
    low, high = sorted((luminance(first), luminance(second)))
    return (high + 0.05) / (low + 0.05)
