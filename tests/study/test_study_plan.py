"""Plans count every trained token and keep seeds paired; numbers are shown as people read them."""

from __future__ import annotations

import json

import pytest

from prill.errors import RecipeError
from prill.study.arms import Arm
from prill.study.numbers import decimals_for, fixed, percent, times, tokens
from prill.study.plan import plan_trials

ARMS = [
    Arm(name="random", kind="random"),
    Arm(name="dsir", kind="selected", target="fiction", method="dsir"),
]


def test_tokens_are_counted_by_hand() -> None:
    # branches at 1,000 and 500, 20 % decay: trunk 800, decays 200 and 100: 1,100 trained, 1,000 read.
    plan = plan_trials(ARMS, [0, 1], [500, 1000], longer={"random": [2000]}, step_tokens=10)
    dsir = plan.runs[1]
    assert (dsir.n_tokens, dsir.n_data_tokens) == (1100, 1000)
    assert [(b.n_tokens, b.n_trunk_tokens, b.n_decay_tokens) for b in dsir.branches] == [
        (500, 400, 100),
        (1000, 800, 200),
    ]
    assert plan.runs[0].n_tokens == 1600 + 400 + 200 + 100
    assert plan.n_tokens == 2 * (1100 + 2300)
    assert plan.minutes(100.0) == pytest.approx(6800 / 6000)
    assert json.loads(json.dumps(plan.to_json()))["n_tokens"] == 6800


def test_runs_of_one_seed_share_their_start() -> None:
    plan = plan_trials(ARMS, [3, 1], [500])
    assert [(run.seed, run.arm) for run in plan.runs] == [
        (1, "random"),
        (1, "dsir"),
        (3, "random"),
        (3, "dsir"),
    ]
    assert plan.runs[0].init_seed == plan.runs[1].init_seed != plan.runs[2].init_seed
    assert plan.runs[0].order_seed == plan.runs[1].order_seed != plan.runs[0].init_seed


def test_checkpoints_fall_on_whole_steps() -> None:
    run = plan_trials(ARMS, [0], [1030, 1100, 2050], step_tokens=1024).runs[0]
    assert [branch.n_tokens for branch in run.branches] == [1024, 2048]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"arms": []}, "at least one of its arms"),
        ({"seeds": []}, "at least one of its seeds"),
        ({"seeds": [1, 1]}, "seeds must differ"),
        ({"checkpoints": []}, "at least one of its checkpoints"),
        ({"checkpoints": [3], "step_tokens": 10}, "at least one step of 10 tokens, found 3"),
        ({"longer": {"x": [5]}}, "found 'x'"),
        ({"decay_share": 1.5}, "decay share"),
        ({"arms": [ARMS[0], ARMS[0]]}, "found 'random' twice"),
        ({"arms": [Arm(name="a", kind="oracle")]}, "needs a target"),
    ],
)
def test_plans_that_cannot_be_are_refused(changed: dict[str, object], message: str) -> None:
    given = {"arms": ARMS, "seeds": [0], "checkpoints": [500], **changed}
    with pytest.raises(RecipeError, match=message):
        plan_trials(**given)  # type: ignore[arg-type]
    with pytest.raises(RecipeError, match="above 0 tokens a second"):
        plan_trials(ARMS, [0], [1]).minutes(0)


def test_numbers_are_shown_as_people_read_them() -> None:
    assert [tokens(n) for n in (1, 900, 20_480, 524_288, 500_000, 1.25e9)] == [
        "1 token",
        "900 tokens",
        "20.5 k tokens",
        "0.524 M tokens",
        "0.5 M tokens",
        "1.25 B tokens",
    ]
    assert [times(x) for x in (1.234, 9.4, 9.96, 16.4, 123.0, 2000.0)] == [
        "1.2",
        "9.4",
        "10",
        "16",
        "120",
        "2,000",
    ]
    assert (times(15.99, bound="at_least"), times(9.49, bound="at_least")) == ("15", "9.4")
    assert (times(16.0, bound="at_least"), times(2.01, bound="at_most")) == ("16", "2.1")
    assert [percent(s) for s in (0.0, 1e-6, 0.0031, 0.081, 0.5, 1.0)] == [
        "0 %",
        "less than 0.01 %",
        "0.31 %",
        "8.1 %",
        "50 %",
        "100 %",
    ]
    assert [decimals_for(h) for h in (None, 0.0, 0.063, 0.012, 0.0042, 1.5)] == [3, 3, 2, 3, 3, 2]
    assert fixed(-0.0001, 2) == "0.00"
