"""DataMan's method: metrics, domains as strata, and a selection that repeats nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pool_of import computing, opened, recipe_of, table_of
from prill.errors import RecipeError
from prill.methods.dataman import DataMan, measured
from prill.methods.registry import describe, get_method
from prill.methods.scored import made, scored
from prill.pipeline.features import Features
from prill.select.budget import Budget
from prill.select.cut import chosen
from prill.select.decide import Decision, View, decide
from prill.select.policy import Policy
from rating_server import RatingServer, dataman_answer

MEDICAL = "The patient took the drug because the doctor saw an infection, and the hospital gave a therapy. "
CODE = "def main(): return const int array ; class code import void self function python struct null print "
PLAIN = "The garden lay quiet in the evening, and they walked slowly home along the old wall of stone. "


def documents(n: int = 20) -> list[str]:
    return [text * (2 + i % 4) + f"{i}" for i in range(n) for text in (MEDICAL, CODE, PLAIN)] + [""]


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Features]:
    folder = tmp_path_factory.mktemp("pool")
    with opened(recipe_of(folder, documents()), folder) as features:
        yield features


def columns(pool: Features, folder: Path, **settings: Any) -> pa.Table:
    feature = scored("dataman", settings, ("t", "u"), folder)
    with computing(pool, folder / "computed") as features:
        return table_of(features, feature)


def candidates(
    scores: Sequence[float], n_tokens: Sequence[int], strata: Sequence[str] | None = None
) -> pa.Table:
    n = len(scores)
    keys = np.random.default_rng(7).integers(0, 2**63, n, dtype=np.uint64)
    found = {
        "row": np.arange(n),
        "score": np.asarray(scores, np.float64),
        "n_tokens": np.asarray(n_tokens, np.int64),
        "n_bytes": np.asarray(n_tokens, np.int64) * 4,
        "key": keys,
        "eligible": np.full(n, True),
    }
    return pa.table(found if strata is None else {**found, "stratum": list(strata)})


def select(table: pa.Table, budget: str, policy: Policy) -> tuple[list[int], Decision]:
    decision = decide(lambda shard: table, 1, budget=Budget.model_validate(budget), policy=policy, seed=0)
    ranked = View(tables=lambda shard: table, policy=policy, seed=0).ranked(0)
    return np.flatnonzero(chosen(ranked, decision.cuts)).tolist(), decision


def test_the_ranking_is_followed_down_and_nothing_is_repeated() -> None:
    # The card's rows: scores [5,3,4,5,1], tokens [100,200,300,50,400]. By score: 0 and 3, then 2, 1, 4. The
    # reference takes the row that crosses the budget too (400: rows 0,3,2, 450 tokens); ours ends before it.
    # At 700 the reference repeats a chosen row at random although row 4 is left; ours holds each row once.
    table = candidates([5, 3, 4, 5, 1], [100, 200, 300, 50, 400])
    policy = Policy(kind="top_k", on_short="take_all")
    rows_of = {
        150: [0, 3],
        400: [0, 3],  # row 2 would make 450
        450: [0, 2, 3],
        650: [0, 1, 2, 3],
        700: [0, 1, 2, 3],  # row 4 would make 1,050
        1_050: [0, 1, 2, 3, 4],
    }
    for budget, expected in rows_of.items():
        rows, _ = select(table, f"{budget} tokens", policy)
        assert rows == expected


def test_a_shortfall_is_told_and_never_filled_with_copies() -> None:
    # Two rows of score 5, 150 tokens together, and a budget of 300: 150 are missing.
    table = candidates([5, 5], [100, 50])
    with pytest.raises(RecipeError, match="150"):
        select(table, "300 tokens", Policy(kind="top_k"))
    rows, decision = select(table, "300 tokens", Policy(kind="top_k", on_short="take_all"))
    assert rows == [0, 1]
    assert "150" in orjson.dumps(decision.audit).decode()


@given(st.integers(0, 10_000), st.floats(0.1, 0.9))
def test_cells_keep_the_pools_shares_within_a_document(seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    n = 120
    cells = [
        f"{'ab'[s]} / {'ABC'[d]}" for s, d in zip(rng.integers(0, 2, n), rng.integers(0, 3, n), strict=True)
    ]
    n_tokens = rng.integers(1, 200, n)
    table = candidates(rng.integers(1, 6, n), n_tokens, cells)
    budget = int(share * n_tokens.sum())
    policy = Policy(kind="top_k", strata="method", on_short="take_all")
    rows, _ = select(table, f"{budget} tokens", policy)
    assert len(set(rows)) == len(rows)
    taken = np.isin(np.arange(n), rows)
    total = 0
    for cell in set(cells):
        here = np.array([c == cell for c in cells])
        got, due = n_tokens[here & taken].sum(), budget * n_tokens[here].sum() / n_tokens.sum()
        assert got <= due + 1
        assert got > due - 1 - n_tokens[here].max()
        total += got
    assert total <= budget


def test_rules_grade_every_document_and_name_its_domain(pool: Features, tmp_path: Path) -> None:
    table = columns(pool, tmp_path)
    found, strata = table["t"].to_numpy(), table["(stratum)"].to_pylist()
    assert np.isnan(found[-1])
    assert set(found[:-1]) <= {1.0, 2.0, 3.0, 4.0, 5.0}
    assert strata[:6] == ["A", "H", "O", "A", "H", "O"]  # the pool of this test has no sources
    np.testing.assert_array_equal(found, table["u"].to_numpy())


def test_domains_stand_within_sources_where_the_pool_has_them(tmp_path: Path) -> None:
    docs = documents()
    sources = ["s0", *(None if i % 9 else "s1" for i in range(1, len(docs)))]
    with opened(recipe_of(tmp_path, docs, columns={"source": sources}), tmp_path) as sourced:
        strata = columns(sourced, tmp_path)["(stratum)"].to_pylist()
        assert strata[0] == "s0 / A"
        assert strata[1] == " / H"  # a document without a source
        assert strata[9] == "s1 / A"
        assert columns(sourced, tmp_path / "d", cells="domain")["(stratum)"].to_pylist()[0] == "A"


def test_only_some_scores_and_domains_can_be_offered(pool: Features, tmp_path: Path) -> None:
    every = columns(pool, tmp_path / "a")
    found = columns(pool, tmp_path / "b", target_scores=[4, 5], domains=["A"])["t"].to_numpy()
    grade, domain = every["t"].to_numpy(), np.array(every["(stratum)"].to_pylist())
    np.testing.assert_array_equal(np.isfinite(found), (domain == "A") & np.isin(grade, [4, 5]))


def test_the_sum_counts_every_criterion() -> None:
    grades = {"a": np.array([1.4, 5.0]), "b": np.array([2.5, 3.5]), "overall_score": np.array([2.0, 4.49])}
    assert measured(grades, "sum", is_integer=True).tolist() == [1 + 2 + 2, 5 + 4 + 4]
    assert measured(grades, "sum", is_integer=False) == pytest.approx([5.9, 12.99])
    assert measured(grades, "a", is_integer=True).tolist() == [1, 5]


def test_an_endpoint_grades_and_a_student_learns_grades_and_domain(pool: Features, tmp_path: Path) -> None:
    def answer(message: str) -> str:
        domain = "A" if "patient" in message else "H" if "const" in message else "J"
        return dataman_answer(domain, [{"A": 5, "H": 2, "J": 3}[domain]] * 14)

    server = RatingServer(answer)
    try:
        spec = server.spec(max_requests=50).model_dump(mode="json")
        table = columns(pool, tmp_path, rater=spec, apply="distil", n_documents=50, grades="expected")
        assert len(server.requests) == 50
        assert table["(stratum)"].to_pylist()[:6] == ["A", "H", "J", "A", "H", "J"]
        found = table["t"].to_numpy()[:-1]
        assert found[0::3].min() > found[2::3].max() > found[1::3].max()
        whole = server.spec(max_requests=100).model_dump(mode="json")
        rated = columns(pool, tmp_path, rater=whole)["t"].to_numpy()
        np.testing.assert_array_equal(rated[:-1], np.tile([5.0, 2.0, 3.0], 20))
        assert len(server.requests) == 60  # those of the sample are known
    finally:
        server.close()


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"rater": None}, "expected a rater for dataman, found null"),
        ({"rater": {"kind": "labels", "path": "x.jsonl"}}, "apply: distil"),
        ({"rater": {"kind": "labels", "path": "x.jsonl"}, "apply": "distil"}, "label_field"),
        (
            {"rater": {"kind": "endpoint", "endpoint": {"base_url": "http://localhost:1/v1", "model": "m"}}},
            "expected a budget",
        ),
    ],
)
def test_what_cannot_be_is_told_before_anything_runs(
    tmp_path: Path, settings: Mapping[str, Any], told: str
) -> None:
    with pytest.raises(RecipeError) as found:
        made("dataman", settings).needs(("t",), tmp_path)
    assert told in str(found.value)


@pytest.mark.parametrize(
    "settings", [{"metric": "educational_value"}, {"domains": ["P"]}, {"domains": ["AB"]}]
)
def test_settings_are_checked(settings: Mapping[str, Any]) -> None:
    with pytest.raises(ValidationError):
        get_method("dataman").Settings.model_validate(settings)


def test_the_default_policy_is_one() -> None:
    policy = Policy.model_validate(DataMan.default_policy)
    assert policy.strata == "method"
    assert "never repeats" in describe("dataman")
