"""The arithmetic on losses, with the published numbers: MiniPLM, SALT-DS, CoLoR, perplexity, PreSelect."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prill.errors import DataError, RecipeError
from prill.features.strength import character_threshold, predictive_strength, strength_labels
from prill.lm.scoring.learnable import learnable_scores
from prill.methods._ccnet import normalise, pooled_perplexity, quality_bucket, relative_buckets
from prill.methods.color_filter import color_scores
from prill.methods.miniplm import difference_sample, difference_scores, kept_in_order, ratio_scores
from prill.methods.perplexity import band_scores
from prill.select.budget import Budget
from prill.select.decide import decide
from prill.select.policy import Policy

LOSSES = st.lists(st.tuples(st.floats(0, 10), st.floats(0, 10)), min_size=1, max_size=30)


def test_published_differences_and_choices() -> None:
    reference, teacher = [3.1, 2.9, 5, 2, 4], [2.5, 2.8, 4.9, 2.1, 2.9]
    assert difference_scores(reference, teacher) == pytest.approx([0.6, 0.1, 0.1, -0.1, 1.1])
    assert difference_sample(reference, teacher).tolist() == [0, 4]
    small, large = [3.0, 2.0, 4.0, 1.0, 2.5], [2.0, 1.9, 3.0, 1.0, 2.6]
    assert difference_sample(small, large).tolist() == [0, 2]
    # the ratio of losses would choose row 0 here: 0.5 / 1 is below 7 / 8
    assert difference_sample([1, 8], [0.5, 7]).tolist() == [1]
    assert kept_in_order(ratio_scores([1, 8], [0.5, 7]), 1).tolist() == [0]
    assert difference_scores(small, large) == pytest.approx([1.0, 0.1, 1.0, 0.0, -0.1])
    assert -ratio_scores(small, large) == pytest.approx([2 / 3, 0.95, 0.75, 1.0, 1.04])
    assert kept_in_order(ratio_scores(small, large), 2).tolist() == [0, 2]
    moved = ratio_scores(np.array([1.0, 8]) + 10, np.array([0.5, 7]) + 10)
    assert np.argmax(moved) == 1  # a shift of both turns the ratio's order, not the difference's


def test_equal_models_keep_the_first_rows() -> None:
    assert difference_scores([1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 3.0, 4.0]).tolist() == [0] * 4
    assert difference_sample([1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 3.0, 4.0]).tolist() == [0, 1]


@given(LOSSES, st.floats(0.01, 1), st.floats(0.01, 1))
def test_choices_nest_and_keep_the_order(losses: list[tuple[float, float]], one: float, two: float) -> None:
    reference, teacher = np.array(losses).T
    small, large = (difference_sample(reference, teacher, ratio=r) for r in sorted((one, two)))
    assert set(small) <= set(large)
    assert np.all(np.diff(large) > 0)
    assert len(large) == int(max(one, two) * len(losses))
    assert np.array_equal(difference_sample(reference, teacher, ratio=1.0), np.arange(len(losses)))
    assert np.array_equal(difference_scores(reference, teacher), -difference_scores(teacher, reference))


def test_learnable_medians_are_the_published_ones() -> None:
    cases = {
        "easy": ([0.1, 0.2, 0.3, 0.2, 0.1], [1, 1, 1, 1, 1], 0.2, 0.2),
        "informative": ([2.0, 2.5, 1.5, 3.0, 2.2], [3, 5, 2, 9, 4], 2.2, 2.2),
        "noise": ([8, 9, 10, 7, 9], [500, 900, 1200, 300, 800], 0.0, 0.0),
        "mixed": ([2.0, 9.0, 1.5, 8.0, 2.2], [3, 900, 2, 300, 4], 1.5, 2.0),
    }
    losses = np.concatenate([case[0] for case in cases.values()])
    ranks = np.concatenate([case[1] for case in cases.values()])
    starts = np.arange(0, 21, 5)
    zero, drop = (learnable_scores(losses, ranks, starts, beyond=b) for b in ("zero", "drop"))
    assert zero == pytest.approx([case[2] for case in cases.values()])
    assert drop == pytest.approx([case[3] for case in cases.values()])
    assert [list(cases)[i] for i in np.argsort(-zero, kind="stable")] == [
        "informative",
        "mixed",
        "easy",
        "noise",
    ]
    assert kept_in_order(zero, 2).tolist() == [1, 3]


@given(
    st.lists(st.lists(st.tuples(st.floats(0, 9), st.integers(1, 30)), max_size=9), min_size=1, max_size=6),
    st.integers(1, 30),
    st.sampled_from(["zero", "drop"]),
)
def test_medians_equal_those_one_by_one(docs: list[list[tuple[float, int]]], k: int, beyond: str) -> None:
    tokens = [token for doc in docs for token in doc]
    losses, ranks = np.array([t[0] for t in tokens], float), np.array([t[1] for t in tokens], int)
    starts = np.append(0, np.cumsum([len(doc) for doc in docs]))
    found = learnable_scores(losses, ranks, starts, k=k, beyond=beyond)  # type: ignore[arg-type]
    for doc, score in zip(docs, found, strict=True):
        kept = [loss if rank <= k else 0.0 for loss, rank in doc if rank <= k or beyond == "zero"]
        assert score == pytest.approx(np.median(kept) if kept else 0.0)
    if beyond == "zero":  # a larger k never lowers a score
        assert np.all(learnable_scores(losses, ranks, starts, k=k + 5) >= found)


def test_losses_that_cannot_be_compared_are_told() -> None:
    with pytest.raises(DataError, match=r"row 1: losses must be finite, found nan and 1.0 \(1 such rows\)"):
        difference_sample([1.0, np.nan], [1.0, 1.0])
    with pytest.raises(DataError, match="found 2 and 1"):
        difference_scores([1.0, 2.0], [1.0])
    with pytest.raises(RecipeError, match="above 0 and at most 1, found 0"):
        difference_sample([1.0], [1.0], ratio=0)
    with pytest.raises(DataError, match="each of 2 tokens, found 1 and 1"):
        learnable_scores(np.ones(1), np.ones(1, np.int64), np.array([0, 2]))
    with pytest.raises(DataError, match="token 1: losses must be finite, found inf"):
        learnable_scores(np.array([1, np.inf]), np.ones(2, np.int64), np.array([0, 2]))


def chosen(scores: Any, budget: Budget, seed: int = 0) -> list[int]:
    """Rows that the policy of a method takes, a document of one token each."""
    n = len(scores)
    table = pa.table(
        {
            "row": np.arange(n),
            "score": np.asarray(scores, np.float64),
            "n_tokens": np.ones(n, np.int64),
            "n_bytes": np.ones(n, np.int64),
            "key": np.arange(n, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15),
            "eligible": np.ones(n, np.bool_),
        }
    )
    policy = Policy(kind="top_k", on_non_finite="exclude")
    decision = decide(lambda _: table, 1, budget=budget, policy=policy, seed=seed)
    return sorted(decision.rows(table, 0)["row"].to_pylist())


def test_color_scores_and_their_ties() -> None:
    prior = np.array([3.0, 3.5, 2.0, 4.0, 3.2, 3.9, 2.5, 3.0])
    conditional = np.array([2.9, 3.0, 2.1, 3.2, 3.2, 3.8, 2.0, 2.6])
    scores = color_scores(prior, conditional)
    assert scores == pytest.approx([0.1, 0.5, -0.1, 0.8, 0.0, 0.1, 0.5, 0.4])
    assert color_scores(prior + 2, conditional + 2) == pytest.approx(scores)
    assert not color_scores(prior, prior).any()
    scores = np.round(scores, 6)  # in exact arithmetic rows 1 and 6 tie
    quarter = [chosen(scores, Budget.parse("2 tokens"), seed) for seed in range(12)]
    assert all(3 in rows and len(rows) == 2 for rows in quarter)
    assert {rows[0] if rows[1] == 3 else rows[1] for rows in quarter} == {1, 6}  # by the seed's hash
    assert chosen(scores, Budget.parse("2 tokens")) == chosen(scores, Budget.parse("2 tokens"))
    half = chosen(scores, Budget.parse("4 tokens"))
    assert set(chosen(scores, Budget.parse("2 tokens"))) <= set(half)
    with pytest.raises(RecipeError, match="less than one"):  # the reference's k = 0 chooses all 8
        chosen(scores, Budget(amount=1 / 16, unit="fraction"))


def test_perplexities_pool_over_lines() -> None:
    assert pooled_perplexity([-6.0], [4]) == pytest.approx(31.6, abs=0.05)
    pooled = pooled_perplexity([-6.0, -9.0], [4, 5])
    assert pooled == pytest.approx(46.4, abs=0.05)
    assert pooled == pytest.approx(pooled_perplexity([-15.0], [9]))
    mean = (pooled_perplexity([-6.0], [4]) + pooled_perplexity([-9.0], [5])) / 2
    assert mean == pytest.approx(47.4, abs=0.1)
    for scores, lengths in (([], []), ([-1.0], [0]), ([-1.0], [1, 2])):
        with pytest.raises(DataError, match="a length of at least 1 for every line"):
            pooled_perplexity(scores, lengths)


def test_the_normaliser_is_the_published_one() -> None:
    assert normalise("Caf\u00e9 \u2014 1,234") == "cafe  -  0,000"
    assert normalise("\uff11 \u201cquoted\u201d") == '0 "quoted"'
    assert normalise("Hello\nWorld 42") == "helloworld 00"
    assert normalise("  Cafe\u0301\t\x85 ") == "cafe"
    assert normalise("") == ""


@given(st.text("0123456789\u0663\uff17", min_size=1))
def test_digits_alone_become_zeros(text: str) -> None:
    assert normalise(text) == "0" * len(text)


def test_buckets_are_cut_where_published() -> None:
    found = [quality_bucket(ppl) for ppl in (339.9, 340.0, 519.9, 520.0)]
    assert found == ["head", "middle", "middle", "tail"]
    assert quality_bucket(-1) == quality_bucket(float("nan")) == quality_bucket(5, None) == "all"
    losses = np.arange(10.0)
    buckets = relative_buckets(np.append(losses, np.nan), losses)
    assert buckets.tolist() == ["head"] * 3 + ["middle"] * 3 + ["tail"] * 4 + ["all"]


def test_bands_are_the_published_percentiles() -> None:
    ppl = np.arange(1.0, 11.0)
    picks = {
        name: sorted((kept_in_order(scores, 4) + 1).tolist())
        for name, scores in {"low": -ppl, "high": ppl, "medium": band_scores(ppl, ppl)}.items()
    }
    assert picks == {"low": [1, 2, 3, 4], "high": [7, 8, 9, 10], "medium": [4, 5, 6, 7]}
    assert np.array_equal(band_scores(np.log(ppl), np.log(ppl)), band_scores(ppl, ppl))
    assert np.isnan(band_scores(np.array([np.nan]), ppl)).all()
    rest = sorted((kept_in_order(ppl, 6) + 1).tolist())
    assert sorted(picks["low"] + rest) == list(range(1, 11))  # low and its complement partition the pool


def test_predictive_strengths_are_the_published_ones() -> None:
    cases = {
        (6, 5, 4, 3, 2, 1): 15,
        (1, 2, 3, 4, 5, 6): 0,
        (6, 5, 4, 4, 2, 1): 14,
        (6, 5, 3, 4, 2, 1): 14,
        (5, 5, 5, 5, 5, 5): 0,
        (10, 9, 8.5, 8.6, 8, 7.9): 14,
    }
    found = predictive_strength(np.array(list(cases), float))
    assert found * 15 == pytest.approx(list(cases.values()))
    assert np.isnan(predictive_strength(np.array([[3.0, np.nan, 1.0]]))).all()
    equal = predictive_strength(np.array([[3.0, 2.0, 1.0]]), np.array([0.0, 0.0, 1.0]))
    assert equal == pytest.approx([2 / 3])
    with pytest.raises(DataError, match="rising strength"):
        predictive_strength(np.ones((1, 2)), np.array([1.0, 0.0]))
    with pytest.raises(DataError, match="at least 2 models"):
        predictive_strength(np.ones((1, 1)))


@given(st.lists(st.lists(st.integers(0, 9), min_size=5, max_size=5), min_size=1, max_size=8))
def test_strength_knows_order_alone(rows: list[list[int]]) -> None:
    losses = np.array(rows, float)
    found = predictive_strength(losses)
    assert np.array_equal(predictive_strength(np.exp(losses) * 3), found)
    assert np.array_equal(predictive_strength(losses, np.array([0.1, 2, 3, 50, 60])), found)
    weak, strong = np.triu_indices(5, k=1)
    ties = (losses[:, weak] == losses[:, strong]).mean(axis=1)
    assert predictive_strength(losses[:, ::-1]) == pytest.approx(1 - found - ties)


def test_labels_are_balanced_and_keyed() -> None:
    strength = np.array([1, 0.5, 1, 0, np.nan, 0.5, 1, 0.9])
    key = np.arange(8, dtype=np.uint64)[::-1].copy()
    labels = strength_labels(strength, key)
    assert labels.tolist() == [1, 0, 1, 0, -1, 0, 1, -1]
    many = strength_labels(np.array([1.0, 1, 1, 0.2]), np.array([9, 3, 5, 1], np.uint64))
    assert many.tolist() == [-1, 1, -1, 0]
    assert (strength_labels(np.ones(3), np.arange(3, dtype=np.uint64)) == -1).all()


def test_the_threshold_counts_characters_and_overshoots() -> None:
    p, n = np.array([0.5, 0.9, 0.2, 0.8]), np.array([100, 100, 500, 300])
    threshold = character_threshold(p, n, share=0.1)
    assert threshold == 0.8
    assert n[p >= threshold].sum() == 400
    assert character_threshold(p, n, share=0.05) == 0.9
    with pytest.raises(DataError, match="a share above 0 and below 1, found 4 and 1"):
        character_threshold(p, n, share=1)


def test_top_tokens_are_the_worked_example() -> None:
    torch = pytest.importorskip("torch")
    from prill.lm.scoring.token_values import Head, token_values

    logits: Any = torch.tensor([[3.0, 2, 1, 0], [1, 1, 0, 0]])
    head = Head.of(torch.eye(4))
    for order in ([0, 1, 2, 3], [2, 0, 3, 1]):  # a permutation of the vocabulary changes nothing
        found: Any = token_values(logits[:, order], head, torch.tensor([0, 0]), is_whole=False, top=2)
        assert found.top_logit.tolist() == [2.5, 1.0]
        assert float(found.top_logit.mean()) == 1.75
        assert found.top_mass.tolist() == pytest.approx([0.880797, 0.731059], abs=1e-6)
        assert float(found.top_mass.mean()) == pytest.approx(0.805928, abs=1e-6)
    more: Any = token_values(logits + 5, head, torch.tensor([0, 3]), is_whole=False, top=2)
    assert more.top_logit.tolist() == [7.5, 6.0]
    assert more.top_mass.tolist() == pytest.approx([0.880797, 0.731059], abs=1e-6)
    assert more.is_top.tolist() == [1.0, 0.0]
    equal: Any = token_values(torch.ones(1, 4), head, torch.tensor([3]), is_whole=True, top=1)
    assert (equal.is_top.tolist(), equal.rank.tolist()) == ([1.0], [0.0])  # equal logits count for the token
