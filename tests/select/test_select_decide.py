"""The choice equals a plain sort, whatever the sharding, and never exceeds its budget."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prill.errors import DataError, RecipeError
from prill.select import Budget, Policy
from prill.select.decide import Decision, decide
from prill.select.ranking import rank

UNIT = {"tokens": "n_tokens", "documents": None, "bytes": "n_bytes"}


def make(
    n: int, rng: np.random.Generator, *, levels: int = 4, sources: int = 1, copies: bool = False
) -> dict:
    score = rng.integers(-levels, levels, n) / 2.0
    key = rng.integers(0, max(1, n // 3) if copies else 2**63, n, dtype=np.uint64)
    return {
        "score": np.where(rng.random(n) < 0.1, -0.0, score),
        "n_tokens": rng.integers(0, 20, n),
        "n_bytes": rng.integers(1, 90, n),
        "key": key,
        "eligible": rng.random(n) < 0.9,
        "source": np.array([f"s{i}" for i in rng.integers(0, sources, n)], dtype=object),
    }


def shard_up(columns: dict, ends: list[int]) -> list[pa.Table]:
    """The same rows in consecutive shards that stop at `ends`."""
    tables, first = [], 0
    for stop in [*ends, len(columns["score"])]:
        part = {name: values[first:stop] for name, values in columns.items()}
        part["row"] = np.arange(stop - first)
        tables.append(
            pa.table({k: pa.array(v, type=pa.string() if k == "source" else None) for k, v in part.items()})
        )
        first = stop
    return tables


def run(
    tables: list[pa.Table], budget: str | None, policy: Policy, seed: int = 7, **more: object
) -> Decision:
    parsed = Budget.parse(budget) if budget else None
    return decide(tables.__getitem__, len(tables), budget=parsed, policy=policy, seed=seed, **more)


def chosen(decision: Decision, tables: list[pa.Table]) -> set[tuple[int, int]]:
    return {(s, r) for s, t in enumerate(tables) for r in decision.rows(t, s)["row"].to_pylist()}


def by_sorting(tables: list[pa.Table], decision: Decision, unit: str) -> set[tuple[int, int]]:
    """Brute force: sort everything, then walk until a document does not fit."""
    rows = []
    for s, table in enumerate(tables):
        ranked = rank(table, s, decision.policy, decision.seed)
        for i in np.flatnonzero(ranked.eligible):
            cost = 1 if unit == "documents" else table[UNIT[unit]][int(i)].as_py()
            name = ranked.strata[ranked.stratum[i]]
            rows.append((int(ranked.score_key[i]), int(ranked.tie_key[i]), s, int(ranked.row[i]), cost, name))
    kept, spent, closed = set(), dict.fromkeys(decision.cuts, 0), set()
    for _, _, s, r, cost, name in sorted(rows):
        limit = decision.cuts[name].limit
        if name in closed or (limit is not None and spent[name] + cost > limit):
            closed.add(name)
            continue
        spent[name] += cost
        kept.add((s, r))
    return kept


policies = st.sampled_from(
    [
        Policy(on_short="take_all"),
        Policy(kind="gumbel", temperature=0.5, on_short="take_all"),
        Policy(kind="threshold", threshold=-0.5),
        Policy(strata="source", on_short="take_all"),
        Policy(strata="source", quotas={"s0": 0.75, "s1": 0.25}, on_short="take_all"),
    ]
)


@settings(max_examples=120, deadline=None)
@given(
    n=st.integers(8, 120),
    levels=st.sampled_from([1, 4, 10**6]),
    copies=st.booleans(),
    seed=st.integers(0, 2**32),
    amount=st.integers(1, 900),
    unit=st.sampled_from(["tokens", "documents", "bytes"]),
    policy=policies,
    collect_rows=st.sampled_from([1, 10, 1 << 18]),
    data=st.data(),
)
def test_choice_equals_a_plain_sort(
    n, levels, copies, seed, amount, unit, policy, collect_rows, data
) -> None:
    rng = np.random.default_rng(seed)
    columns = make(n, rng, levels=levels, sources=2, copies=copies)
    columns["source"][:2], columns["eligible"][:2], columns["score"][:2] = ["s0", "s1"], True, 1.0
    ends = sorted(data.draw(st.lists(st.integers(0, n), max_size=4)))
    tables = shard_up(columns, ends)
    decision = run(tables, f"{amount} {unit}", policy, seed, collect_rows=collect_rows)
    kept = chosen(decision, tables)
    assert kept == by_sorting(tables, decision, unit)
    spent = decision.audit["kept"][unit]
    assert spent <= amount
    assert len(kept) == decision.audit["kept"]["documents"]
    groups = ("eligible", "ineligible", "non_finite", "below_threshold")
    assert (
        sum(decision.audit[g]["documents"] for g in groups) == decision.audit["candidates"]["documents"] == n
    )
    stored = json.loads(json.dumps(decision.to_json(), allow_nan=False))
    assert Decision.from_json(stored) == decision
    assert all(a < b for name in ("scores", "lengths") for a, b in pairwise(decision.audit[name]["edges"]))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32), n=st.integers(5, 80), data=st.data())
def test_sharding_and_order_of_rows_change_nothing(seed: int, n: int, data: st.DataObject) -> None:
    rng = np.random.default_rng(seed)
    columns = make(n, rng, levels=2)
    policy = data.draw(
        st.sampled_from([Policy(on_short="take_all"), Policy(kind="gumbel", on_short="take_all")])
    )
    columns["eligible"][0] = True
    order = rng.permutation(n)
    shuffled = {name: values[order] for name, values in columns.items()}
    keys = []
    for source, ends in ((columns, []), (shuffled, [n // 3, n // 2])):
        tables = shard_up(source, ends)
        decision = run(tables, "100 tokens", policy)
        keys.append({k for s, t in enumerate(tables) for k in decision.rows(t, s)["key"].to_pylist()})
    assert keys[0] == keys[1]


@pytest.mark.parametrize("collect_rows", [1, 2, 50])
def test_strata_may_end_at_different_depths(collect_rows: int) -> None:
    # s0 is one tie, s1 copies of few scores, s2 continuous: each needs another number of digits.
    rng = np.random.default_rng(8)
    columns = make(600, rng, levels=10**6, sources=3, copies=True)
    columns["score"] = np.where(columns["source"] == "s0", 1.0, columns["score"])
    columns["score"] = np.where(columns["source"] == "s1", np.round(rng.normal(size=600)), columns["score"])
    tables = shard_up(columns, [100, 350])
    decision = run(tables, "40%", Policy(strata="source"), collect_rows=collect_rows)
    assert chosen(decision, tables) == by_sorting(tables, decision, "tokens")


def test_a_tied_score_is_searched_in_few_passes() -> None:
    tables, n_calls = shard_up(make(400, np.random.default_rng(1), levels=1), []), []

    def counted(shard: int) -> pa.Table:
        n_calls.append(shard)
        return tables[shard]

    decide(counted, 1, budget=Budget.parse("40%"), policy=Policy(), seed=1, collect_rows=50)
    assert len(n_calls) == 4  # the sketch, the tie digits, the boundary, the account


def test_passes_may_run_in_threads_in_any_order() -> None:
    tables = shard_up(make(500, np.random.default_rng(1)), [50, 90, 300])
    with ThreadPoolExecutor(3) as pool:
        parallel = run(tables, "30%", Policy(), engine_map=pool.map, collect_rows=1)
    assert parallel.audit == run(tables, "30%", Policy()).audit
    assert chosen(parallel, tables) == chosen(run(tables, "30%", Policy()), tables)


def test_many_shards_are_merged_a_few_at_a_time() -> None:
    columns = make(600, np.random.default_rng(1))
    tables, sizes = shard_up(columns, list(range(2, 600, 2))), []

    def counted(task: Callable[[int], object], shards: Iterable[int], /) -> list[object]:
        sizes.append(len(list(shards)))
        return [task(shard) for shard in shards]

    decision = run(tables, "30%", Policy(), engine_map=counted)
    assert max(sizes) == 128
    assert decision.audit["kept"] == run(shard_up(columns, []), "30%", Policy()).audit["kept"]


def test_a_case_worked_by_hand() -> None:
    # scores 3 2 2 1, tokens 5 4 4 9, budget 10: 5 + 4 = 9 fits, the second 2 would make 13.
    columns = {
        "score": [3.0, 2.0, 2.0, 1.0],
        "n_tokens": [5, 4, 4, 9],
        "n_bytes": [10, 8, 8, 18],
        "key": np.array([1, 2, 3, 4], dtype=np.uint64),
        "eligible": [True] * 4,
    }
    tables = shard_up(columns, [2])
    decision = run(tables, "10 tokens", Policy())
    audit = decision.audit
    assert audit["kept"] == {"documents": 2, "tokens": 9, "bytes": 18}
    assert audit["shortfall"] == 1
    assert audit["ties"] == {"documents": 2, "tokens": 8, "kept_documents": 1, "kept_tokens": 4}
    assert decision.threshold[""].startswith("score >= 2.0, tie hash <= 0.")
    assert audit["scores"]["quantiles"]["kept"]["0"] == 2.0
    assert sum(audit["scores"]["all"]["tokens"]) == 22


def test_exact_copies_fall_to_the_earlier_shard_and_row() -> None:
    columns = {
        "score": np.ones(6),
        "n_tokens": np.ones(6, np.int64),
        "n_bytes": np.ones(6, np.int64),
        "key": np.full(6, 9, np.uint64),
        "eligible": np.ones(6, bool),
    }
    tables = shard_up(columns, [2, 4])
    decision = run(tables, "3 documents", Policy(), collect_rows=1)
    assert chosen(decision, tables) == {(0, 0), (0, 1), (1, 0)}
    assert decision.threshold[""].endswith("exact copies up to shard 1, row 0")


def test_gumbel_inclusion_is_weighted_sampling_without_replacement() -> None:
    # Weights 1:2:3:4, two drawn: inclusion 0.2345, 0.4413, 0.6083, 0.7159 exactly. 4,000 groups: sd 0.008.
    n_groups = 4000
    rng = np.random.default_rng(0)
    columns = {
        "score": np.tile(np.log([1.0, 2.0, 3.0, 4.0]), n_groups),
        "n_tokens": np.ones(4 * n_groups, np.int64),
        "n_bytes": np.ones(4 * n_groups, np.int64),
        "key": rng.integers(0, 2**63, 4 * n_groups, dtype=np.uint64),
        "eligible": np.ones(4 * n_groups, bool),
        "source": np.repeat([f"g{i:04d}" for i in range(n_groups)], 4),
    }
    tables = shard_up(columns, [])
    decision = run(tables, f"{2 * n_groups} documents", Policy(kind="gumbel", strata="source"))
    kept = np.zeros(4 * n_groups)
    kept[decision.rows(tables[0], 0)["row"].to_numpy()] = 1
    assert kept.reshape(n_groups, 4).sum(axis=1).tolist() == [2.0] * n_groups
    np.testing.assert_allclose(
        kept.reshape(n_groups, 4).mean(axis=0), [0.2345, 0.4413, 0.6083, 0.7159], atol=0.03
    )


def test_proportional_strata_keep_the_shares_of_the_pool() -> None:
    columns = make(900, np.random.default_rng(3), levels=10**6, sources=3)
    columns["score"] += np.array([{"s0": 9.0, "s1": 0.0, "s2": -9.0}[s] for s in columns["source"]]) * 1e6
    audit = run(shard_up(columns, [400]), "20%", Policy(strata="source")).audit
    for stratum in audit["strata"].values():
        assert abs(stratum["kept"]["tokens"] - 0.2 * stratum["eligible"]["tokens"]) <= 21
    assert set(audit["sources"]) == {"s0", "s1", "s2"}


@pytest.mark.parametrize("quotas", [{}, {"s0": 1 / 3, "s1": 1 / 3, "s2": 1 / 3}])
def test_limits_of_strata_add_up_to_the_budget(quotas: dict[str, float]) -> None:
    tables = shard_up(make(600, np.random.default_rng(4), sources=3), [])
    for amount in (100, 101, 102, 997):
        decision = run(tables, f"{amount} tokens", Policy(strata="source", quotas=quotas))
        limits = [cut.limit or 0 for cut in decision.cuts.values()]
        assert sum(limits) == decision.audit["limit"] == amount
        if quotas:
            assert max(limits) - min(limits) <= 1


def test_more_than_the_pool_is_an_error_with_the_size_of_the_pool() -> None:
    tables = shard_up(make(50, np.random.default_rng(0)), [])
    held = run(tables, "1 tokens", Policy()).audit["eligible"]["tokens"]
    with pytest.raises(RecipeError, match=rf"900,000 tokens but the eligible pool holds {held}"):
        run(tables, "900k tokens", Policy())
    taken = run(tables, "900k tokens", Policy(on_short="take_all")).audit
    assert taken["shortfall"] == 900_000 - held
    assert taken["kept"] == taken["eligible"]
    assert len(taken["warnings"]) == 2


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, None])
def test_a_non_finite_score_is_named_or_counted(bad: float | None) -> None:
    columns = make(30, np.random.default_rng(2))
    columns["eligible"][:] = True
    columns["score"] = columns["score"].astype(object)
    columns["score"][17] = bad
    tables = shard_up(columns, [10])
    with pytest.raises(DataError, match="shard 1, row 7: a score must be a finite number"):
        run(tables, "5 documents", Policy())
    decision = run(tables, "5 documents", Policy(on_non_finite="exclude"))
    assert decision.audit["non_finite"]["documents"] == 1
    assert (1, 7) not in chosen(decision, tables)


def test_an_ineligible_row_needs_no_score() -> None:
    columns = make(5, np.random.default_rng(2))
    columns["eligible"][:] = [True, True, True, True, False]
    columns["score"][4] = np.nan
    assert run(shard_up(columns, []), "2 documents", Policy()).audit["ineligible"]["documents"] == 1


def test_nothing_eligible_is_an_error_that_counts_why() -> None:
    columns = make(5, np.random.default_rng(2))
    columns["eligible"][:] = False
    with pytest.raises(DataError, match="found 0 eligible, 5 ineligible"):
        run(shard_up(columns, []), "2 documents", Policy())


def test_one_document_larger_than_the_budget_chooses_nothing_and_warns() -> None:
    columns = make(1, np.random.default_rng(2)) | {"n_tokens": np.array([50]), "eligible": np.array([True])}
    audit = run(shard_up(columns, []), "20%", Policy()).audit
    assert audit["kept"]["documents"] == 0
    assert audit["shortfall"] == 10
    assert audit["warnings"] == ["Nothing was chosen: the best document is larger than the budget."]


def test_an_unknown_quota_names_the_nearest_source() -> None:
    tables = shard_up(make(50, np.random.default_rng(0), sources=2), [])
    with pytest.raises(RecipeError, match="did you mean 's1'"):
        run(tables, "10 tokens", Policy(strata="source", quotas={"s1x": 1.0}))


def test_a_missing_column_is_named() -> None:
    table = shard_up(make(4, np.random.default_rng(0)), [])[0].drop_columns(["key"])
    with pytest.raises(DataError, match="found no key"):
        run([table], "1 documents", Policy())


def test_threshold_without_a_budget_takes_all_that_passes() -> None:
    columns = make(100, np.random.default_rng(5))
    tables = shard_up(columns, [60])
    decision = run(tables, None, Policy(kind="threshold", threshold=0.5))
    assert len(chosen(decision, tables)) == int((columns["eligible"] & (columns["score"] >= 0.5)).sum())
    assert decision.audit["limit"] is None
    with pytest.raises(RecipeError, match="needs a budget"):
        run(tables, None, Policy())


def test_huge_scores_keep_their_order_and_their_histogram() -> None:
    columns = make(4, np.random.default_rng(0)) | {
        "score": np.array([1.7e308, -1.7e308, 5e-324, 0.0]),
        "eligible": np.ones(4, bool),
        "n_tokens": np.ones(4, np.int64),
    }
    tables = shard_up(columns, [])
    decision = run(tables, "2 tokens", Policy())
    assert chosen(decision, tables) == {(0, 0), (0, 2)}
    assert sum(decision.audit["scores"]["all"]["documents"]) == 4


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=9))
def test_histograms_hold_any_finite_score(scores: list[float]) -> None:
    n = len(scores)
    columns = make(n, np.random.default_rng(0)) | {"score": np.array(scores), "eligible": np.ones(n, bool)}
    audit = run(shard_up(columns, []), "1 documents", Policy()).audit["scores"]
    assert sum(audit["all"]["documents"]) == n
    assert all(a < b for a, b in pairwise(audit["edges"]))
    assert audit["quantiles"]["all"]["1"] == max(scores)


def test_a_decision_of_another_version_is_refused() -> None:
    stored = run(shard_up(make(9, np.random.default_rng(0)), []), "1 documents", Policy()).to_json()
    with pytest.raises(DataError, match="expected a decision of version 1, found 0"):
        Decision.from_json(stored | {"policy_version": 0})
