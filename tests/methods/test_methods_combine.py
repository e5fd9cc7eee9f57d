"""Combinations: arithmetic by hand, members shared with other arms, what a member cannot judge is counted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from made_text import documents
from pool_of import opened, recipe_of, table_of
from prill.corpus.columns import read_infos
from prill.errors import DataError
from prill.methods.combine import Combine, CombineSettings
from prill.methods.registry import STRATUM
from prill.methods.scored import Scored, scored
from prill.pipeline.choose import PoolTables
from prill.pipeline.features import Features
from prill.select import Budget, Policy
from prill.select.decide import decide

TEXTS = documents(30, seed=1, kind="a") + documents(30, seed=2, kind="b") + ["short", "two words"]
TARGETS = {"a": documents(6, seed=3, kind="a"), "b": documents(6, seed=4, kind="b")}
DSIR = {"method": "dsir"}
RANDOM = {"method": "random", "settings": {"seed": 5}}


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Features]:
    folder = tmp_path_factory.mktemp("combine")
    with opened(recipe_of(folder, TEXTS, TARGETS), folder) as found:
        yield found


def asked(name: str, settings: dict[str, Any]) -> Scored:
    return scored(name, settings, tuple(TARGETS), Path())


def tokens(features: Features) -> np.ndarray:
    return np.concatenate([features.pool.n_tokens(shard) for shard in range(features.pool.n_shards)])


def token_rank(score: np.ndarray, weight: np.ndarray) -> np.ndarray:
    lower = (weight * (score[None, :] < score[:, None])).sum(axis=1)
    return (lower + (weight * (score[None, :] == score[:, None])).sum(axis=1) / 2) / weight.sum()


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("ranks", [(3 * 0.2 + 0.6) / 4, (3 * 0.9 + 0.1) / 4]),  # weights 3 and 1
        ("product", [(3 * np.log(0.2) + np.log(0.6)) / 4, (3 * np.log(0.9) + np.log(0.1)) / 4]),
        ("stratified", [0.2, 0.9]),
    ],
)
def test_the_arithmetic_by_hand(how: str, expected: list[float]) -> None:
    settings = CombineSettings.model_validate({"of": [{**DSIR, "weight": 3}, RANDOM], "how": how})
    ranks = np.array([[0.2, 0.9, np.nan], [0.6, 0.1, 0.5]])
    np.testing.assert_allclose(Combine(settings).combined(ranks), [*expected, np.nan], rtol=1e-12)


def test_an_intersection_is_the_lowest_rank() -> None:
    settings = CombineSettings.model_validate({"of": [DSIR, RANDOM], "how": "intersection"})
    ranks = np.array([[0.2, 0.9], [0.6, 0.1]])
    assert Combine(settings).combined(ranks).tolist() == [0.2, 0.1]


def test_ranks_are_those_of_the_members_by_tokens(features: Features) -> None:
    found = table_of(features, asked("combine", {"of": [{**DSIR, "weight": 2}, RANDOM], "how": "ranks"}))
    members = [table_of(features, asked("dsir", {})), table_of(features, asked("random", {"seed": 5}))]
    for target in TARGETS:
        ranks = [token_rank(member[target].to_numpy(), tokens(features)) for member in members]
        np.testing.assert_allclose(found[target].to_numpy(), (2 * ranks[0] + ranks[1]) / 3, atol=1e-12)


def test_members_are_computed_once_and_shared_with_arms_of_their_own(features: Features) -> None:
    combined = asked("combine", {"of": [DSIR, RANDOM], "how": "product"})
    # Settings that say the default and settings that say nothing are one feature.
    assert asked("dsir", {"n": 2}) in combined.needs
    table_of(features, combined)
    n_dsir = [f for f in features.done if isinstance(f, Scored) and f.fitted.method == "dsir"]
    table_of(features, asked("dsir", {}))
    assert [f for f in features.done if isinstance(f, Scored) and f.fitted.method == "dsir"] == n_dsir


def test_one_member_alone_keeps_its_order_and_may_be_combined_again(features: Features) -> None:
    alone = {"method": "combine", "settings": {"of": [DSIR]}}
    nested = table_of(features, asked("combine", {"of": [alone], "how": "product"}))
    plain = table_of(features, asked("dsir", {}))
    for target in TARGETS:
        a, b = nested[target].to_numpy(), plain[target].to_numpy()
        assert np.argsort(a, kind="stable").tolist() == np.argsort(b, kind="stable").tolist()


def test_an_intersection_takes_what_both_targets_members_prefer(features: Features) -> None:
    # Averaged with chance a document of the wrong kind can win; it never wins an intersection with DSIR.
    found = table_of(features, asked("combine", {"of": [DSIR, RANDOM], "how": "intersection"}))
    best = np.argsort(-found["a"].to_numpy())[:10]
    assert (best < 30).all()


def test_documents_that_a_member_cannot_judge_have_no_score_and_are_counted(features: Features) -> None:
    gated = {"method": "dsir", "settings": {"min_length": 5}}  # minus infinity below five words
    feature = asked("combine", {"of": [gated, RANDOM]})
    found = table_of(features, feature)
    assert np.flatnonzero(np.isnan(found["a"].to_numpy())).tolist() == [60, 61]
    counts = features.done[feature.fitted].record.counts
    assert counts["n_documents"] == [62, 62]
    assert counts["n_without_score"] == [2, 2]
    assert counts["n_without_score_of_member"] == [[2, 0], [2, 0]]
    judged = np.arange(62) < 60
    ranks = [
        token_rank(
            np.where(judged, table_of(features, asked(name, settings))["a"].to_numpy(), np.nan)[:60],
            tokens(features)[:60],
        )
        for name, settings in (("dsir", {"min_length": 5}), ("random", {"seed": 5}))
    ]
    np.testing.assert_allclose(found["a"].to_numpy()[:60], np.mean(ranks, axis=0), atol=1e-12)


def test_nothing_to_judge_is_an_error(features: Features) -> None:
    gated = {"method": "dsir", "settings": {"min_length": 10_000}}
    with pytest.raises(DataError, match="all 2 members can judge, found none of 62"):
        table_of(features, asked("combine", {"of": [gated, RANDOM]}))


def test_levels_of_quality_are_strata_to_choose_within(features: Features) -> None:
    feature = asked("combine", {"of": [DSIR, RANDOM], "how": "stratified", "levels": 2})
    found = table_of(features, feature)
    levels, draws = (
        found[STRATUM].to_pylist(),
        table_of(features, asked("random", {"seed": 5}))["a"].to_numpy(),
    )
    rank = token_rank(draws, tokens(features))
    assert levels == ["1 of 2" if r < 0.5 else "2 of 2" for r in rank.tolist()]
    tables = PoolTables(
        read_parts=list(features.pool.read_parts),
        eligible_parts=list(features.pool.eligible_parts),
        token_parts=list(features.pool.token_parts),
        score_parts=list(features.done[feature].parts),
        target="b",
    )
    policy = Policy(strata="method", quotas={"1 of 2": 0.0, "2 of 2": 1.0})
    decision = decide(
        tables, features.pool.n_shards, budget=Budget.parse("10 documents"), policy=policy, seed=1
    )
    assert decision.audit["strata"]["2 of 2"]["kept"]["documents"] == 10
    assert decision.audit["strata"]["1 of 2"]["kept"]["documents"] == 0


def test_strata_of_a_member_are_passed_on(features: Features) -> None:
    inner = {"of": [DSIR, RANDOM], "how": "stratified", "levels": 3}
    outer = asked("combine", {"of": [RANDOM, {"method": "combine", "settings": inner}]})
    found = table_of(features, outer)
    assert found[STRATUM].equals(table_of(features, asked("combine", inner))[STRATUM])
    infos = read_infos(features.done[outer].parts[0])
    assert infos["a"].unit == "share of the tokens"
    assert infos["a"].span == "whole document"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "Field required"),
        ({"of": []}, "at least 1 item"),
        ({"of": [{"method": "dsri"}]}, "did you mean 'dsir'"),
        ({"of": [{"method": "dsir", "settings": {"buckets": 3}}]}, "Extra inputs are not permitted"),
        ({"of": [DSIR, {**DSIR, "weight": 2}]}, "named twice, found 'dsir': give it more weight"),
        ({"of": [DSIR, {**RANDOM, "weight": 2}], "how": "intersection"}, "has no weights"),
        ({"of": [DSIR], "how": "stratified"}, "one that gives levels"),
        ({"of": [{**DSIR, "weight": 0}]}, "greater than 0"),
    ],
)
def test_contradictions_are_refused_before_anything_runs(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        CombineSettings.model_validate(settings)
