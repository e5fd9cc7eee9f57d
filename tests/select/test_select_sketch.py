"""Sketches and tallies merge in any order; keys keep the order of scores."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from prill.select.cut import Cut
from prill.select.policy import Policy
from prill.select.ranking import rank, score_key, score_of_key
from prill.select.sketch import Sketch, sketch
from prill.select.tally import score_edges, tally

POLICY = Policy(strata="source")


def table(seed: int) -> pa.Table:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(0, 40))
    return pa.table(
        {
            "row": np.arange(n),
            "score": rng.normal(size=n).round(1),
            "n_tokens": rng.integers(0, 9, n),
            "n_bytes": rng.integers(0, 9, n),
            "key": rng.integers(0, 99, n, dtype=np.uint64),
            "eligible": rng.random(n) < 0.8,
            "source": pa.array([f"s{i}" for i in rng.integers(0, 3, n)], pa.string()),
        }
    )


def same(a: object, b: object) -> bool:
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, np.ndarray):
        return bool(np.array_equal(a, b))  # type: ignore[arg-type]
    return a == b


@settings(max_examples=40, deadline=None)
@given(seeds=st.tuples(*[st.integers(0, 10**6)] * 3))
def test_merging_is_associative_and_commutative(seeds: tuple[int, int, int]) -> None:
    tables = [table(seed) for seed in seeds]
    ranked = [rank(t, i, POLICY, 1) for i, t in enumerate(tables)]
    a, b, c = (sketch(r) for r in ranked)
    whole = a.merge(b).merge(c)
    assert same(vars(whole), vars(a.merge(b.merge(c))))
    assert same(vars(whole), vars(c.merge(a).merge(b)))
    assert same(vars(whole), vars(Sketch.empty().merge(whole)))
    cuts = {f"s{i}": Cut(limit=1, first_out=None) for i in range(3)}
    x, y, z = (tally(r, cuts, score_edges(whole), t) for r, t in zip(ranked, tables, strict=True))
    assert same(vars(x.merge(y).merge(z)), vars(z.merge(y.merge(x))))


@settings(max_examples=200, deadline=None)
@given(scores=st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=2, max_size=30))
def test_keys_reverse_the_order_of_scores_and_can_be_read_back(scores: list[float]) -> None:
    keys = score_key(np.array(scores))
    for a, ka in zip(scores, keys, strict=True):
        assert score_of_key(int(ka)) == a
        for b, kb in zip(scores, keys, strict=True):
            assert (a > b) == (ka < kb)


def test_both_zeros_are_one_score() -> None:
    assert len(set(score_key(np.array([0.0, -0.0])).tolist())) == 1


def test_a_sketch_is_small_however_many_rows() -> None:
    rng = np.random.default_rng(0)
    n = 200_000
    big = pa.table(
        {
            "row": np.arange(n),
            "score": rng.normal(size=n),
            "n_tokens": np.ones(n, np.int64),
            "n_bytes": np.ones(n, np.int64),
            "key": rng.integers(0, 2**63, n, dtype=np.uint64),
            "eligible": np.ones(n, bool),
        }
    )
    assert len(sketch(rank(big, 0, Policy(), 0)).digit) < 1_000
