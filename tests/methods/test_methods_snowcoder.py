"""SnowCoder: sections are averaged, heads do not judge their own negatives, strata keep their shares."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from made_text import topics
from pool_of import resolve, run_method, table_of
from prill.errors import DataError
from prill.features.annotator import Heads, window_mean
from prill.features.heads import Head
from prill.methods.scored import scored
from prill.select.budget import Budget
from prill.select.decide import decide
from prill.select.policy import Policy

SETTINGS = {"dimensions": 64, "negatives": 60, "window": 64}
EACH = [0, 1, 2, 3]


def test_sections_are_averaged_as_on_the_card() -> None:
    seen = np.ones((1, 3, 2), np.float32)
    assert window_mean(np.array([[0.9, 0.3, 0.6]]), seen)[0] == pytest.approx(0.6)
    seen[0, 1:] = 0  # a short document has one window
    assert window_mean(np.array([[0.9, 0.3, 0.6]]), seen)[0] == pytest.approx(0.9)
    assert np.isnan(window_mean(np.array([[0.9, 0.3, 0.6]]), 0 * seen)[0])


@given(st.permutations(range(3)), st.integers(0, 2**31))
def test_the_order_of_windows_changes_nothing(order: list[int], seed: int) -> None:
    draws = np.random.default_rng(seed)
    head = Head(kind="classes", weight=draws.normal(size=(2, 4)).astype(np.float32), bias=np.zeros(2))
    heads, keys = Heads(heads=(head,), seed=0), np.arange(5, dtype=np.uint64)
    vectors = draws.normal(size=(5, 3, 4)).astype(np.float32)
    np.testing.assert_allclose(heads.judge(vectors[:, order], keys), heads.judge(vectors, keys), atol=1e-12)


def test_every_document_is_judged_by_the_head_of_its_key() -> None:
    sure = [
        Head(kind="classes", weight=np.zeros((2, 4), np.float32), bias=np.array([-b, b])) for b in (9.0, -9.0)
    ]
    heads, keys = Heads(heads=tuple(sure), seed=1), np.arange(1000, dtype=np.uint64)
    p = heads.judge(np.ones((1000, 1, 4), np.float32), keys)
    assert 0.45 < (p > 0.5).mean() < 0.55
    np.testing.assert_array_equal(heads.judge(np.ones((1, 1, 4), np.float32), keys[7:8]), p[7:8])


def test_documents_of_the_target_come_first_even_where_they_were_negatives(tmp_path: Path) -> None:
    pool = [*topics(EACH * 40, n_words=200), "", " "]
    target = topics([0] * 24, seed=1)
    settings = SETTINGS | {"negatives": 160, "dimensions": 256}  # negatives are the whole pool
    asked = scored("snowcoder", settings, ("t",), tmp_path)
    features = resolve([asked], pool, {"t": target}, tmp_path)
    scores = table_of(features, asked)["t"].to_numpy()
    (annotator,) = [f for f in features.done if f.kind == "annotator"]
    counts = features.done[annotator].record.counts
    assert np.isnan(scores[-2:]).all()
    assert (np.argsort(-scores[:160])[:40] % 4 == 0).mean() >= 0.95
    assert counts["positives"] == 23
    assert counts["negatives"] == 160
    assert 0.8 < counts["held_out_auc"] <= 1


def test_only_the_windows_count(tmp_path: Path) -> None:
    good, bad = topics([0], seed=5, n_words=40), topics([1], seed=6, n_words=4000)
    licence = bad[0][:256]
    pool = [*topics(EACH * 20), licence + " " + good[0] * 40, good[0] * 40]
    scores = run_method("snowcoder", pool, {"t": topics([0] * 24, seed=1)}, SETTINGS, tmp_path)["t"]
    assert scores[80] > np.median(scores[:80])  # a foreign header does not decide
    assert scores[81] > scores[80]


def test_languages_keep_their_shares_of_the_budget() -> None:
    # A: 700 tokens, B: 300; a budget of 500 is 350 and 150, each the best first, none that would cross
    n_A, n_B = 14, 6
    rows = n_A + n_B
    scores = np.r_[np.linspace(0.9, 0.3, n_A), np.linspace(0.2, 0.1, n_B)]
    table = pa.table(
        {
            "row": np.arange(rows),
            "score": scores,
            "n_tokens": np.full(rows, 50),
            "n_bytes": np.full(rows, 200),
            "key": np.arange(rows, dtype=np.uint64),
            "eligible": np.ones(rows, bool),
            "source": ["A"] * n_A + ["B"] * n_B,
        }
    )
    policy = Policy(kind="top_k", strata="source", quotas={"A": 0.7, "B": 0.3})
    budget = Budget.parse("500 tokens")
    found = decide(lambda shard: table, 1, budget=budget, policy=policy, seed=0)
    assert found.rows(table, 0)["row"].to_pylist() == [0, 1, 2, 3, 4, 5, 6, 14, 15, 16]
    alone = table.slice(0, n_A)
    by_source = decide(
        lambda shard: alone, 1, budget=Budget.parse("500 tokens"), policy=Policy(strata="source"), seed=0
    )
    overall = decide(lambda shard: alone, 1, budget=Budget.parse("500 tokens"), policy=Policy(), seed=0)
    assert by_source.rows(alone, 0)["row"].equals(overall.rows(alone, 0)["row"])


def test_a_target_too_small_says_how_much_would_do(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"at least 5 documents with words in target 't', found 2"):
        run_method("snowcoder", topics(EACH * 5), {"t": topics([0, 1, 2], seed=1)}, SETTINGS, tmp_path)
