"""What a report may hold is checked when it is made."""

import pytest
from report_sample import sample_report

from prill.errors import InternalError
from prill.report.model import Arm, Finding, Histogram, ReportData, TargetReport, Verdict


def test_histogram_needs_one_edge_more_than_bins():
    with pytest.raises(InternalError, match="found 2 edges, 2 pool bins and 2 kept bins"):
        Histogram(edges=(0.0, 1.0), pool=(1, 2), kept=(0, 1), unit="score")


def test_histogram_edges_must_ascend():
    with pytest.raises(InternalError, match="ascending edges"):
        Histogram(edges=(0.0, 1.0, 1.0), pool=(1, 2), kept=(0, 1), unit="score")


@pytest.mark.parametrize("edges", [(float("nan"), 1.0), (0.0, float("inf")), (float("-inf"), 0.0)])
def test_histogram_edges_must_be_finite(edges):
    with pytest.raises(InternalError, match="finite, ascending edges"):
        Histogram(edges=edges, pool=(1,), kept=(1,), unit="score")


def test_logarithmic_edges_must_be_above_zero():
    with pytest.raises(InternalError, match=r"above zero for a logarithmic axis, found 0\.0"):
        Histogram(edges=(0.0, 1.0), pool=(1,), kept=(1,), unit="tokens", is_log=True)


def test_an_arm_that_is_not_listed_is_an_error():
    finding = Finding(arm="dsir", control="random", verdict=Verdict.BETTER, sentence="It is better.")
    with pytest.raises(InternalError, match=r"\['random'\]"):
        ReportData(
            title="t",
            recipe="r",
            targets=(TargetReport(name="fiction", findings=(finding,)),),
            arms=(Arm(name="dsir", label="DSIR"),),
        )


def test_arms_are_found_by_name():
    assert sample_report(1).arm("dsir").label == "DSIR"


def test_verdicts_are_the_four_words_of_the_plan():
    assert [verdict.value for verdict in Verdict] == ["better", "worse", "no difference", "cannot tell"]
