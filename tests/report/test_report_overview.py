"""The headline says what the verdicts say, no more, in plain words."""

import pytest
from report_sample import ARMS, sample_report

from prill.report.model import Arm, Effect, Finding, ReportData, TargetReport, Verdict
from prill.report.overview import comparisons, headline, primary_effect, spoken

B, W, N, C = Verdict.BETTER, Verdict.WORSE, Verdict.NO_DIFFERENCE, Verdict.CANNOT_TELL


def report(*verdicts: Verdict, arm: str = "dsir", control: str = "random") -> ReportData:
    """One target for each verdict, named A, B, C..."""
    findings = [
        Finding(arm=arm, control=control, verdict=v, sentence=f"Sentence {v.value}.") for v in verdicts
    ]
    targets = tuple(TargetReport(name=chr(65 + i), findings=(f,)) for i, f in enumerate(findings))
    return ReportData(title="The title", recipe="r", targets=targets, arms=ARMS)


@pytest.mark.parametrize(
    ("verdict", "title"),
    [
        (B, "DSIR is better than random for A"),
        (W, "DSIR is worse than random for A"),
        (N, "DSIR and random are equally good for A"),
        (C, "We cannot tell whether DSIR is better than random for A"),
    ],
)
def test_one_target_gives_its_verdict_and_sentence(verdict, title):
    top = headline(report(verdict))
    assert top.title == title
    assert top.lede == (f"Sentence {verdict.value}.",)


def test_many_targets_are_counted_and_exceptions_named():
    top = headline(report(B, B, C, W))
    assert top.title == "DSIR is better than random for 2 of 4 targets"
    assert top.lede == ("Worse for D; undecided for C.",)


def test_all_targets_of_one_verdict_leave_no_exception():
    assert headline(report(C, C)) == headline(report(C, C))
    assert headline(report(C, C)).title == "We cannot tell DSIR from random for both targets"
    assert headline(report(C, C)).lede == ()


def test_headline_counts_candidates_against_controls_only():
    top = headline(sample_report(4))
    assert top.title == "DSIR is better than random for all 4 targets"
    assert top.lede[0].startswith("Its models need 0.56 to 1.09 bits per byte less")
    assert "planted" not in " ".join(top.lede)


def test_without_candidates_every_comparison_counts():
    assert "planted truth" in headline(report(B, control="truth")).title


def test_without_findings_the_title_stands_and_says_so():
    empty = ReportData(title="The title", recipe="r", targets=(TargetReport(name="A"),), arms=ARMS)
    assert headline(empty).title == "The title"
    assert headline(empty).lede == ("No comparison was made.",)


def test_proper_names_keep_their_capitals_within_a_sentence():
    assert spoken(Arm(name="r", label="Random", role="control")) == "random"
    assert spoken(Arm(name="r", label="RegMix", role="control")) == "RegMix"
    assert spoken(Arm(name="r", label="Gopher", role="candidate")) == "Gopher"


def test_the_primary_effect_is_on_the_target_after_most_tokens():
    effects = tuple(
        Effect(arm="dsir", control="random", eval_set=s, n_tokens=n, difference_bpb=d)
        for s, n, d in (("target", 100, -0.1), ("target", 200, -0.2), ("rest", 400, 0.3))
    )
    target = TargetReport(name="A", effects=effects)
    found = primary_effect(target, "dsir", "random")
    assert found is not None
    assert found.difference_bpb == -0.2
    assert primary_effect(target, "truth", "random") is None


def test_every_finding_keeps_its_row_with_or_without_an_effect():
    rows = comparisons(report(B, C))
    assert [(row.target, row.effect) for row in rows] == [("A", None), ("B", None)]
    assert [row.anchor for row in rows] == ["t1", "t2"]


def test_many_arms_are_counted_and_named():
    arms = (
        Arm(name="random", label="Random", role="control"),
        *(Arm(name=n, label=n.upper()) for n in "xyz"),
    )
    verdicts = {"x": (B, B), "y": (B, C), "z": (W, N)}
    targets = tuple(
        TargetReport(
            name=f"T{i}",
            findings=tuple(
                Finding(arm=arm, control="random", verdict=pair[i], sentence="s")
                for arm, pair in verdicts.items()
            ),
        )
        for i in range(2)
    )
    top = headline(ReportData(title="t", recipe="r", targets=targets, arms=arms))
    assert top.title == "1 of 3 choices is better than random for both targets"
    assert top.lede == ("Better for both targets: X.", "Better for some targets only: Y.")


def test_two_arms_are_told_one_after_the_other():
    arms = (
        Arm(name="random", label="Random", role="control"),
        Arm(name="x", label="X"),
        Arm(name="y", label="Y"),
    )
    findings = tuple(
        Finding(arm=a, control="random", verdict=v, sentence="s") for a, v in (("x", B), ("y", C))
    )
    data = ReportData(title="t", recipe="r", targets=(TargetReport(name="T", findings=findings),), arms=arms)
    assert headline(data).title == "X is better than random for T"
    assert headline(data).lede == ("s", "We cannot tell whether Y is better than random for T.")
