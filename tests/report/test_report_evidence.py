"""A study's conclusion arrives on the page whole: the same numbers, sentences and seeds."""

import math

import numpy as np
import pyarrow as pa

from prill.report.evidence import evidence
from prill.report.model import Arm, ReportData, TargetReport, Verdict
from prill.report.render import render
from prill.study.arms import Arm as StudyArm
from prill.study.conclude import conclude

ARMS = (
    StudyArm(
        name="dsir for fiction", kind="selected", target="fiction", method="dsir", label="DSIR's choice"
    ),
    StudyArm(name="random", kind="random", label="a random choice"),
)
NAMES = {"dsir for fiction": "dsir"}


def evaluations() -> pa.Table:
    """Three seeds, two token counts, 40 documents of 1,000 bytes; DSIR is 0.5 bits per byte better."""
    rng = np.random.default_rng(0)
    rows = []
    for arm, level in (("dsir for fiction", 2.0), ("random", 2.5)):
        for seed in range(3):
            for n_tokens in (250_000, 500_000):
                for eval_set, shift in (("target:fiction", 0.0), ("rest", 0.4)):
                    bpb = level + shift * (3 if arm != "random" else 1) - 0.2 * (n_tokens > 250_000)
                    for doc in range(40):
                        loss = (bpb + rng.normal() * 0.02) * 1_000 * math.log(2)
                        rows.append((arm, seed, n_tokens, eval_set, doc, loss, 1_000, 400))
    columns = list(zip(*rows, strict=True))
    names = ("arm", "seed", "n_tokens", "eval_set", "doc", "loss_nats", "n_bytes", "n_tokens_doc")
    types = (
        pa.string(),
        pa.int64(),
        pa.int64(),
        pa.string(),
        pa.int64(),
        pa.float64(),
        pa.int64(),
        pa.int64(),
    )
    return pa.table({n: pa.array(c, t) for n, c, t in zip(names, columns, types, strict=True)})


def test_a_conclusion_becomes_findings_effects_and_curves():
    conclusion = conclude(evaluations(), [("fiction", "dsir for fiction", "random")], arms=ARMS)
    found = evidence(conclusion, "fiction", NAMES)
    comparison = conclusion.comparisons[0]
    assert [(f.arm, f.control, f.verdict) for f in found.findings] == [("dsir", "random", Verdict.BETTER)]
    assert found.findings[0].sentence == comparison.sentence
    said = " ".join([comparison.sentence, *found.tokens_to_match])
    assert said.count(comparison.matching_sentence) == 1
    primary, rest = found.effects
    assert (primary.eval_set, primary.is_primary, rest.eval_set, rest.is_primary) == (
        "target",
        True,
        "rest",
        False,
    )
    assert primary.low_bpb == comparison.effect.difference.low
    assert len(primary.seed_differences_bpb) == 3
    assert {(c.arm, c.eval_set) for c in found.curves} == {
        ("dsir", "target"),
        ("random", "target"),
        ("dsir", "rest"),
        ("random", "rest"),
    }
    assert all(len(curve.seeds) == 6 for curve in found.curves)


def test_a_conclusion_renders():
    conclusion = conclude(evaluations(), [("fiction", "dsir for fiction", "random")], arms=ARMS)
    target = TargetReport(name="fiction", **vars(evidence(conclusion, "fiction", NAMES)))
    arms = (Arm(name="dsir", label="DSIR"), Arm(name="random", label="Random", role="control"))
    page = render(ReportData(title="t", recipe="r", targets=(target,), arms=arms))
    assert "DSIR is better than random for fiction" in page
    assert "For <code>fiction</code>, " in page


def test_another_target_has_no_evidence():
    conclusion = conclude(evaluations(), [("fiction", "dsir for fiction", "random")], arms=ARMS)
    assert evidence(conclusion, "physics", NAMES).findings == ()
