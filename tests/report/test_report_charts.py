"""Charts: right places, labels apart, words for screen readers, and no colour or style of their own."""

import math
import re
import xml.etree.ElementTree as ET
from itertools import pairwise

import pytest
from report_sample import sample_report

from prill.report.charts import WIDTH, histogram, learning_curves
from prill.report.forest import forest_axis, forest_row, forest_scale, share_bars
from prill.report.look import looks
from prill.report.model import Arm, Curve, CurvePoint, Effect, Histogram

SAMPLE = sample_report(1)
LOOKS = looks(SAMPLE.arms)


def curve(arm: str, *points: tuple[int, float]) -> Curve:
    return Curve(
        arm=arm, eval_set="target", points=tuple(CurvePoint(n_tokens=n, mean_bpb=b) for n, b in points)
    )


def labels(svg: str) -> dict[str, tuple[float, float]]:
    found = re.findall(r'<text x="([\d.]+)" y="([\d.]+)" class="name[^"]*">([^<]+)<', svg)
    return {name: (float(x), float(y)) for x, y, name in found}


def test_curves_are_valid_xml_and_described_in_words():
    svg = str(learning_curves(SAMPLE.targets[0].curves[:1], LOOKS, title="On held-out text"))
    root = ET.fromstring(svg)
    assert root.get("role") == "img"
    assert (
        root.get("aria-label")
        == "On held-out text. Random from 2.739 after 250\u00a0k to 2.052 after 8\u00a0M tokens."
    )


def test_labels_of_lines_that_end_together_are_pushed_apart():
    curves = [
        curve(arm, (100, 3.0), (200, 2.0 + i * 1e-4)) for i, arm in enumerate(("random", "dsir", "truth"))
    ]
    places = labels(str(learning_curves(curves, LOOKS, title="t")))
    heights = sorted(y for _, y in places.values())
    assert len(heights) == 3
    assert min(b - a for a, b in pairwise(heights)) >= 13.9


def test_labels_stay_within_the_picture():
    arms = [Arm(name=f"a{i}", label=f"{i}th method with a long name") for i in range(16)]
    curves = [curve(arm.name, (100, 3.0), (200, 2.0)) for arm in arms]
    places = labels(str(learning_curves(curves, looks(arms), title="t")))
    assert len(places) == 16
    assert all(0 < x < WIDTH and 0 < y < 264 for x, y in places.values())


@pytest.mark.parametrize("points", [[], [(100, math.nan)], [(0, 2.0)]])
def test_curves_without_a_finite_point_draw_nothing(points):
    assert learning_curves([curve("dsir", *points)], LOOKS, title="t") == ""


def test_one_point_is_drawn_as_a_point():
    svg = str(learning_curves([curve("dsir", (500_000, 2.0))], LOOKS, title="t"))
    assert "<circle" in svg
    assert 'class="line' not in svg


def test_histogram_scales_pool_and_kept_to_their_own_totals():
    bins = Histogram(edges=(0.0, 1.0, 2.0), pool=(1_000, 1_000), kept=(0, 3), unit="score")
    svg = str(histogram(bins, threshold=1.0, title="Scores", css="arm-1"))
    ET.fromstring(svg)
    assert "100 %" in svg  # all that was kept lies in the second bin
    assert "threshold 1.0000" in svg
    assert "2,000 documents in the pool, 3 kept" in svg


def test_a_threshold_outside_the_bins_is_not_drawn():
    bins = Histogram(edges=(0.0, 1.0), pool=(5,), kept=(1,), unit="score")
    assert 'class="threshold"' not in histogram(bins, threshold=7.0, title="t", css="arm-1")
    assert 'class="threshold"' not in histogram(bins, threshold=math.nan, title="t", css="arm-1")


def test_an_empty_histogram_draws_nothing():
    bins = Histogram(edges=(0.0, 1.0), pool=(0,), kept=(0,), unit="score")
    assert histogram(bins, threshold=None, title="t", css="arm-1") == ""


def test_a_log_histogram_has_tick_labels():
    bins = Histogram(edges=(10.0, 100.0, 1_000.0), pool=(5, 4), kept=(1, 0), unit="tokens", is_log=True)
    assert ">100<" in histogram(bins, threshold=None, title="t", css="arm-1")


def test_forest_scale_holds_every_value_and_zero():
    scale = forest_scale(SAMPLE.targets[0].effects)
    for effect in SAMPLE.targets[0].effects:
        values = [effect.low_bpb, effect.high_bpb, 0.0, *effect.seed_differences_bpb]
        assert all(0 <= float(scale.place(v).removesuffix("%")) <= 100 for v in values if v is not None)
    assert "0" in forest_axis(scale)


def test_forest_rows_survive_what_is_not_finite_or_unknown():
    effect = Effect(arm="dsir", control="random", eval_set="target", n_tokens=1, difference_bpb=math.nan)
    scale = forest_scale([effect])
    assert "circle" not in forest_row(effect, scale, "arm-1")
    assert "circle" not in forest_row(None, scale, "arm-1")
    infinite = Effect(
        arm="dsir",
        control="random",
        eval_set="target",
        n_tokens=1,
        difference_bpb=0.1,
        low_bpb=-math.inf,
        high_bpb=math.inf,
    )
    assert "circle" in forest_row(infinite, forest_scale([infinite]), "arm-1")


def test_share_bars_fill_the_width_at_the_top_share():
    assert 'width="100.00%"' in share_bars(0.1, 0.5, 0.5, "arm-1")
    assert 'width="0.00%"' in share_bars(0.0, 0.0, 0.0, "arm-1")


def test_charts_carry_no_style_of_their_own():
    svg = str(learning_curves(SAMPLE.targets[0].curves, LOOKS, title="t"))
    assert " style=" not in svg
    assert not re.search(r'(fill|stroke)="', svg)


def test_the_control_is_grey_and_the_first_candidate_has_the_accent():
    assert {name: look.css for name, look in LOOKS.items()} == {
        "random": "arm-control",
        "dsir": "arm-1",
        "truth": "arm-2",
    }
    many = looks([Arm(name=str(i), label=str(i)) for i in range(16)])
    assert len({look.css for look in many.values()}) == 16
